"""One thread per process, no network; shared locations. Imported before torch by every test."""

import os
from pathlib import Path

import pytest

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ["HF_HUB_OFFLINE"] = "1"

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """The full reference data; tests that need it are skipped in a clone without it."""
    if not SHARED.is_dir():
        pytest.skip("the full reference data (../shared) is not present; tests/golden covers a subset")
    return SHARED
