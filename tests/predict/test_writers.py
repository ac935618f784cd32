"""Files of a run: masks and polygons give back what was found, COCO files are read by pycocotools."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam3.data.labelme import main as convert
from sam3.io.overlay import label_colours
from sam3.ops import rle
from sam3.predict.results import ImageResult
from sam3.predict.writers import LabelmeWriter, MaskWriter, OverlayWriter, close_polygons, write_coco
from sam3.structures import FoundObject
from tests.predict.conftest import disc, found_object, image_result, save_picture

SIZE = (160, 120)  # width, height


def two_blobs() -> np.ndarray:
    return disc(120, 160, center=(30, 60), radius=20) | disc(120, 160, center=(120, 70), radius=25, hole=8)


def shapes_of_many_kinds() -> list[FoundObject]:
    pixel, stairs = np.zeros((120, 160), bool), np.zeros((120, 160), bool)
    pixel[7, 11] = True
    stairs[np.arange(120), np.arange(120)] = True
    return [
        found_object("ring", disc(120, 160, center=(60, 50), radius=40, hole=15), 0.93),
        found_object("blob", two_blobs(), 0.81),
        found_object("pixel", pixel, 0.7),
        found_object("stairs", stairs, 0.6),
        found_object("everything", np.ones((120, 160), bool), 0.5),
        found_object("nothing", np.zeros((120, 160), bool), 0.4),
    ]


def mask_iou(first: np.ndarray, second: np.ndarray) -> float:
    return float((first & second).sum() / (first | second).sum())


def test_masks_come_back_from_their_pictures(tmp_path):
    objects = shapes_of_many_kinds()
    result = image_result(tmp_path / "a.png", SIZE, objects)
    writer = MaskWriter(tmp_path)
    writer.write(result, Image.new("RGB", SIZE))
    names = [path.name for path in writer.paths(result)]
    assert names[:2] == ["001_ring.png", "002_blob.png"]
    for path, found in zip(writer.paths(result), objects, strict=True):
        with Image.open(path) as image:
            assert image.mode == "L"
            pixels = np.asarray(image)
        assert set(np.unique(pixels)) <= {0, 255}
        np.testing.assert_array_equal(pixels > 0, found.mask())


def test_masks_of_an_earlier_run_do_not_stay(tmp_path):
    writer, image = MaskWriter(tmp_path), Image.new("RGB", SIZE)
    objects = shapes_of_many_kinds()
    writer.write(image_result(tmp_path / "a.png", SIZE, objects), image)
    writer.write(image_result(tmp_path / "a.png", SIZE, objects[:2]), image)
    assert len(list((tmp_path / "masks" / "a").iterdir())) == 2
    writer.write(image_result(tmp_path / "a.png", SIZE, []), image)
    assert list((tmp_path / "masks" / "a").iterdir()) == []


def test_labels_become_file_names_of_every_system(tmp_path):
    label = 'red/../car: "big" 红?'
    path = MaskWriter(tmp_path).paths(image_result(tmp_path / "a.png", SIZE, [found_object(label, two_blobs())]))[0]
    assert path.name == "001_red-..-car-big-红.png"
    assert path.parent == tmp_path / "masks" / "a"


def test_an_overlay_is_a_picture_of_the_image(tmp_path):
    result = image_result(tmp_path / "a.png", (640, 480), [])
    writer = OverlayWriter(tmp_path, label_colours([]))
    writer.write(result, Image.new("RGB", (640, 480), (10, 200, 10)))
    with Image.open(writer.paths(result)[0]) as overlay:
        assert overlay.size == (640, 480)
        assert np.abs(np.asarray(overlay, int) - [10, 200, 10]).max() <= 3


def test_labelme_files_hold_what_labelme_reads(tmp_path):
    source = save_picture(tmp_path / "photos" / "täst.png", SIZE)
    result = image_result(source, SIZE, [found_object("blob", two_blobs(), 0.8125)])
    writer = LabelmeWriter(tmp_path / "out")
    writer.write(result, Image.new("RGB", SIZE))
    document = json.loads(writer.paths(result)[0].read_text(encoding="utf-8"))
    assert (document["imageWidth"], document["imageHeight"], document["imageData"]) == (160, 120, None)
    assert (tmp_path / "out" / "labelme" / document["imagePath"]).resolve() == source.resolve()
    assert "\\" not in document["imagePath"]
    first, second = document["shapes"]
    assert first["shape_type"] == second["shape_type"] == "polygon"
    assert first["group_id"] == second["group_id"] == 1
    assert first["score"] == 0.8125
    assert all(len(point) == 2 for point in first["points"])


def test_without_masks_labelme_gets_the_box(tmp_path):
    result = image_result(tmp_path / "a.png", SIZE, [FoundObject("cat", 0.5, (1.0, 2.0, 30.5, 40.0), None)])
    writer = LabelmeWriter(tmp_path)
    writer.write(result, Image.new("RGB", SIZE))
    (shape,) = json.loads(writer.paths(result)[0].read_text())["shapes"]
    assert shape["shape_type"] == "rectangle"
    assert shape["points"] == [[1.0, 2.0], [30.5, 40.0]]


@pytest.mark.parametrize("tolerance", [0.0, 1.0, 4.0])
def test_found_masks_survive_labelme_and_the_converter(tmp_path, tolerance):
    """Written for Labelme, converted to COCO by the project's own converter: the masks come back."""
    objects = shapes_of_many_kinds()
    source = save_picture(tmp_path / "photos" / "täst.png", SIZE)
    LabelmeWriter(tmp_path / "out", tolerance=tolerance).write(
        image_result(source, SIZE, objects), Image.new("RGB", SIZE)
    )
    arguments = ["--labelme_dir", str(tmp_path / "out" / "labelme"), "--output_dir", str(tmp_path / "coco")]
    assert convert([*arguments, "--train_split", "1.0"]) in (0, None)

    annotations = json.loads((tmp_path / "coco" / "train" / "annotations.json").read_text(encoding="utf-8"))
    names = {category["id"]: category["name"] for category in annotations["categories"]}
    masks = {
        names[annotation["category_id"]]: rle.decode(rle.from_any(annotation["segmentation"], 120, 160))
        for annotation in annotations["annotations"]
    }
    assert masks.keys() == {"ring", "blob", "pixel", "stairs", "everything"}  # an empty mask has no shape
    for found in objects[:-1]:
        assert mask_iou(masks[found.label], found.mask()) > 0.95, found.label
        if tolerance == 0:
            np.testing.assert_array_equal(masks[found.label], found.mask(), err_msg=found.label)


