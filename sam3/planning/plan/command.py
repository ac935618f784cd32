"""``sam3 plan``: what a training step will take, without data, weights or a GPU."""

import sys
from collections.abc import Sequence

from sam3.arguments import CommandParser
from sam3.errors import UserError
from sam3.ops.sizes import parse_size

DESCRIPTION = """\
Say what a training run takes before it runs: parameters, memory, work, time, and what to change to fit a card.

  sam3 plan -c train_config_single_class --gpu-memory 16GiB
  sam3 plan -c my.yaml tune=lora scratch.resolution=672 --tflops 100 --images 500
  sam3 plan -c my.yaml --objects 30 --phrases 4 --json

One step of the real network, loss and backward pass runs on tensors without memory, so neither data nor weights nor a
GPU are needed. The largest picture of the data set counts where the data is there. Numbers for a GPU are predictions:
they have been compared with measurements on a CPU, not on a GPU. Exit code: 0, or 1 if --gpu-memory is not enough."""


def main(argv: Sequence[str] | None = None) -> int:
    """Plan, and suggest changes if the card is too small.

    Raises:
        UserError: what the user gave cannot be used.
    """
    given = sys.argv[1:] if argv is None else list(argv)
    parser = _parser()
    arguments = parser.parse_intermixed_args(given) if given else parser.parse_args(given)
    memory = None if arguments.gpu_memory is None else parse_size(arguments.gpu_memory, "--gpu-memory")
    for name in ("phrases", "images", "tflops"):
        _require_positive(name, getattr(arguments, name))
    if arguments.objects is not None and arguments.objects < 0:
        raise UserError(f"--objects is {arguments.objects}; expected 0 or more")
    from sam3.planning.plan.planner import plan

    return plan(
        arguments.config,
        arguments.overrides,
        device=arguments.device,
        memory=memory,
        tflops=arguments.tflops,
        given={"phrases": arguments.phrases, "objects": arguments.objects, "images": arguments.images},
        always_suggest=arguments.suggest,
        as_json=arguments.json,
    )


def _require_positive(name: str, value: float | None) -> None:
    if value is not None and value <= 0:
        raise UserError(f"--{name} is {value}; expected more than 0")


def _parser() -> CommandParser:
    parser = CommandParser("plan", description=DESCRIPTION)
    parser.add_argument("-c", "--config", required=True, help="configuration: a file, or a name in sam3/train/conf")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that win over the file")
    parser.add_argument("--gpu-memory", metavar="SIZE", help="of the card, such as 16GiB: does it fit, and what would")
    parser.add_argument("--tflops", type=float, metavar="N", help="TFLOP/s that the card reaches: time of an epoch")
    parser.add_argument(
        "--objects", type=int, metavar="N", help="objects in each image (default: the data's most, or 8)"
    )
    parser.add_argument(
        "--phrases", type=int, metavar="P", help="phrases asked of each (default: the data's most, or 1)"
    )
    parser.add_argument("--images", type=int, metavar="N", help="training images (default: the data's)")
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), help="plan for this one (default: trainer.accelerator; auto means cuda)"
    )
    parser.add_argument("--suggest", action="store_true", help="show what changes would bring, also if it fits")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    return parser
