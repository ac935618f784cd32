"""Clips cut from videos: frames and masks belong together, and depend on seed, index and epoch alone."""

import json

import pytest
import torch

from sam3.data.joined_clips import JoinedClips
from sam3.data.still_clips import StillClips
from sam3.data.video_clips import VideoClips
from sam3.demo.video_frames import write_frame_dataset
from sam3.demo.video_world import CROSSING, OCCLUSION, write_video_world
from sam3.demo.world import World
from sam3.errors import DataError


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    truth = write_video_world(folder, World(), num_videos=3, num_frames=8, kinds=(CROSSING, OCCLUSION), seed=2)
    write_frame_dataset(truth, folder / "coco", every=4, val_every=100)
    return folder


def videos(world, **options):
    return VideoClips(str(world / "ground_truth.json"), str(world), num_frames=4, **({"resolution": 56} | options))


def stills(world, **options):
    folder = world / "coco" / "train"
    options = {"num_frames": 4, "resolution": 56} | options
    return StillClips(str(folder / "annotations.json"), str(folder / "images"), **options)


def equal(first, second):
    return first.images.equal(second.images) and first.masks.equal(second.masks) and first.points.equal(second.points)


@pytest.mark.parametrize("source", [videos, stills])
def test_a_clip_depends_on_seed_index_and_epoch_alone(world, source):
    clip = source(world).sample(1, 3)
    assert clip.images.shape == (4, 3, 56, 56)
    assert clip.masks.dtype == torch.bool
    assert clip.masks.shape[1:] == (4, 56, 56)
    assert (clip.masks[:, 0].flatten(1).sum(1) >= 30 / 4).all()  # every object shows on the first frame
    assert equal(clip, source(world).sample(1, 3))
    assert not equal(clip, source(world).sample(1, 4))
    assert not equal(clip, source(world, seed=1).sample(1, 3))


def test_frames_and_masks_of_a_video_belong_together(world):
    clip = videos(world, resolution=112).sample(0, 0)
    for track in clip.masks:
        for frame, mask in enumerate(track):
            if mask.sum() > 100 and frame:
                colour = clip.images[frame][:, mask].mean(1)
                assert (colour - clip.images[0][:, track[0]].mean(1)).abs().max() < 0.25
    assert clip.masks.sum(0).max() <= 1


def test_a_short_video_stands_still_at_its_end_and_objects_are_limited(world):
    clip = VideoClips(
        str(world / "ground_truth.json"), str(world), num_frames=12, resolution=56, max_stride=1, max_objects=1
    ).sample(0, 0)
    assert len(clip.masks) == 1
    held = clip.images[8:] if clip.images[-1].equal(clip.images[-2]) else clip.images[:5]
    assert (held == held[0]).all()


def test_an_object_that_two_phrases_name_is_one_object(world, tmp_path):
    content = json.loads((world / "ground_truth.json").read_text())
    again = [entry | {"id": 100 + entry["id"], "category_id": 2} for entry in content["annotations"]]
    (tmp_path / "gt.json").write_text(json.dumps(content | {"annotations": content["annotations"] + again}))
    twice = VideoClips(str(tmp_path / "gt.json"), str(world), num_frames=4, resolution=56)
    assert twice.num_queries == videos(world).num_queries == len(again)
    coco = json.loads((world / "coco" / "train" / "annotations.json").read_text())  # names everything twice
    assert 2 * stills(world).num_queries == len(coco["annotations"])


def test_a_file_without_masks_is_named(world, tmp_path):
    content = json.loads((world / "ground_truth.json").read_text())
    (tmp_path / "gt.json").write_text(json.dumps(content | {"annotations": []}))
    with pytest.raises(DataError, match=r"gt\.json: no video of two frames or more with masks"):
        VideoClips(str(tmp_path / "gt.json"), str(world))


def test_stills_move_cover_one_another_and_lose_what_is_covered(world):
    source = stills(world, resolution=112, max_pasted=2, bar_chance=1.0)
    clips = [source.sample(index % len(source), index) for index in range(8)]
    assert all(clip.masks.sum(0).max() <= 1 for clip in clips)
    areas = torch.cat([clip.masks.sum((2, 3)) for clip in clips]).float()
    assert (areas.amin(1) < 0.6 * areas.amax(1)).any()  # something was covered or left the picture
    assert all(not clip.images[0].equal(clip.images[-1]) for clip in clips)


def test_joined_sources_give_the_clips_of_each(world):
    first, second = videos(world), stills(world)
    both = JoinedClips({"videos": first, "stills": second, "others": None})
    assert len(both) == len(first) + len(second)
    assert both.num_images == first.num_images + second.num_images
    assert equal(both.sample(2, 1), first.sample(2, 1))
    assert equal(both.sample(len(first) + 1, 1), second.sample(1, 1))
