"""Compares the detector with recorded numbers: ``python -m tests.parity.detector DIR``.

DIR is a folder in the format of the detector's golden data: the model is built from its ``config.json``
and ``weights.safetensors``, and every case file found is run. Errors are relative to the largest expected
value of a tensor; booleans and integers must be equal. Exit code 1 on any miss.
"""

import argparse
import copy
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from sam3.config import DetectorConfig, ModelConfig, NeckConfig, TextConfig, VisionConfig
from sam3.model.detector.detector import Sam3Image
from sam3.ops.images import normalize
from tests.parity import detector_training, tokenizer
from tests.parity.detector_trace import trace
from tests.parity.report import Row, print_table

# Two runs of the reference with different kernels differ by up to a quarter of these.
LIMITS = {
    "vit.": 5e-6,
    "neck.": 2e-5,
    "text.": 2e-5,
    "geo.": 2e-5,
    "prompt.": 2e-5,
    "encoder.": 2e-5,
    "seg.pixel_embed": 2e-5,
    "seg.instance_embed": 2e-5,
    "boxes.": 5e-5,
    "decoder.reference_boxes": 5e-5,
    "out.pred_boxes": 5e-5,
}
LIMIT_ELSEWHERE = 3e-4  # decoder states, presence, scores, masks
ROTARY_LIMIT = 2e-6
PREPROCESSING_LIMIT = 1.001 / 127.5  # one grey level, give or take a rounding: another resize kernel may differ by it
TRACED_CASES = ("case1_text_only", "case2_text_boxes", "case3_batch", "case4_points_boxes")


def read_config(folder: Path) -> ModelConfig:
    """The network that ``config.json`` describes."""
    given = json.loads((folder / "config.json").read_text())
    return ModelConfig(
        vision=VisionConfig(
            image_size=given["image_size"],
            patch_size=given["patch_size"],
            in_channels=given["in_chans"],
            pretrain_image_size=given["pretrain_img_size"],
            embed_dim=given["vit_embed_dim"],
            depth=given["vit_depth"],
            num_heads=given["vit_num_heads"],
            mlp_ratio=given["vit_mlp_ratio"],
            window_size=given["vit_window_size"],
            global_blocks=tuple(given["vit_global_att_blocks"]),
            drop_path_rate=given["vit_drop_path_rate"],
            rope_theta=given["vit_rope_theta"],
            layer_norm_eps=given["vit_layer_norm_eps"],
        ),
        neck=NeckConfig(
            scale_factors=tuple(given["neck_scale_factors"]),
            dropped_levels=given["scalp"],
            second_neck=given["add_sam2_neck"],
        ),
        text=TextConfig(
            vocab_size=given["text_vocab_size"],
            context_length=given["text_context_length"],
            width=given["text_width"],
            num_heads=given["text_heads"],
            num_layers=given["text_layers"],
            mlp_ratio=given["text_mlp_ratio"],
            projection_dim=given["text_projection_dim"],
        ),
        detector=DetectorConfig(
            d_model=given["d_model"],
            num_heads=given["num_heads"],
            dim_feedforward=given["dim_feedforward"],
            dropout=given["dropout"],
            geometry_layers=given["geo_num_layers"],
            roi_size=given["geo_roi_size"],
            encoder_layers=given["enc_num_layers"],
            decoder_layers=given["dec_num_layers"],
            num_queries=given["num_queries"],
            prompt_mlp_dim=given["prompt_mlp_hidden"],
            pixel_decoder_stages=given["seg_upsampling_stages"],
            group_norm_groups=given["groupnorm_groups"],
        ),
    )


def build(folder: Path, config: ModelConfig) -> Sam3Image:
    """The network in evaluation mode with the folder's weights; missing or foreign keys raise."""
    model = Sam3Image(config)
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    return model.eval()


def check(folder: Path) -> list[Row]:
    """Every quantity of every case found in ``folder``."""
    config = read_config(folder)
    model = build(folder, config)
    rows = _check_rotary_tables(folder, model)
    for case in TRACED_CASES:
        rows += _check_traced(folder, case, model, _inputs(folder, case))
    rows += _check_traced(folder, "case5_clamps", _with_large_logits(model), _inputs(folder, "case1_text_only"))
    joint = build(folder, replace(config, detector=replace(config.detector, joint_scores=True)))
    rows += _check_traced(folder, "case6_joint_scores", joint, _inputs(folder, "case2_text_boxes"))
    rows += _check_processor(folder, model)
    if detector_training.is_present(folder):
        rows += detector_training.check(folder, build(folder, detector_training.without_dropout(config)))
    if (folder / "tokenizer.json").exists():
        rows += tokenizer.check(folder / "tokenizer.json")
    return rows


def compare(quantity: str, expected: Tensor, actual: Tensor | None, limit: float) -> Row:
    """The largest difference, relative to the largest expected value; infinite if there is nothing to compare."""
    if actual is None or actual.shape != expected.shape:
        return Row(f"{quantity} (shape)", float("inf"), limit)
    if not expected.is_floating_point():
        return Row(quantity, float((actual != expected).sum()), 0.0)
    if expected.numel() == 0:
        return Row(quantity, 0.0, limit)
    scale = expected.abs().max().item() or 1.0
    return Row(quantity, (actual - expected).abs().max().item() / scale, limit)


def _limit_of(name: str) -> float:
    return next((limit for prefix, limit in LIMITS.items() if name.startswith(prefix)), LIMIT_ELSEWHERE)


