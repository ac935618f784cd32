"""A run of seconds: a network of some thousand parameters (beside its token table) on a few small images."""

from pathlib import Path

import torch

from sam3.train.assembly import build_trainer, lay_foundation
from sam3.train.config_loading import load_config
from sam3.train.train import main
from sam3.train.trainer import Trainer

SINGLE = "train_config_single_class"
MULTI = "train_config_multi_class"
PHRASE = "red circle"

# Small enough for a step in milliseconds; dropout and drop path are on, so that random generators matter.
MODEL = [
    "model=tiny",
    "scratch.resolution=56",
    "model.overrides={vision: {pretrain_image_size: 56, embed_dim: 16, num_heads: 2, depth: 2, window_size: 2, "
    "global_blocks: [1], mlp_ratio: 2.0, drop_path_rate: 0.1}, text: {width: 8, num_heads: 2, num_layers: 1, "
    "projection_dim: 8}, detector: {d_model: 16, num_heads: 2, dim_feedforward: 16, dropout: 0.1, decoder_layers: 2, "
    "num_queries: 4, prompt_mlp_dim: 16}}",
]
FAST = [
    "optim=adamw_from_scratch",
    "scratch.lr_transformer=1e-3",
    "scratch.scheduler_warmup=0",
    "scratch.num_train_workers=0",
    "scratch.num_val_workers=0",
    "logging.tensorboard.enabled=false",
    "logging.report=null",
    "trainer.accelerator=cpu",
]


def overrides(data: Path, out: Path, *extra: str, class_name: str | None = PHRASE) -> list[str]:
    """Settings of a micro run; ``extra`` wins."""
    folders = [f"paths.dataset_root={data}", f"paths.experiment_log_dir={out}"]
    return [*MODEL, *FAST, *folders, f"dataset.class_name={class_name or 'null'}", *extra]


def train(data: Path, out: Path, *extra: str, config: str = SINGLE, class_name: str | None = PHRASE) -> Path:
    """Run the command in this process; returns ``out``."""
    main(["-c", str(config), *overrides(data, out, *extra, class_name=class_name)])
    return out


def weights(path: Path) -> dict[str, torch.Tensor]:
    """Model tensors of a checkpoint."""
    return torch.load(path, weights_only=True)["model"]


def assert_equal_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    """Bit for bit."""
    assert first.keys() == second.keys()
    differing = [name for name in first if not torch.equal(first[name], second[name])]
    assert differing == []


def make_trainer(data: Path, out: Path, *extra: str, class_name: str | None = PHRASE) -> Trainer:
    """A trainer that has not started."""
    loaded = load_config(SINGLE, overrides(data, out, *extra, class_name=class_name))
    return build_trainer(loaded, lay_foundation(loaded.run))
