"""A training checkpoint becomes a small weight file, and is compared with it.

The result holds the weights, in half precision if wanted, and the model card (classes, phrases, resolution,
threshold, model configuration): all that using the model needs, nothing that only training needs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sam3.errors import CheckpointError
from sam3.export.sample_check import Differences, SampleCheck
from sam3.export.weights import refuse_target, tensors_to_keep
from sam3.io.checkpoint import Checkpoint, LoadReport, ModelCard, load_into, read_checkpoint, save_weights
from sam3.io.files import atomic_path
from sam3.model.detector.detector import Sam3Image
from sam3.model_builder import build_sam3_image_model


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
    refuse_target(source, target, overwrite=overwrite)
    checkpoint = read_checkpoint(source)
    _require_finite(checkpoint)
    model = build_sam3_image_model(source, device="cpu", config=config)
    card = replace(checkpoint.card or ModelCard(), model_config=model.config.to_dict())
    if checkpoint.card is None:
        card.resolution = model.config.vision.image_size
    tensors, left_out = tensors_to_keep(checkpoint)
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


def _require_finite(checkpoint: Checkpoint) -> None:
    for name, tensor in {**checkpoint.state_dict, **checkpoint.tracker_state}.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            count = int((~tensor.isfinite()).sum())
            raise CheckpointError(
                f"{checkpoint.path}: {count} of the {tensor.numel()} values of tensor {name!r} are not finite, so this "
                "model is broken; take an earlier checkpoint"
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
