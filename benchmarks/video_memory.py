"""Memory of a video without an end: resident memory over thousands of frames, and the results of a run that keeps all.

    python benchmarks/video_memory.py --frames 10000 --objects 8 --budget 2GiB

The networks are those of the preset ``tiny``, or with ``--config small`` the same with fewer layers and cells, with
random weights; all of them run on every frame. The frames come from an iterator. A random detector finds nothing twice,
so what it answers is replaced: on the first frame by ``--objects`` squares, on every later one by what the tracker
showed of one object a frame before, of each in turn. So objects live, and are re-conditioned, for ever.
"""

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from sam3.config import ModelConfig, tiny
from sam3.model.sam3_video_predictor import Sam3VideoPredictor
from sam3.model.video.limits import MemoryLimits
from sam3.model.video.memory_budget import plan_memory
from sam3.model.video.open_video import OpenVideo
from sam3.model.video.settings import VideoSettings
from sam3.model.video.video_model import Detections
from sam3.model_builder import build_sam3_video_model
from sam3.ops.sizes import format_size

HEIGHT, WIDTH = 120, 160
WARM_UP = 0.2  # share of the frames that the slope leaves out
EVERY = 50  # frames between two looks at the memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--objects", type=int, default=8)
    parser.add_argument("--budget", default="2GiB")
    parser.add_argument("--config", choices=("tiny", "small"), default="tiny")
    parser.add_argument("--compared", type=int, default=300, help="first frames that are compared with the other run")
    parser.add_argument("--output", type=Path, help="Markdown file to write")
    parser.add_argument("--without-limits", action="store_true", help="print what each frame shows, and end")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.without_limits:
        print(json.dumps([digest for digest, _ in shown(arguments, limited=False)]))
        return
    report = measure(arguments)
    print(report)
    if arguments.output:
        arguments.output.write_text(report, encoding="utf-8")


