"""One checkpoint for all tests of this folder; none of them may change it."""

from pathlib import Path

import pytest
import torch

from tests.small_checkpoint import save_small_checkpoint


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A file as training writes it: weights, card, and an optimizer twice as large."""
    path = save_small_checkpoint(tmp_path_factory.mktemp("run") / "checkpoints" / "best.pt")
    content = torch.load(path, weights_only=True)
    state = {
        name: {"exp_avg": tensor.clone(), "exp_avg_sq": tensor.clone()} for name, tensor in content["model"].items()
    }
    torch.save(content | {"optimizer": {"state": state}, "epoch": 3}, path)
    return path
