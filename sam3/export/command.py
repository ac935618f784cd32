"""``sam3 compress`` and ``tools/compress_model.py``: a training checkpoint becomes a small weight file."""

import argparse
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sam3.arguments import CommandParser

if TYPE_CHECKING:
    from sam3.export.compress import Report
    from sam3.export.sample_check import SampleCheck

DTYPES = ("fp16", "bf16", "fp32")
SUFFIXES = {"pt": ".pt", "safetensors": ".safetensors"}

DESCRIPTION = """\
Turn a training checkpoint into a small weight file with everything needed to use the model.

  %(prog)s runs/holes/checkpoints/best.pt
  %(prog)s --run runs/holes --dtype bf16 --format safetensors -o holes.safetensors

The result is loaded again and compared with the original on a sample picture before it is kept.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see :data:`DESCRIPTION`.

    Raises:
        UserError: the checkpoint cannot be used, the target exists, or the result would differ too much.
    """
    arguments = _parse_arguments(argv)
    logging.basicConfig(format="%(message)s")
    from sam3.export.compress import compress
    from sam3.export.sample_check import BOUNDS, SampleCheck
    from sam3.io.runs import resolve_checkpoint

    source = resolve_checkpoint(arguments.checkpoint, arguments.run)
    target = Path(arguments.output) if arguments.output else default_target(source, arguments.dtype, arguments.format)
    check = None
    if not arguments.no_sample:
        bound = BOUNDS[arguments.dtype] if arguments.bound is None else arguments.bound
        check = SampleCheck(bound=bound, image=arguments.sample_image, phrase=arguments.sample_prompt)
    report = compress(
        source,
        target,
        dtype=arguments.dtype,
        check=check,
        config=arguments.config,
        overwrite=arguments.overwrite,
        force=arguments.force,
    )
    _print_report(report, check)
    return 0


def default_target(source: Path, dtype: str, file_format: str) -> Path:
    """``best.pt`` -> ``best_fp16.pt`` beside it; a precision that the name ends in already is replaced."""
    stem = re.sub(rf"_({'|'.join(DTYPES)})$", "", source.stem)
    return source.with_name(f"{stem}_{dtype}{SUFFIXES[file_format]}")


def _parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    usage = "%(prog)s (CHECKPOINT | --run DIR) [-o OUT] [options]"
    parser = CommandParser("compress", usage=usage, description=DESCRIPTION)
    parser.add_argument(
        "checkpoint", nargs="?", metavar="CHECKPOINT", help="file that training wrote, or any weight file"
    )
    parser.add_argument("--run", metavar="DIR", help="take best.pt, else last.pt, of the latest run at or below DIR")
    parser.add_argument("-o", "--output", metavar="OUT", help="weight file to write (CHECKPOINT's name + _fp16)")
    parser.add_argument("--dtype", choices=DTYPES, default="fp16", help="precision of the weights (fp16)")
    parser.add_argument("--format", choices=tuple(SUFFIXES), help="file format (that of OUT's suffix, else pt)")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    parser.add_argument("--bound", type=float, metavar="X", help="largest difference allowed on the sample (by dtype)")
    parser.add_argument("--force", action="store_true", help="keep the result although it exceeds the bound")
    parser.add_argument("--sample-image", metavar="FILE", help="picture to compare on (one made up)")
    parser.add_argument("--sample-prompt", metavar="PHRASE", help="phrase to compare with (checkpoint's first)")
    parser.add_argument("--no-sample", action="store_true", help="skip the comparison (it takes two forward passes)")
    parser.add_argument(
        "--config", default="sam3", metavar="PRESET", help="model shape of a file that does not carry it (sam3)"
    )
    arguments = parser.parse_args(argv)
    if (arguments.checkpoint is None) == (arguments.run is None):
        parser.error("give either a CHECKPOINT or --run DIR")
    if arguments.bound is not None and arguments.bound < 0:
        parser.error(f"--bound {arguments.bound:g}: give a number that is not negative")
    suffix = Path(arguments.output).suffix if arguments.output else None
    if suffix is not None and suffix not in SUFFIXES.values():
        parser.error(f"-o {arguments.output}: the name must end in {' or '.join(SUFFIXES.values())}")
    if arguments.format and suffix and suffix != SUFFIXES[arguments.format]:
        parser.error(f"--format {arguments.format} and -o {arguments.output} contradict each other")
    arguments.format = arguments.format or "pt"
    return arguments


def _print_report(report: "Report", check: "SampleCheck | None") -> None:
    card = report.card
    phrases = ", ".join(map(repr, card.prompts or card.class_names)) or "none"
    rows = [
        ("checkpoint", f"{report.source}  {_megabytes(report.bytes_before)}"),
        ("written", f"{report.target}  {_megabytes(report.bytes_after)}, {_change(report.saved)}"),
        ("loads", f"{report.matched} / {report.total} tensors of the model"),
        (
            "carries",
            f"phrases {phrases}; {card.resolution} px; threshold {card.score_threshold:g}; model configuration",
        ),
    ]
    if report.left_out:
        rows.append(("left out", f"{report.left_out} tensors of parts that the image model does not have"))
    if check is not None and report.differences is not None:
        verdict = "ok" if report.differences.largest <= check.bound else "EXCEEDED, kept because of --force"
        rows.append(("sample", f"{report.differences}; bound {check.bound:g}: {verdict}"))
    for name, text in rows:
        print(f"{name:<11}{text}")


def _change(saved: float) -> str:
    return "as large as before" if round(saved, 2) == 0 else f"{abs(saved):.0%} {'smaller' if saved > 0 else 'larger'}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.2f} MB"
