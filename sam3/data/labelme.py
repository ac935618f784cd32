"""The command ``labelme_to_coco.py``, also ``sam3 convert``: arguments, progress, summary. Needs no torch."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sam3.arguments import CommandParser
from sam3.data.labelme_conversion import LabelmeOptions, convert
from sam3.data.labelme_report import format_report

_DESCRIPTION = """\
Convert a folder of Labelme annotations (images with one JSON file each, sub-folders included) to a COCO
dataset: OUTPUT_DIR/{train,val}/images/* and OUTPUT_DIR/{train,val}/annotations.json.

Polygons, rectangles, oriented rectangles, circles and masks become objects; shapes of one label and one
group_id are parts of one object. Images without shapes are kept as images without objects. The inputs are
only read. docs/labelme.md explains the details and answers the usual troubles."""

_EXAMPLES = """\
examples:
  python labelme_to_coco.py --labelme_dir photos --output_dir data/bolts --class_name bolt
  python labelme_to_coco.py --labelme_dir photos --output_dir data/all --train_split 0.9 --seed 1
  python labelme_to_coco.py --labelme_dir clips --output_dir data/clips --group_by video"""


def main(argv: Sequence[str] | None = None) -> int:
    """Convert as the command line says and print a summary.

    Raises:
        UserError: something given cannot be used; nothing was written.
    """
    arguments = vars(_parser().parse_args(argv))
    arguments["class_names"] = tuple(arguments.pop("class_name"))
    report = convert(LabelmeOptions(**arguments), progress=_progress_bar)
    print(format_report(report))
    return 0


def _parser() -> CommandParser:
    parser = CommandParser("convert", description=_DESCRIPTION, epilog=_EXAMPLES)
    folders = parser.add_argument_group("folders")
    folders.add_argument("--labelme_dir", type=Path, required=True, help="images and their Labelme JSON files")
    folders.add_argument("--output_dir", type=Path, required=True, help="where train/ and val/ are written")
    folders.add_argument("--overwrite", action="store_true", help="replace train/ and val/ of an earlier conversion")

    classes = parser.add_argument_group("classes")
    classes.add_argument(
        "--class_name",
        action="append",
        default=[],
        metavar="NAME",
        help="label to convert, later the text prompt; may be repeated; left out: every label but __ignore__ and "
        "_background_",
    )
    classes.add_argument("--single_class", action="store_true", help="put all shapes under the one --class_name")

    split = parser.add_argument_group("division into train and val")
    split.add_argument(
        "--train_split", type=float, default=0.8, metavar="SHARE", help="share of the images for train (default: 0.8)"
    )
    split.add_argument("--seed", type=int, default=0, help="another number, another division (default: 0)")
    split.add_argument(
        "--group_by",
        metavar="HOW",
        help="keep images together on one side: 'folder' (images of one folder), 'video' (names that differ only in "
        "the number at their end) or a regular expression searched for in the path below LABELME_DIR without suffix, "
        r"whose (group) names the group, such as '^(.*)_frame\d+$'",
    )

    trouble = parser.add_argument_group("what cannot be used")
    trouble.add_argument(
        "--skip_unsupported", action="store_true", help="leave out points, lines and other shapes without an area"
    )
    trouble.add_argument("--skip_bad", action="store_true", help="leave out bad files instead of stopping")
    trouble.add_argument(
        "--include_unlabelled", action="store_true", help="take images without a JSON file as images without objects"
    )
    return parser


def _progress_bar(items: Iterable[Any], what: str, count: int) -> Iterable[Any]:
    from tqdm import tqdm

    return tqdm(items, desc=what, total=count, unit="file", mininterval=0.5)