def test_simplified_polygons_have_few_points():
    mask = disc(400, 400, center=(200, 200), radius=150)
    (exact,), (simple,) = close_polygons(mask, 0), close_polygons(mask, 1.5)
    assert len(simple) < 60 < 600 < len(exact)


def test_coco_files_are_read_by_pycocotools(tmp_path):
    from pycocotools.coco import COCO

    results = [
        image_result(tmp_path / "a.png", SIZE, shapes_of_many_kinds()[:2], image_id=1),
        image_result(tmp_path / "b.png", SIZE, [], image_id=2),
        image_result(tmp_path / "c.png", SIZE, shapes_of_many_kinds()[:1], image_id=3),
    ]
    write_coco(tmp_path, iter(results), ["ring", "blob", "never found"])
    read = COCO(str(tmp_path / "coco_images.json")).loadRes(str(tmp_path / "coco_predictions.json"))
    assert [image["file_name"] for image in read.dataset["images"]] == ["a.png", "b.png", "c.png"]
    assert [category["name"] for category in read.dataset["categories"]] == ["ring", "blob", "never found"]
    found = read.loadAnns(read.getAnnIds(imgIds=[1]))
    assert [entry["category_id"] for entry in found] == [1, 2]
    assert found[0]["bbox"] == [20, 10, 80, 80]
    np.testing.assert_array_equal(read.annToMask(found[1]).astype(bool), two_blobs())
    records = json.loads((tmp_path / "coco_predictions.json").read_text())
    assert records[0]["score"] == 0.93
    assert records[0]["area"] == shapes_of_many_kinds()[0].mask().sum()


def test_nothing_found_anywhere_is_still_a_json_list(tmp_path):
    write_coco(tmp_path, [], ["cat"])
    assert json.loads((tmp_path / "coco_predictions.json").read_text()) == []
    assert json.loads((tmp_path / "coco_images.json").read_text())["images"] == []


def test_results_come_back_from_json():
    result = image_result(Path("/somewhere/ä.png"), SIZE, shapes_of_many_kinds())
    assert ImageResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
