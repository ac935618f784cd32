"""Requests to a predictor with a tiny random network; the steps themselves are compared by ``tests.parity.tracker``."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sam3.errors import CheckpointError, DataError, MissingFieldError, SessionError, UserError
from sam3.model.sam3_video_predictor import Sam3VideoPredictor
from sam3.model_builder import build_sam3_video_model, build_sam3_video_predictor

OPTIONS = {"config": "tiny", "load_from_HF": False, "device": "cpu"}


@pytest.fixture(scope="module")
def predictor() -> Sam3VideoPredictor:
    torch.manual_seed(0)
    predictor = build_sam3_video_predictor(**OPTIONS)
    predictor.model.tracker.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.data.fill_(3.0)
    return predictor


def pictures(count: int = 4, seed: int = 0) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)) for _ in range(count)]


def start(predictor: Sam3VideoPredictor, **fields) -> str:
    request = {"type": "start_session", "resource_path": pictures(), **fields}
    return predictor.handle_request(request)["session_id"]


def ask(predictor: Sam3VideoPredictor, session: str, kind: str, **fields) -> dict:
    return predictor.handle_request({"type": kind, "session_id": session, **fields})


def stream(predictor: Sam3VideoPredictor, session: str, **fields) -> list[dict]:
    request = {"type": "propagate_in_video", "session_id": session, **fields}
    return list(predictor.handle_stream_request(request))


def test_a_text_prompt_and_a_propagation(predictor: Sam3VideoPredictor):
    request = {"type": "start_session", "resource_path": pictures()}
    before = dict(request)
    session = predictor.handle_request(request)["session_id"]
    assert request == before, "requests are not changed"
    first = ask(predictor, session, "add_prompt", frame_index=0, text="red circle")
    assert first["frame_index"] == 0
    outputs = first["outputs"]
    count = len(outputs["out_obj_ids"])
    assert outputs["out_binary_masks"].shape == (count, 40, 60)
    assert outputs["out_boxes_xywh"].shape == (count, 4)
    assert [outputs[key].dtype for key in ("out_obj_ids", "out_probs", "out_binary_masks")] == [
        "int64",
        "float32",
        "bool",
    ]
    frames = stream(predictor, session, propagation_direction="forward")
    assert [response["frame_index"] for response in frames] == [0, 1, 2, 3]


def test_clicks_are_tracked_in_both_directions(predictor: Sam3VideoPredictor):
    session = start(predictor)
    answer = ask(predictor, session, "add_prompt", frame_index=2, points=[[0.5, 0.5]], point_labels=[1], obj_id=4)
    assert answer["outputs"]["out_obj_ids"].tolist() in ([], [4])
    frames = [response["frame_index"] for response in stream(predictor, session)]
    assert frames == [2, 3, 1, 0]
    ask(predictor, session, "remove_object", obj_id=4)
    assert all(not len(r["outputs"]["out_obj_ids"]) for r in stream(predictor, session, start_frame_index=0))


def test_an_example_box_is_looked_for_on_its_frame(predictor: Sam3VideoPredictor):
    session = start(predictor)
    box = {"bounding_boxes": [[0.1, 0.1, 0.3, 0.3]], "bounding_box_labels": [1]}
    ask(predictor, session, "add_prompt", frame_index=1, **box)
    assert len(stream(predictor, session, propagation_direction="forward")) == 3


def test_sessions_do_not_see_each_other(predictor: Sam3VideoPredictor):
    first, second = start(predictor, session_id="ä"), start(predictor)
    assert first == "ä"
    point = {"points": [[0.3, 0.3]], "point_labels": [1]}
    ask(predictor, first, "add_prompt", frame_index=0, obj_id=1, **point)
    ask(predictor, second, "add_prompt", frame_index=0, obj_id=9, **point)
    mixed = [
        predictor.handle_stream_request({"type": "propagate_in_video", "session_id": session})
        for session in (first, second)
    ]
    for _ in range(4):
        a, b = (next(frames)["outputs"]["out_obj_ids"].tolist() for frames in mixed)
        assert a in ([], [1])
        assert b in ([], [9])
    ask(predictor, first, "close_session")
    assert ask(predictor, first, "close_session") == {"is_success": True}
    assert len(stream(predictor, second, start_frame_index=0)) == 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"frame_index": 9, "text": "x"}, "frame_index 9 is outside the video of 4 frames"),
        ({"frame_index": 0}, "add_prompt needs text, bounding_boxes"),
        ({"frame_index": 0, "text": " "}, "text must be a phrase"),
        ({"frame_index": 0, "text": "x", "points": [[0, 0]]}, "exclude text: make two requests"),
        ({"frame_index": 0, "points": [[2, 0]], "point_labels": [1], "obj_id": 1}, "relative to the picture"),
        (
            {"frame_index": 0, "points": [[0.5, 0.5]], "point_labels": [1, 0], "obj_id": 1},
            "1 points need as many labels",
        ),
        ({"frame_index": 0, "bounding_boxes": [[0, 0, 1, 1]]}, "give both or neither"),
        ({"frame_index": 0, "bounding_boxes": [[0.5, 0, 0.9, 1]], "bounding_box_labels": [1]}, "must be x, y, width"),
    ],
)
def test_wrong_prompts_leave_the_predictor_usable(predictor: Sam3VideoPredictor, fields: dict, message: str):
    session = start(predictor)
    with pytest.raises(UserError, match=message):
        ask(predictor, session, "add_prompt", **fields)
    ask(predictor, session, "add_prompt", frame_index=0, text="red circle")


def test_wrong_requests_are_named(predictor: Sam3VideoPredictor, tmp_path: Path):
    session = start(predictor)
    with pytest.raises(SessionError, match="invalid request type 'x'"):
        ask(predictor, session, "x")
    with pytest.raises(SessionError, match="Cannot find session 'nobody'"):
        ask(predictor, "nobody", "reset_session")
    with pytest.raises(MissingFieldError, match="'add_prompt' needs the field 'frame_index'"):
        ask(predictor, session, "add_prompt", text="x")
    with pytest.raises(SessionError, match="propagation_direction is 'up'"):
        stream(predictor, session, propagation_direction="up")
    with pytest.raises(UserError, match="nothing to propagate"):
        stream(predictor, session)
    with pytest.raises(DataError, match="holds no pictures"):
        predictor.handle_request({"type": "start_session", "resource_path": str(tmp_path)})


def test_plain_python(predictor: Sam3VideoPredictor):
    frames = list(predictor.track(pictures(3), "red circle"))
    assert [frame.index for frame in frames] == [0, 1, 2]
    for frame in frames:
        assert len(frame.ids) == len(frame.labels) == len(frame.scores) == len(frame.masks)


def test_after_the_shutdown_nothing_is_served():
    closed = build_sam3_video_predictor(**OPTIONS, apply_temporal_disambiguation=False)
    assert closed.settings.hotstart_delay == 0
    closed.shutdown()
    with pytest.raises(SessionError, match="was shut down"):
        start(closed)


def test_the_full_size_state_dict_is_the_manifest(shared: Path):
    model = build_sam3_video_model(load_from_HF=False, device="meta")
    image = json.loads((shared / "spec" / "manifest_image_model.json").read_text())["tensors"]
    tracker = json.loads((shared / "spec" / "manifest_tracker.json").read_text())["keys"]
    wanted = {f"detector.{name}": v["shape"] for name, v in image.items() if not name.endswith("freqs_cis")}
    wanted |= {name: v["shape"] for name, v in tracker.items()}
    assert {name: list(value.shape) for name, value in model.state_dict().items()} == wanted


def test_weights_of_the_released_layout_come_back(tmp_path: Path):
    torch.manual_seed(1)
    model = build_sam3_video_model(**OPTIONS)
    torch.save({"model": model.state_dict()}, tmp_path / "released.pt")
    again = build_sam3_video_model(tmp_path / "released.pt", config="tiny", device="cpu")
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    only_image = {name: value for name, value in model.state_dict().items() if name.startswith("detector.")}
    torch.save({"model": only_image}, tmp_path / "image.pt")
    with pytest.raises(CheckpointError, match="are of a detector alone: say where the tracker comes from"):
        build_sam3_video_model(tmp_path / "image.pt", config="tiny", device="cpu")
