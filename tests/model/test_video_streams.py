"""Videos of unknown length through the predictor, on a tiny random network."""

import numpy as np
import pytest

from sam3.errors import DataError, ForgottenFrameError, SessionError
from sam3.model.sam3_video_predictor import Sam3VideoPredictor
from tests.model.test_sam3_video_predictor import ask, pictures, predictor, stream  # noqa: F401 - a fixture

CLICK = {"points": [[0.5, 0.5]], "point_labels": [1]}


def test_a_stream_shows_what_a_list_shows(predictor: Sam3VideoPredictor):  # noqa: F811
    given = pictures(17)  # from 16 on, the length decides nothing
    known = list(predictor.track(given, ["red circle"]))
    streamed = list(predictor.track((np.asarray(picture) for picture in given), ["red circle"]))
    assert [frame.index for frame in streamed] == list(range(17))
    for a, b in zip(known, streamed, strict=True):
        assert a.ids == b.ids
        assert np.array_equal(a.masks, b.masks)


def test_sessions_on_a_stream(predictor: Sam3VideoPredictor):  # noqa: F811
    session = predictor.handle_request({"type": "start_session", "resource_path": iter(pictures(40))})["session_id"]
    ask(predictor, session, "add_prompt", frame_index=1, obj_id=4, **CLICK)
    frames = stream(predictor, session, propagation_direction="forward", max_frame_num_to_track=2)
    assert [frame["frame_index"] for frame in frames] == [1, 2, 3]
    frames = stream(predictor, session, start_frame_index=3, propagation_direction="backward")
    assert [frame["frame_index"] for frame in frames] == [2, 1, 0]
    with pytest.raises(SessionError, match="frame_index 40 is outside the video that is open"):
        ask(predictor, session, "add_prompt", frame_index=40, obj_id=4, **CLICK)
    with pytest.raises(ForgottenFrameError, match=r"frame 2 of the stream is no longer kept; the last 32 frames"):
        ask(predictor, session, "add_prompt", frame_index=2, obj_id=9, **CLICK)
    ask(predictor, session, "add_prompt", frame_index=39, obj_id=9, **CLICK)
    assert len(stream(predictor, session, start_frame_index=39, propagation_direction="forward")) == 1


def test_a_stream_that_breaks_leaves_the_predictor_usable(predictor: Sam3VideoPredictor):  # noqa: F811
    broken = [*pictures(3), pictures(1)[0].resize((8, 8)), *pictures(3)]
    frames = predictor.track(iter(broken), ["red circle"])
    with pytest.raises(DataError, match="frame 3 of the stream has 8 x 8 pixels"):
        list(frames)
    assert len(list(predictor.track(iter(pictures(2)), ["red circle"]))) == 2
    with pytest.raises(DataError, match="needs at least one frame"):
        next(predictor.track(iter([]), ["red circle"]))
