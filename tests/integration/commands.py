"""The repository's scripts, called inside this process: the same functions, without waiting for an interpreter."""

import shlex
from collections.abc import Callable, Sequence
from importlib import import_module

from sam3.errors import run_command

MAINS = {
    "labelme_to_coco.py": "sam3.data.labelme",
    "sam3/train/train.py": "sam3.train.train",
    "tools/compress_model.py": "sam3.export.command",
    "tools/batch_inference.py": "sam3.predict.command",
}


SAM3 = "sam3"  # the command itself, whose subcommands know the rest


def main_of(script: str) -> Callable[[Sequence[str]], int | None]:
    return import_module("sam3.cli" if script == SAM3 else MAINS[script]).main


def call(script: str, *arguments: object) -> None:
    """Run ``script``; anything but exit code 0 fails the test."""
    words = [str(argument) for argument in arguments]
    code = run_command(main_of(script), words)
    assert code == 0, f"{script} {shlex.join(words)} ended with exit code {code}"
