"""Thresholds as users write them."""

import pytest

from sam3.errors import ConfigError
from sam3.model.video.settings import VideoSettings, with_thresholds, without_heuristics


def test_some_fields_are_changed():
    changed = with_thresholds(VideoSettings(), {"nms_iou": 0, "one_to_one_matching": True, "border": 0.1})
    assert (changed.nms_iou, changed.one_to_one_matching, changed.border) == (0, True, 0.1)
    assert changed.new_object_score == VideoSettings().new_object_score
    assert with_thresholds(without_heuristics(), {}) == without_heuristics()
    assert with_thresholds(changed, {"border": None}).border is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"hotstart": 1}, "no threshold 'hotstart'; it has .*hotstart_delay"),
        ({"max_objects": 2.5}, "max_objects is 2.5; expected a value like 10000"),
        ({"nms_iou": True}, "nms_iou is True; expected a value like 0.1"),
        ({"as_reference": 1}, "as_reference is 1; expected a value like False"),
        ({"hotstart_delay": 3}, "must not exceed hotstart_delay"),
    ],
)
def test_what_cannot_be_is_named(given: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        with_thresholds(VideoSettings(), given)
