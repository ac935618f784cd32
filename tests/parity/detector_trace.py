"""Runs the detector step by step and names what it computes as the golden files do.

Golden tensors are partly sequence first; the transposes happen here and nowhere in the network.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sam3.model.detector.detector import Sam3Image
from sam3.structures import DetectorOutput, GeometricPrompt, ImageFeatures, TextFeatures


def prompt_from(inputs: dict[str, Tensor], num_prompts: int) -> GeometricPrompt:
    """Boxes and points of a case file (sequence first, masks batch first)."""
    prompt = GeometricPrompt.empty(num_prompts)
    if "box_embeddings" in inputs:
        prompt.boxes = inputs["box_embeddings"].transpose(0, 1)
        prompt.box_labels, prompt.box_mask = inputs["box_labels"].T, inputs["box_mask"]
    if "point_embeddings" in inputs:
        prompt.points = inputs["point_embeddings"].transpose(0, 1)
        prompt.point_labels, prompt.point_mask = inputs["point_labels"].T, inputs["point_mask"]
    return prompt


@torch.no_grad()
def trace(model: Sam3Image, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every named intermediate result and output of one case."""
    image_index, phrase_index = inputs["img_ids"], inputs["text_ids"]
    prompt = prompt_from(inputs, len(image_index))
    found: dict[str, Tensor] = {}
    with _record_layers(model, found):
        image = model.encode_image(inputs["images"])
        _run_unused_blocks(model, found["vit.out"])
        text = model.encode_tokens(inputs["token_ids"])
        output = model.ground(image, text, image_index=image_index, phrase_index=phrase_index, prompt=prompt)
    found |= _image_names(model, found["vit.out"], image) | _text_names(text) | _output_names(output)
    geometry, geometry_mask = model.geometry_encoder(prompt, image.pyramid[-1], _position(image), image_index)
    tokens = torch.cat([text.features[phrase_index], geometry], 1)
    mask = torch.cat([text.mask[phrase_index], geometry_mask], 1)
    found |= {"geo.features": geometry.transpose(0, 1), "geo.mask": geometry_mask}
    found |= {"prompt.features": tokens.transpose(0, 1), "prompt.mask": mask}
    found |= _encoder_names(image, output) | _decoder_names(model, image, output, tokens, mask)
    if model.segmentation_head is not None:
        found |= _segmentation_names(model, image, image_index, output, tokens, mask)
    return found


def _run_unused_blocks(model: Sam3Image, trunk_map: Tensor) -> None:
    """The reference computes, and the golden files record, blocks behind the last global one, too."""
    trunk = model.backbone.vision_backbone.trunk
    tokens = trunk_map.permute(0, 2, 3, 1)
    for block in trunk.blocks[trunk.num_used_blocks :]:
        tokens = block(tokens)


class _record_layers:
    """Context in which the layers' outputs are written to a dict."""

    def __init__(self, model: Sam3Image, found: dict[str, Tensor]) -> None:
        trunk, transformer = model.backbone.vision_backbone.trunk, model.transformer
        self.handles = [trunk.register_forward_hook(_store(found, "vit.out"))]
        self.handles += _hook_each(trunk.blocks, found, "vit.block_{}")
        self.handles += _hook_each(transformer.encoder.layers, found, "encoder.layer_{}")
        self.handles += _hook_each(transformer.decoder.layers, found, "decoder.layer_{}")

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        for handle in self.handles:
            handle.remove()


def _hook_each(layers: nn.ModuleList, found: dict[str, Tensor], name: str) -> list:
    return [layer.register_forward_hook(_store(found, name.format(i))) for i, layer in enumerate(layers)]


def _store(found: dict[str, Tensor], name: str) -> Callable[..., None]:
    def hook(_module: nn.Module, _inputs: tuple, output: Tensor) -> None:
        if name.startswith("decoder."):
            found[f"{name}.presence_raw"] = output[:, :1].transpose(0, 1)
            found[f"{name}.queries_raw"] = output[:, 1:].transpose(0, 1)
        else:
            found[name] = output

    return hook


