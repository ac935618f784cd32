"""Memory of many sessions: start, look for a phrase, follow, close, over and over, with the preset ``tiny``.

python benchmarks/video_sessions.py --sessions 200
"""

import argparse
import gc
import resource
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sam3.model_builder import build_sam3_video_predictor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--frames", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    predictor = build_sam3_video_predictor(config="tiny", load_from_HF=False, device="cpu")
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 255, (120, 160, 3), dtype=np.uint8)) for _ in range(arguments.frames)]
    print("| session | MiB | tensors |\n|---|---|---|")
    for number in range(arguments.sessions + 1):
        if number in (0, 20) or number % 60 == 20 or number == arguments.sessions:
            gc.collect()
            tensors = sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())
            print(f"| {number} | {resident_bytes() / 2**20:.1f} | {tensors} |", flush=True)
        follow(predictor, frames)


def follow(predictor, frames: list[Image.Image]) -> None:
    """One session from its start to its end."""
    session = predictor.handle_request({"type": "start_session", "resource_path": frames})["session_id"]
    asked = {"session_id": session}
    predictor.handle_request(asked | {"type": "add_prompt", "frame_index": 0, "text": "red circle"})
    click = {"obj_id": 99, "points": [[0.5, 0.5]], "point_labels": [1]}
    predictor.handle_request(asked | {"type": "add_prompt", "frame_index": 0} | click)
    for _ in predictor.handle_stream_request(asked | {"type": "propagate_in_video"}):
        pass
    predictor.handle_request(asked | {"type": "close_session"})


def resident_bytes() -> int:
    """Of this process, now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main()
