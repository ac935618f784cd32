"""The program on folders of other sizes: nothing about the recorded model may be written into it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sam3.model.detector.detector import Sam3Image
from sam3.model.initialization import initialize_weights
from tests.parity import detector, detector_training
from tests.parity.detector_trace import trace
from tests.parity.report import Row

pytestmark = pytest.mark.parity

SHAPES = {
    # windows with padding, several layers of everything, fewer queries than objects
    "small": {
        "image_size": 98,
        "pretrain_img_size": 28,
        "vit_embed_dim": 48,
        "vit_num_heads": 6,
        "vit_depth": 3,
        "vit_window_size": 2,
        "vit_global_att_blocks": [0, 2],
        "d_model": 48,
        "num_heads": 6,
        "num_queries": 2,
        "geo_num_layers": 1,
        "enc_num_layers": 3,
        "dec_num_layers": 2,
        "prompt_mlp_hidden": 96,
        "text_width": 48,
        "text_heads": 3,
        "text_layers": 3,
        "text_vocab_size": 600,
        "add_sam2_neck": False,
    },
    # window larger than the grid, a block behind the last global one, one decoder layer, another context
    "smaller": {
        "image_size": 32,
        "patch_size": 8,
        "pretrain_img_size": 32,
        "vit_embed_dim": 24,
        "vit_num_heads": 3,
        "vit_depth": 3,
        "vit_window_size": 5,
        "vit_global_att_blocks": [1],
        "d_model": 16,
        "num_heads": 2,
        "num_queries": 7,
        "geo_roi_size": 5,
        "enc_num_layers": 1,
        "dec_num_layers": 1,
        "text_context_length": 20,
        "groupnorm_groups": 4,
        "seg_upsampling_stages": 2,
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_any_shape(shape: str, repository: Path, tmp_path: Path) -> None:
    model = write_folder(repository, tmp_path, SHAPES[shape])
    rows = detector.check(tmp_path)
    assert [row for row in rows if not row.ok] == []
    cases = ("rotary", "case3_batch: ", "case4_points_boxes: ", "case8_train: ", "gradient")
    assert all(any(row.quantity.startswith(case) for row in rows) for case in cases)
    blocks = {row.quantity for row in rows if row.quantity.startswith("case3_batch: vit.block_")}
    assert len(blocks) == model.config.vision.depth


def test_a_block_behind_the_last_global_one_changes_nothing(repository: Path, tmp_path: Path) -> None:
    model = write_folder(repository, tmp_path, SHAPES["smaller"])
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        before = model.encode_image(images).pyramid[-1]
        model.backbone.vision_backbone.trunk.blocks[2].mlp.fc2.weight.zero_()
        assert torch.equal(model.encode_image(images).pyramid[-1], before)
        model.backbone.vision_backbone.trunk.blocks[1].mlp.fc2.weight.zero_()
        assert not torch.allclose(model.encode_image(images).pyramid[-1], before)


def test_pixels_that_rounding_decides_are_no_miss() -> None:
    wanted, ours = torch.tensor([True, False, True]), torch.tensor([False, True, False])
    probabilities = torch.tensor([0.5 + 1e-5, 0.5 - 1e-5, 0.6])
    assert detector._settle_borders(ours, wanted, probabilities, 3e-4).tolist() == [True, False, False]
    assert detector._settle_borders(ours, wanted, None, 3e-4) is ours
    assert detector._settle_borders(None, wanted, probabilities, 3e-4) is None


def test_an_unknown_step_of_the_processor_is_a_miss(repository: Path) -> None:
    folder = repository / "tests" / "golden" / "detector"
    model = detector.build(folder, detector.read_config(folder))
    rows = detector._check_processor(folder, model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detector, "_processor_steps", lambda processor: {})
        missed = [row for row in detector._check_processor(folder, model) if not row.ok]
    assert len(missed) == len(rows) - 1
    assert isinstance(missed[0], Row)


def write_folder(repository: Path, folder: Path, changes: dict) -> Sam3Image:
    """A golden folder of our own making: what the network says now is what it must say."""
    config = json.loads((repository / "tests" / "golden" / "detector" / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    torch.manual_seed(0)
    model = Sam3Image(detector.read_config(folder)).eval()
    initialize_weights(model)
    save_file(model.state_dict(), folder / "weights.safetensors")
    tables = _contiguous({name: torch.view_as_real(table) for name, table in model.rotary_tables().items()})
    save_file(tables, folder / "freqs_cis_as_real.safetensors")
    for case in ("case3_batch", "case4_points_boxes"):
        inputs = _inputs(model, with_points=case.startswith("case4"))
        save_file(inputs, folder / f"{case}_inputs.safetensors")
        save_file(_contiguous(trace(model, inputs)), folder / f"{case}_expected.safetensors")
    _write_training_case(folder)
    return model


def _inputs(model: Sam3Image, *, with_points: bool) -> dict[str, Tensor]:
    """Three images, five prompts with up to two boxes (and three points); an id 0 in the middle of a phrase."""
    side, text = model.config.vision.image_size, model.config.text
    token_ids = torch.randint(1, text.vocab_size, (2, text.context_length))
    token_ids[0, 5:], token_ids[1, 3] = 0, 0
    inputs = {
        "images": torch.rand(3, 3, side, side) * 2 - 1,
        "token_ids": token_ids,
        "img_ids": torch.tensor([2, 0, 1, 1, 0]),
        "text_ids": torch.tensor([1, 0, 0, 1, 1]),
        "box_embeddings": torch.rand(2, 5, 4),
        "box_labels": torch.randint(0, 2, (2, 5)),
        "box_mask": torch.tensor([[False, True], [True, True], [False, False], [False, True], [True, True]]),
    }
    if with_points:
        inputs["point_embeddings"] = torch.rand(3, 5, 2)
        inputs["point_labels"] = torch.randint(0, 2, (3, 5))
        inputs["point_mask"] = torch.arange(3) >= torch.tensor([3, 0, 1, 2, 0])[:, None]
    return inputs


def _write_training_case(folder: Path) -> None:
    model = detector.build(folder, detector_training.without_dropout(detector.read_config(folder))).train()
    given = _inputs(model, with_points=False)
    counts = torch.tensor([1, 4, 0, 2, 3])
    padded = torch.rand(5, 4, 4) * 0.4 + 0.1
    inputs = {
        "img_batch": given["images"],
        "input_boxes": given["box_embeddings"],
        "input_boxes_label": given["box_labels"],
        "input_boxes_mask": given["box_mask"],
        "target_num_boxes": counts,
        "target_boxes_padded": padded,
        "target_boxes": padded[torch.arange(4) < counts[:, None]],
    } | {name: given[name] for name in ("token_ids", "img_ids", "text_ids")}
    output = detector_training._run(model, inputs)
    found = detector_training._flatten(output)
    terms = {name: 0.0 for name, value in found.items() if value.requires_grad}
    detector_training._objective(found, terms).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    summaries = {
        name: None if grad is None else {"l2": grad.double().norm().item(), "sum": grad.double().sum().item()}
        for name, grad in gradients.items()
    }
    (folder / "case8_train_grads.json").write_text(json.dumps({"terms": terms, "grads": summaries}))
    found |= detector_training._matches(folder, output, inputs)
    found["grad.transformer.decoder.query_embed.weight"] = gradients["transformer.decoder.query_embed.weight"]
    save_file(inputs, folder / "case8_train_inputs.safetensors")
    save_file(_contiguous(found), folder / "case8_train_expected.safetensors")


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
