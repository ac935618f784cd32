"""Training goes through the same network as tracking, teaches all of it, and learns."""

import pytest
import torch

from sam3.data.clips import BOX, CLICK, MASK, PromptChances
from sam3.model.tracker.session import TrackerSession
from sam3.train.losses.normalization import Share
from sam3.train.tracker.losses import ClipLoss, ClipNetwork
from sam3.train.tracker.rollout import encode_frames, roll_out
from tests.train.tracker.small import SIDE, moving_squares, small_model

NEVER_READ = {"no_mem_pos_enc"}
NEGATIVE_CLICKS = {"sam_prompt_encoder.point_embeddings.0.weight"}


@torch.no_grad()
def test_it_is_what_a_session_does_where_the_object_is_there():
    model = small_model().eval()
    torch.nn.init.constant_(model.tracker.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 100.0)
    batch = moving_squares(1, 3, chances=PromptChances(1.0, 0.0, 0.0)).select([0])
    batch.masks = batch.masks[:1]
    batch.clip_index, batch.prompt_kinds = batch.clip_index[:1], torch.tensor([MASK])
    answers = roll_out(model, batch)
    frames = encode_frames(model, batch)
    session = TrackerSession(model.tracker, frames.__getitem__, (SIDE, SIDE), num_frames=16)
    session.add_mask(0, 7, batch.masks[0, 0])
    session.consolidate()
    for frame in (1, 2):
        tracked = session.step(frame)
        mine, theirs = answers[frame].tracked.low_res, tracked.low_res_masks
        assert (mine - theirs).abs().max() < 0.1 * theirs.abs().max()  # sessions keep memories in bfloat16
        assert answers[frame].tracked.object_score_logits.item() == pytest.approx(
            tracked.object_score_logits.item(), rel=0.01
        )


def test_gradients_reach_every_parameter_that_is_read():
    missing = None
    for seed in range(4):  # of the candidate masks of a click only the best is taught
        model, batch = small_model(seed), moving_squares(3, 4)
        attention = model.tracker.transformer.encoder.layers[0].cross_attn_image
        torch.nn.init.xavier_uniform_(attention.q_proj.weight)  # else it begins with the place alone
        torch.nn.init.xavier_uniform_(attention.k_proj.weight)
        batch.prompt_kinds = torch.tensor([MASK, BOX, CLICK, MASK, BOX, CLICK])
        ClipNetwork(model, ClipLoss(forget=0.0))(batch, Share(1, 1)).total.backward()
        without = {name for name, p in model.tracker.named_parameters() if p.grad is None or not p.grad.any()}
        missing = without if missing is None else missing & without
        necks = model.detector.backbone.vision_backbone.sam2_convs
        assert all(p.grad is not None for level in range(3) for p in necks[level].parameters())
        rest = {name for name, p in model.detector.named_parameters() if p.grad is not None}
        assert all(".sam2_convs." in name for name in rest)
    assert missing == NEVER_READ | NEGATIVE_CLICKS


@torch.no_grad()
def test_clicks_alone_are_ambiguous_and_only_where_they_are_made():
    model, batch = small_model(), moving_squares(2, 3)
    batch.prompt_kinds = torch.tensor([MASK, CLICK, BOX, CLICK])
    answers = roll_out(model, batch)
    assert answers[0].is_ambiguous.flatten().tolist() == [False, True, False, True]
    assert not answers[1].is_ambiguous.any()
    assert not answers[2].is_ambiguous.any()


def test_training_on_one_batch_learns_it():
    model, batch = small_model(), moving_squares(2)
    network = ClipNetwork(model, ClipLoss(forget=0.0))
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=3e-3)
    losses = []
    for _ in range(60):
        loss = network(batch, Share(1, 1)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_frames_that_count_as_badly_seen_are_not_remembered():
    model, batch = small_model(), moving_squares(1, 5)
    with torch.no_grad():
        kept, lost = roll_out(model, batch, forget=0.0), roll_out(model, batch, forget=1.0)
    same = [torch.equal(a.tracked.low_res, b.tracked.low_res) for a, b in zip(kept, lost, strict=True)]
    assert same[:3] == [True, True, True]  # the neighbour is remembered always
    assert not same[4]
