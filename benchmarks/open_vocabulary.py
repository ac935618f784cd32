"""Does the vocabulary stay open? ``python benchmarks/open_vocabulary.py [--seeds 0 1 2] [--output DIR]``.

The demonstration's world is learnt twice from the same start, by the shipped recipe and by the same recipe without
negatives, through the real commands (training, then batch inference with the last checkpoint). Both are judged on the
held-out pictures: mask AP, the share of the words in a picture that are found, and the share of wrong prompts that fire
(a detection above 0.5) among the words of the data set that the picture does not show, among general phrases that no
training ever saw, and among words one step beside the trained ones ("red square" where circles are red), of which this
world holds none.

An interrupted run goes on where it stopped; finished parts are not done again.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from sam3.data.general_phrases import general_phrases
from sam3.demo.run import LOWEST_SCORE, DemoSettings, Folders, convert, draw_world, run
from sam3.demo.scoring import FIRES_ABOVE, read_results, score
from sam3.demo.world import COLOURS, FORMS, World
from sam3.io.files import read_json, write_json

ARMS = {
    "with negatives": (),
    "without": ("scratch.include_negatives=false", "data.negatives=null"),
}
COLUMNS = {
    "ap": "mask AP",
    "ap_50": "AP50",
    "recall": "words found",
    "absent_words": "absent words",
    "general_phrases": "general phrases",
    "near_misses": "near misses",
}
BOUND = 0.10  # of wrong prompts that fire


def main() -> None:
    options = parse_arguments()
    results = {
        (arm, seed): measure_arm(arm, seed, options)
        for seed in options.seeds
        for arm in ARMS
        if not options.only or arm in options.only
    }
    print("\n" + table(results, options.seeds))
    print("\n" + verdict(results))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of world, split and training")
    parser.add_argument("--output", type=Path, default=Path("open_vocabulary_output"))
    parser.add_argument("--images", type=int, default=DemoSettings.num_images, help="pictures in the world")
    parser.add_argument("--phrases", type=int, default=40, help="general phrases asked of every held-out picture")
    parser.add_argument("--only", nargs="*", choices=list(ARMS), help="not both")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of both trainings")
    return parser.parse_args()


def measure_arm(arm: str, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """Train and judge one recipe; what is there already is read."""
    settings = DemoSettings(output=options.output / f"seed_{seed}", seed=seed, num_images=options.images)
    folders = Folders(settings.output)
    folder = settings.output / arm.replace(" ", "_")
    result = folder / "result.json"
    if result.exists():
        return read_json(result)
    draw_world(settings, folders)
    convert(settings, folders)
    run(
        "sam3/train/train.py",
        *("-c", "sam3/train/conf/train_config_multi_class.yaml", "experiment=tiny_from_scratch"),
        *(f"paths.dataset_root={folders.coco}", f"paths.experiment_log_dir={folder / 'run'}"),
        *(f"trainer.seed_value={seed}", "logging.log_freq=50", *ARMS[arm], *options.overrides),
    )
    values = judge(folder, folders, options.phrases)
    write_json(result, values, indent=1)
    return values


def judge(folder: Path, folders: Folders, num_phrases: int) -> dict[str, float]:
    """AP over the words of the data set, and the wrong prompts that fire, each in [0, 1]."""
    truth = json.loads(folders.validation_annotations.read_text(encoding="utf-8"))
    words = [category["name"] for category in truth["categories"]]
    found = score(truth, read_results(ask(folder, folders, "words", words, LOWEST_SCORE), truth))
    general = evenly(held_out_phrases(words), num_phrases)
    return {
        "ap": found.ap,
        "ap_50": found.ap_50,
        "recall": found.recall,
        "absent_words": found.firing_rate,
        "general_phrases": firing_share(ask(folder, folders, "general", general, FIRES_ABOVE), len(general), truth),
        "near_misses": firing_share(
            ask(folder, folders, "near", near_misses(), FIRES_ABOVE), len(near_misses()), truth
        ),
    }


def ask(folder: Path, folders: Folders, name: str, phrases: Sequence[str], threshold: float) -> Path:
    """Every phrase asked of every held-out picture; the folder of the answers."""
    output = folder / f"asked_{name}"
    run(
        "tools/batch_inference.py",
        *("--checkpoint", folder / "run" / "checkpoints" / "last.pt"),
        *("--input", folders.validation_images, "--output", output, "--overwrite", "--quiet"),
        *("--score-threshold", threshold, "--write", "coco"),
        *(word for phrase in phrases for word in ("--prompt", phrase)),
    )
    return output


def firing_share(asked: Path, num_phrases: int, truth: dict) -> float:
    """Share of the (picture, phrase) pairs with a detection."""
    records = read_json(asked / "coco_predictions.json")
    fired = {(record["image_id"], record["category_id"]) for record in records}
    return len(fired) / (num_phrases * len(truth["images"]))


def held_out_phrases(words: Sequence[str]) -> list[str]:
    """General phrases that are never trained and share no word with the data set's."""
    used = {part for word in words for part in word.split()}
    return [p.text for p in general_phrases() if p.is_held_out and not used & set(p.text.split())]


def near_misses() -> list[str]:
    """Colours and forms of the world, put together as the world does not."""
    words = World().phrases
    return [phrase for colour in COLOURS for form in FORMS if (phrase := f"{colour} {form}") not in words]


def evenly(values: Sequence[str], count: int) -> list[str]:
    count = min(count, len(values))
    return [values[index * len(values) // count] for index in range(count)]


def table(results: dict[tuple[str, int], dict[str, float]], seeds: Sequence[int]) -> str:
    """Markdown: a row a seed and recipe, then the means."""
    lines = ["| recipe | seed | " + " | ".join(COLUMNS.values()) + " |", "|---" * (2 + len(COLUMNS)) + "|"]
    for arm in ARMS:
        rows = {seed: results[arm, seed] for seed in seeds if (arm, seed) in results}
        if rows:
            rows["mean"] = {key: mean(row[key] for row in rows.values()) for key in COLUMNS}
        lines += [
            f"| {arm} | {seed} | " + " | ".join(f"{row[key]:.3f}" for key in COLUMNS) + " |"
            for seed, row in rows.items()
        ]
    return "\n".join(lines)


def verdict(results: dict[tuple[str, int], dict[str, float]]) -> str:
    """The acceptance in words: the worst seed of the shipped recipe, and AP beside that of the other."""
    ours, other = ([row for (name, _), row in results.items() if name == arm] for arm in ARMS)
    if not ours or not other:
        return "one recipe only: nothing to compare"
    worst = max(max(row["absent_words"], row["general_phrases"]) for row in ours)
    aps = [mean(row["ap"] for row in rows) for rows in (ours, other)]
    passed = worst <= BOUND and aps[0] >= aps[1]
    return (
        f"wrong prompts of the shipped recipe, worst seed and kind: {worst:.3f} (bound {BOUND:.2f}); "
        f"mean AP {aps[0]:.3f} against {aps[1]:.3f} without negatives: {'passed' if passed else 'MISSED'}"
    )


if __name__ == "__main__":
    sys.exit(main())
