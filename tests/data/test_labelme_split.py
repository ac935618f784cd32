"""The division into train and val: properties that must hold for any folder, and small cases with known answers."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3.data.labelme_split import SplitItem, split_train


def items_of(*classes: str, group: str | None = None) -> list[SplitItem]:
    """One image per argument, its letters are its classes; each image its own group unless told otherwise."""
    return [SplitItem(group or f"image{index}", frozenset(letters)) for index, letters in enumerate(classes)]


def classes_on(items: list[SplitItem], sides: list[bool], side: bool) -> set[str]:
    return {name for item, in_train in zip(items, sides, strict=True) if in_train == side for name in item.classes}


def coverable(items: list[SplitItem]) -> set[str]:
    groups = {name: {item.group for item in items if name in item.classes} for item in items for name in item.classes}
    return {name for name, of in groups.items() if len(of) > 1}


def is_possible(items: list[SplitItem]) -> bool:
    """Whether some division puts every coverable class on both sides (all of them tried)."""
    groups, wanted = sorted({item.group for item in items}), coverable(items)
    for assignment in product((True, False), repeat=len(groups)):
        side = dict(zip(groups, assignment, strict=True))
        sides = [side[item.group] for item in items]
        if wanted <= classes_on(items, sides, True) & classes_on(items, sides, False) and len(set(assignment)) == 2:
            return True
    return False


FOLDERS = st.lists(
    st.builds(
        SplitItem,
        st.sampled_from([f"g{i}" for i in range(8)]),
        st.frozensets(st.sampled_from("abcde")),
    ),
    min_size=1,
    max_size=14,
)


@settings(max_examples=150, deadline=None)
@given(FOLDERS, st.sampled_from([0.1, 0.5, 0.8, 0.95]), st.integers(0, 3))
def test_groups_stay_whole_and_classes_are_on_both_sides_when_they_can_be(items, fraction, seed):
    sides = split_train(items, fraction, seed)
    by_group = {item.group: in_train for item, in_train in zip(items, sides, strict=True)}
    assert [by_group[item.group] for item in items] == sides
    if len(by_group) > 1:
        assert set(sides) == {True, False}
    if is_possible(items):
        assert coverable(items) <= classes_on(items, sides, True) & classes_on(items, sides, False)


@pytest.mark.parametrize(
    ("count", "fraction", "expected"),
    [(10, 0.8, 8), (5, 0.8, 4), (2, 0.8, 1), (3, 0.5, 2), (10, 0.99, 9), (10, 0.01, 1), (101, 0.75, 76), (1, 0.8, 1)],
)
def test_the_share_of_one_class(count, fraction, expected):
    assert sum(split_train(items_of(*"a" * count), fraction, 0)) == expected


def test_every_class_and_the_negatives_get_the_share():
    items = items_of(*["a"] * 50, *["b"] * 20, *[""] * 30)
    sides = split_train(items, 0.8, 0)
    assert sum(sides) == 80
    assert sum(sides[:50]) == 40
    assert sum(sides[50:70]) == 16
    assert sum(sides[70:]) == 24


def test_images_with_several_classes_are_divided_evenly():
    items = items_of(*["ab"] * 20, *["bc"] * 20, *["c"] * 10, *["abc"] * 10, *["d"] * 2, *["ad"] * 3)
    sides = split_train(items, 0.8, 0)
    assert sum(sides) == 52
    for name in "abcd":
        total = sum(name in item.classes for item in items)
        in_train = sum(name in item.classes for item, side in zip(items, sides, strict=True) if side)
        assert abs(in_train - 0.8 * total) <= 2


def test_a_class_in_two_images_is_on_both_sides_although_greed_would_not():
    items = items_of(*["x"] * 40, "ab", "bc", "cd", "da", "e", "e")
    sides = split_train(items, 0.9, 0)
    assert classes_on(items, sides, True) == classes_on(items, sides, False) == set("abcdex")


def test_an_impossible_wish_is_met_as_far_as_it_goes():
    items = items_of("ab", "bc", "ca")  # three classes, two images each, no division serves all
    sides = split_train(items, 0.5, 0)
    assert len(classes_on(items, sides, True) & classes_on(items, sides, False)) == 2


def test_equal_seeds_agree_and_others_do_not():
    items = items_of(*["a"] * 30)
    divisions = [split_train(items, 0.5, seed) for seed in (0, 0, 1, 2)]
    assert divisions[0] == divisions[1]
    assert divisions[0] != divisions[2] != divisions[3]
    in_train = [index for index, in_train in enumerate(divisions[0]) if in_train]
    assert in_train[:6] == [0, 1, 2, 3, 5, 10]  # on every machine


def test_the_order_of_the_images_does_not_matter():
    items = items_of(*["a"] * 10, *["ab"] * 5, *[""] * 5)
    sides = split_train(items, 0.7, 3)
    assert split_train(items[::-1], 0.7, 3) == sides[::-1]


def test_groups_of_unequal_size_come_as_close_as_they_can():
    items = [item for size in (10, 7, 2, 1) for item in items_of(*"a" * size, group=f"clip{size}")]
    assert sum(split_train(items, 0.8, 0)) in (15, 16, 17)


def test_the_smallest_group_goes_to_val_when_one_must():
    clip = items_of("ab", "ab", "ab", group="clip")
    items = clip + [SplitItem("other", frozenset("cd")), SplitItem("empty", frozenset())]
    for seed in range(5):
        assert split_train(items, 0.8, seed)[:3] == [True] * 3
        assert sum(split_train(items, 0.8, seed)) == 4


@pytest.mark.parametrize(("fraction", "expected"), [(1.0, [True] * 4), (0.0, [False] * 4)])
def test_all_on_one_side_on_request(fraction, expected):
    assert split_train(items_of("a", "a", "b", ""), fraction, 0) == expected


def test_no_images():
    assert split_train([], 0.8, 0) == []


def test_a_large_folder_is_quick():
    items = [SplitItem(f"i{n}", frozenset({f"c{n % 200}", f"c{n * 7 % 90}"})) for n in range(20000)]
    sides = split_train(items, 0.8, 0)
    assert sum(sides) == 16000
