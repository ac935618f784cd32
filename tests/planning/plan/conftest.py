"""Traces take seconds each and are made once."""

import pytest

from sam3.planning.plan.stand_ins import BatchShape
from sam3.planning.plan.step import Estimate, estimate_step
from sam3.train.config_loading import load_config
from sam3.train.schema import RunConfig
from tests.train.conftest import three_classes  # noqa: F401  a fixture
from tests.train.micro import FAST, MODEL, SINGLE

SHAPE = BatchShape(images=2, resolution=56, phrases=2, objects=4, with_masks=True)


def run_of(*extra: str) -> RunConfig:
    """A micro run without data."""
    return load_config(SINGLE, [*MODEL, *FAST, "paths.dataset_root=/nowhere", *extra]).run


@pytest.fixture(scope="session")
def full() -> Estimate:
    """Everything learns, on a CPU."""
    return estimate_step(run_of(), SHAPE, "cpu")


@pytest.fixture(scope="session")
def frozen() -> Estimate:
    """The text encoder stays, on a CPU."""
    return estimate_step(run_of("tune=frozen_text"), SHAPE, "cpu")
