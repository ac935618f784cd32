"""FathomNet for SA-Co/Silver: uuid -> address (from FathomNet's service) -> picture.

Source: spec/evaluation.md 8.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from sam3.arguments import CommandParser
from sam3.data.preparation.download import Client, in_parallel
from sam3.errors import DataError
from sam3.io.files import read_json

SERVICE_URL = "https://fathomnet.org/api/images"


def fetch(uuid: str, target: Path, service_url: str, client: Client) -> bool:
    """Write ``<uuid>.<ext>``; False if it is there already.

    Raises:
        DataError: the service does not know the address of this picture.
    """
    if any(path.suffix not in (".part", ".json") for path in target.glob(f"{uuid}.*")):
        return False
    record = client.json(f"{service_url}/{uuid}")
    url = record.get("url") if isinstance(record, dict) else None
    if not url:
        raise DataError("the service names no address for it")
    return client.download(url, target / f"{uuid}{PurePosixPath(urlsplit(url).path).suffix.lower()}")


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = CommandParser("download_fathomnet", description=__doc__)
    parser.add_argument("--processed_images_folder", required=True, help="where the pictures go")
    parser.add_argument("--image-uuids", default="fathomnet_image_uuids.json", help="JSON list of the annotated uuids")
    parser.add_argument("--num-procs", type=int, default=16, metavar="N", help="downloads at once (16)")
    parser.add_argument("--service-url", default=SERVICE_URL)
    given = parser.parse_args(argv)
    uuids = read_json(given.image_uuids)
    if not isinstance(uuids, list) or not all(isinstance(uuid, str) and "/" not in uuid for uuid in uuids):
        raise DataError(f"{given.image_uuids}: expected a JSON list of uuids")
    target, client = Path(given.processed_images_folder), Client()
    outcome = in_parallel(
        uuids,
        lambda uuid: fetch(uuid, target, given.service_url, client),
        workers=given.num_procs,
        title="FathomNet",
    )
    outcome.require_success("Run again to try these once more; finished pictures are kept.")
    print(outcome.report("FathomNet"))
    return 0
