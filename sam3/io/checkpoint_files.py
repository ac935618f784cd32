"""Weight files on disk: torch archives, safetensors, folders of shards. Only tensors and plain values are read."""

import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sam3.errors import CheckpointError
from sam3.io.files import atomic_path
from sam3.io.model_card import ModelCard

WEIGHT_SUFFIXES = (".pt", ".pth", ".safetensors")
_INDEX = "model.safetensors.index.json"
_FOLDER_FILES = ("model.safetensors", "sam3.pt")  # looked for in this order when there is no index
_CARD = "card"


@dataclass
class WeightFile:
    """What a weight file holds, names untouched."""

    tensors: dict[str, Tensor]  # on the CPU; torch archives stay on disk until a tensor is used
    card: ModelCard | None


def read_weight_file(path: Path) -> WeightFile:
    """Read a torch archive, a safetensors file, or a folder with either.

    Raises:
        CheckpointError: nothing there, damaged, or holding anything but weights. The message says what,
            and names the file.
    """
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise CheckpointError(f"weights '{path}' do not exist. {_weights_in(path.parent)}")
    if path.stat().st_size == 0:
        raise CheckpointError(f"weights '{path}': the file is empty (0 bytes); copy or download it again")
    return _read_safetensors(path) if is_safetensors(path) else _read_torch(path)


def write_weight_file(path: Path, tensors: Mapping[str, Tensor], card: ModelCard | None) -> None:
    """Write ``{"model": tensors, "card": ...}`` (.pt, .pth) or safetensors with the card as metadata, atomically.

    Raises:
        CheckpointError: another suffix.
    """
    if path.suffix not in WEIGHT_SUFFIXES:
        raise CheckpointError(f"weights '{path}': the name must end in {', '.join(WEIGHT_SUFFIXES)}")
    with atomic_path(path) as temporary:
        if path.suffix == ".safetensors":
            from safetensors.torch import save_file

            metadata = {"format": "pt"} | ({_CARD: json.dumps(card.to_dict())} if card else {})
            save_file(_without_shared_memory(tensors), temporary, metadata=metadata)
        else:
            torch.save({"model": dict(tensors)} | ({_CARD: card.to_dict()} if card else {}), temporary)


def _read_folder(folder: Path) -> WeightFile:
    if (folder / _INDEX).is_file():
        return _read_shards(folder)
    candidates = [folder / name for name in _FOLDER_FILES if (folder / name).is_file()]
    candidates = candidates or [path for path in folder.iterdir() if path.suffix in WEIGHT_SUFFIXES]
    if len(candidates) == 1 or (candidates and candidates[0].name in _FOLDER_FILES):
        return read_weight_file(candidates[0])
    raise CheckpointError(
        f"weights '{folder}': expected {_INDEX}, {' or '.join(_FOLDER_FILES)} in the folder. {_weights_in(folder)}"
    )


def _read_shards(folder: Path) -> WeightFile:
    try:
        shard_of = json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(shard_of.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"weights '{folder / _INDEX}': expected JSON with a weight_map ({error})") from error
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise CheckpointError(
            f"weights '{folder}': {len(missing)} of {len(names)} shards are missing (first: {missing[0]!r})"
        )
    shards = [_read_safetensors(folder / name) for name in names]
    tensors = {name: tensor for shard in shards for name, tensor in shard.tensors.items()}
    if lost := [name for name in shard_of if name not in tensors]:
        raise CheckpointError(
            f"weights '{folder}': shard {shard_of[lost[0]]!r} lacks the tensor {lost[0]!r} of the index"
        )
    return WeightFile(tensors, next((shard.card for shard in shards if shard.card), None))


def is_safetensors(path: Path) -> bool:
    """By content: eight bytes of length, then a JSON object; and by name, so that damage is called by its name."""
    with open(path, "rb") as file:
        return path.suffix == ".safetensors" or file.read(9)[8:] == b"{"


def _read_safetensors(path: Path) -> WeightFile:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            metadata = file.metadata() or {}
        card = json.loads(metadata[_CARD]) if _CARD in metadata else None
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"weights '{path}': damaged or truncated safetensors file ({error})") from error
    return WeightFile(tensors, _card(path, card))


def _read_torch(path: Path) -> WeightFile:
    content = read_torch_archive(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"weights '{path}': expected a dict of tensors, the file holds a {type(content).__name__}"
        )
    card = content.get(_CARD)
    tensors = content["model"] if isinstance(content.get("model"), Mapping) else content
    for name, value in tensors.items():
        if not (isinstance(name, str) and isinstance(value, Tensor)):
            raise CheckpointError(
                f"weights '{path}': unknown layout, entry {name!r} is a {type(value).__name__}. "
                'Expected tensors by name, or {"model": tensors by name, ...}'
            )
    return WeightFile(dict(tensors), _card(path, card))


def read_torch_archive(path: Path) -> Any:
    """What ``torch.save`` wrote, tensors and plain values only; tensors stay on disk until they are used.

    Raises:
        CheckpointError: damaged, or holding anything that could run code.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f"the Python object {named[1]!r}" if named else "bytes that are not tensors and plain values"
        raise CheckpointError(
            f"weights '{path}': refused, because it holds {what}; loading that could run code. Expected a file of "
            "tensors only (a saved state dict, or safetensors)"
        ) from error
    except Exception as error:  # damaged archives raise RuntimeError, EOFError, KeyError, ...
        reason = str(error).split(". ")[0] or type(error).__name__
        raise CheckpointError(
            f"weights '{path}': damaged, truncated, or no weight file ({reason}); copy or download it again"
        ) from error


def _without_shared_memory(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors, each with memory of its own, as safetensors demands."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage().data_ptr()
        separate[name] = tensor.clone(memory_format=torch.contiguous_format) if memory in seen else tensor.contiguous()
        seen.add(memory)
    return separate


def _card(path: Path, values: Any) -> ModelCard | None:
    try:
        return None if values is None else ModelCard.from_dict(values)
    except CheckpointError as error:
        raise CheckpointError(f"weights '{path}': {error}") from error


def _weights_in(folder: Path) -> str:
    found = sorted(p.name for p in folder.iterdir() if p.suffix in WEIGHT_SUFFIXES) if folder.is_dir() else []
    return f"Weight files in '{folder}': {', '.join(found[:8]) or 'none'}"
