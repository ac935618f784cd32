"""The video snippet that the README promises, word for word, on the shipped clip."""

from pathlib import Path

import numpy as np
import pytest

from tests.small_checkpoint import save_small_video_checkpoint

CLIP = "assets/shapes.mp4"
SNIPPET = """\
predictor = build_sam3_video_predictor()
r = predictor.handle_request(request=dict(type="start_session", resource_path="folder of JPEGs or an MP4 file"))
r = predictor.handle_request(request=dict(type="add_prompt", session_id=r["session_id"], frame_index=0, text="…"))
r["outputs"]
"""


def test_it_is_the_promised_text(shared: Path):
    assert SNIPPET in (shared / "spec" / "promises.md").read_text(encoding="utf-8")


def test_it_runs_on_the_shipped_clip(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Without a network the released weights cannot be had; a small random file stands in for the download."""
    weights = save_small_video_checkpoint(tmp_path / "sam3.pt")
    monkeypatch.setattr("sam3.io.hub.download_released_weights", lambda: weights)
    text = SNIPPET.replace("folder of JPEGs or an MP4 file", str(repository / CLIP)).replace("…", "blue triangle")
    names: dict = {}
    exec(f"from sam3.model_builder import build_sam3_video_predictor\n{text}", names)  # our own text
    outputs = names["r"]["outputs"]
    assert set(outputs) >= {"out_obj_ids", "out_probs", "out_boxes_xywh", "out_binary_masks"}
    assert outputs["out_binary_masks"].shape == (len(outputs["out_obj_ids"]), 112, 112)
    assert outputs["out_binary_masks"].dtype == np.bool_


def test_the_clip_is_small_and_is_what_its_script_writes(repository: Path, tmp_path: Path):
    from sam3.io.frames import open_frames
    from scripts.make_video_assets import main

    assert (repository / CLIP).stat().st_size < 150 * 1024
    main(["clip", str(tmp_path / "again.mp4"), "--kind", "plain", "--seed", "11"])
    shipped, again = open_frames(repository / CLIP), open_frames(tmp_path / "again.mp4")
    assert len(shipped) == len(again) == 24
    for index in (0, 23):
        pixels = [np.asarray(source.frame(index)).astype(int) for source in (shipped, again)]
        assert np.abs(pixels[0] - pixels[1]).mean() < 3
