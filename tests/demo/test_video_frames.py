"""Frames of clips as a COCO folder: right pictures, masks of the visible parts, slivers left out."""

import json

from sam3.data.coco import read_coco
from sam3.demo.video_frames import write_frame_dataset
from sam3.demo.video_world import OCCLUSION, write_video_world
from sam3.demo.world import World
from sam3.ops import rle


def test_every_other_frame_with_what_shows_on_it(tmp_path):
    truth = write_video_world(tmp_path / "clips", World(), num_videos=2, num_frames=12, kinds=(OCCLUSION,))
    counts = write_frame_dataset(truth, tmp_path / "coco", every=2, val_every=2, min_area=100)
    assert counts == {"train": 6, "val": 6}
    masklets = json.loads(truth.read_text())["annotations"]
    content = json.loads((tmp_path / "coco" / "train" / "annotations.json").read_text())
    read_coco(tmp_path / "coco" / "train" / "annotations.json")
    names = [image["file_name"] for image in content["images"]]
    assert names == [f"clip_0000_{frame:05d}.png" for frame in range(0, 12, 2)]
    first = tmp_path / "clips" / "clip_0000" / "00002.png"
    assert (tmp_path / "coco" / "train" / "images" / names[1]).read_bytes() == first.read_bytes()
    wanted = [
        (place + 1, entry[phrase], entry["areas"][frame], entry["segmentations"][frame])
        for place, frame in enumerate(range(0, 12, 2))
        for entry in masklets
        if entry["video_id"] == 1 and (entry["areas"][frame] or 0) >= 100
        for phrase in ("noun_phrase", "full_phrase")
    ]
    names = {category["id"]: category["name"] for category in content["categories"]}
    found = [
        (entry["image_id"], names[entry["category_id"]], entry["area"], entry["segmentation"])
        for entry in content["annotations"]
    ]
    assert found == wanted
    assert len(found) < 2 * 2 * 6  # behind the bar nothing is annotated
    assert rle.area(found[0][3]) == found[0][2]
