"""Two processes on the CPU against one: the same answers; what fails in one ends both, and says why."""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sam3.errors import ConfigError, DataError, SessionError
from sam3.model.shared_video_predictor import SharedVideoPredictor
from sam3.model.video.partners import PartnerFailed
from sam3.model_builder import build_sam3_video_model, build_sam3_video_predictor

PHRASES = ["red circle", "blue square"]
COUNT = 5


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that finds something: scores above the thresholds."""
    torch.manual_seed(0)
    model = build_sam3_video_model(load_from_HF=False, config="tiny", device="cpu")
    with torch.no_grad():
        for logit in (model.detector.transformer.decoder.presence_token_head.layers[-1],):
            logit.bias.fill_(8.0)
        model.detector.dot_prod_scoring.prompt_proj.bias.add_(2.0)
        model.detector.dot_prod_scoring.hs_proj.bias.add_(2.0)
        model.tracker.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(3.0)
    state = model.state_dict()
    torch.save({"model": state}, path := tmp_path_factory.mktemp("weights") / "tiny.pt")
    return path


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    for index, values in enumerate(np.random.default_rng(0).integers(0, 255, (COUNT, 40, 60, 3), dtype=np.uint8)):
        Image.fromarray(values).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def shared_predictor(weights: Path):
    before = dict(os.environ)
    predictor = build_sam3_video_predictor(weights, config="tiny", device="cpu", gpus_to_use=[0, 1])
    assert isinstance(predictor, SharedVideoPredictor)
    assert dict(os.environ) == before
    assert not torch.distributed.is_initialized()
    yield predictor
    predictor.shutdown()
    with pytest.raises(SessionError, match="was shut down"):
        predictor.handle_request({"type": "start_session", "resource_path": "."})


def tracked(predictor, frames: Path) -> list[tuple]:
    return [
        (frame.index, frame.ids, frame.labels, frame.scores.tolist(), frame.masks.tolist())
        for frame in predictor.track(frames, PHRASES, start=1)
    ]


def by_requests(predictor, frames: Path) -> list:
    session = predictor.handle_request({"type": "start_session", "resource_path": str(frames)})["session_id"]
    both = {"session_id": session}
    answers = [predictor.handle_request({"type": "add_prompt", **both, "frame_index": 2, "text": "red circle"})]
    answers += list(predictor.handle_stream_request({"type": "propagate_in_video", **both}))
    click = {"frame_index": 0, "points": [[0.4, 0.5]], "point_labels": [1], "obj_id": 90}
    answers.append(predictor.handle_request({"type": "add_prompt", **both, **click}))
    stream = predictor.handle_stream_request({"type": "propagate_in_video", **both, "start_frame_index": 0})
    answers.append(next(stream))
    stream.close()  # left in the middle
    predictor.handle_request({"type": "close_session", **both})
    return [
        {
            "frame": answer["frame_index"],
            **{k: np.asarray(v).tolist() for k, v in answer["outputs"].items() if k != "frame_stats"},
        }
        for answer in answers
    ]


def test_two_processes_answer_like_one(weights: Path, frames: Path, shared_predictor):
    one = build_sam3_video_predictor(weights, config="tiny", device="cpu")
    alone = tracked(one, frames)
    assert max(len(ids) for _, ids, *_ in alone) >= 3  # both processes have objects to track
    assert_same(tracked(shared_predictor, frames), alone)
    assert_same(by_requests(shared_predictor, frames), by_requests(one, frames))


def assert_same(found, expected) -> None:
    """Equal ids, labels and masks; numbers up to rounding: other objects in a batch, other last bits."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found == (pytest.approx(expected, abs=1e-5) if isinstance(expected, float) else expected)


def test_an_error_of_the_user_leaves_both_usable(frames: Path, shared_predictor, tmp_path: Path):
    for path in sorted(frames.iterdir()):
        (tmp_path / path.name).write_bytes(path.read_bytes() if path.stem != "3" else b"no picture")
    with pytest.raises(DataError, match=r"3\.png"):
        list(shared_predictor.track(tmp_path, PHRASES))
    with pytest.raises(SessionError, match="Cannot find session"):
        shared_predictor.handle_request({"type": "reset_session", "session_id": "none"})
    with pytest.raises(SessionError, match="what can be copied"):
        next(shared_predictor.track((frame for frame in ()), PHRASES))
    assert len(list(shared_predictor.track(frames, PHRASES))) == COUNT


def test_a_helper_that_dies_ends_the_call_with_its_reason(weights: Path, frames: Path):
    predictor = build_sam3_video_predictor(weights, config="tiny", device="cpu", gpus_to_use=[0, 1])
    helper = predictor._all._helpers[0].process
    stream = predictor.track(frames, PHRASES)
    threading.Timer(0.2, os.kill, (helper.pid, signal.SIGKILL)).start()
    begin = time.monotonic()
    with pytest.raises(PartnerFailed, match="process 1 ended with exit code -9"):
        for _ in range(500):
            list(predictor.track(frames, PHRASES))
    assert time.monotonic() - begin < 60
    stream.close()
    predictor.shutdown()


def test_wrong_devices_are_named(weights: Path):
    options = {"config": "tiny", "device": "cpu", "load_from_HF": False}
    with pytest.raises(ConfigError, match=r"must name different GPUs, such as \[0, 1\]; got \[0, 0\]"):
        build_sam3_video_predictor(gpus_to_use=[0, 0], **options)
    with pytest.raises(ConfigError, match="session_expiry_s works in one process"):
        build_sam3_video_predictor(gpus_to_use=[0, 1], session_expiry_s=5, **options)
