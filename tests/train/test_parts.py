"""Nodes with a ``_target_``."""

import pytest

from sam3.errors import ConfigError, DataError
from sam3.train.matcher import OneToManyMatcher
from sam3.train.parts import build_part, check_targets

MATCHER = "sam3.train.matcher.OneToManyMatcher"
DATASET = "sam3.data.image_dataset.ImageDataset"


def test_a_part_is_built_with_its_arguments():
    assert build_part({"_target_": MATCHER, "topk": 2}) == OneToManyMatcher(topk=2)
    assert build_part(None) is None


def test_what_a_part_finds_wrong_arrives_unchanged(tmp_path):
    path = tmp_path / "annotations.json"
    node = {"_target_": DATASET, "img_folder": str(tmp_path), "ann_file": str(path), "transforms": None}
    with pytest.raises(FileNotFoundError, match="annotations.json does not exist"):
        build_part(node)
    path.write_text("{}")
    with pytest.raises(DataError, match="is not a COCO annotation file"):
        build_part(node)


def test_arguments_that_a_part_refuses_name_the_part():
    with pytest.raises(ConfigError, match="torch.nn.Linear cannot be built: .*unexpected keyword argument 'width'"):
        build_part({"_target_": "torch.nn.Linear", "width": 1})


def test_targets_are_found_in_lists_and_bound_to_their_signatures():
    check_targets({"a": [{"_target_": MATCHER}], "b": {"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 1}})
    with pytest.raises(ConfigError, match=r"callbacks\[0\].x: .*OneToManyMatcher has no such argument"):
        check_targets({"callbacks": [{"_target_": MATCHER, "x": 1}]})
    with pytest.raises(ConfigError, match="a.b: .*ConstantSchedule needs value"):
        check_targets({"a": {"b": {"_target_": "sam3.train.optim.schedules.ConstantSchedule"}}})
    with pytest.raises(ConfigError, match="a._target_: 'sam3.nowhere.Thing' cannot be imported"):
        check_targets({"a": {"_target_": "sam3.nowhere.Thing"}})
