"""Fields of requests: what is read, and what is refused with its name."""

import pytest
import torch

from sam3.errors import MissingFieldError, SessionError
from sam3.model.video.prompts import read_clicks, read_example, read_flag, read_number, read_phrase, read_threshold

SIZE = (40, 60)  # height, width
POINTS = {"obj_id": 1, "points": [[0.5, 0.25]], "point_labels": [1]}


def test_clicks_relative_and_in_pixels_are_the_same():
    relative = read_clicks({**POINTS, "bounding_boxes": [[0.1, 0.2, 0.5, 0.6]]}, SIZE)
    pixels = {"obj_id": 1, "points": torch.tensor([[30, 10]]), "point_labels": [1], "bounding_boxes": [6, 8, 30, 24]}
    absolute = read_clicks({**pixels, "rel_coordinates": False}, SIZE)
    for clicks in (relative, absolute):
        torch.testing.assert_close(clicks.points, torch.tensor([[0.5, 0.25]]))
        torch.testing.assert_close(clicks.box, torch.tensor([0.1, 0.2, 0.6, 0.8]))
        assert clicks.labels.tolist() == [1]
        assert (clicks.obj_id, clicks.keep_points, clicks.keep_box) == (1, False, False)
    kept = read_clicks({**POINTS, "clear_old_points": False, "clear_old_boxes": False}, SIZE)
    assert (kept.keep_points, kept.keep_box) == (True, True)


def test_an_example():
    assert read_example({}, SIZE) is None
    example = read_example({"bounding_boxes": [[0, 0, 0.5, 1]], "bounding_box_labels": [0]}, SIZE)
    assert example.box.tolist() == [0, 0, 0.5, 1]
    assert not example.is_positive


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"points": [[2, 0]]}, r"points must be x, y relative to the picture, 0 .. 1; got \[\[2.0, 0.0\]\]"),
        ({"points": [[61, 0]], "rel_coordinates": False}, "pixels of the video, 60 x 40"),
        ({"points": [[float("nan"), 0]]}, "points must be finite numbers"),
        ({"points": [0.5, 0.5]}, r"points must be \(N, 2\).*got the shape \(2,\)"),
        ({"points": []}, r"at least one point; got the shape \(0,\)"),
        ({"points": [["a", "b"]]}, "points must be numbers in rows"),
        ({"points": [[0.1, 0.1], [0.2]]}, "points must be numbers in rows"),
        ({"point_labels": [1, 0]}, "1 points need as many labels, got 2"),
        ({"point_labels": [2]}, r"point_labels must be 1 \(on the object\) or 0 \(off it\), got \[2.0\]"),
        ({"points": None}, "point_labels came without points"),
        ({"obj_id": -1}, "obj_id must be a whole number from 0 on, got -1"),
        ({"obj_id": "first"}, "obj_id must be a whole number from 0 on, got 'first'"),
        ({"clear_old_points": "no"}, "clear_old_points must be true or false, got 'no'"),
        ({"bounding_boxes": [[0.5, 0, 0.9, 1]]}, "must be x, y, width, height relative to the picture"),
        ({"bounding_boxes": [[0.5, 0, 0, 1]]}, "must be x, y, width, height"),
        ({"bounding_boxes": [[0, 0, 1, 1]] * 2}, r"must hold one box.*got the shape \(2, 4\)"),
        ({"bounding_boxes": [[0, 0, 1, 1]], "bounding_box_labels": [0]}, r"bounding_box_labels must be \[1\]"),
    ],
)
def test_wrong_clicks_are_named(fields: dict, message: str):
    with pytest.raises(SessionError, match=message):
        read_clicks({**POINTS, **fields}, SIZE)


def test_other_wrong_fields_are_named():
    with pytest.raises(MissingFieldError, match="the request 'add_prompt' needs the field 'point_labels'"):
        read_clicks({"type": "add_prompt", "obj_id": 1, "points": [[0, 0]]}, SIZE)
    with pytest.raises(SessionError, match="give both or neither"):
        read_example({"bounding_boxes": [[0, 0, 1, 1]]}, SIZE)
    with pytest.raises(SessionError, match=r"one label for the one box, 1 or 0; got \[1.0, 0.0\]"):
        read_example({"bounding_boxes": [[0, 0, 1, 1]], "bounding_box_labels": [1, 0]}, SIZE)
    with pytest.raises(SessionError, match="max_frame_num_to_track must be a whole number from 0 on, got 2.5"):
        read_number({"max_frame_num_to_track": 2.5}, "max_frame_num_to_track")
    with pytest.raises(SessionError, match="output_prob_thresh must be a number from 0 to 1, got 7"):
        read_threshold({"output_prob_thresh": 7}, "output_prob_thresh")
    with pytest.raises(SessionError, match="text must be a phrase, got '  '"):
        read_phrase("  ")
    assert read_number({}, "x", default=3) == 3
    assert read_threshold({}, "x") is None
    assert read_flag({"x": 0}, "x", default=True) is False
