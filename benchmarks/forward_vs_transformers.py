"""Time of one forward pass against ``transformers`` with the same weights, and of ten prompts at once.

``python benchmarks/forward_vs_transformers.py [--threads 1] [--repeats 7] [--presets tiny medium]``. The
programs take turns in one process; ratios are those of the medians, below 1 means ours is faster.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from benchmarks.transformers_peer import build_peer, run_peer
from sam3.config import DetectorConfig, ModelConfig, TextConfig, VisionConfig, tiny
from sam3.model.detector.detector import Sam3Image
from sam3.model_builder import build_sam3_image_model
from sam3.structures import DetectorOutput

PHRASES = ["red circle", "a dog", "wheel", "person in white", "blue square", "cat", "tree", "car", "cup", "hand"]
AGREEMENT = 2e-3  # largest difference of mask logits relative to the largest logit


def medium() -> ModelConfig:
    """Between the presets: large enough that arithmetic, not overhead, takes the time."""
    return ModelConfig(
        vision=VisionConfig(
            image_size=448,
            pretrain_image_size=224,
            embed_dim=384,
            depth=12,
            num_heads=6,
            mlp_ratio=4.0,
            window_size=16,
            global_blocks=(2, 5, 8, 11),
        ),
        text=TextConfig(width=256, num_heads=4, num_layers=6),
        detector=DetectorConfig(num_queries=100, dim_feedforward=1024, prompt_mlp_dim=1024),
    )


def tiny_for_both() -> ModelConfig:
    """The preset ``tiny``; the peer ties the width of the scoring MLP to that of the feed-forward layers."""
    preset = tiny()
    detector = replace(preset.detector, prompt_mlp_dim=preset.detector.dim_feedforward)
    return replace(preset, detector=detector)


CONFIGS = {"tiny": tiny_for_both, "medium": medium}


def detect(model: Sam3Image, image: Tensor, token_ids: Tensor) -> DetectorOutput:
    """P phrases on one image: one pass of the trunk."""
    index = torch.arange(len(token_ids), device=token_ids.device)
    features = model.encode_image(image)
    text = model.encode_tokens(token_ids)
    return model.ground(features, text, image_index=torch.zeros_like(index), phrase_index=index)


@dataclass
class Timing:
    """Medians over the repeats. CPU time is the fairer figure on a machine that others use too."""

    wall: float
    cpu: float

    def against(self, other: "Timing") -> str:
        return f"ratio {self.wall / other.wall:.2f} wall, {self.cpu / other.cpu:.2f} CPU"

    def __str__(self) -> str:
        return f"{1e3 * self.wall:.0f} ms wall, {1e3 * self.cpu:.0f} ms CPU"


def take_turns(programs: Sequence[Callable[[], object]], repeats: int) -> list[Timing]:
    """Time the programs one after the other, again and again; one untimed round first."""
    wall: list[list[float]] = [[] for _ in programs]
    cpu: list[list[float]] = [[] for _ in programs]
    for repeat in range(repeats + 1):
        for program, walls, cpus in zip(programs, wall, cpu, strict=True):
            start, cpu_start = time.perf_counter(), time.process_time()
            program()
            if repeat:
                walls.append(time.perf_counter() - start)
                cpus.append(time.process_time() - cpu_start)
    return [Timing(statistics.median(a), statistics.median(b)) for a, b in zip(wall, cpu, strict=True)]


def measure(name: str, repeats: int) -> None:
    """Check that both programs agree, then print one configuration's times."""
    torch.manual_seed(0)
    model = build_sam3_image_model(load_from_HF=False, config=CONFIGS[name](), device="cpu")
    side = model.config.vision.image_size
    image = torch.rand(1, 3, side, side) * 2 - 1
    token_ids = model.tokenizer(PHRASES)
    peer = build_peer(model)
    require_agreement(model, peer, image, token_ids[:1])

    one, same, less = take_turns(
        [
            lambda: detect(model, image, token_ids[:1]),
            lambda: run_peer(peer, image, token_ids[:1], class_token=True),
            lambda: run_peer(peer, image, token_ids[:1], class_token=False),
        ],
        repeats,
    )
    print(f"{name}, one prompt: {one}")
    print(f"  transformers, same function: {same}; {one.against(same)}")
    print(f"  transformers, without its geometry encoder: {less}; {one.against(less)}")

    def singles() -> None:
        for row in token_ids:
            detect(model, image, row[None])

    together, apart = take_turns([lambda: detect(model, image, token_ids), singles], max(repeats // 3, 2))
    print(f"{name}, ten prompts in one call: {together}; in ten calls: {apart}; {together.against(apart)}", flush=True)


def require_agreement(model: Sam3Image, peer: nn.Module, image: Tensor, token_ids: Tensor) -> None:
    """Times of programs that compute different things say nothing."""
    ours = detect(model, image, token_ids).one_to_one.masks
    theirs = run_peer(peer, image, token_ids, class_token=True).pred_masks
    difference = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    if difference > AGREEMENT:
        raise RuntimeError(f"the two programs disagree by {difference:.2g} of the largest mask logit")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="+", choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    with torch.inference_mode():
        for name in options.presets:
            measure(name, options.repeats)


if __name__ == "__main__":
    main()
