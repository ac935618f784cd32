"""The main job from end to end, by the commands a user types.

Labelme folder -> COCO -> training -> validation AP -> compressed weights -> batch inference -> picture, on the
world of :mod:`sam3.demo.world`. Each command is printed before it runs. A run that was interrupted goes on
where it stopped; a finished one is only measured again.
"""

import json
import shlex
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sam3.demo.scoring import Score, centre_boxes, read_results, score
from sam3.demo.sheet import contact_sheet, draw_predictions
from sam3.demo.world import World, write_world
from sam3.errors import UserError
from sam3.io.files import atomic_path, write_json

REPOSITORY = Path(__file__).resolve().parents[2]

LOWEST_SCORE = 0.02  # of detections that count for AP
SHEET_PICTURES = 12

MIN_AP_50 = 0.70  # what the trained model must reach on held-out pictures
MAX_FIRING_RATE = 0.05


@dataclass(frozen=True)
class DemoSettings:
    """How large the demonstration is and where it lies."""

    output: Path
    seed: int = 0
    num_images: int = 1200
    train_split: float = 0.85
    overrides: tuple[str, ...] = ()  # of the training configuration, for example scratch.max_epochs=1


@dataclass
class Folders:
    """What lies where below the output folder."""

    root: Path

    def __post_init__(self) -> None:
        self.labelme = self.root / "labelme"
        self.coco = self.root / "coco"
        self.validation_images = self.coco / "val" / "images"
        self.validation_annotations = self.coco / "val" / "annotations.json"
        self.run = self.root / "run"
        self.untrained_weights = self.root / "untrained.pt"
        self.weights = self.root / "shapes_fp16.pt"
        self.untrained = self.root / "measured_untrained"
        self.measured = self.root / "measured"
        self.predictions = self.root / "predictions"
        self.picture = self.root / "predictions.png"
        self.metrics = self.root / "metrics.json"


@dataclass
class Outcome:
    """Everything the demonstration measured."""

    phrases: list[str]
    num_train_images: int
    num_val_images: int
    scores: dict[str, Score]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def failures(self) -> list[str]:
        """The bounds that were missed, in words."""
        trained = self.scores["trained"]
        missed = []
        if trained.ap_50 < MIN_AP_50:
            missed.append(f"mask AP50 {trained.ap_50:.3f} is below {MIN_AP_50:.2f}")
        if trained.firing_rate > MAX_FIRING_RATE:
            missed.append(
                f"absent words fire in {trained.firing_rate:.1%} of the cases, more than {MAX_FIRING_RATE:.0%}"
            )
        for name, other in self.scores.items():
            if name != "trained" and trained.ap_50 <= other.ap_50:
                missed.append(f"mask AP50 {trained.ap_50:.3f} is not better than {other.ap_50:.3f} ({name})")
        return missed


