"""Ground truth of VEval: what is read, and how faults are named."""

import json

import pytest

from sam3.data.saco_video import PairId, ground_truth_of, read_ground_truth
from sam3.errors import DataError
from tests.eval.masklets import HEIGHT, WIDTH, document, mask, track

BOX = (2, 2, 8, 8)


def test_a_file_is_read(tmp_path):
    content = document([track([BOX, None, BOX], tags=["a"]), track([BOX] * 3, category_id=2, iscrowd=1)])
    path = tmp_path / "größe.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    truth = read_ground_truth(path)
    assert (truth.videos[0].height, truth.videos[0].width, len(truth.videos[0])) == (HEIGHT, WIDTH, 3)
    assert truth.categories == {1: "phrase 1", 2: "phrase 2"}
    assert list(truth.pairs) == [PairId(0, 1), PairId(0, 2)]
    first, second = truth.of_video(0)
    assert (first.id, first.is_crowd, first.tags, second.is_crowd, second.tags) == (1, False, ("a",), True, None)
    assert first.boxes.tolist() == [[2, 2, 8, 8], [0, 0, 0, 0], [2, 2, 8, 8]]
    assert first.box_given.tolist() == first.masks.given().tolist() == [True, False, True]
    assert first.masks.areas.tolist() == [64, 0, 64]
    assert first.masks.counts()[0].decode() == mask(BOX)["counts"]
    assert truth.phrase(PairId(0, 1)) == "phrase 1"
    assert truth.phrase(PairId(5, 9)) == "category 9"


def test_what_is_in_memory_reads_the_same_and_is_left_alone():
    content = document([track([BOX] * 3)])
    before = json.dumps(content)
    assert len(ground_truth_of(content).masklets) == 1
    assert json.dumps(content) == before


def test_ids_may_be_text_and_sizes_absent():
    content = document([track([BOX] * 3)])
    content["videos"][0]["id"] = "0"
    content["annotations"][0] |= {"video_id": "0", "category_id": "1"}
    content["categories"][0]["id"] = "1"
    truth = ground_truth_of(content)
    assert (truth.masklets[0].video_id, list(truth.categories)) == (0, [1, 2])


def test_the_list_of_pairs_may_be_empty_or_absent(tmp_path):
    content = document([], pairs=[])
    for write in (lambda: ground_truth_of(content), lambda: _through_file(tmp_path, content)):
        content["video_np_pairs"] = []
        assert write().pairs == {}
        del content["video_np_pairs"]
        assert write().pairs is None


def _through_file(folder, content):
    (folder / "gt.json").write_text(json.dumps(content))
    return read_ground_truth(folder / "gt.json")


def test_uncompressed_masks_and_polygons_are_taken():
    content = document([track([BOX] * 3), track([BOX] * 3)])
    runs = {"size": [HEIGHT, WIDTH], "counts": [0, 5, HEIGHT * WIDTH - 5]}
    content["annotations"][0]["segmentations"][1] = runs
    content["annotations"][1] |= {"height": HEIGHT, "width": WIDTH}
    content["annotations"][1]["segmentations"] = [[[2, 2, 10, 2, 10, 10, 2, 10]]] * 3
    first, second = ground_truth_of(content).masklets
    assert first.masks.areas.tolist() == [64, 5, 64]
    assert second.masks.areas.tolist() == [64] * 3


def damaged(change):
    content = document([track([BOX] * 3), track([BOX] * 3, category_id=2)])
    change(content)
    return content


def annotation(**values):
    return lambda content: content["annotations"][1].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("videos"), r"no videos; expected a list 'videos'"),
        (lambda c: c["videos"].append(c["videos"][0]), r"videos lists an id more than once: 0"),
        (lambda c: c["categories"].append(c["categories"][1]), r"categories lists an id more than once: 2"),
        (lambda c: c["videos"][0].pop("height"), r"videos\[0\]: height is missing, expected a whole number"),
        (lambda c: c["videos"][0].update(length=4), r"videos\[0\]: length is 4, but file_names has 3 entries"),
        (lambda c: c["videos"][0].update(file_names="a"), r"videos\[0\]: file_names must be a list of texts"),
        (lambda c: c["annotations"].append(3), r"annotations\[2\] is int, expected an object"),
        (annotation(id=1), r"annotations\[1\] \(id 1\): another annotation has the same id"),
        (annotation(video_id=7), r"annotations\[1\] .*video_id 7 is not among the videos"),
        (annotation(video_id="x"), r"annotations\[1\]: video_id is 'x', expected a whole number"),
        (annotation(category_id=1.5), r"annotations\[1\]: category_id is 1.5, expected a whole number"),
        (annotation(bboxes=[None] * 2), r"bboxes has 2 entries, but video 0 has 3 frames"),
        (annotation(bboxes=None), r"annotations\[1\]: bboxes is NoneType, expected a list"),
        (annotation(bboxes=[[1, 2, 3], None, None]), r"annotations\[1\], bboxes: frame 0 has \[1, 2, 3\], expected"),
        (
            annotation(bboxes=[None, [1, 2, -3, 4], None]),
            r"bboxes: frame 1 has \[1, 2, -3, 4\], expected .*not negative",
        ),
        (annotation(bboxes=[None, None, [1, 2, float("nan"), 4]]), r"bboxes: frame 2 has .*nan"),
        (annotation(bboxes=["a", None, None]), r"bboxes: frame 0 has 'a'"),
        (annotation(segmentations=[None] * 4), r"segmentations has 4 entries, but video 0 has 3 frames"),
        (annotation(segmentations=[None, mask(BOX), {"size": [9, 9], "counts": "Q"}]), "masks of different sizes"),
        (annotation(segmentations=[mask((0, 0, 1, 1), 9, 9)] * 3), r"size \[9, 9\], but video 0 is \[20, 30\]"),
        (annotation(segmentations=[mask(BOX) | {"counts": "04"}] * 3), r"segmentations .*mask 0: the runs of an RLE"),
        (annotation(segmentations=[mask(BOX) | {"counts": ""}] * 3), r"segmentations .*mask 0: the runs"),
        (annotation(segmentations=[mask(BOX) | {"counts": "ü"}] * 3), r"segmentations\[0\]: "),
        (annotation(segmentations=[mask(BOX) | {"size": [20.5, 30]}] * 3), r"size is \[20.5, 30\]"),
        (annotation(segmentations=[{"counts": "0"}] * 3), r"segmentations\[0\]: an RLE needs 'size'"),
        (annotation(segmentations=[7] * 3), r"segmentations\[0\]: expected an RLE with size and counts, got int"),
        (annotation(tags="hard"), r"annotations\[1\]: tags is 'hard', expected a list of texts"),
        (
            lambda c: c["video_np_pairs"].append({"video_id": 3, "category_id": 1}),
            r"video_np_pairs\[2\]: video_id 3 is not among the videos",
        ),
    ],
)
def test_faults_are_named_by_file_entry_and_field(change, message, tmp_path):
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(damaged(change)))
    with pytest.raises(DataError, match=message) as stopped:
        read_ground_truth(path)
    assert str(stopped.value).startswith(str(path))


@pytest.mark.parametrize("text", ["", "[1, 2]", "null", "{", '{"videos": [', '{"videos": [{"id": 0}', "\xff"])
def test_a_file_that_is_no_ground_truth_is_named(text, tmp_path):
    path = tmp_path / "gt.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match="gt.json"):
        read_ground_truth(path)
    with pytest.raises(DataError, match="cannot read .*absent.json"):
        read_ground_truth(tmp_path / "absent.json")
