"""The moving world: repeatable clips, exact visible parts, and a ground truth file that the evaluation reads."""

import json

import numpy as np
import pytest
from PIL import Image

from sam3.data.saco_video import read_ground_truth
from sam3.demo.video_world import (
    CROSSING,
    KINDS,
    LEAVING,
    OCCLUSION,
    PLAIN,
    SIDE,
    Actor,
    draw_clip,
    visible_masks,
    write_video_world,
)
from sam3.demo.world import Look, World
from sam3.eval.veval import evaluate_files
from sam3.ops import rle

FRAMES = 24


def clips(kind, count):
    return [draw_clip(World(), kind, FRAMES, np.random.default_rng([7, number])) for number in range(count)]


def square(centres, radius):
    look = Look(np.full(3, 200.0), shading_angle=0.0, shading=0.0)
    return Actor("red", "square", look, radius, 0.0, np.asarray(centres, dtype=float))


def test_visible_parts_are_what_nothing_in_front_covers():
    side = 10 * 2**0.5  # of the circle around a square of 20 x 20 pixels
    back, front = square([(40, 40), (40, 40), (40, 40)], side), square([(80, 40), (50, 40), (40, 40)], side)
    masks = visible_masks([back, front])
    assert masks.shape == (2, 3, SIDE, SIDE)
    assert masks.sum((2, 3)).tolist() == [[400, 200, 0], [400, 400, 400]]
    assert masks[0, 1, 30:50, 30:40].all()
    bar = np.array([(0, 35), (SIDE, 35), (SIDE, 45), (0, 45)], dtype=float)
    assert visible_masks([back, front], bar).sum((2, 3)).tolist() == [[200, 100, 0], [200, 200, 200]]


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_a_clip_do_not_overlap_and_its_pictures_show_them(kind):
    for clip in clips(kind, 2):
        assert clip.frames.shape == (FRAMES, SIDE, SIDE, 3)
        assert clip.frames.dtype == np.uint8
        assert clip.masks.sum(0).max() <= 1
        for actor, masks in zip(clip.actors, clip.masks, strict=True):
            frame = int(masks.sum((1, 2)).argmax())
            seen = clip.frames[frame][masks[frame]].mean(0)
            assert np.abs(seen - actor.look.colour).max() < 35


def test_crossing_objects_share_a_phrase_hide_one_another_and_are_told_apart_by_colour():
    for clip in clips(CROSSING, 3):
        assert len({actor.phrase for actor in clip.actors}) == 1 < len(clip.actors)
        areas = clip.masks.sum((2, 3))
        assert (areas[-1] >= 0.9 * areas[-1].max()).all()  # nothing is in front of the last
        assert areas[0].min() < 0.6 * areas[0].max()  # the first is mostly hidden at times
        assert len({actor.colour for actor in clip.actors}) == len(clip.actors)
        assert {actor.full_phrase for actor in clip.actors} <= set(World().phrases)


def test_behind_the_bar_objects_hide_twice_and_come_back():
    for clip in clips(OCCLUSION, 3):
        areas = clip.masks.sum((2, 3))
        is_hidden = areas < 0.35 * areas.max(1, keepdims=True)
        assert (np.diff(is_hidden.astype(int)) == 1).sum(1).tolist() == [2, 2]
        assert (areas[:, -1] > 0.9 * areas.max(1)).all()


def test_a_leaving_object_is_gone_for_some_frames_and_seen_again():
    for clip in clips(LEAVING, 3):
        areas = clip.masks.sum((2, 3))
        gone = (areas == 0).any(1)
        assert gone.sum() == 1
        frames = np.flatnonzero(areas[gone.argmax()])
        assert np.diff(frames).max() >= 3


def test_in_plain_clips_everything_is_always_seen_whole():
    for clip in clips(PLAIN, 3):
        areas = clip.masks.sum((2, 3))
        assert (areas > 0.9 * areas.max(1, keepdims=True)).all()


def test_files_depend_on_seed_and_number_only(tmp_path):
    few = write_video_world(tmp_path / "few", World(), num_videos=2, num_frames=4, seed=3)
    many = write_video_world(tmp_path / "many", World(), num_videos=5, num_frames=4, seed=3)
    other = write_video_world(tmp_path / "other", World(), num_videos=2, num_frames=4, seed=4)
    small, large = json.loads(few.read_text()), json.loads(many.read_text())
    assert [video["kind"] for video in large["videos"]] == [*KINDS, PLAIN]
    for name in ("videos", "annotations", "video_np_pairs"):
        assert small[name] == large[name][: len(small[name])]
    picture = "clip_0001/00003.png"
    assert (few.parent / picture).read_bytes() == (many.parent / picture).read_bytes()
    assert (few.parent / picture).read_bytes() != (other.parent / picture).read_bytes()


def test_the_ground_truth_scores_itself_perfectly_and_asks_for_absent_phrases(tmp_path):
    path = write_video_world(tmp_path / "ü", World(), num_videos=4, num_frames=6, kinds=(CROSSING, LEAVING), seed=1)
    document = json.loads(path.read_text())
    truth = read_ground_truth(path)
    assert len(truth.videos) == 4
    assert list(truth.categories.values()) == ["circle", "square", "triangle"]
    negatives = [pair for pair in document["video_np_pairs"] if pair["num_masklets"] == 0]
    assert len(negatives) == 2 * 4
    for video in document["videos"]:
        with Image.open(path.parent / video["file_names"][-1]) as picture:
            assert picture.size == (SIDE, SIDE)
    for masklet in document["annotations"]:
        runs = masklet["segmentations"]
        assert [run and rle.area(run) for run in runs] == masklet["areas"]
    predictions = [
        {key: entry[key] for key in ("video_id", "category_id", "bboxes", "segmentations", "areas")} | {"score": 0.9}
        for entry in document["annotations"]
    ]
    (tmp_path / "pred.json").write_text(json.dumps(predictions))
    numbers = evaluate_files(path, tmp_path / "pred.json").to_dict()["dataset_results"]
    assert numbers["video_mask_all_phrase_HOTA"] == pytest.approx(1.0)
    assert numbers["video_mask_demo_cgf1_micro_50_95"] == pytest.approx(1.0, abs=1e-3)
