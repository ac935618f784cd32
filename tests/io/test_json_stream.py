import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam3.errors import DataError
from sam3.io import json_stream
from sam3.io.json_stream import iterate_list, iterate_object


@pytest.fixture(params=[1, 7, 1 << 20])
def window(request, monkeypatch):
    """Characters read at once: tokens are cut in every place, in some, or never."""
    monkeypatch.setattr(json_stream, "_CHUNK", request.param)


def write(folder, text):
    path = folder / "größe.json"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.usefixtures("window")
def test_named_lists_and_nothing_else(tmp_path):
    content = {"info": {"images": [0]}, "images": [{"id": 1, "é": 'a"}]'}, 2.5e3], "other": [1, 2], "annotations": []}
    path = write(tmp_path, json.dumps(content, indent=1, ensure_ascii=False))
    found = list(iterate_object(path, ("images", "annotations")))
    images = [("images", entry) for entry in content["images"]]
    assert found == [("info", content["info"]), *images, ("other", [1, 2]), ("annotations", [])]


@pytest.mark.usefixtures("window")
@pytest.mark.parametrize("text", ["[1, 23, 45.6]", "[1,23,45.6]\n", " [ 1 ,23, 4.56e1 ] "])
def test_a_list_of_numbers_that_the_window_may_cut(text, tmp_path):
    assert list(iterate_list(write(tmp_path, text))) == [1, 23, 45.6]


@pytest.mark.usefixtures("window")
def test_nothing(tmp_path):
    assert list(iterate_list(write(tmp_path, " [ ] "))) == []
    assert list(iterate_object(write(tmp_path, '{"images": [ ]}'), ("images",))) == [("images", [])]
    assert list(iterate_object(write(tmp_path, "{}"), ())) == []


BROKEN_LISTS = ["", " ", "7", "nul", "[1", "[1,", "[1, ]", "[1 2]", '["a', '[{"a": 1}', "[1] 2", "[1]]", "[tru]", "{}"]
BROKEN_OBJECTS = [
    "", "[]", '{"images" [1]}', '{"images": [1]', '{"images": [1], }', "{1: 2}",
    '{"images": [1]} x',
]  # fmt: skip


@pytest.mark.usefixtures("window")
def test_broken_files_are_named(tmp_path):
    for text in BROKEN_LISTS:
        with pytest.raises(DataError, match="größe.json"):
            list(iterate_list(write(tmp_path, text)))
    for text in BROKEN_OBJECTS:
        with pytest.raises(DataError, match="größe.json"):
            list(iterate_object(write(tmp_path, text), ("images",)))


def test_every_truncation_is_an_error(tmp_path):
    text = json.dumps({"images": [{"id": 1}, {"id": 22}], "annotations": [{"bbox": [1, 2.5]}]})
    for length in range(len(text)):
        with pytest.raises(DataError):
            list(iterate_object(write(tmp_path, text[:length]), ("images", "annotations")))


def test_bad_bytes_depth_and_absent_files_are_named(tmp_path):
    (tmp_path / "latin.json").write_bytes(b'["\xe9"]')
    with pytest.raises(DataError, match="latin.json"):
        list(iterate_list(tmp_path / "latin.json"))
    with pytest.raises(DataError, match="nested too deeply"):
        list(iterate_list(write(tmp_path, "[" * 100_000)))
    with pytest.raises(DataError, match="cannot read .*absent.json"):
        list(iterate_list(tmp_path / "absent.json"))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(entries=st.lists(values, max_size=5), size=st.integers(1, 12))
def test_the_same_as_json_loads(entries, size, tmp_path_factory):
    path = tmp_path_factory.mktemp("stream") / "a.json"
    path.write_text(json.dumps({"x": 1, "images": entries}), encoding="utf-8")
    whole, json_stream._CHUNK = json_stream._CHUNK, size
    try:
        assert list(iterate_object(path, ("images",)))[1:] == [("images", entry) for entry in entries or [[]]]
    finally:
        json_stream._CHUNK = whole
