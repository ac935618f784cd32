"""The program on the recorded folder, and on folders of other sizes: nothing about a folder may be written into it."""

import json
from pathlib import Path

import pytest
import torch

from tests.parity import tracker
from tests.parity.tracker_folder import Shape, spoil, write_folder

SHAPES = {
    "small": Shape(),
    "smaller": Shape(image_size=56, width=16, memory_dim=4, heads=2, layers=3, batch=3, video=(41, 23), num_frames=6),
}
CASES = {  # edges of the contract, by hand
    "mask_iou": [
        {"a": [["1"], ["0"]], "b": [["1"]], "iou": [[1.0], [0.0]]},
        {"a": [], "b": [["11", "00"]], "iou": []},
    ],
    "coordinates": [
        {"kind": "tracker relative points", "image_size": 70, "points": [[0.5, 1.0]], "out": [[35.0, 70.0]]},
        {"kind": "prompt encoder normalisation", "image_size": 10, "point": [0.5, 9.5], "pe_input": [-0.8, 1.0]},
        {
            "kind": "image predictor boxes xyxy",
            "orig_hw": [10, 20],
            "normalize": True,
            "boxes": [[5, 5, 20, 10]],
            "out": [[[252.0, 504.0], [1008.0, 1008.0]]],
        },
    ],
    "multigpu_chunks": [
        {
            "world_size": 2,
            "num_frames": 3,
            "start": 2,
            "reverse": True,
            "steps": [
                {"frame": 2, "built_chunks": [[2, 3], [0, 2]], "buffer_frames_after": [0, 1, 2]},
                {"frame": 1, "built_chunks": [], "buffer_frames_after": [0, 1]},
            ],
        }
    ],
    "select_closest_cond": [
        {
            "keep_first": False,
            "frame_idx": 3,
            "cond_frames_in_order": [8, 1],
            "max_cond": 1,
            "selected_in_order": [1],
            "unselected_in_order": [8],
        },
        {"keep_first": True},
    ],
    "a_new_heuristic": [{}],
}


def test_the_tracker_gives_the_recorded_numbers(shared: Path):
    folder = shared / "golden" / "tracker"
    rows = tracker.compare(folder)
    assert len(rows) > 430
    assert [row for row in rows if not row.ok] == []
    missing = tracker.uncovered(folder)
    assert [name for name in missing if "keep_first" not in name and "aux" not in name] == []


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_any_shape(name: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    write_folder(tmp_path, SHAPES[name])
    (tmp_path / "heuristics").mkdir()
    for file, cases in CASES.items():
        (tmp_path / "heuristics" / f"{file}.json").write_text(json.dumps({"about": "", "cases": cases}))
    assert tracker.main([str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "not compared: a_new_heuristic; select_closest_cond: 1 cases with keep_first" in printed
    parts = [path.stem for path in tmp_path.glob("*.safetensors") if path.stem != "weights"]
    assert all(f"{part} " in printed for part in parts)
    assert len(parts) == 12


@torch.no_grad()
def test_a_wrong_number_in_any_file_is_a_miss(tmp_path: Path):
    write_folder(tmp_path, SHAPES["small"])
    files = [path for path in sorted(tmp_path.glob("*.safetensors")) if path.stem != "weights"]
    for path in files:
        spoil(path)
    missed = {row.quantity.split(" ")[0] for row in tracker.compare(tmp_path) if not row.ok}
    assert missed == {path.stem for path in files}
