"""``python -m sam3.demo``: the main job on a world of coloured shapes, on a CPU in minutes."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # before torch is loaded; threads cost small networks time
    os.environ.setdefault(_name, "1")

from sam3.demo.run import DemoSettings, Folders, Outcome, run_demo  # noqa: E402
from sam3.errors import run_command  # noqa: E402


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: the model learned; 1: it did not reach the bounds."""
    arguments = parse_arguments(argv)
    settings = DemoSettings(
        output=Path(arguments.output),
        seed=arguments.seed,
        num_images=arguments.images,
        overrides=tuple(arguments.overrides),
    )
    outcome = run_demo(settings)
    print(report(outcome, Folders(settings.output)))
    return 1 if outcome.failures else 0


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    defaults = DemoSettings(output=Path("demo_output"))
    parser = argparse.ArgumentParser(prog="python -m sam3.demo", description=__doc__)
    parser.add_argument("--seed", type=int, default=defaults.seed, help="of the world, the split and the training (0)")
    parser.add_argument("--output", default=defaults.output, help=f"folder for everything ({defaults.output})")
    parser.add_argument(
        "--images", type=int, default=defaults.num_images, help=f"pictures in the world ({defaults.num_images})"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of the training, for trying")
    return parser.parse_args(argv)


def report(outcome: Outcome, folders: Folders) -> str:
    """The numbers and where things lie."""
    width = max(map(len, outcome.scores))
    rows = [
        f"  {name:<{width}}  {s.ap_50:9.3f}  {s.ap:7.3f}  {s.recall:11.1%}  {s.firing_rate:10.1%}"
        for name, s in outcome.scores.items()
    ]
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in outcome.seconds.items())
    verdict = (
        "It did not learn enough: " + "; ".join(outcome.failures)
        if outcome.failures
        else "It learned: absent words stay silent, present ones are found."
    )
    return "\n".join(
        [
            "",
            f"{outcome.num_val_images} held-out pictures, {len(outcome.phrases)} words: {', '.join(outcome.phrases)}",
            f"  {'':<{width}}  mask AP50  mask AP  word found*  word wrong*",
            *rows,
            "  * share of the (picture, word) pairs with a score above 0.5, for words that are in the picture "
            "and words that are not",
            "",
            verdict,
            f"Time: {seconds}",
            f"Picture     {folders.picture}",
            f"Metrics     {folders.metrics}",
            f"Checkpoint  {folders.weights}",
            f"All files   {folders.root}",
        ]
    )


if __name__ == "__main__":
    sys.exit(run_command(main))
