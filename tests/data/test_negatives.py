"""Phrases from outside the data set: which, how many, and never one that is there."""

import json
import random

import pytest

from sam3.data.general_phrases import general_phrases
from sam3.data.negatives import HeldOutPhrases, Negatives, drift_phrases
from sam3.errors import ConfigError, DataError

CLASSES = ["red circle", "green square", "bicycle"]


def _drawn(source, positives, times=200):
    rng = random.Random(0)
    return [phrase for _ in range(times) for phrase in source.draw(positives, rng)]


def test_training_never_sees_a_held_out_phrase_nor_an_everyday_thing():
    held_out = {phrase.text for phrase in general_phrases() if phrase.is_held_out}
    source = Negatives(per_image=3).source(CLASSES)
    assert not held_out & set(source.phrases)
    assert set(HeldOutPhrases().source(CLASSES).phrases) < held_out
    assert not set(HeldOutPhrases().source(CLASSES).phrases) & set(source.phrases)
    assert "person" not in HeldOutPhrases().source(CLASSES).phrases


def test_nothing_that_a_class_may_be_called_is_drawn():
    phrases = Negatives().source(CLASSES).phrases
    assert not {"bike", "bicycle", "circle", "square", "red circle", "vehicle"} & set(phrases)
    assert "motorcycle" in phrases


def test_half_of_the_draws_resemble_what_the_picture_shows():
    source = Negatives(per_image=1).source(CLASSES)
    drawn = _drawn(source, ["red circle"])
    near = sum(phrase in source.near["red circle"] for phrase in drawn)
    assert 70 < near < 130
    assert all(phrase in source.pools[0] for phrase in _drawn(source, []))
    none = Negatives(per_image=1, near_misses=0.0).source(CLASSES)
    assert not any(set(_drawn(none, ["red circle"])) & set(source.near["red circle"]) - set(source.pools[0]))


def test_near_misses_alone():
    source = Negatives(per_image=1, near_misses=1.0, general=False).source(CLASSES)
    assert set(_drawn(source, ["red circle"])) <= set(source.near["red circle"])
    assert _drawn(source, []) == []


def test_as_many_as_asked_for_and_none_twice():
    source = Negatives(per_image=4).source(CLASSES)
    rng = random.Random(1)
    draws = [source.draw(["red circle"], rng) for _ in range(50)]
    assert all(len(set(draw)) == len(draw) <= 4 for draw in draws)
    assert sum(map(len, draws)) > 190
    assert Negatives(per_image=0).source(CLASSES).draw(["red circle"], rng) == []


def test_category_ids_lie_below_zero_and_lead_back():
    source = HeldOutPhrases().source(CLASSES)
    for phrase in source.phrases:
        assert source.category_id(phrase) < 0
        assert source.phrase_of(source.category_id(phrase)) == phrase


def test_names_of_other_data_sets(tmp_path):
    coco, names = tmp_path / "other 数据.json", tmp_path / "names.txt"
    coco.write_text(json.dumps({"categories": [{"id": 1, "name": "hex nut"}, {"id": 2, "name": "Red Circles"}]}))
    names.write_text("washer plate\n\n  Bike  \n", encoding="utf-8")
    source = Negatives(general=False, near_misses=0.0, other_names=[str(coco), str(names), "cog"]).source(CLASSES)
    assert source.pools == [["hex nut", "washer plate", "cog"]]
    both = Negatives(near_misses=0.0, other_names=["cog"]).source(CLASSES)
    assert 60 < _drawn(both, []).count("cog") < 140  # each pool is as likely as the other


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("broken.json", "{", "not valid JSON"),
        ("list.json", "[]", "no list of categories"),
        ("gone.json", None, "cannot read"),
        ("gone.txt", None, "cannot read"),
    ],
)
def test_files_that_hold_no_names_are_named(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        Negatives(other_names=[str(tmp_path / name)]).source(CLASSES)


def test_values_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="per_image is -1"):
        Negatives(per_image=-1)
    with pytest.raises(ConfigError, match="near_misses is 2"):
        Negatives(near_misses=2)
    with pytest.raises(ConfigError, match="must be a list"):
        Negatives(other_names="bolt").source(CLASSES)
    with pytest.raises(ConfigError, match="probes.per_image"):
        HeldOutPhrases(-1)


def test_a_class_that_may_be_anything_leaves_nothing_to_ask(caplog):
    source = Negatives().source(["object"])
    assert source.phrases == ()
    assert source.draw(["object"], random.Random(0)) == []
    assert "each may name object" in caplog.text


def test_drift_phrases_are_half_everyday_things():
    everyday = {phrase.text for phrase in general_phrases() if phrase.is_everyday}
    phrases = drift_phrases(["person", "cat"], 12)
    assert len(set(phrases)) == 12
    assert len(everyday & set(phrases)) == 6
    assert not {"person", "cat"} & set(phrases)
    assert phrases == drift_phrases(["person", "cat"], 12)
    assert drift_phrases(["object"], 12) == []
