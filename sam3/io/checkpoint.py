"""Weights between files and the model: one reader for every layout, one loader that never leaves a tensor unset.

``read_checkpoint`` gives the tensors of a file our names, ``load_into`` copies them into a model and
raises unless every tensor of the model is met, ``save_weights`` writes them.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from sam3.errors import CheckpointError
from sam3.io.checkpoint_files import read_weight_file, write_weight_file
from sam3.io.checkpoint_layouts import CLICK_MODEL, DETECTOR, TRACKER, NamedWeights, name_weights
from sam3.io.low_rank import merge_low_rank
from sam3.io.model_card import ModelCard
from sam3.io.transformers_names import SECOND_NECK, to_transformers

__all__ = ["Checkpoint", "LoadReport", "ModelCard", "in_precision", "load_into", "read_checkpoint", "save_weights"]

_log = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
LAYOUTS = ("sam3", "transformers", "transformers video")
_OPTIONAL_PARTS = (SECOND_NECK, "segmentation_head.")  # models may be built without them


@dataclass
class Checkpoint:
    """A weight file, read and renamed."""

    path: Path
    layout: str
    state_dict: dict[str, Tensor]  # names of the image model, as stored (half precision stays half), on the CPU
    tracker_state: dict[str, Tensor] = field(default_factory=dict)
    card: ModelCard | None = None
    rotary_tables: list[str] = field(default_factory=list)  # in the file; the model computes its own
    unused: list[str] = field(default_factory=list)  # of parts that no model of ours has
    may_be_missing: tuple[str, ...] = ()  # patterns of names that this layout never holds

    def given_to(self, model: nn.Module) -> dict[str, Tensor]:
        """What the file holds under the names of ``model``: the tracker's weights too, if the model has a tracker."""
        names = list(model.state_dict())
        if names and all(name.startswith((DETECTOR, TRACKER)) for name in names):
            image = {DETECTOR + name: tensor for name, tensor in self.state_dict.items()}
            return image | {TRACKER + name: tensor for name, tensor in self.tracker_state.items()}
        if not any(name.startswith(CLICK_MODEL) for name in names):
            return self.state_dict
        return self.state_dict | {CLICK_MODEL + name: tensor for name, tensor in self.tracker_state.items()}


@dataclass
class LoadReport:
    """What became of each tensor of a file and of the model."""

    path: Path
    layout: str
    matched: int  # tensors of the model met by the file, its rotary tables included
    total: int
    unset: list[str] = field(default_factory=list)  # allowed to be missing; keep their initial values
    unused: list[str] = field(default_factory=list)  # of parts that this model was built without
    unexpected: list[str] = field(default_factory=list)  # of no known part

    def __str__(self) -> str:
        text = f"weights '{self.path}' (layout: {self.layout}): matched {self.matched} / {self.total}"
        for count, what in (
            (self.unset, "not in the file, left at their initial values"),
            (self.unused, "unused, of parts that this model does not have"),
            (self.unexpected, "UNEXPECTED and ignored"),
        ):
            text += f"; {len(count)} {what} (first: {count[0]})" if count else ""
        return text


def read_checkpoint(path: str | Path, *, merge_adapters: bool = True) -> Checkpoint:
    """Read weights of any known layout; nothing in the file can run code.

    Args:
        path: ``sam3.pt`` as released, a file of ours, a bare state dict, safetensors, a SAM 3.1 file, or a
            folder of ``transformers`` or with sharded safetensors.
        merge_adapters: add the low-rank adapters of a LoRA training to their weights; ``False`` keeps them apart,
            as continuing that training needs them.

    Raises:
        CheckpointError: missing, empty, truncated, unsafe or of no known layout.
    """
    path = Path(path).expanduser()
    file = read_weight_file(path)
    try:
        named: NamedWeights = name_weights(file.tensors)
        image = merge_low_rank(named.image) if merge_adapters else named.image
    except CheckpointError as error:
        raise CheckpointError(f"weights '{path}': {error}") from error
    return Checkpoint(
        path=path,
        layout=named.layout,
        state_dict=image,
        tracker_state=named.tracker,
        card=file.card,
        rotary_tables=named.rotary_tables,
        unused=named.unused,
        may_be_missing=named.may_be_missing,
    )


