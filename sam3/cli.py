"""The ``sam3`` command: each subcommand hands its arguments to the function behind the script of the same job."""

import sys
from collections.abc import Sequence
from importlib import import_module

import sam3
from sam3.arguments import Subcommand, pick_subcommand, subcommand_usage
from sam3.errors import run_command

SUBCOMMANDS = {
    "convert": Subcommand("sam3.data.labelme", "Labelme annotations -> a COCO data set"),
    "train": Subcommand("sam3.train.train", "fine-tune a model from a configuration file"),
    "predict": Subcommand("sam3.predict.command", "find objects in a folder of images"),
    "track": Subcommand("sam3.track.command", "find objects in videos and follow them"),
    "eval": Subcommand("sam3.eval.command", "predictions against ground truth: cgF1, COCO AP, SA-Co"),
    "export": Subcommand("sam3.export.export_command", "base and adapter -> one weight file"),
    "compress": Subcommand("sam3.export.command", "training checkpoint -> small weight file"),
    "doctor": Subcommand("sam3.planning.doctor.command", "examine a data set before training"),
    "plan": Subcommand("sam3.planning.plan.command", "say what a training run will take, and what fits a card"),
    "report": Subcommand("sam3.report.command", "training run -> one HTML file to look at"),
}


def main(argv: Sequence[str] | None = None) -> int | None:
    """Run one subcommand.

    Raises:
        UserError: the subcommand does not exist, or what it was given is wrong.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help", "help"):
        print(usage())
        return 0
    if name in ("-V", "--version", "version"):
        print(f"sam3 {sam3.__version__}")
        return 0
    return import_module(pick_subcommand(name, SUBCOMMANDS).module).main(arguments[1:])


def usage() -> str:
    """The text of ``sam3 --help``."""
    return subcommand_usage(
        "sam3 SUBCOMMAND [arguments]",
        "sam3 SUBCOMMAND",
        "SAM 3: find every object that a phrase names, in images and videos.",
        SUBCOMMANDS,
        "; sam3 --version prints the version.",
    )


def entry_point() -> None:
    """The console script."""
    sys.exit(run_command(main))
