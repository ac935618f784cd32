"""``sam3 eval coco``: COCO average precision of one prediction file."""

import argparse
from collections.abc import Sequence

from sam3.arguments import CommandParser
from sam3.eval.coco_ap import ENGINES, CocoAp, coco_ap
from sam3.eval.coco_input import IOU_TYPES
from sam3.io.files import write_json

DESCRIPTION = """\
COCO average precision and recall of boxes or masks.

  %(prog)s --pred_file predictions.json --gt_file annotations.json --iou_type segm
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see :data:`DESCRIPTION`.

    Raises:
        UserError: a file cannot be used.
    """
    arguments = _parse_arguments(argv)
    result = coco_ap(
        arguments.gt_file,
        arguments.pred_file,
        arguments.iou_type,
        positive_split=arguments.positive_split,
        engine=arguments.engine,
    )
    _print(result, per_class=arguments.per_class)
    if arguments.output:
        write_json(arguments.output, result.to_dict(), indent=2)
    return 0


def _parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = CommandParser("eval coco", description=DESCRIPTION)
    parser.add_argument("--pred_file", required=True, metavar="FILE", help="COCO result records, boxes in pixels")
    parser.add_argument("--gt_file", required=True, metavar="FILE", help="COCO annotations")
    parser.add_argument("--iou_type", choices=IOU_TYPES, default="bbox", help="what is compared (bbox)")
    parser.add_argument(
        "--positive_split", action="store_true", help="leave out detections of categories that an image does not have"
    )
    parser.add_argument("--engine", choices=ENGINES, default="pycocotools", help="fast: the same numbers in less time")
    parser.add_argument("--per_class", action="store_true", help="also print the AP of every category")
    parser.add_argument("--output", metavar="FILE", help="also write the numbers as JSON")
    return parser.parse_args(argv)


def _print(result: CocoAp, *, per_class: bool) -> None:
    for name, value in result.to_dict().items():
        print(f"{name:<32}{value:.4f}")
    if per_class:
        for name, entry in result.per_class.items():
            print(f"  {name}: AP {entry.ap:.4f}, AP_50 {entry.ap_50:.4f}, AP_75 {entry.ap_75:.4f}")
