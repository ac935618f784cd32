"""Clicks on one image with a small random model; recorded results are compared by ``tests.parity.tracker``."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sam3.errors import CheckpointError, UserError
from sam3.io.checkpoint import save_weights
from sam3.model.detector.detector import Sam3Image
from sam3.model.sam3_image_processor import Sam3Processor
from sam3.model_builder import build_sam3_image_model

PICTURE = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
POINT = {"point_coords": [[20, 30]], "point_labels": [1]}


@pytest.fixture(scope="module")
def model() -> Sam3Image:
    torch.manual_seed(0)
    return build_sam3_image_model(config="tiny", load_from_HF=False, device="cpu", enable_inst_interactivity=True)


@pytest.fixture(scope="module")
def state(model: Sam3Image) -> dict:
    return Sam3Processor(model).set_image(PICTURE)


def test_shapes_types_and_number_of_candidates(model: Sam3Image, state: dict):
    masks, qualities, low = model.predict_inst(state, **POINT)
    assert (masks.shape, qualities.shape, low.shape) == ((3, 60, 80), (3,), (3, 32, 32))
    assert masks.dtype == qualities.dtype == low.dtype == np.float32
    assert set(np.unique(masks)) <= {0.0, 1.0}
    one = model.predict_inst(state, **POINT, multimask_output=False)
    assert one[0].shape == (1, 60, 80)
    many = model.predict_inst(state, box=[[0, 0, 10, 10], [5, 5, 70, 50]], multimask_output=False)
    assert many[0].shape == (2, 1, 60, 80)


def test_logits_and_masks_agree_and_results_can_be_given_back(model: Sam3Image, state: dict):
    masks, _, low = model.predict_inst(state, **POINT)
    logits, _, _ = model.predict_inst(state, **POINT, return_logits=True)
    assert np.array_equal(masks > 0, logits > 0)
    again, _, _ = model.predict_inst(state, **POINT, mask_input=low[:1], multimask_output=False)
    assert again.shape == (1, 60, 80)
    alone, _, _ = model.predict_inst(state, mask_input=low[:1], multimask_output=False)
    assert alone.shape == (1, 60, 80)


def test_coordinates_in_pixels_and_as_shares_are_the_same_place(model: Sam3Image, state: dict):
    pixels = model.predict_inst(state, **POINT, return_logits=True)[0]
    shares = model.predict_inst(state, [[20 / 80, 30 / 60]], [1], return_logits=True, normalize_coords=False)[0]
    assert np.allclose(pixels, shares, atol=1e-4)


def test_several_pictures_equal_one_after_the_other(model: Sam3Image, state: dict):
    other = PICTURE[:, ::-1].copy()
    batch = Sam3Processor(model).set_image_batch([PICTURE, other])
    masks, qualities, _ = model.predict_inst_batch(batch, [POINT["point_coords"]] * 2, [POINT["point_labels"]] * 2)
    assert np.allclose(qualities[0], model.predict_inst(state, **POINT)[1], atol=1e-5)
    assert masks[1].shape == (3, 60, 80)
    with pytest.raises(UserError, match="box_batch has 1 entries for 2 images"):
        model.predict_inst_batch(batch, box_batch=[[0, 0, 1, 1]])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "nothing says which object is meant"),
        ({"point_coords": [[1, 2]]}, "give both or neither"),
        ({"point_coords": [[1, 2], [3, 4]], "point_labels": [1]}, "2 points need as many labels, got 1"),
        ({"point_coords": [[1, float("nan")]], "point_labels": [1]}, "point_coords must be finite numbers"),
        ({"box": [1, 2, 3]}, r"box must be finite numbers of shape \(..., 4\)"),
        ({"mask_input": np.zeros((1, 5, 5))}, r"mask_input has the shape \(1, 5, 5\); expected \(1, 32, 32\)"),
    ],
)
def test_wrong_prompts_are_named(model: Sam3Image, state: dict, given: dict, message: str):
    with pytest.raises(UserError, match=message):
        model.predict_inst(state, **given)
    with pytest.raises(UserError, match="set_image first"):
        model.predict_inst({}, **POINT)


def test_weights_come_back_and_a_file_without_them_is_named(model: Sam3Image, state: dict, tmp_path: Path):
    save_weights(tmp_path / "clicks.pt", model.state_dict(), None)
    options = {"config": "tiny", "device": "cpu", "enable_inst_interactivity": True}
    again = build_sam3_image_model(tmp_path / "clicks.pt", **options)
    assert np.array_equal(again.predict_inst(state, **POINT)[0], model.predict_inst(state, **POINT)[0])
    released = {
        name.replace("inst_interactive_predictor.model.", "tracker.")
        if name.startswith("inst_interactive")
        else f"detector.{name}": tensor
        for name, tensor in model.state_dict().items()
    }
    torch.save({"model": released}, tmp_path / "released.pt")
    from_released = build_sam3_image_model(tmp_path / "released.pt", **options)
    assert np.array_equal(from_released.predict_inst(state, **POINT)[0], model.predict_inst(state, **POINT)[0])
    plain = build_sam3_image_model(config="tiny", load_from_HF=False, device="cpu")
    save_weights(tmp_path / "plain.pt", plain.state_dict(), None)
    with pytest.raises(CheckpointError, match="no weights for clicks and tracking: build with enable_inst"):
        build_sam3_image_model(tmp_path / "plain.pt", **options)
    without = build_sam3_image_model(tmp_path / "clicks.pt", config="tiny", device="cpu")
    assert without.inst_interactive_predictor is None


def test_the_full_size_model_has_the_released_number_of_tensors():
    with torch.device("meta"):
        from sam3.config import sam3
        from sam3.model.interactive_predictor import InteractivePredictor

        clicks = InteractivePredictor(sam3().tracker_config())
    assert len(clicks.state_dict()) == 309
