"""The fixture that other tests stand on."""

import json

import numpy as np
from PIL import Image

from sam3.data.coco import read_coco, records_of
from sam3.ops import rle
from tests.data.coco_folder import CLASSES, COLOURS, write_coco_folder


def test_layout_colours_and_negatives(tmp_path):
    root = write_coco_folder(tmp_path / "a", 5, CLASSES[:4], val_images=2, size=(60, 80))
    assert sorted(path.name for path in root.iterdir()) == ["train", "val"]
    records = records_of(read_coco(root / "train" / "annotations.json"))
    assert [record.file_name for record in records] == [f"{index:04d}.png" for index in range(5)]
    assert len(records_of(read_coco(root / "val" / "annotations.json"))) == 2
    assert all(record.objects for record in records[:-1])
    assert not records[-1].objects
    first = records[0].queries[0]
    mask = rle.decode(records[0].objects[first.object_indices[0]].mask)
    pixels = np.array(Image.open(root / "train" / "images" / "0000.png"))
    colour = COLOURS[first.phrase.split()[0]]
    assert (np.abs(pixels[mask].astype(int) - colour).max(1) == 0).mean() > 0.8


def test_the_same_seed_gives_the_same_files(tmp_path):
    first, second = (write_coco_folder(tmp_path / name, 3) for name in "ab")
    for path in first.rglob("*.*"):
        assert path.read_bytes() == (second / path.relative_to(first)).read_bytes()
    content = json.loads((first / "train" / "annotations.json").read_text())
    assert {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation"} == set(
        content["annotations"][0]
    )
