"""National Gallery of Art for SA-Co/Silver: open data table -> IIIF pictures -> annotated size.

Source: spec/evaluation.md 8. The table ``published_images.csv`` of the gallery's open data names for each uuid the
address of its picture and, where the rights are limited, the longest side that may be fetched (``maxpixels``).
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sam3.arguments import CommandParser
from sam3.data.preparation.annotated_pictures import Picture, pictures_of, save_picture
from sam3.data.preparation.download import Client, in_parallel
from sam3.errors import DataError
from sam3.io.images import image_size, open_image

TABLE_URL = "https://raw.githubusercontent.com/NationalGalleryOfArt/opendata/main/data/published_images.csv"


@dataclass(frozen=True)
class PublishedImage:
    """One line of the table."""

    iiif_url: str
    max_pixels: int | None  # longest side that may be fetched

    @property
    def url(self) -> str:
        """The whole picture, fitted into the limit if there is one."""
        size = "full" if self.max_pixels is None else f"!{self.max_pixels},{self.max_pixels}"
        return f"{self.iiif_url}/full/{size}/0/default.jpg"


def read_table(path: str | Path) -> dict[str, PublishedImage]:
    """uuid -> picture.

    Raises:
        DataError: a column is missing.
    """
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = {"uuid", "iiifurl", "maxpixels"} - set(reader.fieldnames or ())
        if missing:
            raise DataError(f"{path}: the table lacks the columns {', '.join(sorted(missing))}")
        return {
            row["uuid"]: PublishedImage(row["iiifurl"].rstrip("/"), int(row["maxpixels"]) if row["maxpixels"] else None)
            for row in reader
        }


def prepare(picture: Picture, published: PublishedImage | None, raw: Path, target: Path, client: Client) -> bool:
    """Fetch one picture and write it at its annotated size; False if it is there already."""
    destination = target / picture.file_name
    if destination.exists():
        return False
    if published is None:
        raise DataError("its uuid is not in the table of published images")
    fetched = raw / picture.file_name
    client.download(published.url, fetched)
    image = open_image(fetched)
    if published.max_pixels is not None and max(image_size(image)) > published.max_pixels:
        fetched.unlink()
        raise DataError(f"the server sent {image_size(image)} pixels, more than the {published.max_pixels} allowed")
    save_picture(image, destination, picture.size)
    return True


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = CommandParser("download_nga", description=__doc__)
    parser.add_argument("--annotation_file", required=True, help="silver_nga_art_merged_test.json")
    parser.add_argument("--raw_images_folder", required=True, help="for the table and the pictures as fetched")
    parser.add_argument("--processed_images_folder", required=True, help="where the annotated pictures go")
    parser.add_argument("--table_url", default=TABLE_URL, help="published_images.csv of the gallery's open data")
    parser.add_argument("--num_workers", type=int, default=20, metavar="N", help="downloads at once (20)")
    given = parser.parse_args(argv)
    raw, target, client = Path(given.raw_images_folder), Path(given.processed_images_folder), Client()
    client.download(given.table_url, raw / "published_images.csv")
    table, pictures = read_table(raw / "published_images.csv"), pictures_of(given.annotation_file)
    outcome = in_parallel(
        pictures,
        lambda name: prepare(pictures[name], table.get(Path(name).stem), raw, target, client),
        workers=given.num_workers,
        title="National Gallery of Art",
    )
    outcome.require_success("Run again to try these once more; finished pictures are kept.")
    print(outcome.report("National Gallery of Art"))
    return 0
