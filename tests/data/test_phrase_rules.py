"""Which phrases may mean the same, and which are one step apart."""

import pytest

from sam3.data.phrase_rules import ClassNames, may_name_the_same, near_misses, singular, words


@pytest.mark.parametrize(
    ("plural", "one"),
    [
        ("boxes", "box"),
        ("buses", "bus"),
        ("bus", "bus"),
        ("glass", "glass"),
        ("cherries", "cherry"),
        ("leaves", "leaf"),
        ("people", "person"),
        ("trucks", "truck"),
        ("tomatoes", "tomato"),
        ("gas", "gas"),
        ("ties", "tie"),
    ],
)
def test_singular(plural, one):
    assert singular(plural) == singular(one)


def test_words_are_split_at_everything_that_is_no_letter():
    assert words("Red_Boxes, 2-part") == ("red", "box", "2", "part")
    assert words("六角 螺栓") == ("六角", "螺栓")


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("red cars", "Car", True),
        ("tooth brush", "toothbrushes", True),
        ("circle red", "red circle", True),
        ("red circle", "blue circle", False),
        ("cat", "cattle", False),
    ],
)
def test_may_name_the_same(first, second, expected):
    assert may_name_the_same(first, second) is expected
    assert may_name_the_same(second, first) is expected


@pytest.mark.parametrize(
    ("classes", "phrase", "expected"),
    [
        (["bicycle"], "bike", True),  # a synonym
        (["red bike"], "bicycle", True),
        (["truck"], "vehicle", True),  # broader
        (["delivery trucks"], "road vehicle", True),
        (["animal"], "hamster", True),  # narrower
        (["object"], "hamster", True),  # everything is an object
        (["hamster"], "object", True),
        (["person"], "man", True),
        (["truck"], "bus", False),
        (["red circle"], "blue circle", False),
        (["red circle", "blue circle"], "blue circles", True),
        (["bolt"], "nut", False),
        (["孔"], "hamster", False),
        (["..."], "hamster", False),  # no word at all
    ],
)
def test_what_a_class_may_include(classes, phrase, expected):
    assert bool(ClassNames(classes).may_include(phrase)) is expected


def test_near_misses_exchange_one_word():
    near = near_misses("red circle")
    assert {"blue circle", "red square", "red triangle"} <= set(near)
    assert not any(may_name_the_same("red circle", phrase) for phrase in near)
    assert near[0].endswith(" circle")
    assert "screw" in near_misses("bolt")
    assert "red van" in near_misses("red truck")
    assert near_misses("孔") == []


def test_near_misses_hold_no_held_out_word():
    assert "red cube" not in near_misses("red circle")  # "cube" is asked in validation


def test_near_misses_of_other_names_share_a_word_or_are_spelt_alike():
    near = near_misses("hex bolt", ["hex nut", "hexbolts", "banana", "hex bolts"])
    assert "hex nut" in near
    assert "banana" not in near
    assert "hex bolts" not in near
    assert "sparrows" in near_misses("arrows", ["sparrows", "apple"])
