"""The network of a run: its shape from the settings, what of it learns, and its weights."""

import logging
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from hydra.utils import get_object
from torch import nn

from sam3.config import ModelConfig, resolve_config
from sam3.errors import ConfigError
from sam3.train.schema import ModelSettings

_log = logging.getLogger(__name__)


def model_config(settings: ModelSettings) -> ModelConfig:
    """The preset with ``settings.overrides`` merged in, at the preset's own resolution.

    Raises:
        ConfigError: unknown preset or field, or numbers that contradict each other.
    """
    values = _merged(resolve_config(settings.preset).to_dict(), settings.overrides)
    return ModelConfig.from_dict(values)


def build_model(settings: ModelSettings, device: torch.device | str, *, with_weights: bool = True) -> nn.Module:
    """The network in training mode, frozen parts marked.

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
        config=model_config(settings) if settings.overrides else settings.preset,
        activation_checkpointing=settings.activation_checkpointing,
    )
    freeze(model, settings.freeze)
    return model


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Switch off the gradient of parameters whose full name matches a Unix pattern.

    Returns:
        Names of the frozen parameters.

    Raises:
        ConfigError: a pattern that matches nothing, or nothing left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigError(
                f"model.freeze: pattern {pattern!r} matches no parameter of the model (first: {names[0]!r})"
            )
    frozen = [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
    if len(frozen) == len(names):
        raise ConfigError(f"model.freeze {list(patterns)} matches every parameter; nothing would learn")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return frozen


def _merged(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with nested ``changes``; keys are checked by :meth:`ModelConfig.from_dict`."""
    result = dict(base)
    for key, value in changes.items():
        known = isinstance(result.get(key), dict) and isinstance(value, Mapping)
        result[key] = _merged(result[key], value) if known else value
    return result
