"""``sam3 compress`` and ``tools/compress_model.py``: a training checkpoint becomes a small weight file.

The result holds the weights, in half precision if wanted, and the model card (classes, phrases, resolution,
threshold, model configuration): all that using the model needs, nothing that only training needs.
"""

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from sam3.arguments import CommandParser
from sam3.errors import CheckpointError
from sam3.export.sample_check import BOUNDS, Differences, SampleCheck
from sam3.io.checkpoint import Checkpoint, LoadReport, ModelCard, load_into, read_checkpoint, save_weights
from sam3.io.files import atomic_path
from sam3.io.runs import find_run_checkpoint
from sam3.model.detector.detector import Sam3Image
from sam3.model_builder import build_sam3_image_model

logger = logging.getLogger(__name__)

LARGEST_FP16 = 65504.0
SUFFIXES = {"pt": ".pt", "safetensors": ".safetensors"}
TRACKER_NAMES_ARE_OURS = ("sam3", "image model")  # layouts whose tracker can be written back

DESCRIPTION = """\
Turn a training checkpoint into a small weight file with everything needed to use the model.

  %(prog)s runs/holes/checkpoints/best.pt
  %(prog)s --run runs/holes --dtype bf16 --format safetensors -o holes.safetensors

The result is loaded again and compared with the original on a sample picture before it is kept.
"""


