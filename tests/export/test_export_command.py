"""``sam3 export``: steps, report and refusals."""

import pytest
import torch

from sam3.errors import CheckpointError
from sam3.export.export_command import main
from sam3.io.adapter_file import apply_adapter, read_adapter
from sam3.io.checkpoint import read_checkpoint, save_weights
from tests.low_rank_samples import adapter_tensors, save_adapter
from tests.small_checkpoint import small_model


@pytest.fixture(scope="module")
def adapter(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("adapter") / "bolts_adapter.safetensors"
    save_adapter(path, read_checkpoint(trained).state_dict)
    return path


def test_base_and_adapter_become_an_ordinary_weight_file(trained, adapter, tmp_path, capsys):
    target = tmp_path / "merged.safetensors"
    assert main([str(trained), "--adapter", str(adapter), "--merge-lora", "-o", str(target)]) == 0
    output = capsys.readouterr().out
    assert f"{len(small_model().state_dict())} tensors of the image model" in output
    assert "phrases 'bolt'; 56 px" in output
    wanted = apply_adapter(read_checkpoint(trained), read_adapter(adapter)).state_dict
    written = read_checkpoint(target, merge_adapters=False).state_dict
    assert written.keys() == wanted.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in wanted.items())

    again = [str(trained), "--adapter", str(adapter), "--merge-lora", "-o", str(target)]
    with pytest.raises(CheckpointError, match="exists; pass --overwrite"):
        main(again)
    assert main([*again, "--overwrite", "--dtype", "fp16"]) == 0
    assert all(t.dtype == torch.float16 for t in read_checkpoint(target).state_dict.values())


def test_adapters_inside_a_checkpoint_are_merged(trained, adapter, tmp_path):
    state = read_checkpoint(trained).state_dict
    last = tmp_path / "last.pt"
    save_weights(last, {**state, **adapter_tensors(state)}, None)
    assert main([str(last), "--merge-lora", "-o", str(tmp_path / "merged.pt")]) == 0
    assert read_checkpoint(tmp_path / "merged.pt", merge_adapters=False).state_dict.keys() == state.keys()
    with pytest.raises(CheckpointError, match="holds its adapters already"):
        main([str(last), "--merge-lora", "--adapter", str(adapter), "-o", str(tmp_path / "twice.pt")])


def test_nothing_to_merge_is_an_error_that_leaves_nothing_behind(trained, tmp_path):
    with pytest.raises(CheckpointError, match="holds no low-rank adapters"):
        main([str(trained), "--merge-lora", "-o", str(tmp_path / "out.pt")])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.pt", "-o", "b.pt"], "nothing to do"),
        (["a.pt", "-o", "b.bin", "--merge-lora"], "must end in .pt or .safetensors"),
        (["a.pt", "-o", "b.pt", "--adapter", "c.safetensors"], "add --merge-lora"),
        (["a.pt", "-o", "b.pt", "--interpolate", "0.5"], "expected BASE and TUNED"),
        (["a.pt", "b.pt", "-o", "c.pt", "--interpolate", "1.5"], "a number from 0"),
        (["a.pt", "b.pt", "-o", "c.pt", "--interpolate", "0.5", "--merge-lora"], "in a step before"),
        (["a.pt", "b.pt", "-o", "c.pt", "--merge-lora"], "expected one CHECKPOINT"),
    ],
)
def test_unfit_arguments_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
