"""Two processes against one, and the three ways of sharing a model, on the same images.

Dropout is off: which unit is dropped differs between processes by nature. Adam's ``eps`` is 1e-3 where its usual
1e-8 would turn rounding errors of gradients that are zero by symmetry (the biases of attention keys) into steps of
full size. That these are rounding and nothing else is shown by the same comparison in double precision, where the
usual ``eps`` stays.
"""

import hashlib
import json
from contextlib import contextmanager

import pytest
import torch

from sam3.train import distributed
from sam3.train.assembly import build_trainer, lay_foundation
from sam3.train.checkpointing import LAST
from sam3.train.config_loading import load_config
from tests.data.coco_folder import write_coco_folder
from tests.train.micro import MULTI, overrides, weights
from tests.train.pair import run_pair

pytestmark = pytest.mark.slow

# Two epochs of 19 images, two a step: the last of ten steps has one image, and no more than one process works on it.
# One image shows nothing, and images ask for one to three phrases.
CALM = (
    "++model.overrides.vision.drop_path_rate=0.0",
    "++model.overrides.detector.dropout=0.0",
    "optim.optimizer.eps=1e-3",
    "scratch.max_epochs=2",
    "scratch.train_batch_size=1",
    "scratch.max_negatives_per_img=1",
    "data.train.drop_last=false",
    "trainer.skip_first_val=true",
)
ONE = "scratch.train_batch_size=2"
SHORT = ("scratch.max_epochs=1", "++data.train.dataset.limit_ids=5", "trainer.mode=train_only")
STOP = "trainer.callbacks=[{{_target_: tests.train.faults.Stop, at: {}, number: {}}}]"
DOUBLE = ("optim.optimizer.eps=1e-8", "scratch.max_epochs=1", "trainer.mode=train_only")
# Three steps of two micro-batches of two images, two, and one. The third loss of process 1 is no number.
MIXED = (
    *SHORT,
    "data.train.dataset.limit_ids=9",
    "scratch.train_batch_size=2",
    "scratch.gradient_accumulation_steps=2",
    "trainer.ema={decay: 0.9}",
    "model.freeze=[backbone.*]",
    "++loss.terms.broken={_target_: tests.train.faults.NanLoss, first: 2, last: 3, rank: 1}",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_coco_folder(tmp_path_factory.mktemp("images"), images=19, val_images=3, size=(64, 48))


def run(data, out, *extra):
    """One run in this process, one of those of its group; stops where ``extra`` says so."""
    loaded = load_config(MULTI, overrides(data, out, *CALM, *extra, class_name=None))
    trainer = build_trainer(loaded, lay_foundation(loaded.run))
    try:
        trainer.run()
    except KeyboardInterrupt:
        distributed.barrier()  # the file is whole before another run reads it
    return trainer


@contextmanager
def double_precision():
    """Everything is computed in float64, also where the network asks for float32."""
    single = torch.get_default_dtype()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        torch.set_default_dtype(torch.float64)
        yield
    torch.set_default_dtype(single)


def run_all(data, folder):
    """Everything that needs two processes, in one start of them; what each of them remembers of it."""
    run(data, folder / "none")
    with double_precision():
        run(data, folder / "double", *DOUBLE)
    remembered = {}
    for sharding in ("none", "zero1", "fsdp2"):
        for name, extra in {"short": SHORT, "mixed": MIXED}.items():
            if sharding != "zero1" or name == "short":
                trainer = run(data, folder / f"{name} {sharding}", f"launcher.sharding={sharding}", *extra)
                remembered[f"{name} {sharding}"] = digests(trainer.model), trainer.progress.nonfinite_steps
    # A run that changes hands, in the middle of an epoch and at its end.
    run(data, folder / "relay", "launcher.sharding=zero1", "checkpoint.save_every_steps=5", STOP.format("step", 7))
    run(data, folder / "relay", "launcher.sharding=fsdp2", STOP.format("validation", 1), "trainer.skip_first_val=false")
    return remembered


def digests(model):
    """Of the tensors that this process has whole."""
    whole = {name: tensor for name, tensor in model.state_dict().items() if not hasattr(tensor, "full_tensor")}
    return {name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for name, tensor in whole.items()}


@pytest.fixture(scope="module")
def pair(data, tmp_path_factory):
    """Folder of the runs, and what both processes remember."""
    folder = tmp_path_factory.mktemp("pair")
    return folder, run_pair(run_all, data, folder)


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    """The same training in one process with twice the images a step."""
    out = tmp_path_factory.mktemp("alone")
    run(data, out, ONE)
    return out


def difference(first, second):
    """Of all weights of two files: norm of the difference / norm."""
    first, second = (
        torch.cat([w.flatten().double() for w in both.values()]) for both in pair_of_weights(first, second)
    )
    return ((first - second).norm() / first.norm()).item()


def pair_of_weights(first, second):
    return [weights(out / "checkpoints" / LAST) for out in (first, second)]


def worst_difference(first, second):
    """The same for the tensor that differs most: one of the biases that begin at zero."""
    first, second = pair_of_weights(first, second)
    assert first.keys() == second.keys()
    return max(((first[n] - second[n]).norm() / first[n].norm().clamp(min=1e-12)).item() for n in first)


def complete(out):
    return torch.load(out / "checkpoints" / LAST, weights_only=True)


def test_two_processes_learn_what_one_learns(pair, alone):
    folder, _ = pair
    assert complete(alone)["progress"]["steps"] == complete(folder / "none")["progress"]["steps"] == 20
    assert difference(alone, folder / "none") < 1e-7
    assert worst_difference(alone, folder / "none") < 1e-5


def test_in_double_precision_two_processes_learn_exactly_what_one_learns(pair, data, tmp_path):
    folder, _ = pair
    with double_precision():
        run(data, tmp_path, ONE, *DOUBLE)
    assert complete(tmp_path)["progress"]["steps"] == complete(folder / "double")["progress"]["steps"] == 10
    assert {weight.dtype for weight in weights(tmp_path / "checkpoints" / LAST).values()} == {torch.float64}
    assert worst_difference(tmp_path, folder / "double") < 1e-9


def test_both_processes_have_the_same_weights(pair):
    for name in ("short none", "short zero1"):
        first, second = (remembered[name][0] for remembered in pair[1])
        assert len(first) > 100
        assert first == second


@pytest.mark.parametrize("sharding", ["zero1", "fsdp2"])
def test_sharing_the_model_changes_nothing(pair, sharding):
    folder, _ = pair
    assert worst_difference(folder / "short none", folder / f"short {sharding}") < 1e-5
    whole, shared = (complete(folder / f"short {name}")["optimizer"] for name in ("none", sharding))
    assert whole["state"].keys() == shared["state"].keys()
    for index, state in whole["state"].items():
        torch.testing.assert_close(shared["state"][index], state, rtol=1e-3, atol=1e-6)
    assert [group["param_names"] for group in whole["param_groups"]] == [
        group["param_names"] for group in shared["param_groups"]
    ]


def test_a_run_may_change_hands(pair, data, alone):
    """From zero1 to fsdp2 in the middle of the first epoch, to a single process after it."""
    folder, _ = pair
    assert complete(folder / "relay")["progress"]["steps"] == 10
    run(data, folder / "relay", ONE)
    assert complete(folder / "relay")["progress"]["steps"] == 20
    assert worst_difference(alone, folder / "relay") < 1e-5


def test_micro_batches_are_shared_at_the_end_or_one_by_one(pair):
    folder, _ = pair
    assert complete(folder / "mixed none")["progress"]["steps"] == 3
    assert worst_difference(folder / "mixed none", folder / "mixed fsdp2") < 1e-5


def test_logged_losses_are_those_of_the_whole_batch(pair, alone):
    folder, _ = pair
    one, two = ((out / "logs/train_stats.json").read_text().splitlines() for out in (alone, folder / "none"))
    assert len(one) == len(two) == 2
    one, two = (torch.tensor(list(read(lines[-1]).values())) for lines in (one, two))
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-6)


