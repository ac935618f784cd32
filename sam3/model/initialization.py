"""Weights to start training from nothing (spec detector 16).

Every parameter is set here, so a network may be built on empty storage. Linear maps get Xavier's
uniform distribution: at the released widths (1024 to 4736) its scale is the 0.02 of the reference, and
narrow networks do not learn with 0.02 (measured: F1 0.18 instead of 0.63).
"""

import torch
from torch import nn

from sam3.model.detector.detector import Sam3Image
from sam3.model.layers.attention import MultiHeadAttention
from sam3.model.layers.projected_attention import ProjectedAttention
from sam3.model.tracker.memory_encoder import MemoryEncoder
from sam3.model.tracker.tracker import Tracker

TOKEN_STD = 0.5
POSITION_STD = 0.02
TEXT_POSITION_STD = 0.01
MASK_GAIN = 24.0  # of what the memory encoder adds to a frame, against torch's default: louder than the frame itself
PROMPT_GAIN = 16.0  # of a mask prompt, likewise
LOCALITY = 2.5  # of attention to memories, at 32 channels a head: one cell away counts a third
LIKENESS = 2.0  # of attention to what looks alike, at 32 channels a head and 6 of looks
PLACE_SHARE = 4  # one of so many channels of a memory says where the object is, the others what is there


def initialize_weights(model: Sam3Image) -> None:
    """Fill every parameter of ``model`` from torch's global random generator."""
    _reset_layers(model)
    for module in model.modules():
        if isinstance(module, MultiHeadAttention):
            nn.init.xavier_uniform_(module.in_proj_weight)
            nn.init.zeros_(module.in_proj_bias)
            nn.init.zeros_(module.out_proj.bias)
    _initialize_trunk(model)
    _initialize_text(model)
    _initialize_decoder(model)
    for module in model.modules():
        if isinstance(module, Tracker):
            _initialize_codes(module)


def initialize_tracker(tracker: Tracker) -> None:
    """Fill every parameter and buffer of a tracker."""
    _reset_layers(tracker)
    _initialize_codes(tracker)


def _reset_layers(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()  # for the bias
            nn.init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.LayerNorm | nn.GroupNorm | nn.Embedding):
            module.reset_parameters()


def _initialize_trunk(model: Sam3Image) -> None:
    trunk = model.backbone.vision_backbone.trunk
    nn.init.trunc_normal_(trunk.pos_embed, std=POSITION_STD)
    for module in trunk.blocks.modules():
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


def _initialize_text(model: Sam3Image) -> None:
    encoder = model.backbone.language_backbone.encoder
    nn.init.normal_(encoder.token_embedding.weight, std=TOKEN_STD)
    nn.init.normal_(encoder.positional_embedding, std=TEXT_POSITION_STD)
    nn.init.normal_(encoder.text_projection, std=encoder.text_projection.shape[0] ** -0.5)


def _initialize_decoder(model: Sam3Image) -> None:
    """Queries and reference points stay at the embedding's N(0, 1); boxes start at their reference."""
    decoder = model.transformer.decoder
    nn.init.zeros_(decoder.bbox_embed.layers[-1].weight)
    nn.init.zeros_(decoder.bbox_embed.layers[-1].bias)


def _initialize_codes(tracker: Tracker) -> None:
    """Codes of time and absence start small, and what is remembered starts as what it is: where, and how it looks.

    By torch's defaults a mask changes a memory by a tenth of what the frame contributes, and a mask prompt an image by
    a thirtieth, and every cell attends to all others alike: the tiny network then learns in minutes what looks like an
    object, but not which one is meant (measured: IoU 0.48 with the object, 0.40 with its double). Attention by place
    alone learns within a hundred steps to follow, and then, for hundreds more, to stay behind where objects cross.
    """
    own = ("maskmem_tpos_enc", "no_mem_embed", "no_mem_pos_enc", "no_obj_ptr", "no_obj_embed_spatial")
    for name in own:
        nn.init.trunc_normal_(getattr(tracker, name), std=POSITION_STD)
    nn.init.normal_(tracker.sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix)
    _let_prompts_count(tracker)
    _remember_place_and_looks(tracker.maskmem_backbone)
    for number, layer in enumerate(tracker.transformer.encoder.layers):
        if number % 2:
            _look_at_what_is_alike(layer.cross_attn_image, tracker.maskmem_backbone)
        else:
            _look_at_the_same_place(layer.cross_attn_image)


@torch.no_grad()
def _let_prompts_count(tracker: Tracker) -> None:
    """A given mask is averaged around 0, and begins loud enough."""
    tracker.mask_downsample.weight.fill_(1 / tracker.mask_downsample.weight.numel())
    tracker.mask_downsample.bias.fill_(-0.5)
    prompt = tracker.sam_prompt_encoder.mask_downscaling
    prompt[0].bias.zero_()  # the norm behind it keeps the sign alone
    prompt[-1].weight.mul_(PROMPT_GAIN)


@torch.no_grad()
def _remember_place_and_looks(encoder: MemoryEncoder) -> None:
    """The first channels of a memory come from the mask alone, the others from the frame alone."""
    for block in encoder.fuser.layers:
        nn.init.constant_(block.gamma, 1e-6)
    place, channels = _split(encoder)
    mask, looks, out = encoder.mask_downsampler.encoder[-1], encoder.pix_feat_proj, encoder.out_proj
    mask.weight.mul_(MASK_GAIN)
    for layer in (looks, out):
        layer.weight.zero_()
        layer.bias.zero_()
    mask.weight[channels:] = 0
    mask.bias[channels:] = 0
    nn.init.orthogonal_(looks.weight[channels:])
    nn.init.orthogonal_(out.weight[:place, :channels])
    nn.init.orthogonal_(out.weight[place:, channels:])


@torch.no_grad()
def _look_at_the_same_place(attention: ProjectedAttention) -> None:
    """Equal queries and keys, turned by their positions, agree most where the positions do."""
    head_dim = attention.q_proj.out_features // attention.num_heads
    for layer in (attention.q_proj, attention.k_proj):
        layer.weight.zero_()
        layer.bias.fill_(LOCALITY * (32 / head_dim) ** 0.25)


@torch.no_grad()
def _look_at_what_is_alike(attention: ProjectedAttention, encoder: MemoryEncoder) -> None:
    """Queries see a frame as memories do, in channels that hardly turn with the position: a map of where it looks like
    here, wherever that is."""
    place, channels = _split(encoder)
    seen = encoder.out_proj.weight[place:, channels:, 0, 0] @ encoder.pix_feat_proj.weight[channels:, :, 0, 0]
    head_dim = attention.q_proj.out_features // attention.num_heads
    slow = [row for row in range(head_dim) if row // 2 % (head_dim // 4) >= head_dim // 16]  # pairs of channels turn
    rows = [head * head_dim + row for head in range(attention.num_heads) for row in slow]
    shown = nn.init.orthogonal_(seen.new_empty(len(rows), len(seen)))
    gain = LIKENESS * (head_dim / 32) ** 0.25 * (6 / len(seen)) ** 0.5
    for weight, wanted in ((attention.q_proj.weight, shown @ seen), (attention.k_proj.weight[:, place:], shown)):
        weight.zero_()
        weight[rows] = gain * wanted
    attention.k_proj.weight[:, :place] = 0


def _split(encoder: MemoryEncoder) -> tuple[int, int]:
    """How many channels of a memory say where the object is, and how many of those before the last projection."""
    return encoder.out_proj.out_channels // PLACE_SHARE, encoder.out_proj.in_channels // PLACE_SHARE
