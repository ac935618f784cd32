"""``sam3 report RUN``: a training run as one HTML file."""

from collections.abc import Sequence
from pathlib import Path

from sam3.arguments import CommandParser
from sam3.report.training_report import write_training_report

DESCRIPTION = """\
Write the report of a training run, finished or not: curves, metrics of each class, confusion matrix, best and worst
images, data, configuration, machine, checkpoints. One file that needs no network; open it in any browser.

  %(prog)s runs/bolts"""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report and print where it lies.

    Raises:
        DataError: that is not the folder of a run.
    """
    parser = CommandParser("report", description=DESCRIPTION)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of the run (paths.experiment_log_dir)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="left out, RUN/report.html")
    arguments = parser.parse_args(argv)
    print(write_training_report(arguments.run, arguments.output))
    return 0