def load_into(model: nn.Module, checkpoint: Checkpoint, *, allow_missing: Sequence[str] = ()) -> LoadReport:
    """Copy a checkpoint into the image model, converting to the dtype and device of each of its tensors.

    Nothing is copied unless everything fits. The report is logged, loudly if the file holds tensors of
    no known part.

    Args:
        model: the image model; it may lack the second neck or the segmentation head.
        checkpoint: from :func:`read_checkpoint`.
        allow_missing: regular expressions of whole names that the file need not hold.

    Raises:
        CheckpointError: a tensor of the model is missing from the file, has another shape there or holds no
            floating-point numbers; names the file and the first such tensor.
    """
    own, given = model.state_dict(), checkpoint.given_to(model)
    allowed = [re.compile(pattern) for pattern in (*checkpoint.may_be_missing, *allow_missing)]
    missing = [name for name in own if name not in given]
    unset = [name for name in missing if any(pattern.fullmatch(name.removeprefix(DETECTOR)) for pattern in allowed)]
    _require_fit(checkpoint, own, given, [name for name in missing if name not in unset])
    with torch.no_grad():
        for name, tensor in own.items():
            if name in given:
                tensor.copy_(given[name])
    report = _report(checkpoint, own, given, unset)
    _log.log(logging.WARNING if report.unexpected else logging.INFO, "%s", report)
    return report


def save_weights(
    path: str | Path,
    state_dict: Mapping[str, Tensor],
    card: ModelCard | None,
    *,
    dtype: str = "fp32",
    prefix: str = "",
    rotary_tables: Mapping[str, Tensor] | None = None,
    layout: str = "sam3",
) -> None:
    """Write the image model's weights with its card, atomically.

    Args:
        path: ``.pt``, ``.pth`` or ``.safetensors``.
        state_dict: names of the image model, without prefix.
        card: stored beside the tensors; None leaves it out.
        dtype: ``fp32``, ``fp16`` or ``bf16``, of all floating tensors.
        prefix: put before every name, for example ``detector.`` as in the released file ("sam3" layout only).
        rotary_tables: complex tables by name (``...attn.freqs_cis``) for programs that read them from the
            file, as the reference does; never converted.
        layout: ``sam3`` (our names), ``transformers`` (image model) or ``transformers video``.

    Raises:
        CheckpointError: unknown suffix, dtype or layout, or a value that fp16 cannot hold.
    """
    if dtype not in DTYPES:
        raise CheckpointError(f"unknown weight precision {dtype!r}; expected {', '.join(DTYPES)}")
    if layout not in LAYOUTS:
        raise CheckpointError(f"unknown layout {layout!r}; expected {', '.join(LAYOUTS)}")
    if layout != "sam3" and (prefix or rotary_tables):
        raise CheckpointError(f"layout {layout!r} has fixed names and no rotary tables; leave both options out")
    tensors = {name: in_precision(name, tensor, dtype) for name, tensor in state_dict.items()}
    if layout == "sam3":
        tables = {name: table.detach().cpu() for name, table in (rotary_tables or {}).items()}
        tensors = {prefix + name: tensor for name, tensor in (tensors | tables).items()}
    else:
        tensors = to_transformers(tensors, video_file=layout == "transformers video")
    write_weight_file(Path(path).expanduser(), tensors, card)