def read(line):
    # The F1 of a batch is no mean of those of its parts.
    return {name: value for name, value in json.loads(line).items() if name.startswith("Losses/") and "_f1" not in name}


def test_validation_finds_and_measures_the_same(pair, data, tmp_path):
    """The same weights, once in two processes, once in one: the same files, byte by byte."""
    folder, _ = pair
    resume = f"checkpoint.resume_from='{folder / 'none/checkpoints' / LAST}'"
    run(data, tmp_path, "trainer.mode=val", resume)
    for kind in ("bbox", "segm"):
        name = f"dumps/val/coco_predictions_{kind}.json"
        assert (tmp_path / name).read_bytes() == (folder / "none" / name).read_bytes()
    one, two = (read((out / "logs/val_stats.json").read_text()) for out in (tmp_path, folder / "none"))
    assert one == two


def test_frozen_parts_stay_whole(pair):
    for remembered in pair[1]:
        whole = remembered["mixed fsdp2"][0]
        assert len(whole) > 50
        assert all(name.startswith("backbone.") for name in whole)
        assert whole == {name: remembered["mixed none"][0][name] for name in whole}


def test_averages_are_those_of_whole_weights(pair):
    folder, _ = pair
    whole, shared = (complete(folder / f"mixed {sharding}")["average"] for sharding in ("none", "fsdp2"))
    assert whole["updates"] == shared["updates"] == 2
    assert whole["averages"].keys() == shared["averages"].keys()
    for name, average in whole["averages"].items():
        torch.testing.assert_close(shared["averages"][name], average, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sharding", ["none", "fsdp2"])
def test_a_loss_that_is_not_finite_in_one_process_is_skipped_by_both(pair, sharding):
    assert [remembered[f"mixed {sharding}"][1] for remembered in pair[1]] == [1, 1]


def test_the_random_state_of_every_process_is_kept(pair):
    states = complete(pair[0] / "none")["random"]
    assert len(states) == 2
    assert not torch.equal(states[0]["torch"], states[1]["torch"])
