"""The card survives a round trip and tolerates files of other versions."""

import json

import pytest

from sam3 import __version__
from sam3.errors import CheckpointError
from sam3.io.model_card import ModelCard


def test_round_trip_through_json() -> None:
    card = ModelCard(class_names=["kočka"], mean=(0.1, 0.2, 0.3), metric={"AP": 0.5}, epoch=3)
    assert ModelCard.from_dict(json.loads(json.dumps(card.to_dict()))) == card


def test_missing_fields_get_defaults_and_unknown_ones_are_skipped() -> None:
    card = ModelCard.from_dict({"prompts": ["a"], "from the future": 1})
    assert card == ModelCard(prompts=["a"])
    assert (card.sam3_version, card.resolution, card.score_threshold) == (__version__, 1008, 0.5)


@pytest.mark.parametrize("bad", [None, 3, "text", ["list"]])
def test_what_is_no_card_is_refused(bad: object) -> None:
    with pytest.raises(CheckpointError, match="must be a mapping"):
        ModelCard.from_dict(bad)


def test_bad_normalisation_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"std must be three numbers, got \[0.5\]"):
        ModelCard.from_dict({"std": [0.5]})
