import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam3.data.collate import collate
from sam3.data.saco_dataset import SacoImageDataset
from sam3.data.transforms.presets import square_eval
from sam3.errors import DataError

PAIRS = [(11, "a.png", "cat"), (12, "b.png", "cat"), (13, "a.png", "dog"), (14, "a.png", "red cat")]


def dataset(folder: Path, size: tuple[int, int] = (20, 30)) -> SacoImageDataset:
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((20, 30, 3), 128, np.uint8)).save(folder / name)
    images = [
        {"id": pair, "file_name": name, "text_input": phrase, "height": size[0], "width": size[1]}
        for pair, name, phrase in PAIRS
    ]
    (folder / "gt.json").write_text(json.dumps({"images": images}))
    return SacoImageDataset(folder, folder / "gt.json", square_eval(28))


def test_a_picture_is_loaded_once_with_all_its_phrases(tmp_path: Path):
    data = dataset(tmp_path)
    assert (len(data), data.num_queries) == (2, 4)
    batch = collate([data.sample(0), data.sample(1)])
    assert batch.images.shape == (2, 3, 28, 28)
    assert [batch.phrases[i] for i in batch.phrase_index] == ["cat", "dog", "red cat", "cat"]
    assert batch.image_index.tolist() == [0, 0, 0, 1]
    assert batch.origin.image_ids.tolist() == [11, 13, 14, 12]
    assert batch.origin.original_sizes.tolist() == [[20, 30]] * 4
    assert batch.targets.num_boxes.tolist() == [0, 0, 0, 0]


def test_a_benchmark_leaves_nothing_out(tmp_path: Path):
    data = dataset(tmp_path)
    (tmp_path / "b.png").unlink()
    with pytest.raises(DataError, match=r"b\.png' does not exist"):
        data.sample(1)
    with pytest.raises(DataError, match="20 x 30 pixels .* says 30 x 20"):
        dataset(tmp_path, size=(30, 20)).sample(0)


def test_a_wrong_folder_is_found_at_the_start(tmp_path: Path):
    dataset(tmp_path)
    with pytest.raises(DataError, match="none of the first 2 pictures"):
        SacoImageDataset(tmp_path / "elsewhere", tmp_path / "gt.json", square_eval(28))
