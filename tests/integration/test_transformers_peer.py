"""An independent program, ``transformers`` Sam3Model, computes the same function with the same weights.

Weights travel both ways through the table of names. Differences that are known and handled
(spec/detector.md section 18): the peer adds its class token only when a box is given (a masked one forces
it), its ViT LayerNorm eps is set to ours, it clamps presence logits to 10, and padded text tokens need an
attention mask.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sam3.config import DetectorConfig, ModelConfig, TextConfig, VisionConfig
from sam3.io.checkpoint import load_into, read_checkpoint, save_weights
from sam3.model.detector.detector import Sam3Image
from sam3.model.initialization import initialize_weights
from sam3.ops.boxes import box_cxcywh_to_xyxy
from sam3.structures import DetectorOutput, GeometricPrompt

pytest.importorskip("transformers", reason="the independent implementation is not installed")

from benchmarks.transformers_peer import MASKED_BOX, build_peer, peer_config

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

PRESENCE_CLAMP = 10.0
LIMIT = 3e-5  # relative to the largest value of an output; rounding of other kernels stays below 2e-6 here
CONFIG = ModelConfig(
    vision=VisionConfig(  # 6 x 6 tokens in windows of 4, so that windows are padded; tiled positions
        image_size=84,
        pretrain_image_size=42,
        embed_dim=32,
        depth=4,
        num_heads=2,
        window_size=4,
        global_blocks=(1, 3),
    ),
    text=TextConfig(vocab_size=64, context_length=12, width=32, num_heads=2, num_layers=2, projection_dim=8),
    detector=DetectorConfig(
        d_model=32,
        num_heads=4,
        dim_feedforward=48,
        geometry_layers=2,
        encoder_layers=2,
        decoder_layers=3,
        num_queries=9,
        prompt_mlp_dim=48,
    ),
)
TOKENS = torch.tensor([[62, 5, 17, 63] + [0] * 8, [62, 33, 8, 21, 40, 9, 63] + [0] * 5])
IMAGES = torch.rand(2, 3, 84, 84, generator=torch.Generator().manual_seed(1)) * 2 - 1
BOXES = torch.tensor([[[0.4, 0.5, 0.3, 0.6], [0.8, 0.2, 0.2, 0.2]], [[0.9, 0.9, 0.4, 0.3], [0, 0, 0, 0]]])
LABELS = torch.tensor([[1, 0], [1, MASKED_BOX]])
NO_BOXES = torch.full((2, 1), MASKED_BOX)


def random_model(config: ModelConfig = CONFIG) -> Sam3Image:
    """Every parameter non-trivial: norms, biases and the last box layer included."""
    torch.manual_seed(0)
    model = Sam3Image(config)
    initialize_weights(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.08)
    return model.eval()


@torch.no_grad()
def ours(model: Sam3Image, boxes: Tensor, labels: Tensor) -> dict[str, Tensor]:
    prompt = GeometricPrompt.empty(len(labels))
    if (labels != MASKED_BOX).any():
        prompt = replace(prompt, boxes=boxes, box_labels=labels.clamp(min=0), box_mask=labels == MASKED_BOX)
    index = torch.arange(2)
    output: DetectorOutput = model.ground(
        model.encode_image(IMAGES), model.encode_tokens(TOKENS), image_index=index, phrase_index=index, prompt=prompt
    )
    found = output.one_to_one
    return {
        "logits": found.logits.squeeze(-1),
        "boxes": box_cxcywh_to_xyxy(found.boxes),
        "presence": found.presence_logits.clamp(-PRESENCE_CLAMP, PRESENCE_CLAMP),
        "masks": found.masks,
        "semantic": output.semantic_logits,
    }


@torch.no_grad()
def theirs(peer: nn.Module, boxes: Tensor, labels: Tensor) -> dict[str, Tensor]:
    output = peer(
        pixel_values=IMAGES,
        input_ids=TOKENS,
        attention_mask=(TOKENS != 0).long(),
        input_boxes=boxes,
        input_boxes_labels=labels,
    )
    return {
        "logits": output.pred_logits,
        "boxes": output.pred_boxes,
        "presence": output.presence_logits,
        "masks": output.pred_masks,
        "semantic": output.semantic_seg,
    }


def differences(first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, float]:
    """Largest difference of each output, relative to its largest value."""
    assert {name: tensor.shape for name, tensor in first.items()} == {n: t.shape for n, t in second.items()}
    return {name: ((first[name] - other).abs().max() / other.abs().max()).item() for name, other in second.items()}


def assert_equal_outputs(model: Sam3Image, peer: nn.Module) -> None:
    for boxes, labels in ((torch.zeros(2, 1, 4), NO_BOXES), (BOXES, LABELS)):
        found = differences(ours(model, boxes, labels), theirs(peer, boxes, labels))
        assert {name: error for name, error in found.items() if not error <= LIMIT} == {}


@pytest.fixture(scope="module")
def model() -> Sam3Image:
    return random_model()


def test_our_weights_in_the_peer(model: Sam3Image) -> None:
    assert_equal_outputs(model, build_peer(model))


def test_limits_would_catch_a_wrong_tensor(model: Sam3Image) -> None:
    peer = build_peer(model)
    with torch.no_grad():
        peer.detr_decoder.layers[0].text_cross_attn.q_proj.bias.mul_(1.5)
    found = differences(ours(model, BOXES, LABELS), theirs(peer, BOXES, LABELS))
    assert max(found.values()) > LIMIT


@pytest.mark.parametrize("shard_size", ["10GB", "200KB"])
def test_the_peers_weights_in_ours(shard_size: str, tmp_path: Path) -> None:
    """A folder as ``transformers`` writes it, whole and in shards; weights of the peer's own making."""
    from transformers import Sam3Model

    build_peer(random_model())  # supplies what the peer's module calls
    torch.manual_seed(3)
    peer = Sam3Model(peer_config(CONFIG)).eval()
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.08)
    folder = tmp_path / "modèle"
    peer.save_pretrained(folder, max_shard_size=shard_size)
    assert (len(list(folder.glob("*.safetensors"))) > 1) == (shard_size == "200KB")
    model = Sam3Image(CONFIG).eval()
    report = load_into(model, read_checkpoint(folder))
    assert report.matched == report.total - 6
    assert all("geometry_encoder.points_" in name for name in report.unset)
    assert report.unexpected == []
    assert_equal_outputs(model, peer)


def test_a_file_of_ours_opens_in_the_peer(model: Sam3Image, tmp_path: Path) -> None:
    """What ``save_weights`` writes in their layout is what ``from_pretrained`` reads."""
    from transformers import Sam3Model

    build_peer(model)
    save_weights(tmp_path / "model.safetensors", model.state_dict(), None, layout="transformers")
    peer_config(CONFIG).save_pretrained(tmp_path)
    peer, loading = Sam3Model.from_pretrained(tmp_path, output_loading_info=True)
    assert not loading["unexpected_keys"]
    assert not loading["missing_keys"]
    assert not loading["mismatched_keys"]
    assert_equal_outputs(model, peer.eval())
