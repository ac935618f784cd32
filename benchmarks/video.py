"""Time per frame of a video against the number of objects and of phrases, and where it goes.

``python benchmarks/video.py [--preset tiny] [--device cpu] [--dtype fp32] [--frames 24]``. Random weights; the detector
runs, and its answers are replaced by a known number of moving squares, so that the number of objects is known. All
cases take turns in one run. On the CPU the unit is CPU time of this process, else wall time with the device
synchronised.
"""

import argparse
import functools
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from PIL import Image

from sam3.config import PRESETS
from sam3.io.frames import open_frames
from sam3.model.video.open_video import OpenVideo
from sam3.model.video.perception import Perception
from sam3.model.video.sam3_video import Sam3Video
from sam3.model.video.settings import VideoSettings
from sam3.model.video.video_model import Detections, VideoModel
from sam3.model_builder import build_sam3_video_model

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PHRASES = ("red circle", "blue square", "green star", "dog")
CASES = ((1, 1), (8, 1), (32, 1), (4, 4), (8, 4), (32, 4))  # objects, phrases
RATIO = 6.0  # time of 32 objects by time of one, at most
PARTS = {  # what a part of a frame's time is spent in
    (Perception, "detect"): "detect",
    (Perception, "tracker_features"): "detect",  # the tracker's features of the frame
    (VideoModel, "propagate_into"): "propagate",
    (VideoModel, "keep_best"): "associate",
    (VideoModel, "plan"): "associate",
    (VideoModel, "recondition"): "associate",
    (VideoModel, "blank_occluded"): "associate",
    (VideoModel, "remember"): "memory",
}


