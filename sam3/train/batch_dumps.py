"""Batches that broke a step, kept on disk so that they can be looked at: ``<run>/dumps/nonfinite/``."""

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sam3.io.files import atomic_path, write_json
from sam3.structures import Batch

_log = logging.getLogger(__name__)


class BatchDumps:
    """Writes a batch as two files, ``NAME.safetensors`` (images, prompts, targets) and ``NAME.json`` (what happened).

    Args:
        folder: where to.
        limit: at most so many batches a process; those of earlier starts of the run count. 0 = none.
        rank: number of this process, part of the names.
    """

    def __init__(self, folder: str | Path, limit: int, rank: int = 0) -> None:
        self.folder = Path(folder)
        self.limit = limit
        self.rank = rank

    def write(self, batch: Batch, *, epoch: int, step: int, reason: str, parts: Mapping[str, Tensor]) -> Path | None:
        """Keep ``batch``; the path of its JSON file, or None when enough are kept or the disk refuses.

        Args:
            parts: loss parts of the batch, scalars.
        """
        kept = len(list(self.folder.glob(f"*_rank_{self.rank}_*.json")))
        if kept >= self.limit:
            return None
        path = self.folder / f"epoch_{epoch}_step_{step}_rank_{self.rank}_{kept}.json"
        try:
            _write_tensors(path.with_suffix(".safetensors"), batch)
            write_json(path, _description(batch, parts) | {"epoch": epoch, "step": step, "reason": reason}, indent=1)
        except OSError as error:
            _log.warning("the batch is not kept: %s cannot be written (%s)", path, error)
            return None
        return path


def _write_tensors(path: Path, batch: Batch) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in named_tensors(batch)}
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary)
        except SafetensorError as error:  # a full disk
            raise OSError(str(error)) from error


def named_tensors(value: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Tensors of a dataclass and of those inside it, under names such as ``targets.boxes``."""
    for f in fields(value):
        item = getattr(value, f.name)
        if isinstance(item, Tensor):
            yield f"{prefix}{f.name}", item
        elif is_dataclass(item):
            yield from named_tensors(item, f"{prefix}{f.name}.")


def _description(batch: Batch, parts: Mapping[str, Tensor]) -> dict[str, Any]:
    pixels = [bool(torch.isfinite(image).all()) for image in batch.images]
    return {
        "images": list(batch.origin.file_names),
        "images_are_finite": pixels,
        "phrases": list(batch.phrases),
        "losses": {name: _json_number(float(value)) for name, value in parts.items()},
    }


def _json_number(value: float) -> float | str:
    """JSON knows no NaN and no infinity."""
    return value if math.isfinite(value) else str(value)
