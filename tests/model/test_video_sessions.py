"""Sessions that live side by side, end early, change in mid-stream, and survive wrong requests."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam3.errors import DataError, MissingFieldError, SessionError, UserError
from sam3.model.sam3_video_predictor import Sam3VideoPredictor
from tests.model.video.test_open_video import noise, predictor  # noqa: F401 - a fixture

Answer = tuple[int, list[int], list[str], list[float], bytes]
CLICK = {"points": [[0.5, 0.5]], "point_labels": [1]}


class Session:
    """A session of a predictor, with short names for its requests."""

    def __init__(self, predictor: Sam3VideoPredictor, pictures: Any = None) -> None:  # noqa: F811
        self.predictor = predictor
        request = {"type": "start_session", "resource_path": pictures or noise()}
        self.id = predictor.handle_request(request)["session_id"]

    def do(self, kind: str, **fields: Any) -> dict[str, Any]:
        return self.predictor.handle_request({"type": kind, "session_id": self.id, **fields})

    def prompt(self, **fields: Any) -> Answer:
        return plain(self.do("add_prompt", **{"frame_index": 0, **fields}))

    def stream(self, **fields: Any) -> Iterator[Answer]:
        request = {"type": "propagate_in_video", "session_id": self.id, **fields}
        return map(plain, self.predictor.handle_stream_request(request))


def plain(response: dict[str, Any]) -> Answer:
    outputs = response["outputs"]
    ids, scores = outputs["out_obj_ids"].tolist(), outputs["out_probs"].tolist()
    return response["frame_index"], ids, outputs["out_labels"], scores, outputs["out_binary_masks"].tobytes()


def frames(answers: list[Answer]) -> list[int]:
    return [answer[0] for answer in answers]


def of(label: str, answers: list[Answer]) -> list[list[float]]:
    return [[s for name, s in zip(answer[2], answer[3], strict=True) if name == label] for answer in answers]


@pytest.fixture
def session(predictor: Sam3VideoPredictor) -> Session:  # noqa: F811
    return Session(predictor)


@pytest.fixture(scope="module")
def undisturbed(predictor: Sam3VideoPredictor) -> list[Answer]:  # noqa: F811
    session = Session(predictor)
    session.prompt(text="red circle")
    return list(session.stream())


def test_two_interleaved_sessions_equal_two_separate_ones(predictor: Sam3VideoPredictor):  # noqa: F811
    def begun(seed: int, text: str) -> Session:
        session = Session(predictor, noise(seed=seed))
        session.prompt(text=text)
        return session

    asked = [(0, "red circle"), (1, "blue square")]
    apart = [list(begun(*one).stream()) for one in asked]
    streams = [begun(*one).stream() for one in asked]
    together = list(zip(*streams, strict=True))
    assert [list(answers) for answers in zip(*together, strict=True)] == apart
    assert apart[0] != apart[1]
    assert sum(len(answer[1]) for answers in apart for answer in answers) >= 6


def test_a_cancelled_propagation_ends_and_can_be_taken_up(session: Session, undisturbed: list[Answer]):
    session.prompt(text="red circle")
    stream = session.stream()
    assert [next(stream), next(stream)] == undisturbed[:2]
    assert session.do("cancel_propagation") == {"is_success": True}
    assert list(stream) == []
    assert list(session.stream(start_frame_index=0)) == undisturbed
    assert list(session.stream()) == undisturbed, "what was worked off is handed out, not tracked again"
    session.do("cancel_propagation")  # nothing is under way: nothing happens


def test_an_abandoned_stream_does_no_harm(session: Session, undisturbed: list[Answer]):
    session.prompt(text="red circle")
    stream = session.stream()
    next(stream)
    del stream
    assert list(session.stream()) == undisturbed


def test_a_second_propagation_ends_the_first(session: Session, undisturbed: list[Answer]):
    session.prompt(text="red circle")
    first = session.stream()
    next(first)
    assert list(session.stream()) == undisturbed
    assert list(first) == []


@pytest.mark.parametrize("is_removed", [False, True])
def test_phrases_come_and_go_in_mid_stream(session: Session, undisturbed: list[Answer], is_removed: bool):
    session.prompt(text="red circle")
    stream = session.stream()
    answers = [next(stream)]
    session.prompt(text="blue square", keep_others=True)
    answers += [next(stream), next(stream)]
    with pytest.raises(SessionError, match="'blue square' is looked for already"):
        session.prompt(text="blue square", keep_others=True)
    if is_removed:
        session.do("remove_phrase", text="blue square")
    answers += stream
    assert frames(answers) == frames(undisturbed)
    assert of("red circle", answers) == [answer[3] for answer in undisturbed], "the first phrase does not notice"
    labels = {label for answer in answers[3:] for label in answer[2]}  # of what came after the removal
    assert labels == ({"red circle"} if is_removed else {"red circle", "blue square"})
    if is_removed:
        with pytest.raises(SessionError, match="nobody looks for 'blue square'; phrases of this session: red circle"):
            session.do("remove_phrase", text="blue square")


def test_a_text_begins_anew_and_ends_the_stream(session: Session, undisturbed: list[Answer]):
    session.prompt(text="blue square")
    stream = session.stream()
    next(stream)
    assert session.prompt(text="red circle")[2] == ["red circle"] * len(session.prompt(text="red circle")[1])
    assert list(stream) == []
    assert list(session.stream()) == undisturbed
    session.do("reset_session")
    with pytest.raises(UserError, match="nothing to propagate: add a prompt first"):
        list(session.stream())


def test_an_object_by_points_and_a_box_in_pixels(session: Session):
    relative = {**CLICK, "bounding_boxes": [[0.25, 0.25, 0.5, 0.5]]}
    pixels = {"points": [[30, 20]], "point_labels": [1], "bounding_boxes": [[15, 10, 30, 20]], "rel_coordinates": False}
    other = Session(session.predictor)
    assert session.prompt(obj_id=7, **relative) == other.prompt(obj_id=7, **pixels)
    assert list(session.stream()) == list(other.stream())
    more = {"points": [[0.1, 0.1]], "point_labels": [0], "clear_old_points": False, "clear_old_boxes": False}
    session.prompt(obj_id=7, **more)
    other.prompt(obj_id=7, **more | {"clear_old_boxes": True})
    assert list(session.stream()) != list(other.stream())


def test_a_clicked_object_is_tracked_where_everything_was_worked_off(predictor: Sam3VideoPredictor):  # noqa: F811
    session = Session(Sam3VideoPredictor(predictor.model, replace(predictor.settings, max_objects=9)))
    session.prompt(text="red circle")
    before = list(session.stream())
    session.prompt(obj_id=40, **CLICK)
    answers = list(session.stream())
    assert frames(answers) == frames(before)
    assert any(40 in answer[1] for answer in answers)
    assert all(dict(zip(a[1], a[2], strict=True)).get(40) in (None, "red circle") for a in answers)
    session.do("remove_object", obj_id=40)
    assert list(session.stream()) == before
    with pytest.raises(UserError, match="there is no object 40; objects of this session: "):
        session.do("remove_object", obj_id=40)


def test_a_text_and_a_click_before_the_first_propagation(session: Session):
    """The reference finds nothing then: it tracks the clicked object alone, over frames without results."""
    session.prompt(text="red circle")
    session.prompt(obj_id=40, **CLICK)
    answers = list(session.stream())
    assert frames(answers) == list(range(6))
    assert len({obj_id for answer in answers for obj_id in answer[1]}) > 1


def test_a_threshold_leaves_out_unsure_objects_and_changes_nothing_else(session: Session, undisturbed: list[Answer]):
    session.prompt(text="red circle", output_prob_thresh=1.0)
    threshold = sorted(score for answer in undisturbed for score in answer[3])[2]
    answers = list(session.stream(output_prob_thresh=threshold))
    assert [a[3] for a in answers] == [[s for s in a[3] if s >= threshold] for a in undisturbed]
    assert list(session.stream()) == undisturbed


WRONG = [
    ({"type": "add_prompt", "frame_index": 6, "text": "x"}, "frame_index 6 is outside the video of 6 frames"),
    ({"type": "add_prompt", "frame_index": -1, "text": "x"}, "frame_index must be a whole number from 0 on, got -1"),
    ({"type": "add_prompt", "frame_index": 0, "text": ""}, "text must be a phrase"),
    ({"type": "add_prompt", "frame_index": 0, "text": "x", "obj_id": 1}, "exclude text"),
    ({"type": "add_prompt", "frame_index": 0, "text": "red circle", "keep_others": True}, "is looked for already"),
    (
        {"type": "add_prompt", "frame_index": 0, "obj_id": 9, "points": [[0.5, 0.5]] * 2, "point_labels": [1, 0]},
        r"contradictory clicks: the point \(0.5, 0.5\) is labelled 1 and 0",
    ),
    (
        {"type": "add_prompt", "frame_index": 0, "obj_id": 9, "points": [[np.nan, 0.5]], "point_labels": [1]},
        "points must be finite numbers",
    ),
    ({"type": "remove_object", "obj_id": 99}, "there is no object 99"),
    ({"type": "remove_phrase", "text": "cat"}, "nobody looks for 'cat'"),
]


def test_wrong_requests_change_nothing(session: Session, undisturbed: list[Answer]):
    session.prompt(text="red circle")
    for request, message in WRONG:
        with pytest.raises(UserError, match=message):
            session.predictor.handle_request({**request, "session_id": session.id})
    for fields, message in (
        ({"start_frame_index": 6}, "start_frame_index 6 is outside the video"),
        ({"max_frame_num_to_track": -2}, "max_frame_num_to_track must be a whole number"),
        ({"propagation_direction": "up"}, "expected one of both, forward, backward"),
    ):
        with pytest.raises(SessionError, match=message):
            list(session.stream(**fields))
    with pytest.raises(MissingFieldError, match="needs the field 'obj_id'"):
        session.do("remove_object")
    assert list(session.stream()) == undisturbed


def test_fields_without_effect_are_named(session: Session, caplog: pytest.LogCaptureFixture):
    request = {"type": "start_session", "resource_path": noise(1), "offload_video_to_cpu": True}
    session.predictor.handle_request(request | {"session_id": "a"})
    assert caplog.text == ""
    session.predictor.handle_request(request | {"session_id": "b", "offload_state_to_cpu": True, "resouce": 1})
    assert "offload_state_to_cpu changes nothing" in caplog.text
    assert "start_session: unknown fields are ignored: resouce" in caplog.text
    for name in "ab":
        session.predictor.handle_request({"type": "close_session", "session_id": name})


def test_the_object_limit_is_named(session: Session):
    for obj_id in range(3):
        session.prompt(obj_id=obj_id, **CLICK)
    before = list(session.stream())
    with pytest.raises(SessionError, match="3 objects are tracked and the limit is 3"):
        session.prompt(obj_id=3, **CLICK)
    assert list(session.stream()) == before


def test_videos_that_cannot_be_read(session: Session, tmp_path: Path):
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(2000))
    (tmp_path / "empty.mp4").write_bytes(b"")
    for source, message in (
        (str(tmp_path / "noise.mp4"), "noise.mp4' cannot be read"),
        (str(tmp_path / "empty.mp4"), "empty.mp4' cannot be read"),
        ([], "a video needs at least one frame"),
        (str(tmp_path / "nothing.mp4"), "does not exist"),
    ):
        with pytest.raises(DataError, match=message):
            session.predictor.handle_request({"type": "start_session", "resource_path": source, "session_id": "z"})
    session.predictor.handle_request({"type": "start_session", "resource_path": noise(1), "session_id": "z"})
    session.predictor.handle_request({"type": "close_session", "session_id": "z"})


def test_a_frame_of_another_size_is_named_and_the_session_goes_on(predictor: Sam3VideoPredictor):  # noqa: F811
    pictures = noise()
    good = pictures[3]
    pictures[3] = Image.new("RGB", (30, 30))
    session = Session(predictor, pictures)
    session.prompt(text="red circle")
    with pytest.raises(DataError, match=r"frame 3 has 30 x 30 pixels .* the first frame 40 x 60"):
        list(session.stream())
    with pytest.raises(DataError, match="frame 3 has 30 x 30 pixels"):
        session.prompt(frame_index=3, obj_id=1, **CLICK)
    assert frames(list(session.stream(max_frame_num_to_track=2))) == [0, 1, 2]
    predictor.sessions.get(session.id).source._pictures[3] = good
    assert frames(list(session.stream())) == list(range(6))


def test_closed_and_expired_sessions_are_named(predictor: Sam3VideoPredictor):  # noqa: F811
    now = [0.0]
    other = Sam3VideoPredictor(predictor.model, predictor.settings, session_expiry_s=60)
    other.sessions.clock = lambda: now[0]
    idle, used = Session(other), Session(other)
    used.prompt(text="red circle")
    stream = used.stream()
    next(stream)
    now[0] = 59.0
    next(stream)
    now[0] = 70.0
    with pytest.raises(SessionError, match="it expired after 60 s without a request"):
        idle.prompt(text="red circle")
    used.do("close_session")
    assert list(stream) == []
    with pytest.raises(SessionError, match=f"Cannot find session '{used.id}': it was closed"):
        used.do("reset_session")
    assert len(other.sessions) == 0
