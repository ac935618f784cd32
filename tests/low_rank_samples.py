"""Adapters made by hand, for tests of what reads and merges them."""

from pathlib import Path

import torch
from torch import Tensor

from sam3.io.adapter_file import Adapter, Recipe, base_fingerprint, write_adapter
from sam3.io.low_rank import adapter_names
from sam3.io.model_card import ModelCard

TARGETS = ("backbone.vision_backbone.trunk.blocks.0.attn.qkv.weight", "transformer.decoder.layers.0.linear1.weight")
REPLACED = "transformer.decoder.norm.bias"  # learnt as a whole


def adapter_tensors(state: dict[str, Tensor], rank: int = 2) -> dict[str, Tensor]:
    """Random adapters of :data:`TARGETS` with scale 0.5, and another value of :data:`REPLACED`."""
    generator = torch.Generator().manual_seed(1)
    tensors = {REPLACED: torch.full_like(state[REPLACED], 0.25)}
    for weight in TARGETS:
        names = adapter_names(weight)
        tensors[names["down"]] = torch.randn(rank, state[weight].shape[1], generator=generator)
        tensors[names["up"]] = torch.randn(len(state[weight]), rank, generator=generator)
        tensors[names["scale"]] = torch.tensor(0.5)
    return tensors


def save_adapter(path: Path, state: dict[str, Tensor], phrases: tuple[str, ...] = ("bolt",)) -> Adapter:
    """An adapter file for the base ``state``."""
    tensors = adapter_tensors(state)
    card = ModelCard(class_names=list(phrases), prompts=list(phrases), resolution=56)
    adapter = Adapter(tensors, card, Recipe(2, 1.0, list(TARGETS), base_fingerprint(state, tensors)), path)
    write_adapter(path, adapter)
    return adapter
