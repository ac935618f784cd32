"""Small stand-ins for the image model and its files, with real names and made-up sizes."""

import torch
from torch import Tensor, nn

BACKBONE = "backbone.vision_backbone."
TEXT = "backbone.language_backbone.encoder."
SECOND_NECK = {f"{BACKBONE}sam2_convs.{n}.conv_1x1.weight": (2, 4, 1, 1) for n in range(4)}
SHAPES = {
    f"{BACKBONE}trunk.pos_embed": (1, 5, 4),
    f"{BACKBONE}trunk.patch_embed.proj.weight": (4, 3, 2, 2),
    f"{BACKBONE}trunk.blocks.0.attn.qkv.weight": (12, 4),
    f"{BACKBONE}trunk.blocks.0.attn.qkv.bias": (12,),
    f"{BACKBONE}trunk.blocks.11.mlp.fc1.bias": (7,),
    f"{BACKBONE}convs.0.dconv_2x2_1.weight": (4, 2, 2, 2),
    f"{BACKBONE}convs.3.conv_1x1.weight": (2, 4, 1, 1),
    f"{TEXT}positional_embedding": (6, 4),
    f"{TEXT}text_projection": (4, 3),
    f"{TEXT}transformer.resblocks.1.attn.in_proj_weight": (12, 4),
    "geometry_encoder.points_pool_project.bias": (2,),
    "geometry_encoder.final_proj.weight": (2, 2),
    "geometry_encoder.encode.0.cross_attn_image.in_proj_bias": (6,),
    "transformer.encoder.layers.0.linear1.weight": (3, 2),
    "transformer.decoder.bbox_embed.layers.2.bias": (4,),
    "segmentation_head.semantic_seg_head.weight": (1, 2, 1, 1),
    "dot_prod_scoring.prompt_mlp.layers.1.weight": (2, 3),
}
ROTARY_TABLES = {f"{BACKBONE}trunk.blocks.{n}.attn.freqs_cis": (4, 1) for n in (0, 11)}
TRACKER = {"maskmem_tpos_enc": (7, 1, 1, 2), "sam_mask_decoder.iou_token.weight": (1, 2)}


def random_state(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    dtype = {name: torch.complex64 if name.endswith("freqs_cis") else torch.float32 for name in shapes}
    return {name: torch.randn(shape, generator=generator, dtype=dtype[name]) for name, shape in shapes.items()}


def released_file(seed: int = 0) -> dict[str, Tensor]:
    """What ``sam3.pt`` holds: both necks, rotary tables and the tracker, with prefixes."""
    detector = random_state(SHAPES | SECOND_NECK | ROTARY_TABLES, seed)
    tracker = random_state(TRACKER, seed)
    return {f"detector.{name}": t for name, t in detector.items()} | {
        f"tracker.{name}": t for name, t in tracker.items()
    }


class ParameterTree(nn.Module):
    """A module with zero parameters of given names and shapes."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            *parents, leaf = name.split(".")
            module: nn.Module = self
            for parent in parents:
                if parent not in module._modules:
                    module.add_module(parent, nn.Module())
                module = module._modules[parent]
            module.register_parameter(leaf, nn.Parameter(torch.zeros(shape)))


def image_model() -> ParameterTree:
    return ParameterTree(SHAPES)


def click_model() -> ParameterTree:
    """With the second neck."""
    return ParameterTree(SHAPES | SECOND_NECK)


def assert_holds(model: nn.Module, expected: dict[str, Tensor]) -> None:
    """Every tensor of ``model`` equals the one of its name."""
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