def measure(arguments: argparse.Namespace) -> str:
    """Run with the budget, then compare with a run of another process that keeps everything."""
    started, digests, memory, objects = time.process_time(), [], [], set()
    for number, (digest, count) in enumerate(shown(arguments, limited=True)):
        if number < arguments.compared:
            digests.append(digest)
        objects.add(count)
        if number % EVERY == 0:
            memory.append((number, resident_bytes()))
            print(f"frame {number}: {format_size(memory[-1][1])}", file=sys.stderr, flush=True)
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    late = np.array([entry for entry in memory if entry[0] >= WARM_UP * arguments.frames], dtype=float)
    slope = np.polyfit(late[:, 0], late[:, 1], 1)[0] / 1024
    free = without_limits(arguments)
    equal = sum(a == b for a, b in zip(digests, free, strict=True))
    budget = open_video(arguments, limited=True)[1]
    rows = {
        "networks": arguments.config,
        "frames": f"{arguments.frames}",
        "objects tracked on a frame, least and most": f"{min(objects)} .. {max(objects)}",
        "memory_budget": format_size(budget),
        "peak of resident memory": format_size(peak),
        f"slope of resident memory behind the first {WARM_UP:.0%}": f"{slope:+.3f} KB/frame",
        f"first {arguments.compared} frames equal to a run without limits": f"{equal} of {len(free)}",
        "CPU seconds per frame": f"{seconds / arguments.frames:.3f}",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    curve = "\n".join(f"| {frame} | {size / 2**20:.1f} |" for frame, size in memory[:: max(1, len(memory) // 20)])
    return f"# Memory of a video without an end\n\n| | |\n|---|---|\n{table}\n\n| frame | MiB |\n|---|---|\n{curve}\n"


def shown(arguments: argparse.Namespace, *, limited: bool) -> Iterator[tuple[str, int]]:
    """Of each frame, a digest of what it shows, and how many objects are tracked."""
    video, _ = open_video(arguments, limited=limited)
    with torch.inference_mode():
        video.look_for_each(0, ["thing"])
        for frame in video.propagate(0):
            objects = frame.objects
            content = np.packbits(objects.masks.numpy()).tobytes() + objects.scores.numpy().tobytes()
            yield hashlib.sha256(str(objects.obj_ids).encode() + content).hexdigest(), len(tracked(video))
    video.close()


def open_video(arguments: argparse.Namespace, *, limited: bool) -> tuple[OpenVideo, int]:
    """The video, and the budget in bytes."""
    torch.manual_seed(0)
    model = build_sam3_video_model(config=CONFIGS[arguments.config](), load_from_HF=False, device="cpu")
    model.tracker.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.data.fill_(3.0)  # objects are there
    settings = replace(
        VideoSettings(), max_objects=arguments.objects, nms_iou=0, hotstart_unmatched=15, hotstart_duplicate=15
    )
    predictor = Sam3VideoPredictor(model, settings, memory_budget=arguments.budget if limited else None)
    video = predictor.open(pictures(arguments.frames), is_one_pass=limited)
    if not limited:
        video.limits = MemoryLimits()
    replace_detector(video, arguments.objects)
    return video, plan_memory(predictor.memory_budget or 2**60, model, (HEIGHT, WIDTH)).budget


def small() -> ModelConfig:
    """A quarter of the cells of ``tiny``, and its depth of one layer each."""
    config = tiny()
    return replace(
        config,
        vision=replace(config.vision, image_size=56, pretrain_image_size=56, depth=1, global_blocks=(0,)),
        text=replace(config.text, num_layers=1),
        detector=replace(config.detector, decoder_layers=1),
        tracker=replace(config.tracker, memory_attention_layers=1),
    )


CONFIGS = {"tiny": tiny, "small": small}


def pictures(count: int) -> Iterator[np.ndarray]:
    """Squares that wander over noise."""
    rng = np.random.default_rng(0)
    ground = rng.integers(60, 120, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for frame in range(count):
        picture = ground.copy()
        for index in range(8):
            left = int((WIDTH - 20) * (0.5 + 0.5 * np.sin(frame / 90 + index)))
            top = int((HEIGHT - 20) * (0.5 + 0.5 * np.cos(frame / 70 + 2 * index)))
            picture[top : top + 20, left : left + 20] = (30 * index, 255 - 30 * index, 128)
        yield picture


def replace_detector(video: OpenVideo, objects: int) -> None:
    """Let the detector work, and put in the place of its answer what keeps the objects alive."""
    detect, side = video.perception.detect, video.model.tracker.config.low_res_size

    def instead(frame: int) -> list[Detections]:
        detect(frame)
        known = tracked(video, frame - 1)
        turn = (frame + frame // 16) % max(1, len(known))
        masks = known[turn : turn + 1]
        if not masks:
            masks = [torch.full((1, side, side), -5.0) for _ in range(objects)]
            for index, mask in enumerate(masks):
                top, left = divmod(index * side // 3, side)
                mask[:, 6 * (top // 6) : 6 * (top // 6) + 5, left : left + 5] = 5.0
        found = torch.cat(masks)
        return [Detections(torch.full((len(found),), 0.95), torch.rand(len(found), 4), found)]

    video.perception.detect = instead


def tracked(video: OpenVideo, frame: int | None = None) -> list[torch.Tensor]:
    """(1, h, w) logits of each tracked object on its last frame, or on that one."""
    masks = []
    for session in video.concepts[0].session.state.sessions:
        known = session.tracked | session.conditioning
        entry = known.get(max(known) if frame is None else frame)
        if entry is not None and entry.low_res_masks is not None:
            masks += list(entry.low_res_masks.float())
    return masks


def without_limits(arguments: argparse.Namespace) -> list[str]:
    """What the first frames show where nothing is let go of, in a process of its own."""
    frames = str(arguments.compared + VideoSettings().hotstart_delay)
    call = [sys.executable, __file__, "--without-limits", "--frames", frames, "--objects", str(arguments.objects)]
    call += ["--config", arguments.config]
    found = subprocess.run(call, check=True, capture_output=True, text=True).stdout
    return json.loads(found)[: arguments.compared]


def resident_bytes() -> int:
    """Of this process, now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main()
