import json
from pathlib import Path

import pytest

from sam3.data.saco import SacoPair, read_pairs
from sam3.errors import DataError

ENTRY = {"id": 7, "file_name": "a/b.jpg", "text_input": "rote Äpfel", "height": 3, "width": 4, "queried_category": "12"}


def write(folder: Path, *images: object) -> Path:
    path = folder / "gt ü.json"
    path.write_text(json.dumps({"images": list(images)}))
    return path


def test_pairs_keep_the_order_of_the_file(tmp_path: Path):
    without_category = {key: value for key, value in ENTRY.items() if key != "queried_category"} | {"id": 3}
    assert read_pairs(write(tmp_path, ENTRY, without_category)) == [
        SacoPair(7, "a/b.jpg", "rote Äpfel", 3, 4, 12),
        SacoPair(3, "a/b.jpg", "rote Äpfel", 3, 4, 1),
    ]
    assert read_pairs(write(tmp_path)) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text_input": None, "id": None}, r"images\[1\] lacks id, text_input"),
        ({"text_input": " "}, r"images\[1\]: text_input is empty"),
        ({"height": 0}, r"images\[1\]: height and width must be positive, got 0 and 4"),
        ({"queried_category": "x"}, r"images\[1\]: id, height, width and queried_category must be whole numbers"),
        ({"id": 7}, "the id 7 appears more than once"),
    ],
)
def test_wrong_entries_are_named(tmp_path: Path, change: dict, message: str):
    with pytest.raises(DataError, match=message):
        read_pairs(write(tmp_path, ENTRY, ENTRY | {"id": 8} | change))


def test_other_files_are_refused(tmp_path: Path):
    path = tmp_path / "x.json"
    path.write_text("[]")
    with pytest.raises(DataError, match="is not an SA-Co file"):
        read_pairs(path)
