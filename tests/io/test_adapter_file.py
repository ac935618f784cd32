"""Adapter files, and the base they belong to."""

import pytest
import torch

from sam3.errors import CheckpointError
from sam3.io.adapter_file import apply_adapter, read_adapter
from sam3.io.checkpoint import read_checkpoint, save_weights
from tests.low_rank_samples import REPLACED, TARGETS, adapter_tensors, save_adapter
from tests.small_checkpoint import save_small_checkpoint, small_model


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("适配器")
    base = save_small_checkpoint(folder / "base.pt")
    save_adapter(folder / "adapter.safetensors", read_checkpoint(base).state_dict)
    return base, folder / "adapter.safetensors"


def test_an_adapter_comes_back_as_it_was_written(files):
    adapter = read_adapter(files[1])
    assert adapter.weights == sorted(TARGETS)
    assert (adapter.recipe.rank, adapter.recipe.alpha, adapter.recipe.targets) == (2, 1.0, list(TARGETS))
    assert adapter.card.prompts == ["bolt"]
    wanted = adapter_tensors(read_checkpoint(files[0]).state_dict)
    assert all(torch.equal(adapter.tensors[name], tensor) for name, tensor in wanted.items())


def test_applying_changes_what_learnt_and_nothing_else(files):
    base, adapter = read_checkpoint(files[0]), read_adapter(files[1])
    applied = apply_adapter(base, adapter)
    changed = [n for n, t in base.state_dict.items() if not torch.equal(t, applied.state_dict[n])]
    assert changed == [name for name in base.state_dict if name in (*TARGETS, REPLACED)]
    assert applied.state_dict.keys() == base.state_dict.keys()
    assert applied.card.prompts == ["bolt"]
    assert base.card.prompts == ["red circle", "blue square"]


def test_the_base_may_be_compressed_but_not_another_one(files, tmp_path):
    adapter = read_adapter(files[1])
    half = tmp_path / "half.safetensors"
    save_weights(half, read_checkpoint(files[0]).state_dict, None, dtype="fp16")
    assert apply_adapter(read_checkpoint(half), adapter).state_dict[TARGETS[0]].dtype == torch.float32
    other = save_small_checkpoint(tmp_path / "other.pt", seed=1)
    with pytest.raises(CheckpointError, match=r"adapter\.safetensors' was trained on other weights than .*other\.pt'"):
        apply_adapter(read_checkpoint(other), adapter)


def test_a_checkpoint_with_adapters_inside_is_read_merged(files, tmp_path):
    state = read_checkpoint(files[0]).state_dict
    inside = tmp_path / "last.pt"
    save_weights(inside, {**state, **adapter_tensors(state)}, None)
    merged = read_checkpoint(inside).state_dict
    assert merged.keys() == small_model().state_dict().keys()
    wanted = apply_adapter(read_checkpoint(files[0]), read_adapter(files[1])).state_dict
    assert all(torch.equal(merged[name], tensor) for name, tensor in wanted.items())
    assert len(read_checkpoint(inside, merge_adapters=False).state_dict) == len(state) + 3 * len(TARGETS)


def test_what_is_no_adapter_is_named(files, tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        read_adapter(tmp_path / "no.safetensors")
    with pytest.raises(CheckpointError, match="base.pt': damaged, or not an adapter file"):
        read_adapter(files[0])
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(files[1].read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cut.safetensors': damaged"):
        read_adapter(cut)