class Stopwatch:
    """Wall seconds of named steps."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, number: str, title: str):
        say(f"\n[{number}] {title}")
        start = time.monotonic()
        yield
        self.seconds[title] = round(time.monotonic() - start, 1)


def run_demo(settings: DemoSettings) -> Outcome:
    """Do all steps; the result is written to ``metrics.json`` and returned."""
    folders, watch = Folders(settings.output), Stopwatch()
    with watch.step("1/6", "draw a world and annotate it"):
        draw_world(settings, folders)
    with watch.step("2/6", "Labelme -> COCO"):
        convert(settings, folders)
    with watch.step("3/6", "train from scratch"):
        train(settings, folders)
    with watch.step("4/6", "compress the checkpoint"):
        # last.pt, not best.pt: that one was chosen on the very pictures it is measured on below
        run("tools/compress_model.py", folders.run / "checkpoints" / "last.pt", "-o", folders.weights, "--overwrite")
    with watch.step("5/6", "find every word in the held-out pictures"):
        predict(folders)
    with watch.step("6/6", "measure"):
        outcome = measure(settings, folders)
    outcome.seconds = watch.seconds | {"total": round(sum(watch.seconds.values()), 1)}
    write_json(folders.metrics, to_dict(outcome, settings), indent=1)
    return outcome


def draw_world(settings: DemoSettings, folders: Folders) -> None:
    """Pictures with Labelme files; kept if they are there already."""
    stamp = folders.labelme / ".world"
    wanted = f"{World()} {settings.num_images} {settings.seed}"
    if stamp.exists():
        if stamp.read_text(encoding="utf-8") != wanted:
            raise UserError(
                f"{settings.output} holds another demonstration (other seed or size); "
                "delete that folder or name another one with --output"
            )
        say(f"{folders.labelme} is there already")
        return
    write_world(folders.labelme, World(), num_images=settings.num_images, seed=settings.seed)
    stamp.write_text(wanted, encoding="utf-8")
    say(f"{settings.num_images} pictures with {len(World().phrases)} words in {folders.labelme}")


def convert(settings: DemoSettings, folders: Folders) -> None:
    """The Labelme folder as a COCO dataset; kept if it is there already."""
    if folders.validation_annotations.exists():
        say(f"{folders.coco} is there already")
        return
    split = ["--train_split", settings.train_split, "--seed", settings.seed]
    run("labelme_to_coco.py", "--labelme_dir", folders.labelme, "--output_dir", folders.coco, *split)


def train(settings: DemoSettings, folders: Folders) -> None:
    """Training with validation; an interrupted run is resumed, a finished one only validated."""
    run(
        "sam3/train/train.py",
        "-c",
        "sam3/train/conf/train_config_multi_class.yaml",
        "experiment=tiny_from_scratch",
        f"paths.dataset_root={folders.coco}",
        f"paths.experiment_log_dir={folders.run}",
        f"trainer.seed_value={settings.seed}",
        "logging.log_freq=50",
        *settings.overrides,
    )


def predict(folders: Folders) -> None:
    """Batch inference: with everything a user gets, and twice for the measurement."""
    save_untrained_model(folders)
    data = ["--input", folders.validation_images, "--overwrite", "--quiet"]
    run("tools/batch_inference.py", "--checkpoint", folders.weights, *data, "--output", folders.predictions)
    everything = [*data, "--score-threshold", LOWEST_SCORE, "--write", "coco"]
    run("tools/batch_inference.py", "--checkpoint", folders.weights, *everything, "--output", folders.measured)
    run(
        "tools/batch_inference.py",
        "--checkpoint",
        folders.untrained_weights,
        *everything,
        "--output",
        folders.untrained,
    )


def save_untrained_model(folders: Folders) -> None:
    """The same network before any training, as a checkpoint with the same words."""
    import torch

    from sam3.io.checkpoint import read_checkpoint, save_weights
    from sam3.model_builder import build_sam3_image_model

    card = read_checkpoint(folders.weights).card
    torch.manual_seed(0)
    model = build_sam3_image_model(config="tiny", load_from_HF=False, device="cpu")
    save_weights(folders.untrained_weights, model.state_dict(), card)


def measure(settings: DemoSettings, folders: Folders) -> Outcome:
    """Compare the predictions with the annotations and draw the sheet."""
    truth = json.loads(folders.validation_annotations.read_text(encoding="utf-8"))
    scores = {
        "trained": score(truth, read_results(folders.measured, truth)),
        "untrained": score(truth, read_results(folders.untrained, truth)),
        "predict the image centre": score(truth, centre_boxes(truth)),
        "predict nothing": score(truth, []),
    }
    pictures = draw_predictions(folders.predictions, folders.validation_images, count=SHEET_PICTURES)
    with atomic_path(folders.picture) as temporary:
        contact_sheet(pictures).save(temporary)
    return Outcome(
        phrases=[category["name"] for category in truth["categories"]],
        num_train_images=settings.num_images - len(truth["images"]),
        num_val_images=len(truth["images"]),
        scores=scores,
    )


def run(script: str, *arguments: object) -> None:
    """Run one of the repository's scripts as a user would, and stop the demonstration when it fails."""
    words = [str(argument) for argument in arguments]
    say(f"$ python {script} {shlex.join(words)}")
    done = subprocess.run([sys.executable, str(REPOSITORY / script), *words])
    if done.returncode:
        raise UserError(f"{script} ended with exit code {done.returncode}; its message stands above")


def to_dict(outcome: Outcome, settings: DemoSettings) -> dict[str, object]:
    """What ``metrics.json`` holds."""
    return {
        "seed": settings.seed,
        "phrases": outcome.phrases,
        "num_train_images": outcome.num_train_images,
        "num_val_images": outcome.num_val_images,
        "bounds": {"min_ap_50": MIN_AP_50, "max_firing_rate": MAX_FIRING_RATE},
        "failures": outcome.failures,
        "scores": {name: asdict(value) for name, value in outcome.scores.items()},
        "seconds": outcome.seconds,
    }


def say(text: str) -> None:
    print(text, flush=True)
