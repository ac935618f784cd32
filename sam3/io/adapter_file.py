"""Adapter files: what a run learnt on top of a base model that it left as it was.

safetensors with the low-rank pairs (:mod:`sam3.io.low_rank`), the whole tensors that learnt beside them, and as
metadata the model card and what the adapter was made of. A few megabytes; useless without the base.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from sam3.errors import CheckpointError
from sam3.io.checkpoint import Checkpoint
from sam3.io.files import atomic_path
from sam3.io.low_rank import adapted_weight, adapted_weights, merge_low_rank
from sam3.io.model_card import ModelCard

FORMAT = "sam3-adapter-1"
_SAMPLES = 64  # values of each tensor that its fingerprint looks at


@dataclass(frozen=True)
class Recipe:
    """What an adapter was made of; stored in its file."""

    rank: int
    alpha: float
    targets: list[str]  # Unix patterns of the adapted weights
    base: dict[str, str]  # part of the network -> fingerprint of its base weights
    format: str = FORMAT


@dataclass(frozen=True)
class Adapter:
    """Content of an adapter file."""

    tensors: dict[str, Tensor]  # down, up and scale of each adapted weight; other tensors replace those of the base
    card: ModelCard
    recipe: Recipe
    path: Path = field(default=Path())

    @property
    def weights(self) -> list[str]:
        """Names of the adapted weights."""
        return adapted_weights(self.tensors)


def base_fingerprint(state: Mapping[str, Tensor], learnt: Mapping[str, Tensor] | frozenset[str]) -> dict[str, str]:
    """Part of the network -> fingerprint of its weights, those in ``learnt`` left out.

    Looks at evenly spaced values in half precision, so that a file compressed to fp16 counts as the same base.
    """
    digests: dict[str, hashlib._Hash] = {}
    for name in sorted(state):
        if name in learnt or adapted_weight(name) is not None:
            continue
        flat = state[name].detach().flatten()
        places = torch.linspace(0, len(flat) - 1, min(_SAMPLES, len(flat)), dtype=torch.float64).long()
        values = flat[places.to(flat.device)].to("cpu", torch.float16)
        digest = digests.setdefault(_part(name), hashlib.sha256())
        digest.update(f"{name} {tuple(state[name].shape)}".encode() + values.numpy().tobytes())
    return {part: digest.hexdigest()[:16] for part, digest in digests.items()}


def write_adapter(path: str | Path, adapter: Adapter) -> None:
    """Write an adapter file, atomically. The name must end in ``.safetensors``."""
    from safetensors.torch import save_file

    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"adapter '{path}': the name must end in .safetensors")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in adapter.tensors.items()}
    metadata = {"adapter": json.dumps(asdict(adapter.recipe)), "card": json.dumps(adapter.card.to_dict())}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"} | metadata)


def read_adapter(path: str | Path) -> Adapter:
    """Read an adapter file.

    Raises:
        CheckpointError: not there, damaged, or no adapter file.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f"adapter '{path}' does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            metadata = file.metadata() or {}
        recipe = json.loads(metadata["adapter"])
        if recipe["format"] != FORMAT:
            raise CheckpointError(f"adapter '{path}' has the format {recipe['format']!r}; this version reads {FORMAT}")
        return Adapter(tensors, ModelCard.from_dict(json.loads(metadata["card"])), Recipe(**recipe), path)
    except CheckpointError:
        raise
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"adapter '{path}': damaged, or not an adapter file ({error!r}). Training with tune=lora writes "
            "best_adapter.safetensors; whole models are given as the checkpoint"
        ) from error


def apply_adapter(base: Checkpoint, adapter: Adapter) -> Checkpoint:
    """The base with the adapter merged into its weights, and with the adapter's card.

    Raises:
        CheckpointError: the adapter was trained on other weights.
    """
    _require_same_base(base, adapter)
    return replace(base, state_dict=merge_low_rank({**base.state_dict, **adapter.tensors}), card=adapter.card)


def _require_same_base(base: Checkpoint, adapter: Adapter) -> None:
    found = base_fingerprint(base.state_dict, adapter.tensors)
    unlike = [part for part, digest in adapter.recipe.base.items() if found.get(part) != digest]
    if unlike:
        raise CheckpointError(
            f"adapter '{adapter.path}' was trained on other weights than '{base.path}': {len(unlike)} of "
            f"{len(adapter.recipe.base)} parts of the network differ (first: {unlike[0]}). Give the base that the "
            "training began with (model.checkpoint_path; the released weights if there was none)"
        )


def _part(name: str) -> str:
    """``backbone.vision_backbone.trunk`` and the like; the first word outside the backbone."""
    words = name.split(".")
    return ".".join(words[:3]) if words[0] == "backbone" else words[0]