@dataclass(frozen=True)
class Report:
    """What was written, and how it compares."""

    source: Path
    target: Path
    bytes_before: int
    bytes_after: int
    matched: int  # tensors of the model that the result fills
    total: int
    card: ModelCard
    left_out: int  # tensors of the source that the result does not hold
    differences: Differences | None  # None: the sample check was skipped

    @property
    def saved(self) -> float:
        """Share of the size that was saved."""
        return 1 - self.bytes_after / self.bytes_before


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see :data:`DESCRIPTION`.

    Raises:
        UserError: the checkpoint cannot be used, the target exists, or the result would differ too much.
    """
    arguments = _parse_arguments(argv)
    logging.basicConfig(format="%(message)s")
    source = find_run_checkpoint(arguments.run) if arguments.run else Path(arguments.checkpoint)
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


def compress(
    source: Path,
    target: Path,
    *,
    dtype: str = "fp16",
    check: SampleCheck | None = None,
    config: str = "sam3",
    overwrite: bool = False,
    force: bool = False,
) -> Report:
    """Write the weights of ``source`` to ``target`` in ``dtype`` (``fp16``, ``bf16``, ``fp32``), whole or not at all.

    Args:
        check: compare outputs on a sample with the original's; None skips that.
        config: preset of the model when the checkpoint does not carry its configuration.
        overwrite: replace an existing target.
        force: keep the result although it differs by more than the bound.

    Raises:
        CheckpointError: the source is no usable checkpoint or holds values that ``dtype`` cannot; the target
            exists; the result does not load; or its outputs differ by more than the bound.
    """
    _refuse_targets(source, target, overwrite)
    checkpoint = read_checkpoint(source)
    _require_representable(checkpoint, dtype)
    model = build_sam3_image_model(source, device="cpu", config=config)
    card = replace(checkpoint.card or ModelCard(), model_config=model.config.to_dict())
    if checkpoint.card is None:
        card.resolution = model.config.vision.image_size
    tensors, left_out = _tensors_to_keep(checkpoint)
    before = check.outputs(model, card) if check else None
    with atomic_path(target) as temporary:
        save_weights(temporary, tensors, card, dtype=dtype)
        load_report = _load_back(model, temporary, checkpoint)
        differences = before.differences(check.outputs(model, card)) if before else None
        if differences is not None and differences.largest > check.bound and not force:
            raise CheckpointError(
                f"{source}: in {dtype} the outputs change too much ({differences}; bound {check.bound:g}); nothing was "
                "written. Use another --dtype, raise --bound, or keep it with --force"
            )
        size = temporary.stat().st_size
    return Report(
        source=source,
        target=target,
        bytes_before=_size(source),
        bytes_after=size,
        matched=load_report.matched,
        total=load_report.total,
        card=card,
        left_out=left_out,
        differences=differences,
    )


def default_target(source: Path, dtype: str, file_format: str) -> Path:
    """``best.pt`` -> ``best_fp16.pt`` beside it."""
    return source.with_name(f"{source.stem}_{dtype}{SUFFIXES[file_format]}")


def _parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = CommandParser("compress", description=DESCRIPTION)
    parser.add_argument(
        "checkpoint", nargs="?", metavar="CHECKPOINT", help="file that training wrote, or any weight file"
    )
    parser.add_argument("--run", metavar="DIR", help="take best.pt, else last.pt, of the latest run at or below DIR")
    parser.add_argument("-o", "--output", metavar="OUT", help="weight file to write (CHECKPOINT's name + _fp16)")
    parser.add_argument("--dtype", choices=tuple(BOUNDS), default="fp16", help="precision of the weights (fp16)")
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
    suffix = Path(arguments.output).suffix if arguments.output else None
    if suffix is not None and suffix not in SUFFIXES.values():
        parser.error(f"-o {arguments.output}: the name must end in {' or '.join(SUFFIXES.values())}")
    if arguments.format and suffix and suffix != SUFFIXES[arguments.format]:
        parser.error(f"--format {arguments.format} and -o {arguments.output} contradict each other")
    arguments.format = arguments.format or "pt"
    return arguments


def _refuse_targets(source: Path, target: Path, overwrite: bool) -> None:
    if target.exists() and source.exists() and target.samefile(source):
        raise CheckpointError(f"{target} is the checkpoint itself; it stays as it is, choose another -o OUT")
    if target.exists() and not overwrite:
        raise CheckpointError(f"{target} exists; pass --overwrite to replace it, or choose another -o OUT")


def _require_representable(checkpoint: Checkpoint, dtype: str) -> None:
    """Every weight is finite, and within the range of ``dtype``."""
    for name, tensor in {**checkpoint.state_dict, **checkpoint.tracker_state}.items():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        if not tensor.isfinite().all():
            count = int((~tensor.isfinite()).sum())
            raise CheckpointError(
                f"{checkpoint.path}: {count} of the {tensor.numel()} values of tensor {name!r} are not finite, so this "
                "model is broken; take an earlier checkpoint"
            )
        largest = float(tensor.abs().max())
        if dtype == "fp16" and largest > LARGEST_FP16:
            raise CheckpointError(
                f"{checkpoint.path}: tensor {name!r} holds {largest:.4g}, beyond the range of fp16 "
                f"({LARGEST_FP16:.0f}); use --dtype bf16"
            )


def _tensors_to_keep(checkpoint: Checkpoint) -> tuple[dict[str, Tensor], int]:
    """Tensors under the names they are written with, and how many the result leaves out.

    A file that also holds the tracker keeps it, with the prefixes of the released file.
    """
    if not checkpoint.tracker_state:
        return checkpoint.state_dict, len(checkpoint.unused)
    if checkpoint.layout not in TRACKER_NAMES_ARE_OURS:
        return checkpoint.state_dict, len(checkpoint.unused) + len(checkpoint.tracker_state)
    both = {f"detector.{name}": tensor for name, tensor in checkpoint.state_dict.items()}
    return both | {f"tracker.{name}": tensor for name, tensor in checkpoint.tracker_state.items()}, len(
        checkpoint.unused
    )


def _load_back(model: Sam3Image, written: Path, checkpoint: Checkpoint) -> LoadReport:
    """Load what was written into ``model``; nothing of the file stays open, so that it can be renamed."""
    compressed = read_checkpoint(written)
    lost = checkpoint.state_dict.keys() ^ compressed.state_dict.keys()
    if lost:
        raise CheckpointError(f"{checkpoint.path}: {len(lost)} tensors were not read back (first: {min(lost)!r})")
    return load_into(model, compressed)


def _size(path: Path) -> int:
    files: Mapping[Path, None] = dict.fromkeys(path.rglob("*")) if path.is_dir() else {path: None}
    return sum(file.stat().st_size for file in files if file.is_file())


def _print_report(report: Report, check: SampleCheck | None) -> None:
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
