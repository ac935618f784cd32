"""LoRA beside full tuning, on the demonstration's world: equal data, equal steps, one base.

The base is a tiny network that learnt the demonstration's six words (``--base``; without it one is trained). It is
adapted to other pictures, whose objects go by six names it has never read ("bolt" for a red circle, and so on), by
tuning everything and by low-rank adapters. Printed for each: AP on held-out pictures, size of what has to be kept,
and for adapters the largest difference of outputs between adapters apart and merged by ``sam3 export --merge-lora``.

``python benchmarks/lora_vs_full.py OUT`` takes about 15 minutes on one free core; what is finished is kept.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from sam3.config import resolve_config
from sam3.demo.run import REPOSITORY
from sam3.demo.world import World, write_world
from sam3.io.adapter_file import read_adapter
from sam3.io.checkpoint import read_checkpoint
from sam3.model_builder import build_sam3_image_model
from sam3.train.assembly import build_trainer, lay_foundation
from sam3.train.config_loading import load_config

CONFIG = "sam3/train/conf/train_config_multi_class.yaml"
NAMES = ("bolt", "hex nut", "washer", "wood screw", "dowel pin", "gear")
ALPHA_PER_RANK = 8  # for a network so small and so few steps; the preset has 2
PROMPTS = "{" + ", ".join(f"{word}: {name}" for word, name in zip(World().phrases, NAMES, strict=True)) + "}"


@dataclass(frozen=True)
class Settings:
    """How large the experiment is."""

    out: Path
    images: int
    epochs: int
    seed: int
    base: Path

    def overrides(self, world: str, run: str, *more: str) -> list[str]:
        return [
            "experiment=tiny_from_scratch",
            f"paths.dataset_root={self.out / world / 'coco'}",
            f"paths.experiment_log_dir={self.out / run}",
            f"scratch.max_epochs={self.epochs}",
            f"trainer.val_epoch_freq={self.epochs}",
            "trainer.skip_first_val=true",
            f"trainer.seed_value={self.seed}",
            "logging.tensorboard.enabled=false",
            "logging.log_freq=50",
            *more,
        ]


@dataclass(frozen=True)
class Result:
    name: str
    ap_50: float
    ap: float
    kept_bytes: int  # what has to be kept beside the base
    learning: int  # parameters
    difference: float | None = None  # adapters apart and merged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--base", type=Path, help="weights of a demonstration (left out: trained here)")
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ranks", type=int, nargs="+", default=[4])
    parser.add_argument("--lr-full", type=float, default=1e-3)
    parser.add_argument("--lr-lora", type=float, default=4e-3)
    arguments = parser.parse_args()
    base = arguments.base or arguments.out / "base" / "checkpoints" / "last.pt"
    settings = Settings(arguments.out.resolve(), arguments.images, arguments.epochs, arguments.seed, base.resolve())
    make_world(settings, "six_words", seed=settings.seed + 100)
    if arguments.base is None:
        make_world(settings, "base_world", seed=settings.seed)
        train(settings.base, settings.overrides("base_world", "base", "scratch.max_epochs=10"))
    results = [base_result(settings), full_result(settings, arguments.lr_full)]
    results += [lora_result(settings, rank, arguments.lr_lora) for rank in arguments.ranks]
    print_report(settings, results)


def make_world(settings: Settings, name: str, *, seed: int) -> None:
    """Pictures, Labelme files and the COCO folder of them; kept if there."""
    folder = settings.out / name
    if (folder / "coco" / "val" / "annotations.json").exists():
        return
    write_world(folder / "labelme", World(), num_images=settings.images, seed=seed)
    script = ["labelme_to_coco.py", "--labelme_dir", folder / "labelme", "--output_dir", folder / "coco"]
    run(*script, "--train_split", 0.85, "--seed", seed, "--overwrite")


def train(result: Path, overrides: list[str]) -> None:
    """Train to the end; a finished run is kept, an interrupted one resumed."""
    done = result.parent.parent / "finished"
    if not done.exists():
        run("sam3/train/train.py", "-c", CONFIG, *overrides)
        done.touch()


def base_result(settings: Settings) -> Result:
    """The base, asked by names it has never read."""
    overrides = settings.overrides("six_words", "base_on_new_names", "trainer.mode=val", f"data.prompts={PROMPTS}")
    stats = settings.out / "base_on_new_names" / "logs" / "val_stats.json"
    if not stats.exists():
        run("sam3/train/train.py", "-c", CONFIG, *overrides, f"trainer.checkpoint.resume_from={settings.base}")
    return Result("base, asked by the new names", *last_ap(stats), kept_bytes=0, learning=0)


def full_result(settings: Settings, lr: float) -> Result:
    """Everything learns, as in the demonstration."""
    more = [
        f"data.prompts={PROMPTS}",
        f"paths.checkpoint_path={settings.base}",
        f"scratch.lr_transformer={lr}",
        "checkpoint.save_model_only=true",
    ]
    run_folder = settings.out / f"full_{lr:g}"
    train(run_folder / "checkpoints" / "last.pt", settings.overrides("six_words", run_folder.name, *more))
    best = run_folder / "checkpoints" / "best.pt"
    state = read_checkpoint(best).state_dict
    learning = sum(tensor.numel() for name, tensor in state.items() if "token_embedding" not in name)
    return Result(f"full, lr {lr:g}", *last_ap(run_folder / "logs" / "val_stats.json"), best.stat().st_size, learning)


def lora_result(settings: Settings, rank: int, lr: float) -> Result:
    """Only adapters learn."""
    run_folder = settings.out / f"lora_{rank}_{lr:g}"
    more = [
        f"data.prompts={PROMPTS}",
        f"paths.checkpoint_path={settings.base}",
        "tune=lora",
        f"model.tune.lora.rank={rank}",
        f"model.tune.lora.alpha={ALPHA_PER_RANK * rank}",
        f"scratch.lr_transformer={lr}",
        "checkpoint.save_model_only=true",
    ]
    overrides = settings.overrides("six_words", run_folder.name, *more)
    train(run_folder / "checkpoints" / "last.pt", overrides)
    adapter, merged = run_folder / "checkpoints" / "best_adapter.safetensors", run_folder / "merged.pt"
    run("-m", "sam3", "export", settings.base, "--adapter", adapter, "--merge-lora", "-o", merged, "--overwrite")
    return Result(
        f"LoRA rank {rank}, lr {lr:g}",
        *last_ap(run_folder / "logs" / "val_stats.json"),
        adapter.stat().st_size,
        sum(t.numel() for t in read_adapter(adapter).tensors.values()),
        difference=largest_difference(overrides, merged),
    )


@torch.no_grad()
def largest_difference(overrides: list[str], merged: Path, batches: int = 4) -> float:
    """Outputs of the trained adapters apart and of the merged file, on validation pictures."""
    loaded = load_config(str(REPOSITORY / CONFIG), overrides)
    trainer = build_trainer(loaded, lay_foundation(loaded.run))
    # torch picks other kernels for weights that want gradients, which shows in the last bits: here none do, as in use
    apart = trainer.model.eval().requires_grad_(False)
    whole = build_sam3_image_model(merged, device="cpu").requires_grad_(False)
    largest = 0.0
    for _, batch in zip(range(batches), trainer.validator.loader.iterate(), strict=False):
        one, two = apart(batch).one_to_one, whole(batch).one_to_one
        for name in ("logits", "boxes", "presence_logits", "masks"):
            largest = max(largest, float((getattr(one, name) - getattr(two, name)).abs().max()))
    return largest


def last_ap(stats: Path) -> tuple[float, float]:
    """Mask AP50 and AP of the last validation."""
    line = json.loads(stats.read_text(encoding="utf-8").splitlines()[-1])
    prefix = "Meters_val/val_coco/segmentation/coco_eval_segm_AP"
    return line[f"{prefix}_50"], line[prefix]


def run(*words: object) -> None:
    subprocess.run([sys.executable, *map(str, words)], cwd=REPOSITORY, check=True)


def print_report(settings: Settings, results: list[Result]) -> None:
    model = results[1].kept_bytes
    total = sum(t.numel() for t in read_checkpoint(settings.base).state_dict.values())
    print(f"\n{settings.images} pictures a world, {settings.epochs} epochs, seed {settings.seed}; tiny has {total:,}")
    print(f"parameters, {resolve_config('tiny').text.vocab_size:,} words of its token table (frozen) included\n")
    print("| | mask AP50 | mask AP | learning | file | of the model file | merged - apart |")
    print("|---|---|---|---|---|---|---|")
    for r in results:
        difference = "" if r.difference is None else f"{r.difference:.1e}"
        print(
            f"| {r.name} | {r.ap_50:.3f} | {r.ap:.3f} | {r.learning:,} | {r.kept_bytes / 1e6:.3f} MB | "
            f"{r.kept_bytes / model:.1%} | {difference} |"
        )
    full = results[1].ap
    print()
    for r in results[2:]:
        print(f"{r.name}: AP {r.ap - full:+.3f} against full tuning")


if __name__ == "__main__":
    main()
