"""iNaturalist 2017 for SA-Co/Silver: one large archive -> the annotated subset under its target names.

Source: spec/evaluation.md 8. Only the members of the subset are unpacked.
"""

import gzip
import shutil
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from sam3.arguments import CommandParser
from sam3.data.preparation.annotated_pictures import require_relative
from sam3.data.preparation.download import Client
from sam3.errors import DataError, listed
from sam3.io.files import atomic_path, read_json

ARCHIVE_URL = "https://ml-inat-competition-datasets.s3.amazonaws.com/2017/train_val_images.tar.gz"


def read_subset(path: str | Path) -> dict[str, str]:
    """Target name -> name in the archive.

    Raises:
        DataError: not an object of strings, or a target that leads out of its folder.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(source, str) for source in content.values()):
        raise DataError(f"{path}: expected an object that maps target names to names in the archive")
    return {require_relative(name, f"{path}: a target"): source for name, source in content.items()}


def extract(archive: str | Path, subset: Mapping[str, str], target: str | Path) -> int:
    """Unpack the members that ``subset`` names and are not in ``target`` yet; returns how many.

    Raises:
        DataError: the archive is damaged, or lacks members.
    """
    target = Path(target)
    wanted: dict[str, list[str]] = {}
    for name, source in subset.items():
        if not (target / name).exists():
            wanted.setdefault(source.removeprefix("./"), []).append(name)
    count = 0
    if wanted:
        try:
            with tarfile.open(archive) as content, tqdm(total=len(wanted), desc="unpack") as bar:
                for member in content:
                    for name in wanted.pop(member.name.removeprefix("./"), ()) if member.isfile() else ():
                        _copy_member(content, member, target / name)
                        count += 1
                        bar.update()
                    if not wanted:
                        break
        except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise DataError(f"{archive} cannot be unpacked ({error}); delete it and run again") from error
    if wanted:
        raise DataError(f"{archive} lacks {len(wanted)} members: {listed(sorted(wanted))}")
    return count


def _copy_member(content: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    with content.extractfile(member) as source, atomic_path(path) as temporary, open(temporary, "wb") as file:
        shutil.copyfileobj(source, file)


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = CommandParser("download_inaturalist", description=__doc__)
    parser.add_argument("--raw_images_folder", required=True, help="for the archive")
    parser.add_argument("--processed_images_folder", required=True, help="where the annotated pictures go")
    parser.add_argument(
        "--subset-json", default="inaturalist_image_subset.json", help="target name -> name in the archive"
    )
    parser.add_argument("--archive-url", default=ARCHIVE_URL, help="the 2017 train_val archive")
    given = parser.parse_args(argv)
    subset = read_subset(given.subset_json)
    archive = Path(given.raw_images_folder) / Path(given.archive_url).name
    Client().download(given.archive_url, archive)
    count = extract(archive, subset, given.processed_images_folder)
    print(f"iNaturalist: {count} new, {len(subset) - count} already there")
    return 0
