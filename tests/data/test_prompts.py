"""Texts of categories and the check of the configured class."""

import logging

import pytest

from sam3.data.prompts import check_class_name, phrases_of_categories
from sam3.errors import DataError

CATEGORIES = {1: "dog", 3: "cat", 7: "3"}


def test_without_prompts_the_names_are_the_phrases():
    assert phrases_of_categories(CATEGORIES) == CATEGORIES


def test_list_replaces_every_name():
    prompts = [{"id": 7, "name": "bird"}, {"id": 1, "name": "hound"}, {"id": 3, "name": "kitten"}]
    assert phrases_of_categories(CATEGORIES, prompts) == {1: "hound", 3: "kitten", 7: "bird"}


@pytest.mark.parametrize("key", [1, "1"])
def test_mapping_id_wins_over_name_and_name_over_star(key):
    prompts = {key: "by id", "dog": "by name", "cat": "the cat", "*": "anything"}
    assert phrases_of_categories(CATEGORIES, prompts) == {1: "by id", 3: "the cat", 7: "anything"}


def test_an_id_wins_over_a_category_that_is_named_like_it():
    assert phrases_of_categories(CATEGORIES, {3: "kitten"}) == {1: "dog", 3: "kitten", 7: "kitten"}
    assert phrases_of_categories(CATEGORIES, {3: "kitten", 7: "three"})[7] == "three"


def test_mapping_keeps_the_names_nobody_mentions():
    assert phrases_of_categories(CATEGORIES, {"cat": "kitten"}) == {1: "dog", 3: "kitten", 7: "3"}


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([{"id": 1, "name": "a"}, {"id": 3, "name": "b"}], r"missing ids \[7\]"),
        ([{"id": i, "name": str(i)} for i in (1, 3, 7, 8)], r"unknown ids \[8\]"),
        ([{"id": 1, "name": "a"}] * 2, "category 1 more than once"),
        ([{"id": 1}], "keys id and name"),
        ({"fish": "x"}, r"prompts name fish, but the annotations have categories 1: dog, 3: cat"),
        ({"dog": "  "}, "prompt of category 1 must be a text"),
        ({"dog": 5}, "prompt of category 1 must be a text"),
        ("dog", "got str"),
    ],
)
def test_wrong_prompts_are_named(prompts, message):
    with pytest.raises(DataError, match=message):
        phrases_of_categories(CATEGORIES, prompts)


def test_categories_with_one_prompt_are_warned_about(caplog):
    with caplog.at_level(logging.WARNING):
        phrases_of_categories(CATEGORIES, {"*": "visual"})
    assert "categories [1, 3, 7] share the prompt 'visual'" in caplog.text


def test_class_name_must_be_the_single_category():
    check_class_name({1: "bolt"}, "bolt")
    check_class_name({1: "bolt"}, "screw", allow_mismatch=True)
    with pytest.raises(DataError, match="'screw', but the only category of the annotations is 'bolt'"):
        check_class_name({1: "bolt"}, "screw")
    with pytest.raises(DataError, match=r"2 categories \(bolt, nut\)"):
        check_class_name({1: "bolt", 2: "nut"}, "bolt", allow_mismatch=True)
