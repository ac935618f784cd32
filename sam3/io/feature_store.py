"""Tensors on disk by key, for what is costly to compute and needed again: features of images, for example."""

import logging
from pathlib import Path

from torch import Tensor

from sam3.io.files import atomic_path

_log = logging.getLogger(__name__)

GIBIBYTE = 2**30


class FeatureStore:
    """One safetensors file for each tensor, below one folder; files appear whole or not at all.

    Several processes may use a folder at once. It may be deleted whenever nothing uses it.

    Args:
        folder: made when the first tensor is kept.
        limit_bytes: nothing more is kept once the folder is this large; each process counts what it found at its start
            and what it has added since.
    """

    def __init__(self, folder: str | Path, limit_bytes: float) -> None:
        self.folder = Path(folder).expanduser()
        self.limit_bytes = limit_bytes
        self.size = sum(file.stat().st_size for file in self.folder.rglob("*.safetensors"))
        self._is_full = False

    def get(self, key: str) -> Tensor | None:
        """The tensor kept under ``key``; None if there is none, or it is damaged."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self._path(key)
        try:
            return load_file(path)["tensor"]
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError, KeyError) as error:
            _log.warning("%s is damaged and is made anew (%s)", path, error)
            return None

    def put(self, key: str, tensor: Tensor) -> None:
        """Keep ``tensor`` unless there is no room for it; ``key`` may hold a ``/``, the name of a sub-folder."""
        from safetensors.torch import save_file

        if self.size + tensor.nbytes > self.limit_bytes:
            self._say_full()
            return
        path = self._path(key)
        with atomic_path(path) as temporary:
            save_file({"tensor": tensor.detach().cpu().contiguous()}, temporary)
        self.size += path.stat().st_size

    def _path(self, key: str) -> Path:
        group, _, name = key.rpartition("/")
        return self.folder / group / name[:2] / f"{name}.safetensors"

    def _say_full(self) -> None:
        if not self._is_full:
            self._is_full = True
            _log.warning(
                "%s holds %.1f of %.1f GiB: nothing more is kept there, the rest is computed each time",
                self.folder,
                self.size / GIBIBYTE,
                self.limit_bytes / GIBIBYTE,
            )


class FeatureMemory:
    """The same in the memory of this process, for small networks.

    Args:
        limit_bytes: nothing more is kept beyond it.
    """

    def __init__(self, limit_bytes: float) -> None:
        self.limit_bytes = limit_bytes
        self.size = 0
        self._kept: dict[str, Tensor] = {}

    def get(self, key: str) -> Tensor | None:
        """The tensor kept under ``key``, not to be changed; None if there is none."""
        return self._kept.get(key)

    def put(self, key: str, tensor: Tensor) -> None:
        """Keep a copy of ``tensor`` unless there is no room for it."""
        if key not in self._kept and self.size + tensor.nbytes <= self.limit_bytes:
            self._kept[key] = tensor.detach().clone()
            self.size += tensor.nbytes
