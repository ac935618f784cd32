"""``sam3 export``: weights that training left in several files become one weight file.

Each option that changes weights is one step (:data:`sam3.export.weights.Step`); they are applied in the order of
:func:`_steps`.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sam3.arguments import CommandParser

if TYPE_CHECKING:
    from sam3.export.weights import Step
    from sam3.io.checkpoint import Checkpoint

DTYPES = ("fp32", "fp16", "bf16")
SUFFIXES = (".pt", ".safetensors")

DESCRIPTION = """\
Make one weight file of what training left in several.

  %(prog)s sam3.pt --adapter runs/bolts/checkpoints/best_adapter.safetensors --merge-lora -o bolts.pt
  %(prog)s runs/bolts/checkpoints/last.pt --merge-lora -o bolts.safetensors --dtype bf16
  %(prog)s --interpolate 0.7 sam3.pt runs/bolts/checkpoints/best.pt -o bolts_and_words.pt

The result is an ordinary weight file with the model card: every command and program takes it. For the smallest file
of a finished training, checked on a sample picture, there is sam3 compress.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see :data:`DESCRIPTION`.

    Raises:
        UserError: a file cannot be used, or the target exists.
    """
    arguments = _parse_arguments(argv)
    logging.basicConfig(format="%(message)s")
    from sam3.export.weights import export_weights
    from sam3.io.checkpoint import read_checkpoint
    from sam3.io.runs import resolve_checkpoint

    files = [resolve_checkpoint(file, None) for file in arguments.checkpoints]
    source = read_checkpoint(files[-1], merge_adapters=arguments.interpolate is not None)
    steps = _steps(arguments, files)
    written = export_weights(
        source, Path(arguments.output), steps=steps, dtype=arguments.dtype, overwrite=arguments.overwrite
    )
    _print_report(arguments, written)
    return 0


def _steps(arguments: argparse.Namespace, files: Sequence[Path]) -> "list[Step]":
    """What the options ask for, in the order in which it is done."""
    from sam3.export.interpolate import interpolate
    from sam3.export.merge import merge_adapter
    from sam3.io.checkpoint import read_checkpoint

    steps: list[Step] = []
    if arguments.merge_lora:
        steps.append(lambda weights: merge_adapter(weights, arguments.adapter))
    if arguments.interpolate is not None:
        steps.append(lambda weights: interpolate(weights, read_checkpoint(files[0]), arguments.interpolate))
    return steps


def _parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    usage = (
        "%(prog)s CHECKPOINT -o OUT --merge-lora [--adapter FILE] [options]\n"
        "       %(prog)s --interpolate A BASE TUNED -o OUT [options]"
    )
    parser = CommandParser("export", usage=usage, description=DESCRIPTION)
    parser.add_argument(
        "checkpoints", nargs="+", metavar="CHECKPOINT", help="weight file to begin with; with --interpolate BASE TUNED"
    )
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="file to write, .pt or .safetensors")
    parser.add_argument("--merge-lora", action="store_true", help="add low-rank adapters to the weights they belong to")
    parser.add_argument(
        "--adapter", metavar="FILE", help="adapter file of a LoRA training (left out: the adapters inside CHECKPOINT)"
    )
    parser.add_argument(
        "--interpolate",
        type=float,
        metavar="A",
        help="weights between BASE (0) and TUNED (1): what was learnt, with more of the words known before",
    )
    parser.add_argument("--dtype", choices=DTYPES, default="fp32", help="precision of the weights (fp32)")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    arguments = parser.parse_args(argv)
    if Path(arguments.output).suffix not in SUFFIXES:
        parser.error(f"-o {arguments.output}: the name must end in {' or '.join(SUFFIXES)}")
    if arguments.adapter and not arguments.merge_lora:
        parser.error("--adapter FILE says what to merge; add --merge-lora")
    _check_task(parser, arguments)
    return arguments


def _check_task(parser: CommandParser, arguments: argparse.Namespace) -> None:
    """One task, with the files that it needs."""
    share, files = arguments.interpolate, len(arguments.checkpoints)
    if share is None and not arguments.merge_lora:
        parser.error(
            "nothing to do; give --merge-lora or --interpolate (for a smaller copy of a checkpoint: sam3 compress)"
        )
    if share is not None and arguments.merge_lora:
        parser.error("--interpolate merges the adapters inside TUNED by itself; merge an adapter file in a step before")
    if share is not None and not 0 <= share <= 1:
        parser.error(f"--interpolate {share:g}: give a number from 0 (BASE) to 1 (TUNED)")
    if files != (1 if share is None else 2):
        wanted = "one CHECKPOINT" if share is None else "BASE and TUNED"
        parser.error(f"{files} weight files are given; expected {wanted}")


def _print_report(arguments: argparse.Namespace, written: "Checkpoint") -> None:
    rows = [
        *(("checkpoint", file) for file in arguments.checkpoints),
        *([("adapter", arguments.adapter)] if arguments.adapter else []),
        ("written", f"{written.path}  {written.path.stat().st_size / 1e6:,.2f} MB, {arguments.dtype}"),
        ("holds", f"{len(written.state_dict)} tensors of the image model"),
    ]
    if written.card is not None:
        phrases = ", ".join(map(repr, written.card.prompts or written.card.class_names)) or "none"
        rows.append(("carries", f"phrases {phrases}; {written.card.resolution} px"))
        if written.card.interpolation is not None:
            rows.append(("mixed", f"{written.card.interpolation:g} of the tuned weights, the rest of their base"))
    for name, text in rows:
        print(f"{name:<11}{text}")
