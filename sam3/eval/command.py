"""``sam3 eval``: predictions in files against ground truth in files, one subcommand per metric or benchmark."""

import sys
from collections.abc import Sequence
from importlib import import_module

from sam3.arguments import Subcommand, pick_subcommand, subcommand_usage

EVALUATIONS = {
    "cgf1": Subcommand("sam3.eval.cgf1_command", "cgF1 of one prediction file"),
    "coco": Subcommand("sam3.eval.coco_command", "COCO average precision of one prediction file"),
    "phota": Subcommand("sam3.eval.video_command", "pHOTA of masklets in videos", "phota_main"),
    "teta": Subcommand("sam3.eval.video_command", "TETA of masklets in videos", "teta_main"),
    "gold": Subcommand("sam3.eval.benchmark_command", "cgF1 on the subsets of SA-Co/Gold", "gold"),
    "silver": Subcommand("sam3.eval.benchmark_command", "cgF1 on the subsets of SA-Co/Silver", "silver"),
    "veval": Subcommand("sam3.eval.veval_command", "all video metrics, one file or SA-Co/VEval"),
}


def main(argv: Sequence[str] | None = None) -> int | None:
    """Run one evaluation.

    Raises:
        UserError: the evaluation does not exist, or what it was given is wrong.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help", "help"):
        print(usage())
        return 0
    command = pick_subcommand(name, EVALUATIONS)
    return getattr(import_module(command.module), command.function)(arguments[1:])


def usage() -> str:
    """The text of ``sam3 eval --help``."""
    return subcommand_usage(
        "sam3 eval EVALUATION [arguments]",
        "sam3 eval EVALUATION",
        "Predictions against ground truth; needs no network and no GPU.",
        EVALUATIONS,
    )
