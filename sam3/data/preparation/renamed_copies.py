"""GeoDE, BDD100K and MyFoodRepo-273 for SA-Co/Silver: copy local raw pictures to the annotated names.

Source: spec/evaluation.md 8. Nothing is downloaded; get the raw data from their owners first.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from sam3.arguments import CommandParser
from sam3.data.preparation.annotated_pictures import pictures_of
from sam3.data.preparation.download import in_parallel
from sam3.errors import DataError
from sam3.io.files import atomic_path


def copy_pictures(annotation_file: str | Path, raw_folder: str | Path, target: str | Path, *, dataset: str) -> str:
    """Copy every annotated picture from ``raw_folder`` into ``target``; existing files stay.

    Args:
        dataset: ``geode``, ``bdd100k`` or ``food_rec``.

    Returns:
        One line that says how many.

    Raises:
        DataError: the raw folder lacks pictures; all others are copied before.
    """
    raw_folder, target = Path(raw_folder), Path(target)
    find = _FINDERS[dataset](raw_folder)

    def copy(name: str) -> bool:
        if (target / name).exists():
            return False
        source = find(name)
        if source is None or not source.is_file():
            raise DataError(f"not found below {raw_folder}")
        with atomic_path(target / name) as temporary:
            shutil.copyfile(source, temporary)
        return True

    outcome = in_parallel(pictures_of(annotation_file), copy, workers=4, title=dataset)
    outcome.require_success(f"Is {raw_folder} the complete raw copy of {dataset}? Run again after completing it.")
    return outcome.report(dataset)


def _geode(raw: Path) -> Callable[[str], Path | None]:
    """Annotated names are the paths below ``images/`` with ``_`` for ``/``."""
    root = raw / "images"
    flat = {path.relative_to(root).as_posix().replace("/", "_"): path for path in root.rglob("*") if path.is_file()}
    return flat.get


def _bdd100k(raw: Path) -> Callable[[str], Path | None]:
    return lambda name: raw / "100k" / "train" / name


def _food_rec(raw: Path) -> Callable[[str], Path | None]:
    """Raw names are what follows the last ``_``."""
    return lambda name: raw / "public_validation_set_2.0" / "images" / name.rpartition("_")[2]


_FINDERS = {"geode": _geode, "bdd100k": _bdd100k, "food_rec": _food_rec}


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = CommandParser("preprocess_silver", description=__doc__)
    parser.add_argument("--annotation_file", required=True, help="SA-Co/Silver JSON of the data set")
    parser.add_argument("--raw_images_folder", required=True, help="the raw data as their owners publish them")
    parser.add_argument("--processed_images_folder", required=True, help="where the annotated pictures go")
    parser.add_argument("--dataset_name", required=True, choices=sorted(_FINDERS))
    given = parser.parse_args(argv)
    print(
        copy_pictures(
            given.annotation_file,
            given.raw_images_folder,
            given.processed_images_folder,
            dataset=given.dataset_name,
        )
    )
    return 0
