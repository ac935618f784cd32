"""Epoch times with and without ``model.feature_cache``, side by side: CPU seconds, or wall seconds with CUDA.

Three trainings of the same small data set with a frozen image encoder (``tune=decoder``): without a cache, with one
that is filled, and with the filled one; the first batch of each is not counted. The share that the image trunk
has in a step decides how much is won: by FLOP nine tenths for the released network, less for the tiny one.

``python benchmarks/feature_cache.py --preset mid`` (ViT of 12 blocks, 256 wide, 224 pixels) on a CPU; with a GPU
``--preset sam3 --accelerator cuda``.
"""

import argparse
import tempfile
import time
from pathlib import Path

from sam3.data.labelme import main as convert
from sam3.demo.world import World, write_world
from sam3.train.assembly import build_trainer, lay_foundation
from sam3.train.config_loading import load_config

PRESETS = {
    "tiny": ["model=tiny"],
    "mid": [
        "model=tiny",
        "scratch.resolution=224",
        "model.overrides={vision: {embed_dim: 256, depth: 12, num_heads: 8, window_size: 8, global_blocks: [5, 11], "
        "pretrain_image_size: 224}}",
    ],
    "sam3": ["model.load_from_HF=false"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="mid")
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--accelerator", default="cpu")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        write_world(out / "labelme", World(), num_images=arguments.images)
        convert(["--labelme_dir", str(out / "labelme"), "--output_dir", str(out / "coco"), "--train_split", "0.9"])
        cache = f"model.feature_cache={out / 'cache'}"
        plain, loss = epoch_seconds(arguments, out, "plain")
        filling, loss_filling = epoch_seconds(arguments, out, "filling", cache)
        cached, loss_cached = epoch_seconds(arguments, out, "cached", cache)
        files = list((out / "cache").rglob("*.safetensors"))
        size = sum(file.stat().st_size for file in files)
    print(f"\n{arguments.preset}, {arguments.images} images, batch {arguments.batch}, {arguments.accelerator}\n")
    print("| epoch | seconds | of the uncached time | mean loss |")
    print("|---|---|---|---|")
    for name, seconds, value in (
        ("without a cache", plain, loss),
        ("filling the cache", filling, loss_filling),
        ("from the cache", cached, loss_cached),
    ):
        print(f"| {name} | {seconds:.2f} | {seconds / plain:.2f} | {value:.6f} |")
    print(f"\n{len(files)} files, {size / 2**20:.1f} MiB, {size / max(1, len(files)) / 2**20:.3f} MiB an image")
    print(f"losses equal: {loss == loss_filling == loss_cached}")


def epoch_seconds(arguments: argparse.Namespace, out: Path, name: str, *more: str) -> tuple[float, float]:
    """Seconds of the training steps of one epoch, the first step left out; mean loss of the epoch."""
    clock = time.process_time if arguments.accelerator == "cpu" else time.perf_counter
    overrides = [
        *PRESETS[arguments.preset],
        "tune=decoder",
        "scratch.augmentation_variants=1",
        "scratch.max_negatives_per_img=1",
        f"scratch.train_batch_size={arguments.batch}",
        "scratch.num_train_workers=0",
        "scratch.scheduler_warmup=0",
        "scratch.scheduler_cooldown=0",
        "scratch.max_epochs=1",
        "trainer.mode=train_only",
        f"trainer.accelerator={arguments.accelerator}",
        "logging.tensorboard.enabled=false",
        f"paths.dataset_root={out / 'coco'}",
        f"paths.experiment_log_dir={out / name}",
        *more,
    ]
    if arguments.preset != "sam3":
        overrides.append("data.train.dataset.transforms.min_size=88")
    loaded = load_config("train_config_multi_class", overrides)
    trainer = build_trainer(loaded, lay_foundation(loaded.run))
    trainer.model.train()
    losses, start = [], 0.0
    for number, batch in enumerate(trainer.train_loader.iterate()):
        if number == 1:
            start = clock()
        losses.append(float(trainer.train_step(batch).losses["loss"]))
    return clock() - start, sum(losses) / len(losses)


if __name__ == "__main__":
    main()
