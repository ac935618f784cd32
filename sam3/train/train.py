"""Command line of training; the work is in ``launcher.py``.

python sam3/train/train.py -c sam3/train/conf/train_config_single_class.yaml [key=value ...]
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # Python put this folder first on the module path; the package is looked for in the checkout instead.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from sam3.arguments import CommandParser
from sam3.errors import UserError, run_command

# Short flags and the keys they set.
FLAGS = {
    "num_gpus": "launcher.gpus_per_node",
    "num_nodes": "launcher.num_nodes",
    "use_cluster": "submitit.use_cluster",
    "partition": "submitit.partition",
    "account": "submitit.account",
    "qos": "submitit.qos",
}


def build_parser() -> CommandParser:
    """All options of the command."""
    parser = CommandParser("train", description="Fine-tune SAM 3 from a configuration file.")
    parser.add_argument("-c", "--config", required=True, help="configuration: a file, or a name in sam3/train/conf")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings that win over the file, e.g. scratch.max_epochs=10"
    )
    parser.add_argument("--dry-run", action="store_true", help="compose, check, print the plan, write nothing")
    parser.add_argument("--num-gpus", type=int, metavar="N", help="processes on a node (launcher.gpus_per_node)")
    parser.add_argument("--num-nodes", type=int, metavar="N", help="nodes (launcher.num_nodes)")
    parser.add_argument("--use-cluster", type=int, choices=(0, 1), help="1 = hand the run to SLURM")
    parser.add_argument("--partition", help="SLURM partition")
    parser.add_argument("--account", help="SLURM account")
    parser.add_argument("--qos", help="SLURM quality of service")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Train, validate, or print the plan.

    Raises:
        UserError: what the user gave cannot be used.
    """
    given = sys.argv[1:] if argv is None else list(argv)
    parser = build_parser()
    arguments = parser.parse_intermixed_args(given) if given else parser.parse_args(given)
    flags = {key: getattr(arguments, name) for name, key in FLAGS.items() if getattr(arguments, name) is not None}
    if "submitit.use_cluster" in flags:
        flags["submitit.use_cluster"] = str(bool(flags["submitit.use_cluster"])).lower()
    _run(arguments.config, [*arguments.overrides, *(f"{k}={v}" for k, v in flags.items())], dry_run=arguments.dry_run)
    return 0


def _run(config: str, overrides: Sequence[str], *, dry_run: bool) -> None:
    # Imported here so that --help does not wait for torch.
    try:
        from sam3.train.config_loading import load_config
        from sam3.train.launcher import launch
    except ModuleNotFoundError as error:
        if error.name not in ("hydra", "omegaconf"):
            raise
        raise UserError(f"training needs the package {error.name}: pip install -e '.[train]'") from error
    launch(load_config(config, overrides), dry_run=dry_run)


if __name__ == "__main__":
    sys.exit(run_command(main))