def _inputs(folder: Path, case: str) -> dict[str, Tensor] | None:
    path = folder / f"{case}_inputs.safetensors"
    return load_file(path) if path.exists() else None


def _expected(folder: Path, case: str) -> dict[str, Tensor]:
    path = folder / f"{case}_expected.safetensors"
    return dict(sorted(load_file(path).items())) if path.exists() else {}


def _check_traced(folder: Path, case: str, model: Sam3Image, inputs: dict[str, Tensor] | None) -> list[Row]:
    expected = _expected(folder, case)
    if inputs is None or not expected:
        return []
    found = trace(model, inputs)
    rows = []
    for name, wanted in expected.items():
        actual = found.get(name)
        if name in ("geo.features", "prompt.features") and actual is not None and actual.shape == wanted.shape:
            # What stands in masked geometry slots means nothing; masked text does.
            mask = found[name.replace("features", "mask")].T.clone()
            mask[: len(mask) - len(found["geo.features"])] = False
            wanted, actual = wanted[~mask], actual[~mask]
        rows.append(compare(f"{case}: {name}", wanted, actual, _limit_of(name)))
    return rows


def _with_large_logits(model: Sam3Image) -> Sam3Image:
    """Case 5: presence far above any clamp, scores pushed into theirs."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.transformer.decoder.presence_token_head.layers[2].bias += 14
        model.dot_prod_scoring.hs_proj.weight *= 2
    return model


def _check_rotary_tables(folder: Path, model: Sam3Image) -> list[Row]:
    path = folder / "freqs_cis_as_real.safetensors"
    if not path.exists():
        return []
    found = {name: torch.view_as_real(table) for name, table in model.rotary_tables().items()}
    return [
        compare(f"rotary table {name}", wanted, found.get(name), ROTARY_LIMIT)
        for name, wanted in sorted(load_file(path).items())
    ]


def _check_processor(folder: Path, model: Sam3Image) -> list[Row]:
    """Case 7: the steps of the golden README, with the recorded preprocessing and token ids fed in."""
    inputs, expected = _inputs(folder, "case7_processor"), _expected(folder, "case7_processor")
    if inputs is None or not expected:
        return []
    from sam3.model.sam3_image_processor import Sam3Processor

    preprocessed = expected.pop("preprocessed")
    if preprocessed.dtype == torch.uint8:  # the compact form of a repository: before normalisation
        preprocessed = normalize(preprocessed, (0.5,) * 3, (0.5,) * 3)
    seen: list[Tensor] = []
    model = copy.deepcopy(model)
    model._tokenizer = _given_tokens(inputs)
    encode_image = model.encode_image
    model.encode_image = lambda images: (seen.append(images), encode_image(preprocessed))[1]

    processor = Sam3Processor(model, device="cpu")
    state = processor.set_image(inputs["image_u8_chw"])
    difference = (seen[0] - preprocessed).abs().max().item()
    rows = [Row("case7_processor: preprocessed (absolute)", difference, PREPROCESSING_LIMIT)]
    for step, act in _processor_steps(processor).items():
        state = act(state) or state
        for name in ("boxes", "scores", "masks", "masks_logits"):
            wanted, actual = expected.pop(f"{step}.{name}", None), state[name]
            if wanted is not None:
                limit = _limit_of("out.pred_boxes" if name == "boxes" else name)
                if name == "masks":
                    actual = _settle_borders(actual, wanted, expected.get(f"{step}.masks_logits"), limit)
                rows.append(compare(f"case7_processor: {step}.{name}", wanted, actual, limit))
    return rows + [Row(f"case7_processor: {name} (no such step)", float("inf"), 0.0) for name in expected]


def _settle_borders(actual: Tensor | None, wanted: Tensor, probabilities: Tensor | None, limit: float) -> Tensor | None:
    """Our mask, but the expected value where rounding alone decides: within ``limit`` of a probability of one half."""
    if actual is None or probabilities is None or not actual.shape == wanted.shape == probabilities.shape:
        return actual
    return torch.where((probabilities - 0.5).abs() <= limit, wanted, actual)


def _given_tokens(inputs: dict[str, Tensor]) -> Callable[..., Tensor]:
    rows = {name.removeprefix("token_ids."): ids for name, ids in inputs.items() if name.startswith("token_ids.")}

    def tokenize(texts: str | Sequence[str], context_length: int | None = None) -> Tensor:
        return torch.stack([rows[text] for text in ([texts] if isinstance(texts, str) else texts)])

    return tokenize


def _processor_steps(processor: object) -> dict[str, Callable[[dict], dict | None]]:
    first_box, second_box = [0.4, 0.5, 0.3, 0.6], [0.8, 0.2, 0.2, 0.2]

    def restart_with_box(state: dict) -> dict:
        processor.reset_all_prompts(state)
        return processor.add_geometric_prompt(first_box, True, state)

    return {
        "step1_text": lambda state: processor.set_text_prompt("prompt a", state),
        "step2_pos_box": lambda state: processor.add_geometric_prompt(first_box, True, state),
        "step3_neg_box": lambda state: processor.add_geometric_prompt(second_box, False, state),
        "step4_threshold_0.2": lambda state: processor.set_confidence_threshold(0.2, state),
        "step5_visual_only_box": restart_with_box,
        "step6_threshold_0.999": lambda state: processor.set_confidence_threshold(0.999, state),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="golden folder: config.json, weights.safetensors, case files")
    return 0 if print_table(check(parser.parse_args(argv).folder)) else 1


if __name__ == "__main__":
    sys.exit(main())
