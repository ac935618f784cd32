"""``run.json`` in the output folder of a run over images or videos: results of different settings never share one."""

import json
import logging
from pathlib import Path
from typing import Any

from sam3.errors import DataError

_log = logging.getLogger(__name__)

RUN_FILE = "run.json"


def earlier_run(
    root: Path, settings: dict[str, Any], *, option: str, overwrite: bool
) -> tuple[dict[str, Any] | None, list[str]]:
    """What an earlier run left in the ``run.json`` of ``root``, and in what its settings differ from ``settings``.

    Args:
        option: the one that names the folder.
        overwrite: settings may differ.

    Raises:
        DataError: ``root`` is a file, or holds results of other settings.
    """
    if root.exists() and not root.is_dir():
        raise DataError(f"{option} {root} is a file; a folder is needed")
    earlier = read_own_json(root / RUN_FILE)
    differences = [] if earlier is None else setting_differences(settings, earlier["settings"])
    if differences and not overwrite:
        raise DataError(
            f"{option} {root} holds the results of other settings ({'; '.join(differences)}); choose another "
            f"{option}, or pass --overwrite to replace them"
        )
    return earlier, differences


def setting_differences(mine: dict[str, Any], earlier: dict[str, Any]) -> list[str]:
    """``name: earlier value -> value``, one entry per setting that differs; the order of phrases counts."""
    return [
        f"{name}: {_short(earlier.get(name))} -> {_short(value)}"
        for name, value in json.loads(json.dumps(mine)).items()
        if value != earlier.get(name) or (isinstance(value, dict) and list(value) != list(earlier[name]))
    ]


def read_own_json(path: Path) -> dict[str, Any] | None:
    """The object in a file of ours; None when there is none or it is damaged (then the image is done again)."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        _log.warning("%s cannot be read and is ignored: %s", path, error)
        return None
    return value if isinstance(value, dict) else None


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
