"""Where a training run keeps its checkpoints."""

from pathlib import Path

from sam3.errors import CheckpointError
from sam3.io.checkpoint_files import WEIGHT_SUFFIXES

PREFERRED = ("best.pt", "last.pt")


def resolve_checkpoint(checkpoint: str | Path | None, run: str | Path | None) -> Path:
    """The weight file or weight folder that two options name: the file itself, or the run that holds it.

    Raises:
        CheckpointError: there is nothing, or ``checkpoint`` is the folder of a run.
    """
    if run is not None:
        return find_run_checkpoint(run)
    path = Path(checkpoint).expanduser()
    if not path.exists():
        raise CheckpointError(f"checkpoint {path}: there is no such file; --run DIR searches the folder of a run")
    if path.is_dir() and not any(file.suffix in WEIGHT_SUFFIXES for file in path.iterdir()):
        raise CheckpointError(f"checkpoint {path} is a folder without weights; for the folder of a run: --run {path}")
    return path


def find_run_checkpoint(folder: str | Path) -> Path:
    """The ``best.pt``, else the ``last.pt``, of the most recent run at or below ``folder``.

    ``folder`` may be an experiment folder, the ``checkpoints`` folder inside it, or a folder of many experiments. The
    most recent run is the one whose checkpoints were written last.

    Raises:
        CheckpointError: no such folder, or no checkpoint below it; names what was found instead.
    """
    folder = Path(folder).expanduser()
    if folder.is_file():
        raise CheckpointError(f"--run {folder} is a file; --run takes a run's folder, --checkpoint takes a file")
    if not folder.is_dir():
        raise CheckpointError(f"--run {folder}: there is no such folder")
    found = [path for name in PREFERRED for path in folder.rglob(name) if path.is_file()]
    if not found:
        others = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.pt"))
        hint = f"; it holds {', '.join(others[:5])}: name one with --checkpoint" if others else ""
        raise CheckpointError(f"--run {folder}: no {' or '.join(PREFERRED)} at or below this folder{hint}")
    latest = max(found, key=lambda path: path.stat().st_mtime).parent
    return next(latest / name for name in PREFERRED if (latest / name).is_file())