def _position(image: ImageFeatures) -> Tensor:
    return image.positions[-1].flatten(2).transpose(1, 2)


def _image_names(model: Sam3Image, trunk_map: Tensor, image: ImageFeatures) -> dict[str, Tensor]:
    neck = model.backbone.vision_backbone
    found = {f"neck.pos_{i}": position for i, position in enumerate(image.positions)}
    found |= {f"neck.fpn_{i}": level(trunk_map) for i, level in enumerate(neck.convs)}
    found |= {f"neck.fpn_{i}": level for i, level in enumerate(image.pyramid)}
    if neck.sam2_convs is not None:
        found |= {f"neck.sam2_fpn_{i}": level(trunk_map) for i, level in enumerate(neck.sam2_convs)}
        found |= {f"neck.sam2_fpn_{i}": level for i, level in enumerate(image.second_pyramid)}
    return found


def _text_names(text: TextFeatures) -> dict[str, Tensor]:
    return {
        "text.language_features": text.features.transpose(0, 1),
        "text.language_mask": text.mask,
        "text.language_embeds": text.embeddings.transpose(0, 1),
    }


def _encoder_names(image: ImageFeatures, output: DetectorOutput) -> dict[str, Tensor]:
    num_prompts = len(output.memory)
    return {
        "encoder.memory": output.memory.transpose(0, 1),
        "encoder.pos_embed": _position(image).expand(num_prompts, -1, -1).transpose(0, 1),
        # The released encoder supports several levels; with one, these are constants.
        "encoder.spatial_shapes": torch.tensor([image.pyramid[-1].shape[-2:]]),
        "encoder.level_start_index": torch.tensor([0]),
        "encoder.valid_ratios": torch.ones(num_prompts, 1, 2),
    }


def _decoder_names(
    model: Sam3Image, image: ImageFeatures, output: DetectorOutput, tokens: Tensor, mask: Tensor
) -> dict[str, Tensor]:
    grid_size = image.pyramid[-1].shape[-2:]
    decoder = model.transformer.decoder
    layers = decoder(output.memory, _position(image), grid_size, tokens, mask, every_layer=True)
    embedding = model.dot_prod_scoring.embed_prompt(tokens, mask)
    return {
        "decoder.layer_0.box_rpb": decoder.position_bias(layers[0].references, grid_size),
        "decoder.hs": torch.stack([layer.queries for layer in layers]).transpose(1, 2),
        "decoder.reference_boxes": torch.stack([layer.references for layer in layers]).transpose(1, 2),
        "decoder.presence_logits": torch.stack([layer.presence_logits for layer in layers]).transpose(1, 2),
        "decoder.presence_feats": layers[-1].presence_token.transpose(0, 1),
        "scores.all_layers": torch.stack([model.dot_prod_scoring(layer.queries, embedding) for layer in layers]),
        "boxes.all_layers_cxcywh": torch.stack([layer.boxes for layer in layers]),
    }


def _segmentation_names(
    model: Sam3Image,
    image: ImageFeatures,
    image_index: Tensor,
    output: DetectorOutput,
    tokens: Tensor,
    mask: Tensor,
) -> dict[str, Tensor]:
    head = model.segmentation_head
    pixels = head.embed_pixels(image.pyramid, image_index, output.memory, tokens, mask)
    return {
        "seg.pixel_embed": pixels,
        "seg.instance_embed": head.instance_seg_head(pixels),
        "seg.mask_embed": head.mask_predictor(output.queries),
    }


def _output_names(output: DetectorOutput) -> dict[str, Tensor]:
    found = {f"out.{name}": value for name, value in output.to_dict().items() if isinstance(value, Tensor)}
    for name in ("out.encoder_hidden_states", "out.presence_feats"):
        found[name] = found[name].transpose(0, 1)
    return found | {"out.final_scores": output.scores}
