"""A video that is worked on, as one safetensors file: to go on with it later, or elsewhere, as if nothing had happened.

The file holds tensors, and JSON as text (one of the tensors): no code. It fits one network, one set of thresholds and
videos of one size, and says so when they differ.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from sam3.errors import DataError
from sam3.io.files import atomic_path
from sam3.model.video.concept import Concept
from sam3.model.video.saved_state import Record, Tensors, record_of, restore
from sam3.structures import GeometricPrompt

if TYPE_CHECKING:
    from sam3.model.video.open_video import OpenVideo

KIND, VERSION = "sam3 video session", 1
_RECORD = "record"  # name of the JSON text among the tensors
_SAMPLES = 16  # values of each tensor that tell weights apart


def save_video(video: "OpenVideo", path: str | Path) -> None:
    """Write the file, whole or not at all; between two frames of a propagation at the earliest."""
    from safetensors.torch import save_file

    tensors = Tensors()
    record = {
        "kind": KIND,
        "version": VERSION,
        "made_for": _made_for(video),
        "next_id": video.ids.next,
        "later": list(video.later),
        "concepts": [_concept(concept, tensors) for concept in video.concepts],
    }
    text = np.frombuffer(json.dumps(record).encode(), dtype=np.uint8).copy()
    head = {"kind": KIND, "version": str(VERSION), "next_frame": str(next_frame_of(video))}
    with atomic_path(path) as temporary:
        save_file(tensors.values | {_RECORD: torch.from_numpy(text)}, temporary, metadata=head)


def restore_video(video: "OpenVideo", path: str | Path) -> None:
    """Make a video what the saved one was.

    Raises:
        DataError: no such file, or one of something else, or made for other weights, settings or videos.
    """
    path = Path(path)
    record, values = _read(path)
    _require_equal(path, record["made_for"], _made_for(video))
    tensors = Tensors(values, video.model.detector.device)
    concepts = [(_arguments(saved, tensors), saved["state"]) for saved in record["concepts"]]
    video.begin_again([arguments for arguments, _ in concepts], record["next_id"], record["later"])
    for concept, (_, state) in zip(video.concepts, concepts, strict=True):
        restore(state, tensors, concept.session)


def next_frame(path: str | Path) -> int:
    """The frame that a saved video wants next: what the first picture of an iterator is counted as after loading.

    Raises:
        DataError: as :func:`restore_video`.
    """
    record, _ = _read(Path(path), only_head=True)
    return int(record["next_frame"])


def require_phrases(video: "OpenVideo", phrases: Sequence[str], path: str | Path) -> None:
    """Raise :class:`DataError` where a loaded video looks for something else."""
    saved = [concept.label for concept in video.concepts]
    wanted = list(dict.fromkeys(phrases))
    if saved != wanted:
        raise DataError(f"'{path}' was saved while looking for {saved}, not {wanted}; make them equal")


def next_frame_of(video: "OpenVideo") -> int:
    """The first frame that a propagation under way has not worked off; 0 where none is under way."""
    passes = [concept.session.state.under_way for concept in video.concepts if concept.session.is_under_way]
    return min((one.next_frame for one in passes if one.next_frame is not None), default=0)


# --- concepts ---


def _concept(concept: Concept, tensors: Tensors) -> Record:
    question = concept.question
    example = None if question is None else question.example
    return {
        "label": concept.label,
        "is_asked": question is not None,
        "example_frame": None if question is None else question.example_frame,
        "example": None if example is None else [tensors.put(value) for value in _parts(example).values()],
        "state": record_of(concept.session, tensors),
    }


def _arguments(saved: Record, tensors: Tensors) -> dict[str, Any]:
    names = [entry.name for entry in fields(GeometricPrompt)]
    example = saved["example"]
    if example is not None:
        example = GeometricPrompt(**{name: tensors.take(key) for name, key in zip(names, example, strict=True)})
    return {key: saved[key] for key in ("label", "is_asked", "example_frame")} | {"example": example}


def _parts(example: GeometricPrompt) -> dict[str, Tensor]:
    return {entry.name: getattr(example, entry.name) for entry in fields(example)}


# --- what it fits ---


def _made_for(video: "OpenVideo") -> Record:
    height, width = video.source.size
    return {
        "weights": weights_fingerprint(video.model),
        "settings": asdict(video.settings),
        "tracker": asdict(video.model.tracker.config),
        "video": {"height": height, "width": width, "frames": video.source.num_frames},
    }


def weights_fingerprint(model: nn.Module) -> str:
    """Of the names, shapes, types and some values of all weights."""
    tensors = dict(sorted(model.state_dict().items()))
    digest = hashlib.sha256(str([(name, tuple(t.shape), str(t.dtype)) for name, t in tensors.items()]).encode())
    samples = [_sample(tensor) for tensor in tensors.values() if tensor.numel()]
    digest.update(torch.cat(samples).cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _sample(tensor: Tensor) -> Tensor:
    flat = tensor.detach().flatten()
    return flat[:: max(1, len(flat) // _SAMPLES)].float()


def _require_equal(path: Path, saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if saved["weights"] != now["weights"]:
        raise DataError(f"'{path}' was saved with other weights; load the ones it was saved with, or begin anew")
    for part, what in (("settings", "setting"), ("tracker", "tracker setting"), ("video", "video")):
        for key, value in now[part].items():
            before = saved[part].get(key)
            if json.loads(json.dumps(value)) != before:
                raise DataError(
                    f"'{path}' was saved for another {what}: {key} was {before}, now it is {value}; "
                    "make them equal, or begin anew"
                )


def _read(path: Path, *, only_head: bool = False) -> tuple[Record, dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise DataError(f"saved session '{path}' does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            head = file.metadata() or {}
            if head.get("kind") != KIND or head.get("version") != str(VERSION):
                raise DataError(f"'{path}' is no saved video session of this version of the program")
            if only_head:
                return head, {}
            values = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise DataError(f"saved session '{path}' cannot be read: {error}") from error
    return json.loads(values.pop(_RECORD).numpy().tobytes()), values
