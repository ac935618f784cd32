"""Dataclasses that cross package borders: checks at the border, device moves, names of the spec."""

import pytest
import torch

from sam3.structures import Detections, DetectorOutput, GeometricPrompt, QueryPredictions, to_device


def predictions(prompts: int = 2, queries: int = 3, **extra) -> QueryPredictions:
    boxes = torch.rand(prompts, queries, 4)
    return QueryPredictions(logits=torch.zeros(prompts, queries, 1), boxes=boxes, boxes_xyxy=boxes, **extra)


def test_append_box_adds_one_item_to_every_row():
    empty = GeometricPrompt.empty(2)
    prompt = empty.append_box(torch.tensor([0.1, 0.2, 0.3, 0.4]), True).append_box(torch.zeros(4), False)
    assert prompt.boxes.shape == (2, 2, 4)
    assert prompt.box_labels.tolist() == [[1, 0], [1, 0]]
    assert not prompt.box_mask.any()
    assert empty.boxes.shape == (2, 0, 4)


def test_prompt_refuses_shapes_that_do_not_fit():
    empty = GeometricPrompt.empty(2)
    with pytest.raises(ValueError, match=r"boxes must have shape \(P, N, 4\), got \(2, 4\)"):
        GeometricPrompt(torch.zeros(2, 4), *list(vars(empty).values())[1:])
    with pytest.raises(ValueError, match="boxes are for 3 prompts, points for 2"):
        GeometricPrompt(
            torch.zeros(3, 0, 4),
            torch.zeros(3, 0).long(),
            torch.zeros(3, 0).bool(),
            empty.points,
            empty.point_labels,
            empty.point_mask,
        )


def test_append_box_refuses_padded_rows():
    prompt = GeometricPrompt.empty(1).append_box(torch.zeros(4), 1)
    prompt.box_mask[0, 0] = True
    with pytest.raises(ValueError, match="unpadded"):
        prompt.append_box(torch.zeros(4), 1)


def test_to_device_moves_nested_tensors_and_keeps_the_rest():
    output = DetectorOutput(one_to_one=predictions(), semantic_logits=torch.zeros(2, 1, 4, 4))
    moved = to_device(output, "meta")
    assert moved.one_to_one.logits.device.type == moved.semantic_logits.device.type == "meta"
    assert moved.one_to_many is None
    assert output.one_to_one.logits.device.type == "cpu"


def test_tensors_inside_lists_are_moved_too():
    output = DetectorOutput(one_to_one=predictions(), aux_one_to_one=[predictions()])
    assert to_device(output, "meta").aux_one_to_one[0].boxes.device.type == "meta"


def test_select_views_some_queries_of_some_prompts():
    masks, presence = torch.rand(2, 3, 4, 4), torch.rand(2, 1)
    every = predictions(masks=masks, presence_logits=presence)
    some = every.select(slice(1, 2), slice(0, 2))
    assert torch.equal(some.boxes, every.boxes[1:, :2])
    assert torch.equal(some.masks, masks[1:, :2])
    assert torch.equal(some.presence_logits, presence[1:])
    assert predictions().select(slice(0, 1)).masks is None


def test_scores_multiply_class_and_presence_probability():
    one = predictions(prompts=1, presence_logits=torch.tensor([[0.0]]))
    assert DetectorOutput(one_to_one=one).scores.tolist() == [[0.25] * 3]
    assert one.scores(use_presence=False).tolist() == [[0.5] * 3]
    assert DetectorOutput(one_to_one=predictions(prompts=1)).scores.tolist() == [[0.5] * 3]


def test_output_dict_has_the_names_of_the_specification():
    presence = torch.zeros(2, 1)
    output = DetectorOutput(
        one_to_one=predictions(presence_logits=presence, masks=torch.zeros(2, 3, 4, 4)),
        one_to_many=predictions(masks=torch.zeros(2, 3, 4, 4)),
        aux_one_to_one=[predictions(presence_logits=presence)],
        aux_one_to_many=[predictions()],
    )
    names = output.to_dict()
    assert {"pred_logits", "pred_boxes", "pred_boxes_xyxy", "pred_masks", "presence_logit_dec"} <= set(names)
    assert {"pred_logits_o2m", "pred_masks_o2m", "aux_outputs", "semantic_seg"} <= set(names)
    assert set(names["aux_outputs"][0]) == {
        "presence_logit_dec",
        *(f"{key}{suffix}" for key in ("pred_logits", "pred_boxes", "pred_boxes_xyxy") for suffix in ("", "_o2m")),
    }


def test_detections_refuse_unequal_lengths():
    with pytest.raises(ValueError, match="'boxes': 2, 'scores': 1"):
        Detections(boxes=torch.zeros(2, 4), scores=torch.zeros(1))
    assert len(Detections(boxes=torch.zeros(0, 4), scores=torch.zeros(0))) == 0
