"""Arguments that ``sam3 predict`` and ``sam3 track`` share: weights, device, phrases, files wanted."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sam3.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from sam3.io.checkpoint import ModelCard

DTYPES = ("auto", "fp32", "bf16", "fp16")


def add_weight_arguments(parser: argparse.ArgumentParser) -> None:
    """``--checkpoint`` or ``--run``."""
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument(
        "--checkpoint", metavar="FILE", help="weight file (left out: the released weights, downloaded)"
    )
    weights.add_argument("--run", metavar="DIR", help="take best.pt, else last.pt, of the latest run at or below DIR")


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """Where and how finely the network computes."""
    parser.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1, mps (cuda if there is one, else cpu)")
    parser.add_argument("--dtype", choices=DTYPES, default="auto", help="auto: bf16 on CUDA, fp32 elsewhere")
    parser.add_argument("--resolution", type=int, metavar="PX", help="side of the network input (checkpoint's)")
    parser.add_argument(
        "--config", default="sam3", metavar="PRESET", help="model shape of a file that does not carry it (sam3)"
    )


def add_output_kinds(parser: argparse.ArgumentParser, kinds: Sequence[str]) -> None:
    """``--write`` and one ``--no-...`` a kind; :func:`wanted_kinds` gives what is left."""

    def chosen(text: str) -> list[str]:
        found = [kind.strip() for kind in text.split(",") if kind.strip()]
        unknown = [kind for kind in found if kind not in kinds]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is unknown; choose from {','.join(kinds)}")
        return found

    parser.add_argument(
        "--write", type=chosen, default=kinds, metavar="KINDS", help=f"files wanted, of {','.join(kinds)} (all)"
    )
    for kind in kinds:
        parser.add_argument(f"--no-{kind}", action="store_true", help=f"leave out {kind}")


def add_run_arguments(parser: argparse.ArgumentParser, output: str, item: str) -> None:
    """How a run goes; ``output``: the option that names its folder, ``item``: what may fail in it, like "an image"."""
    parser.add_argument("--overwrite", action="store_true", help=f"begin anew: replace what {output} holds")
    parser.add_argument("--strict", action="store_true", help=f"exit with 1 when {item} failed")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def wanted_kinds(arguments: argparse.Namespace) -> list[str]:
    """The kinds of files that ``--write`` names and no ``--no-...`` takes away."""
    return [kind for kind in arguments.write if not getattr(arguments, f"no_{kind}")]


def prompts_of(given: Sequence[str] | None, card: "ModelCard | None", checkpoint: str | Path) -> dict[str, str]:
    """Label -> phrase: the phrases given, else those that the checkpoint was trained on.

    Raises:
        ConfigError: an empty phrase, or none given and none in the checkpoint.
    """
    if given:
        phrases = [phrase.strip() for phrase in given]
        if not all(phrases):
            raise ConfigError("--prompt is empty; give a short phrase that names the objects, like --prompt 'red car'")
        return dict(zip(phrases, phrases, strict=True))
    phrases = (card.prompts or card.class_names) if card is not None else []
    if not phrases:
        raise ConfigError(
            f"checkpoint {checkpoint} carries no phrases; say what to find, like --prompt 'red car' --prompt person"
        )
    labels = card.class_names if len(card.class_names) == len(phrases) else phrases
    return dict(zip(labels, phrases, strict=True))


def show_log() -> None:
    """Our own notices on stderr, one line each."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("sam3").setLevel(logging.INFO)


def checkpoint_path(given: str | None, run: str | None) -> Path:
    """The weight file; without any argument about it the released weights, downloaded if need be."""
    from sam3.io.hub import download_released_weights
    from sam3.io.runs import resolve_checkpoint

    if given is None and run is None:
        return download_released_weights()
    return resolve_checkpoint(given, run)


def device_of(name: str | None) -> "torch.device":
    """The device of ``--device``; left out, CUDA where there is one."""
    from sam3.model_builder import resolve_device

    try:
        return resolve_device(name)
    except ConfigError as error:
        raise ConfigError(f"--device: {error}") from error


def dtype_of(given: str, device: "torch.device") -> str:
    """The name of the precision; ``auto`` is resolved."""
    return given if given != "auto" else "bf16" if device.type == "cuda" else "fp32"


def resolution_of(given: int | None, card: "ModelCard | None", preset: str) -> int:
    """Side of the network input: ``--resolution``, else the checkpoint's, else that of ``--config``.

    Raises:
        ConfigError: it is not positive, or there is no such preset.
    """
    from sam3.config import resolve_config

    if given is not None and given < 1:
        raise ConfigError(f"--resolution {given}: give a positive number of pixels")
    of_preset = resolve_config(preset).vision.image_size
    return given or (of_preset if card is None else card.resolution)


def require_threshold(option: str, value: float) -> None:
    """
    Raises:
        ConfigError: it does not lie in [0, 1).
    """
    if not 0 <= value < 1:
        raise ConfigError(f"{option} {value}: scores lie between 0 and 1, so must the threshold (below 1)")
