"""Case 8 of the detector's golden data: training mode, matching, gradients."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from sam3.config import ModelConfig
from sam3.model.detector.detector import Sam3Image
from sam3.structures import DetectorOutput, GeometricPrompt, Targets
from sam3.train.matcher import HungarianMatcher
from tests.parity.report import Row

OUTPUT_LIMIT = 3e-4
BOX_LIMIT = 5e-5
GRADIENT_LIMIT = 1e-3
# A softmax ignores what is added to all its logits, so these gradients are rounding noise.
VANISHING = tuple(f"transformer.decoder.boxRPB_embed_{axis}.layers.1.bias" for axis in "xy")
VANISHING_LIMIT = 1e-4  # of the norm of the gradient of the weight beside it


def without_dropout(config: ModelConfig) -> ModelConfig:
    """The same network, deterministic in training mode."""
    return replace(
        config,
        vision=replace(config.vision, drop_path_rate=0.0),
        detector=replace(config.detector, dropout=0.0),
    )


def is_present(folder: Path) -> bool:
    """Whether ``folder`` holds the training case."""
    return all(
        (folder / f"case8_train_{part}").exists()
        for part in ("inputs.safetensors", "expected.safetensors", "grads.json")
    )


def check(folder: Path, model: Sam3Image) -> list[Row]:
    """Outputs, matches and gradients of the training case in ``folder``."""
    inputs = load_file(folder / "case8_train_inputs.safetensors")
    expected = load_file(folder / "case8_train_expected.safetensors")
    recorded = json.loads((folder / "case8_train_grads.json").read_text())
    output = _run(model.train(), inputs)
    found = _flatten(output) | _matches(folder, output, inputs)
    rows = [_compare(name, wanted, found) for name, wanted in sorted(expected.items()) if not name.startswith("grad.")]
    _objective(found, recorded["terms"]).backward()
    return rows + _check_gradients(model, recorded["grads"], expected)


def _run(model: Sam3Image, inputs: dict[str, Tensor]) -> DetectorOutput:
    prompt = GeometricPrompt.empty(len(inputs["img_ids"]))
    prompt.boxes = inputs["input_boxes"].transpose(0, 1)
    prompt.box_labels, prompt.box_mask = inputs["input_boxes_label"].T, inputs["input_boxes_mask"]
    return model.ground(
        model.encode_image(inputs["img_batch"]),
        model.encode_tokens(inputs["token_ids"]),
        image_index=inputs["img_ids"],
        phrase_index=inputs["text_ids"],
        prompt=prompt,
    )


def _flatten(output: DetectorOutput) -> dict[str, Tensor]:
    """Every tensor of the output, auxiliary layers as ``aux_i.*``, in the layout of the golden file."""
    named = output.to_dict()
    found = {name: value for name, value in named.items() if isinstance(value, Tensor)}
    for index, layer in enumerate(named.get("aux_outputs", ())):  # none with a single decoder layer
        found |= {f"aux_{index}.{name}": value for name, value in layer.items()}
    for name in ("encoder_hidden_states", "presence_feats"):
        found[name] = found[name].transpose(0, 1)
    return found


def _matches(folder: Path, output: DetectorOutput, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    settings = json.loads((folder / "config.json").read_text())["matcher"]
    targets = _targets(inputs)
    layers = [output.one_to_one, *output.aux_one_to_one]
    prefixes = ["", *(f"aux_{index}." for index in range(len(output.aux_one_to_one)))]
    found = {}
    num_queries = output.one_to_one.logits.shape[1]
    for prefix, matches in zip(prefixes, HungarianMatcher(**settings).match_layers(layers, targets), strict=True):
        if (targets.num_boxes > num_queries).any():
            # Some object is left without a query; then the recorded pairs are ordered by query, not by object.
            matches = matches.select((matches.prompt * num_queries + matches.query).argsort())
        found |= {f"{prefix}indices.0": matches.prompt, f"{prefix}indices.1": matches.query}
    return found


def _targets(inputs: dict[str, Tensor]) -> Targets:
    num_objects, num_prompts = len(inputs["target_boxes"]), len(inputs["target_num_boxes"])
    return Targets(
        num_boxes=inputs["target_num_boxes"],
        boxes=inputs["target_boxes"].view(-1, 4),
        boxes_padded=inputs["target_boxes_padded"],
        object_ids=torch.arange(num_objects),
        object_ids_padded=torch.full(inputs["target_boxes_padded"].shape[:2], -1),
        is_exhaustive=torch.ones(num_prompts, dtype=torch.bool),
    )


def _objective(found: dict[str, Tensor], terms: dict[str, float]) -> Tensor:
    """The weighted sum of outputs that the recorded gradients belong to."""
    total = torch.zeros(())
    for name in terms:
        flat = found[name].flatten()
        weights = torch.sin(0.1 * torch.arange(len(flat), dtype=torch.float64) + 1).float()
        total = total + (weights * flat).sum() / len(flat)
    return total


def _compare(name: str, wanted: Tensor, found: dict[str, Tensor]) -> Row:
    actual = found.get(name)
    limit = BOX_LIMIT if "pred_boxes" in name else OUTPUT_LIMIT
    if actual is None or actual.shape != wanted.shape:
        return Row(f"case8_train: {name} (shape)", float("inf"), limit)
    if not wanted.is_floating_point():
        return Row(f"case8_train: {name}", float((actual != wanted).sum()), 0.0)
    return Row(f"case8_train: {name}", _relative(actual, wanted), limit)


def _relative(actual: Tensor, wanted: Tensor) -> float:
    return (actual - wanted).abs().max().item() / (wanted.abs().max().item() or 1.0)


def _check_gradients(model: Sam3Image, recorded: dict, expected: dict[str, Tensor]) -> list[Row]:
    """Norm and sum of every gradient, the full gradient where it is recorded."""
    parameters = dict(model.named_parameters())
    rows = []
    for name, summary in recorded.items():
        gradient = parameters[name].grad
        if summary is None or gradient is None:
            agree = (summary is None) == (gradient is None)
            rows.append(Row(f"gradient {name} absent", 0.0 if agree else float("inf"), 0.0))
            continue
        gradient, norm = gradient.double(), summary["l2"]
        errors = {"l2": abs(gradient.norm().item() - norm), "sum": abs(gradient.sum().item() - summary["sum"])}
        if name in VANISHING:
            limit = VANISHING_LIMIT * (recorded[name.replace("bias", "weight")]["l2"] or 1.0)
        else:
            limit = GRADIENT_LIMIT * (norm or 1.0)
        # A sum of n numbers of one norm may be sqrt(n) times larger than it.
        scale = {"l2": 1.0, "sum": max(1.0, gradient.numel() ** 0.5)}
        rows += [Row(f"gradient {name} {key}", error, limit * scale[key]) for key, error in errors.items()]
    for name in sorted(key for key in expected if key.startswith("grad.")):
        gradient = parameters[name.removeprefix("grad.")].grad
        error = float("inf") if gradient is None else _relative(gradient, expected[name])
        rows.append(Row(f"gradient {name.removeprefix('grad.')}", error, GRADIENT_LIMIT))
    return rows
