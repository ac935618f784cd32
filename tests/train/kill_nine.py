"""``kill -9`` at random moments of a run of two processes: it must end as if nothing had happened.

    python -m tests.train.kill_nine --kills 10

Half of the moments are those in which a checkpoint is being written. What is killed is the command, one of its
processes, or all at once. Prints a line a kill and fails if a file is damaged, a process survives, or the final
weights differ by a single bit from those of a run that nobody touched. Linux only.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from sam3.train.checkpointing import LAST
from tests.data.coco_folder import write_coco_folder
from tests.train.micro import PHRASE, SINGLE, assert_equal_weights, overrides, weights

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 1800  # seconds until a run that does not move is given up
VICTIMS = ("command", "process 0", "process 1", "all")
SETTINGS = (
    "launcher.gpus_per_node=2",
    "trainer.accelerator=cpu",
    "scratch.train_batch_size=1",
    "data.train.drop_last=false",
    "checkpoint.save_every_steps=1",
    "logging.log_freq=1",
    "checkpoint.save_epochs=[2]",
    "trainer.val_epoch_freq=3",
)


@dataclass(frozen=True)
class Kill:
    """What was done, and when all processes were gone."""

    moment: str
    victim: str
    steps: int
    seconds: float


class Run:
    """The training command on a folder, with its processes."""

    def __init__(self, data: Path, out: Path, epochs: int) -> None:
        self.out = out
        self.log = out / "logs" / "log.txt"
        self.known = len(self._text())
        command = [sys.executable, "sam3/train/train.py", "-c", SINGLE]
        command += overrides(data, out, f"scratch.max_epochs={epochs}", *SETTINGS)
        out.mkdir(parents=True, exist_ok=True)
        self.output = open(out / "terminal.txt", "ab")
        self.process = subprocess.Popen(command, cwd=REPOSITORY, stdout=self.output, stderr=self.output)

    def _text(self) -> str:
        return self.log.read_text(encoding="utf-8") if self.log.is_file() else ""

    def says(self, *words: str) -> bool:
        """Whether this start has logged one of ``words``."""
        new = self._text()[self.known :]
        return any(word in new for word in words)

    @property
    def ranks(self) -> list[int]:
        """Process ids of the training processes, in their order."""
        pid = self.process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            return sorted(int(c) for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes())
        except OSError:
            return []

    def wait_until(self, condition) -> bool:
        """False when the run ended before."""
        end = time.monotonic() + PATIENCE
        while not condition():
            if self.process.poll() is not None:
                return False
            assert time.monotonic() < end, "the run does not move"
            time.sleep(0.002)
        return True

    def end(self) -> int:
        """Wait for the end; the exit code."""
        code = self.process.wait(timeout=PATIENCE)
        self.output.close()
        return code


def kill_at(run: Run, moment: str, victim: str, rng: random.Random) -> Kill | None:
    """Kill ``victim`` at ``moment``; None when the run came to its end before."""
    saving = lambda: any((run.out / "checkpoints").glob(".partial.*"))  # noqa: E731
    reached = run.wait_until(lambda: run.says("images/s") and len(run.ranks) == 2)
    if moment == "saving":
        reached = reached and run.wait_until(lambda: not saving()) and run.wait_until(saving)
    else:
        time.sleep(rng.uniform(0, 2))
    if not reached or run.process.poll() is not None or len(run.ranks) < 2:
        return None
    everyone = [run.process.pid, *run.ranks]
    chosen = {"command": everyone[:1], "process 0": everyone[1:2], "process 1": everyone[2:3], "all": everyone}[victim]
    start = time.monotonic()
    for pid in chosen:
        os.kill(pid, signal.SIGKILL)
    assert run.end() != 0
    while any(is_running(pid) for pid in everyone):
        assert time.monotonic() < start + 60, "a process outlives the kill by more than a minute"
        time.sleep(0.05)
    return Kill(moment, victim, check_files(run.out), time.monotonic() - start)


def is_running(pid: int) -> bool:
    """Whether the process still does anything; one that only waits to be fetched does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def check_files(out: Path) -> int:
    """Every checkpoint can be read whole; the steps of the rolling one. Files that were being written do not count."""
    for path in (out / "checkpoints").glob("[!.]*.pt"):
        torch.load(path, weights_only=True)
    last = out / "checkpoints" / LAST
    return torch.load(last, weights_only=True)["progress"]["steps"] if last.is_file() else 0


def check_same_outcome(first: Path, second: Path) -> None:
    """Weights, optimizer and logs are those of the other run."""
    assert_equal_weights(weights(first / "checkpoints" / LAST), weights(second / "checkpoints" / LAST))
    one, two = (torch.load(out / "checkpoints" / LAST, weights_only=True) for out in (first, second))
    for index, state in one["optimizer"]["state"].items():
        assert all(torch.equal(value, two["optimizer"]["state"][index][name]) for name, value in state.items())
    for name in ("epoch", "steps", "best_metric", "last_metric"):
        assert one["progress"][name] == two["progress"][name], name
    for state, other in zip(one["random"], two["random"], strict=True):
        assert torch.equal(state["torch"], other["torch"])
    assert_equal_weights(
        weights(first / "checkpoints/checkpoint_2.pt"), weights(second / "checkpoints/checkpoint_2.pt")
    )
    assert len((second / "logs/train_stats.json").read_text().splitlines()) == one["progress"]["epoch"]


def kill_nine(folder: Path, *, kills: int, epochs: int, seed: int) -> list[Kill]:
    """Run once untouched and once under fire, and compare.

    Raises:
        AssertionError: something is not as it should be.
    """
    rng = random.Random(seed)
    data = write_coco_folder(folder / "data", images=7, classes=(PHRASE,), val_images=2, size=(64, 48))
    assert Run(data, folder / "untouched", epochs).end() == 0
    done: list[Kill] = []
    victims: list[str] = []
    while len(done) < kills:
        moment = ("saving", "any time")[len(done) % 2]
        victims = victims or rng.sample(VICTIMS, len(VICTIMS))
        kill = kill_at(Run(data, folder / "killed", epochs), moment, victims.pop(), rng)
        assert kill is not None, f"the run ended after {len(done)} kills; give it more epochs"
        print(
            f"kill {len(done) + 1}: {kill.moment}, {kill.victim}; gone in {kill.seconds:.1f} s, step {kill.steps}",
            flush=True,
        )
        done.append(kill)
    assert Run(data, folder / "killed", epochs).end() == 0
    check_same_outcome(folder / "untouched", folder / "killed")
    return done


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--folder", type=Path, required=True)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    result = kill_nine(arguments.folder, kills=arguments.kills, epochs=arguments.epochs, seed=arguments.seed)
    print(f"{len(result)} kills, weights bit-equal to the untouched run")
