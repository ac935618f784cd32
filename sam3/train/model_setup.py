"""The network of a run: its shape from the settings, what of it learns, and its weights."""

from collections.abc import Mapping
from typing import Any

import torch
from hydra.utils import get_object
from torch import nn

from sam3.config import ModelConfig, resolve_config
from sam3.errors import ConfigError
from sam3.io.feature_store import FeatureStore
from sam3.model.frozen import learns
from sam3.model.vision.trunk_cache import TrunkCache
from sam3.train.meters import GIGABYTE
from sam3.train.schema import ModelSettings
from sam3.train.tuning import apply_tuning


def model_config(settings: ModelSettings) -> ModelConfig:
    """The preset with ``settings.overrides`` merged in, at the preset's own resolution.

    Raises:
        ConfigError: unknown preset or field, or numbers that contradict each other.
    """
    values = _merged(resolve_config(settings.preset).to_dict(), settings.overrides)
    return ModelConfig.from_dict(values)


def model_shape(settings: ModelSettings) -> ModelConfig | str:
    """What a builder is told: the preset's name, which a checkpoint's own shape may replace, or a changed preset."""
    return model_config(settings) if settings.overrides else settings.preset


def build_model(settings: ModelSettings, device: torch.device | str, *, with_weights: bool = True) -> nn.Module:
    """The network in training mode, with its adapters, frozen parts marked.

    Args:
        with_weights: False = random values and no file access, for the plan and before resuming.
    """
    builder = get_object(settings._target_)
    model = builder(
        settings.checkpoint_path if with_weights else None,
        load_from_HF=settings.load_from_HF and with_weights,
        device=device,
        eval_mode=False,
        bpe_path=settings.bpe_path,
        enable_segmentation=settings.enable_segmentation,
        resolution=settings.resolution,
        compile=settings.compile,
        config=model_shape(settings),
        activation_checkpointing=settings.activation_checkpointing,
    )
    apply_tuning(model, settings.tune, settings.freeze)
    if settings.feature_cache is not None:
        _attach_feature_cache(model, settings)
    return model


def _attach_feature_cache(model: nn.Module, settings: ModelSettings) -> None:
    """Let the frozen trunk of ``model`` keep its maps on disk; a model without memory is only checked."""
    vision = model.backbone.vision_backbone
    if learns(vision.trunk):
        raise ConfigError(
            "model.feature_cache keeps what the image trunk says of an image, but the trunk learns here, so that "
            "changes with every step. Freeze it (tune=decoder, tune=head, or model.freeze="
            "['backbone.vision_backbone.trunk.*']), or set model.feature_cache=null"
        )
    if model.device.type != "meta":
        store = FeatureStore(settings.feature_cache, settings.feature_cache_gib * GIGABYTE)
        vision.trunk_cache = TrunkCache(store)


def _merged(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with nested ``changes``; keys are checked by :meth:`ModelConfig.from_dict`."""
    result = dict(base)
    for key, value in changes.items():
        known = isinstance(result.get(key), dict) and isinstance(value, Mapping)
        result[key] = _merged(result[key], value) if known else value
    return result
