"""An independent program, ``transformers`` Sam3TrackerVideoModel, computes the same with the same weights.

The pieces are those of spec/tracker_video.md 12, here on a small picture; the peer fixes the widths.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sam3.config import sam3
from sam3.io.transformers_tracker_names import tracker_from_transformers, tracker_to_transformers
from sam3.model.tracker.tracker import Tracker
from sam3.model_builder import build_sam3_video_model

pytest.importorskip("transformers", reason="the independent implementation is not installed")

from benchmarks.tracker_peer import build_peer, compare
from benchmarks.tracker_vs_transformers import BFLOAT16_STEP, ROUNDING, random_tracker

SMALL = replace(sam3().tracker_config(), image_size=84, memory_attention_layers=2, decoder_mlp_dim=64)


@pytest.fixture(scope="module")
def tracker() -> Tracker:
    return random_tracker(SMALL, seed=0)


def test_every_piece_is_the_same(tracker: Tracker) -> None:
    found = list(compare(tracker, build_peer(tracker)))
    assert len(found) == 20
    for difference in found:
        if "known" not in difference.piece:
            limit = BFLOAT16_STEP if "bfloat16" in difference.piece else ROUNDING
            assert difference.relative <= limit, difference


def test_a_wrong_tensor_would_be_seen(tracker: Tracker) -> None:
    peer = build_peer(tracker)
    with torch.no_grad():
        peer.memory_attention.layers[1].cross_attn_image.k_proj.weight.mul_(1.01)
        peer.mask_decoder.upscale_layer_norm.bias.add_(0.01)
    wrong = {
        found.piece.split(":")[0].split(",")[0] for found in compare(tracker, peer) if found.relative > ROUNDING * 10
    }
    assert {"memory attention", "mask decoder (multi)"} <= wrong


def test_names_travel_both_ways(tracker: Tracker) -> None:
    theirs = tracker_to_transformers(tracker.state_dict())
    assert theirs.keys() == build_peer(tracker).state_dict().keys()
    back = tracker_from_transformers(theirs)
    assert back.keys() == tracker.state_dict().keys()
    assert all(torch.equal(value, tracker.state_dict()[name]) for name, value in back.items())
    assert tracker_from_transformers({"unknown.weight": back["no_mem_embed"]}).keys() == {"unknown.weight"}


def test_a_video_folder_of_theirs_fills_the_video_model(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from sam3.io.transformers_names import to_transformers

    options = {"config": "tiny", "device": "cpu"}
    torch.manual_seed(1)
    model = build_sam3_video_model(load_from_HF=False, **options)
    names = to_transformers(model.detector.state_dict(), video_file=True)
    names |= {f"tracker_model.{n}": t for n, t in tracker_to_transformers(model.tracker.state_dict()).items()}
    save_file({name: tensor.contiguous() for name, tensor in names.items()}, tmp_path / "model.safetensors")
    again = build_sam3_video_model(tmp_path, **options)
    own = model.tracker.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in again.tracker.state_dict().items())
