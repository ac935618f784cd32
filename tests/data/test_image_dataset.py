"""From a folder to samples; bad images; the same sample whenever it is asked for."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from sam3.data.image_dataset import ImageDataset, limited_indices
from sam3.data.negatives import HeldOutPhrases, Negatives
from sam3.data.transforms.compose import Compose
from sam3.data.transforms.filters import RemoveCrowdedQueries
from sam3.data.transforms.presets import finetune, square_eval
from sam3.errors import DataError
from tests.data.coco_folder import CLASSES, write_coco_folder


@pytest.fixture
def folder(tmp_path):
    return write_coco_folder(tmp_path / "dätä", 6, size=(48, 64))


def _dataset(folder, transforms=None, split="train", **options):
    transforms = transforms or square_eval(56)
    return ImageDataset(folder / split / "images", folder / split / "annotations.json", transforms, **options)


def _edit(folder, change):
    path = folder / "train" / "annotations.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    return content


def _damage(folder, *names):
    for name in names:
        (folder / "train" / "images" / name).write_bytes(b"no picture")


def test_counts_and_categories(folder):
    dataset = _dataset(folder)
    assert (len(dataset), dataset.num_images, dataset.num_queries) == (6, 6, 18)
    assert dataset.categories == dict(enumerate(CLASSES[:3], 1))
    chunks = _dataset(folder, category_chunk_size=2)
    assert (len(chunks), chunks.num_images, chunks.num_queries) == (12, 6, 18)
    assert len(_dataset(folder, split="val")) == 3


def test_a_raw_sample_is_what_the_files_say(folder):
    dataset = _dataset(folder)
    content = json.loads(dataset.ann_file.read_text(encoding="utf-8"))
    sample = dataset.raw_sample(2)
    notes = [note for note in content["annotations"] if note["image_id"] == 3]
    notes.sort(key=lambda note: note["category_id"])
    expected = [[x, y, x + w, y + h] for x, y, w, h in (note["bbox"] for note in notes)]
    assert sample.file_name == "0002.png"
    assert sample.image_id == 3
    assert sample.original_size == sample.size == (48, 64)
    assert (np.array(sample.image) == np.array(Image.open(dataset.img_folder / "0002.png"))).all()
    assert torch.allclose(sample.objects.boxes, torch.tensor(expected), atol=1e-4)
    assert [query.phrase for query in sample.queries] == list(CLASSES[:3])


def test_a_sample_depends_on_seed_epoch_and_index_only(folder):
    dataset = _dataset(folder, finetune(56), training=True)
    first = dataset[1].image
    dataset.set_epoch(1)
    second = dataset[1].image
    assert not torch.equal(first, second)
    assert torch.equal(second, dataset.sample(1, epoch=1).image)
    assert torch.equal(first, _dataset(folder, finetune(56), training=True).sample(1, epoch=0).image)
    assert not torch.equal(first, _dataset(folder, finetune(56), seed=1)[1].image)
    assert torch.equal(dataset[-1].image, dataset[5].image)
    with pytest.raises(IndexError, match="sample 6 of a dataset of 6"):
        dataset[6]


def test_training_replaces_a_damaged_image_by_the_next_good_one(folder):
    _damage(folder, "0001.png", "0002.png", "0005.png")
    dataset = _dataset(folder, training=True)
    assert dataset[0].skipped == ()
    replaced = dataset[1]
    assert replaced.file_name == "0003.png"
    assert len(replaced.skipped) == 2
    assert "0001.png' cannot be read" in replaced.skipped[0]
    assert dataset[5].file_name == "0000.png"


def test_validation_names_the_damaged_image(folder):
    _damage(folder, "0001.png")
    with pytest.raises(DataError, match=r"0001\.png' cannot be read"):
        _dataset(folder)[1]


def test_nothing_but_damaged_images_is_an_error(folder):
    _damage(folder, *(f"{index:04d}.png" for index in range(6)))
    with pytest.raises(DataError, match="6 samples in a row cannot be used"):
        _dataset(folder, training=True)[2]


def test_a_sample_without_queries_is_replaced_too(folder):
    _edit(folder, lambda content: content["categories"].__delitem__(slice(1, None)) or _only_first(content))
    dataset = _dataset(folder, Compose([RemoveCrowdedQueries(0), square_eval(56)]), training=True)
    sample = dataset[0]  # only the negative image keeps its query
    assert sample.file_name == "0005.png"
    assert "no query is left" in sample.skipped[0]


def _only_first(content):
    for note in content["annotations"]:
        note["category_id"] = 1


def test_a_size_that_disagrees_is_an_error_even_in_training(folder):
    _edit(folder, lambda content: content["images"][0].update(width=50))
    dataset = _dataset(folder, training=True, load_segmentation=False)
    with pytest.raises(DataError, match=r"0000.png' has 48 x 64 pixels .* says 48 x 50"):
        dataset[0]


def test_exif_orientation_is_applied_before_sizes_are_compared(folder):
    path = folder / "train" / "images" / "0000.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter
    Image.new("RGB", (48, 64)).save(path, exif=exif)
    _edit(folder, lambda content: content["images"][0].update(file_name="0000.jpg"))
    assert _dataset(folder)[0].original_size == (48, 64)
    _edit(folder, lambda content: content["images"][0].update(width=48, height=64))
    with pytest.raises(DataError, match="ignore the EXIF orientation"):
        _dataset(folder, load_segmentation=False)[0]


def test_a_wrong_image_folder_is_found_at_the_start(folder):
    with pytest.raises(DataError, match="none of the first 6 images .* lies in the image folder"):
        ImageDataset(folder / "val", folder / "train" / "annotations.json", square_eval(56))
    with pytest.raises(DataError, match="which does not exist"):
        ImageDataset(folder / "nowhere", folder / "train" / "annotations.json", square_eval(56))


def test_class_name_and_prompts(folder):
    with pytest.raises(DataError, match="3 categories"):
        _dataset(folder, class_name="bolt")
    _edit(folder, lambda content: content["categories"].__delitem__(slice(1, None)) or _only_first(content))
    with pytest.raises(DataError, match="only category of the annotations is 'red circle'"):
        _dataset(folder, class_name="bolt")
    dataset = _dataset(folder, class_name="bolt", allow_name_mismatch=True, prompts={"*": "bolt"})
    assert [query.phrase for query in dataset[0].queries] == ["bolt"]


def test_records_that_ask_for_nothing_are_left_out(folder):
    dataset = _dataset(folder, include_negatives=False)
    assert len(dataset) == 5
    assert all(query.object_indices for index in range(5) for query in dataset[index].queries)


def test_without_segmentation_there_are_no_masks(folder):
    assert _dataset(folder, load_segmentation=False)[0].objects.masks is None


def test_limit_is_a_fixed_choice(folder):
    assert list(limited_indices(4, 2)) == [2, 0]
    assert list(limited_indices(4, None)) == [0, 1, 2, 3]
    assert sorted(limited_indices(4, 9)) == [0, 1, 2, 3]
    assert len(_dataset(folder, limit_ids=2)) == 2
    with pytest.raises(DataError, match="limit_ids must be at least 1"):
        limited_indices(4, 0)


def test_boxes_leaving_the_image_are_cut(folder):
    _edit(folder, lambda content: content["annotations"][0].update(bbox=[-10, 40, 30, 30]))
    sample = _dataset(folder).raw_sample(0)
    index = sample.queries[0].object_indices[0]
    assert sample.objects.boxes[index].tolist() == [0, 40, 20, 48]
    assert sample.objects.areas[index] == pytest.approx(160 / (48 * 64))


def _extra(sample):
    """Of one sample: the phrases from outside the data set."""
    return [query for query in sample.queries if query.category_id < 0]


def _phrases(queries):
    return [query.phrase for query in queries]


def test_phrases_from_outside_are_asked_as_absent_and_change_nothing_else(folder):
    plain = _dataset(folder, finetune(56, min_size=32), training=True)
    with_extra = _dataset(folder, finetune(56, min_size=32), training=True, negatives=Negatives(per_image=2))
    for index in range(len(plain)):
        one, other = plain.sample(index, 3), with_extra.sample(index, 3)
        assert torch.equal(one.image, other.image)
        assert _phrases(other.queries[:-2]) == _phrases(one.queries)
        assert len(_extra(other)) == 2
        assert all(query.object_indices == () and query.is_exhaustive for query in _extra(other))
    phrases = [_phrases(_extra(with_extra.sample(0, epoch))) for epoch in (0, 0, 1)]
    assert phrases[0] == phrases[1] != phrases[2]


def test_validation_asks_the_same_held_out_phrases_once_an_image(folder):
    options = {"split": "val", "category_chunk_size": 2, "negatives": HeldOutPhrases(per_image=2)}
    dataset = _dataset(folder, **options)
    extra = [_extra(dataset.sample(index, epoch)) for epoch in (0, 1) for index in range(len(dataset))]
    assert [len(queries) for queries in extra] == [2, 0, 2, 0, 2, 0] * 2
    assert [_phrases(queries) for queries in extra[:6]] == [_phrases(queries) for queries in extra[6:]]
    asked = [(s.image_id, q.category_id) for s in map(dataset.__getitem__, range(len(dataset))) for q in s.queries]
    assert dataset.asked_pairs() == asked
    assert all(dataset.extra.phrase_of(query.category_id) == query.phrase for query in extra[0])


def test_names_and_prompts_of_a_class_are_both_kept_from_the_negatives(folder):
    prompts = {"red circle": "bike", "*": "hammer"}
    dataset = _dataset(folder, prompts=prompts, negatives=Negatives())
    assert not {"bicycle", "hammer", "circle"} & set(dataset.extra.phrases)