def in_precision(name: str, tensor: Tensor, dtype: str) -> Tensor:
    """``tensor`` on the CPU; in ``fp32``, ``fp16`` or ``bf16`` if it is a floating one.

    Raises:
        CheckpointError: a finite value that fp16 cannot hold; the message says it and the ``name``.
    """
    tensor = tensor.detach().cpu()
    if not tensor.is_floating_point():
        return tensor
    converted = tensor.to(DTYPES[dtype])
    if dtype == "fp16" and (converted.isinf() & tensor.isfinite()).any():
        largest = tensor[tensor.isfinite()].abs().max()
        raise CheckpointError(
            f"tensor {name!r} holds {largest:.3g}, beyond the range of fp16 (65504); use bf16 or fp32"
        )
    return converted


def _require_fit(
    checkpoint: Checkpoint, own: Mapping[str, Tensor], given: Mapping[str, Tensor], missing: list[str]
) -> None:
    where = f"weights '{checkpoint.path}' (layout: {checkpoint.layout})"
    if not own.keys() & given.keys():
        first = next(iter(given or checkpoint.tracker_state), None)
        raise CheckpointError(f"{where}: no tensor is of the image model (first in the file: {first!r})")
    if missing:
        only_neck = all(name.startswith((SECOND_NECK, CLICK_MODEL)) for name in missing)
        remedy = "It has no weights for clicks and tracking: build with enable_inst_interactivity=False."
        first = _name_in_file(checkpoint, missing[0])
        raise CheckpointError(
            f"{where}: {len(missing)} of {len(own)} tensors of this model are not in the file (first: {first!r}). "
            + (remedy if only_neck else "Is the file incomplete, or of another model size?")
        )
    unlike = [name for name, tensor in own.items() if name in given and given[name].shape != tensor.shape]
    if unlike:
        first = unlike[0]
        raise CheckpointError(
            f"{where}: {len(unlike)} of {len(own)} tensors have another shape "
            f"(first: {_name_in_file(checkpoint, first)!r} is {tuple(given[first].shape)} in the file and "
            f"{tuple(own[first].shape)} in this model). "
            "Was the model built with the configuration of these weights?"
        )
    if quantised := [name for name in own if name in given and _is_not_a_weight(own[name], given[name])]:
        first = quantised[0]
        raise CheckpointError(
            f"{where}: {len(quantised)} of {len(own)} tensors hold {given[first].dtype} instead of floating-point "
            f"numbers (first: {_name_in_file(checkpoint, first)!r}). Quantised files cannot be used; take the original"
        )
    if on_meta := [name for name, tensor in own.items() if tensor.is_meta]:
        raise CheckpointError(
            f"{where}: the model is on the meta device (first: {on_meta[0]!r}) and cannot hold weights"
        )


def _is_not_a_weight(own: Tensor, given: Tensor) -> bool:
    return own.is_floating_point() and not given.is_floating_point()


def _name_in_file(checkpoint: Checkpoint, name: str) -> str:
    """How the released layout spells a name of the image model; other layouts: our name."""
    if checkpoint.layout != "sam3" or name.startswith((DETECTOR, TRACKER)):
        return name
    return TRACKER + name.removeprefix(CLICK_MODEL) if name.startswith(CLICK_MODEL) else DETECTOR + name


def _report(
    checkpoint: Checkpoint, own: Mapping[str, Tensor], given: Mapping[str, Tensor], unset: list[str]
) -> LoadReport:
    extra = [name for name in given if name not in own]
    absent = tuple(part for part in _OPTIONAL_PARTS if not any(name.startswith(part) for name in own))
    unused = [name for name in extra if name.startswith(absent)] if absent else []
    tables = len(checkpoint.rotary_tables)
    has_tracker = any(name.startswith((CLICK_MODEL, TRACKER)) for name in own)
    tracker = [] if has_tracker else [f"tracker.{name}" for name in checkpoint.tracker_state]
    return LoadReport(
        path=checkpoint.path,
        layout=checkpoint.layout,
        matched=len(own) - len(unset) + tables,
        total=len(own) + tables,
        unset=unset,
        unused=unused + tracker + checkpoint.unused,
        unexpected=[name for name in extra if name not in set(unused)],
    )
