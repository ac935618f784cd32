import copy
import json
import shutil

import pytest

from sam3.errors import DataError
from sam3.eval.coco_ap import coco_ap
from sam3.eval.coco_reindex import reindex_coco_to_temp, reindexed


@pytest.fixture
def written():
    """Call it with a file; the temporary folder of the result goes away."""
    folders = []

    def run(path):
        target = reindex_coco_to_temp(path)
        folders.append(target.parent)
        return target

    yield run
    for folder in folders:
        shutil.rmtree(folder)


def document(image=1, category=1, annotation=1):
    return {
        "info": {"name": "größe", "id": 0},
        "images": [{"id": image, "width": 9, "height": 9}, {"id": image + 1}],
        "annotations": [{"id": annotation, "image_id": image, "category_id": category, "bbox": [0, 0, 1, 1]}],
        "categories": [{"id": category, "supercategory_id": 0}],
    }


@pytest.mark.parametrize("kind", ["image", "category", "annotation"])
def test_each_kind_is_shifted_by_itself(kind):
    before = document(**{kind: 0})
    kept = copy.deepcopy(before)
    assert reindexed(before) == document(**{kind: 1})
    assert before == kept


def test_the_file_is_written_even_when_nothing_changes(tmp_path, written):
    path = tmp_path / "ü.json"
    path.write_text(json.dumps(document()), encoding="utf-8")
    target = written(path)
    assert target.name == "ü_1_indexed.json"
    text = target.read_text(encoding="utf-8")
    assert json.loads(text) == document()
    assert '\n  "info": {\n    "name": "größe"' in text


def test_what_is_no_coco_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.json"):
        reindex_coco_to_temp(tmp_path / "absent.json")
    for text, message in (('{"info": 1}', "expected a COCO object"), ('{"images": [1]}', "images must be a list")):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(DataError, match=f"a.json: {message}"):
            reindex_coco_to_temp(tmp_path / "a.json")


@pytest.mark.parity
def test_the_reference_case(shared, tmp_path, written):
    case = json.loads((shared / "golden/eval/coco/reindex.json").read_text())
    path = tmp_path / "z.json"
    path.write_text(json.dumps(case["input"]))
    target = written(path)
    assert target.name == case["output_name_for_input_z.json"]
    assert json.loads(target.read_text()) == case["output"]
    for iou_type, expected in case["expected_ap_output"].items():
        assert coco_ap(target, case["preds_for_output"], iou_type).to_dict() == pytest.approx(expected, abs=1e-9)
