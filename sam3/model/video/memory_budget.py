"""From a memory budget to what may be kept: the sizes of the rings and the number of objects (docs/video_memory.md).

The estimates are made from shapes and lie above what is measured (benchmarks/results/video_memory.md); everything
counts as float32, whatever the weights are.
"""

from dataclasses import dataclass

from sam3.config import ModelConfig, TrackerConfig
from sam3.errors import ConfigError
from sam3.model.video.limits import (
    FLOAT32,
    GIB,
    MemoryLimits,
    bytes_needed_later,
    bytes_per_frame,
    smallest_window,
)
from sam3.model.video.sam3_video import Sam3Video
from sam3.ops.sizes import format_size

PROCESS = GIB // 2  # the interpreter and its libraries
MOST_SOURCE_FRAMES, FEWEST_SOURCE_FRAMES = 32, 4
LEAST_RESULTS, MOST_RESULTS = 4 * 2**20, GIB  # bytes: outputs that wait, and those that may be asked for again
_VIEWS = 3  # frames whose features exist at a time
_DETECTOR_COPIES = 8  # of the widest map of the image encoder, while a frame is encoded
_MASK_COPIES = 16  # of an object's mask as the memory encoder reads it, while a frame is tracked
_SHOWN_COPIES = 5  # of an object's mask at the size of the video, while a frame is put together
_MEMORY_COPIES = 4  # of the tokens an object attends to


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes, and what follows from them."""

    budget: int
    fixed: dict[str, int]  # what -> bytes that are needed whatever happens, of the tighter of host and device
    per_object: int  # of one more object at the least
    limits: MemoryLimits


def plan_memory(budget: int, model: Sam3Video, video_size: tuple[int, int], *, frames_per_chunk: int = 1) -> MemoryPlan:
    """Share out a budget. On a GPU it holds for the memory of the GPU, and again for that of the process.

    Args:
        budget: bytes.
        video_size: (height, width), pixels.

    Raises:
        ConfigError: not even one object fits; the message says what would be enough.
    """
    frame = 3 * video_size[0] * video_size[1]
    on_device = device_needs(model, frames_per_chunk)
    on_host = {
        "process": PROCESS,
        "frames": FEWEST_SOURCE_FRAMES * frame,
        "results": LEAST_RESULTS,
        "one mask": 6 * video_size[0] * video_size[1] * FLOAT32,
    }
    tracker = model.tracker.config
    shown, while_tracked = shown_bytes(video_size), step_bytes(tracker)
    kept = bytes_needed_later(tracker) + 2 * smallest_window(tracker) * bytes_per_frame(tracker)
    if model.detector.device.type == "cpu":
        on_device = on_host = on_host | on_device
        while_tracked, shown = while_tracked + shown, 0
    smallest = max(sum(on_host.values()) + shown, sum(on_device.values()) + while_tracked + kept)
    if budget < smallest:
        parts = ", ".join(f"{name} {format_size(size)}" for name, size in on_device.items())
        raise ConfigError(
            f"memory_budget is {format_size(budget)}, but one object at {video_size[1]} x {video_size[0]} pixels takes "
            f"{format_size(smallest)} with this model ({parts}, one object {format_size(while_tracked + kept)}); "
            f"give at least {-(-smallest // 2**20)}MiB"
        )
    host_left, left = budget - sum(on_host.values()), budget - sum(on_device.values())
    source_frames = min(MOST_SOURCE_FRAMES, FEWEST_SOURCE_FRAMES + host_left // 8 // frame)
    results = min(MOST_RESULTS, LEAST_RESULTS + host_left // 8)
    if on_device is on_host:
        left -= (source_frames - FEWEST_SOURCE_FRAMES) * frame + results - LEAST_RESULTS
    objects = max(1, left // (2 * (while_tracked + kept)))
    if shown:
        objects = max(1, min(objects, host_left // (2 * shown)))
    limits = MemoryLimits(
        tracker_bytes=left - objects * while_tracked,
        result_bytes=results,
        max_objects=objects,
        source_frames=source_frames,
    )
    return MemoryPlan(budget, on_device, while_tracked + kept, limits)


def shown_bytes(video_size: tuple[int, int]) -> int:
    """Bytes that one object takes while a frame is put together, and gives back."""
    return _SHOWN_COPIES * video_size[0] * video_size[1]


def device_needs(model: Sam3Video, frames_per_chunk: int) -> dict[str, int]:
    """Bytes of what the networks need for any frame."""
    config: ModelConfig = model.config
    grid = config.vision.image_size // config.vision.patch_size
    cells = grid**2
    pyramid = FLOAT32 * config.detector.d_model * 21 * cells  # levels of 16, 4 and 1 cells each
    encoder = FLOAT32 * cells * max(config.vision.mlp_dim, 3 * config.vision.embed_dim)
    masks = FLOAT32 * config.detector.num_queries * model.tracker.config.low_res_size**2
    return {
        "weights": sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values()),
        "features": (_VIEWS + frames_per_chunk - 1) * 2 * pyramid,
        "detection": frames_per_chunk * (_DETECTOR_COPIES * encoder + 4 * masks + 2 * pyramid),
    }


def step_bytes(config: TrackerConfig) -> int:
    """Bytes that one object takes while a frame is tracked, and gives back."""
    tokens = (config.max_cond_frames + config.num_maskmem) * config.grid_size**2
    return FLOAT32 * (_MASK_COPIES * config.memory_mask_size**2 + _MEMORY_COPIES * tokens * config.d_model)