@dataclass
class Stopwatch:
    """Seconds of each part; a part within another one counts for itself alone."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _stack: list[str] = field(default_factory=list)
    _since: float = 0.0

    def now(self) -> float:
        if self.device.type != "cuda":
            return time.process_time()
        torch.cuda.synchronize(self.device)
        return time.perf_counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self._switch()
        self._stack.append(name)
        yield
        self._switch()
        self._stack.pop()

    def _switch(self) -> None:
        now = self.now()
        if self._stack:
            self.seconds[self._stack[-1]] += now - self._since
        self._since = now


@contextmanager
def measured(watch: Stopwatch) -> Iterator[None]:
    """Within the block, the methods of :data:`PARTS` are timed."""
    originals = {(owner, name): getattr(owner, name) for owner, name in PARTS}
    for (owner, name), original in originals.items():
        setattr(owner, name, _timed(original, PARTS[owner, name], watch))
    try:
        yield
    finally:
        for (owner, name), original in originals.items():
            setattr(owner, name, original)


def _timed(method: Callable, part: str, watch: Stopwatch) -> Callable:
    @functools.wraps(method)
    def run(*arguments, **options):
        with watch.part(part):
            return method(*arguments, **options)

    return run


class Squares(Perception):
    """Asks the detector, and answers with squares that move."""

    per_phrase = 1

    def detect(self, frame: int) -> list[Detections]:
        answers = super().detect(frame)
        return [self._squares(frame, phrase, len(answers)) for phrase in range(len(answers))]

    def _squares(self, frame: int, phrase: int, phrases: int) -> Detections:
        side, device = self.model.tracker.config.low_res_size, self.model.detector.device
        count = self.per_phrase
        total = count * phrases
        columns = int(np.ceil(total**0.5))
        cell = side // columns
        masks = torch.full((count, side, side), -5.0, device=device)
        for row, number in enumerate(range(phrase * count, (phrase + 1) * count)):
            top, left = number // columns * cell, (number % columns * cell + frame) % (side - cell + 1)
            masks[row, top : top + max(2, cell - 1), left : left + max(2, cell - 1)] = 5.0
        scores = torch.full((count,), 0.9, device=device)
        return Detections(scores, torch.rand(count, 4, device=device), masks)


@dataclass
class Case:
    """A video with so many objects and phrases, one frame after the other."""

    objects: int
    phrases: int
    video: OpenVideo
    frames: Iterator
    watch: Stopwatch
    seconds: list[float] = field(default_factory=list)

    def step(self, *, is_counted: bool) -> None:
        kept = dict(self.watch.seconds)
        begin = self.watch.now()
        with torch.inference_mode(), measured(self.watch), self.watch.part("emit"):
            next(self.frames)
        if is_counted:
            self.seconds.append(self.watch.now() - begin)
        else:
            self.watch.seconds = defaultdict(float, kept)

    @property
    def per_frame(self) -> float:
        return statistics.median(self.seconds)

    def split(self, part: str) -> float:
        """Seconds a frame, on average."""
        return self.watch.seconds[part] / len(self.seconds)


def start(model: Sam3Video, objects: int, phrases: int, pictures: Sequence[Image.Image]) -> Case:
    per_phrase = objects // phrases
    # Nothing is removed or added after the first frame, and no output waits.
    fixed = {"hotstart_delay": 0, "hotstart_unmatched": 0, "hotstart_duplicate": 0, "max_objects": per_phrase}
    video = OpenVideo(model, open_frames(pictures), replace(VideoSettings(), **fixed))
    video.perception = Squares(model, video.source)
    video.perception.per_phrase = per_phrase
    with torch.inference_mode():
        video.look_for_each(0, PHRASES[:phrases])
    found = sum(len(concept.session.state.obj_ids) for concept in video.concepts)
    if found != objects:
        raise RuntimeError(f"{found} objects are tracked instead of {objects}")
    return Case(objects, phrases, video, video.propagate(0), Stopwatch(model.detector.device))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=PRESETS, default="tiny")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--frames", type=int, default=24, help="counted frames of each case")
    parser.add_argument("--warm-up", type=int, default=8, help="frames before, while the memory fills")
    options = parser.parse_args(argv)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = build_sam3_video_model(load_from_HF=False, config=options.preset, device=options.device)
    model.tracker.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.data.fill_(3.0)  # objects are there
    rng = np.random.default_rng(0)
    count = options.frames + options.warm_up
    pictures = [Image.fromarray(rng.integers(0, 255, (360, 640, 3), np.uint8)) for _ in range(count)]
    with torch.autocast(model.detector.device.type, DTYPES[options.dtype], enabled=options.dtype != "fp32"):
        cases = [start(model, objects, phrases, pictures) for objects, phrases in CASES]
        for frame in range(count):  # the cases take turns
            for case in cases:
                case.step(is_counted=frame >= options.warm_up)
    _print(cases, options)


def _print(cases: Sequence[Case], options: argparse.Namespace) -> None:
    unit = "CPU ms" if options.device == "cpu" else "ms"
    print(
        f"{options.preset}, {options.device}, {options.dtype}, {options.frames} frames of 640 x 360 px, {unit} a frame"
    )
    parts = ("detect", "propagate", "associate", "memory", "emit")
    print(f"| objects | phrases | {unit} (median) | frames/s | by one object | " + " | ".join(parts) + " |")
    print("|---" * (5 + len(parts)) + "|")
    for case in cases:
        one = next(other for other in cases if other.phrases == case.phrases)
        row = [case.objects, case.phrases, f"{1e3 * case.per_frame:.1f}", f"{1 / case.per_frame:.1f}"]
        row += [f"{case.per_frame / one.per_frame:.2f}"] + [f"{1e3 * case.split(part):.1f}" for part in parts]
        print("| " + " | ".join(map(str, row)) + " |")
    first, last = (next(case for case in cases if (case.objects, case.phrases) == key) for key in ((1, 1), (32, 1)))
    ratio = last.per_frame / first.per_frame
    print(f"32 objects take {ratio:.2f} times as long as one (limit {RATIO}): {'yes' if ratio <= RATIO else 'NO'}")


if __name__ == "__main__":
    main()
