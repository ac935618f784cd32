"""What ``sam3 predict`` and ``sam3 track`` make of the arguments that they share."""

import pytest

from sam3.errors import ConfigError
from sam3.io.model_card import ModelCard
from sam3.predict.arguments import require_threshold, resolution_of


def test_the_resolution_is_the_one_given_else_that_of_the_weights_else_that_of_the_preset():
    card = ModelCard(resolution=504)
    assert resolution_of(280, card, "sam3") == 280
    assert resolution_of(None, card, "sam3") == 504
    assert resolution_of(None, None, "sam3") == 1008


@pytest.mark.parametrize("given", [0, -14])
def test_a_resolution_without_pixels(given):
    with pytest.raises(ConfigError, match=f"--resolution {given}: give a positive number of pixels"):
        resolution_of(given, None, "sam3")


@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan")])
def test_a_threshold_that_no_score_can_meet(value):
    require_threshold("--score-threshold", 0.0)
    with pytest.raises(ConfigError, match="--score-threshold .* scores lie between 0 and 1"):
        require_threshold("--score-threshold", value)
