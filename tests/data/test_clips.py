"""Batches of clips and the prompts drawn for their objects."""

import pytest
import torch

from sam3.data.clips import BOX, CLICK, MASK, Clip, PromptChances, collate_clips, draw_prompts
from sam3.data.collate import collate, split_batch


def clip(objects, name, value=0.0):
    masks = torch.zeros(objects, 3, 8, 8, dtype=torch.bool)
    masks[:, :, 2:5, 1:4] = True
    return Clip(
        torch.full((3, 3, 8, 8), value), masks, torch.zeros(objects, dtype=torch.long), torch.zeros(objects, 2, 2), name
    )


def test_objects_of_all_clips_stand_in_one_row():
    batch = collate([clip(2, "a"), clip(1, "b"), clip(3, "c")])
    assert batch.clip_index.tolist() == [0, 0, 1, 2, 2, 2]
    assert (len(batch), batch.num_objects, batch.num_prompts) == (3, 6, 6)
    assert batch.images.shape == (3, 3, 3, 8, 8)
    assert batch.origin.file_names == ["a", "b", "c"]


def test_micro_batches_hold_what_their_clips_hold():
    whole = collate_clips([clip(2, "a", 1.0), clip(1, "b", 2.0), clip(3, "c", 3.0)])
    first, second = split_batch(whole, 2)
    assert first.clip_index.tolist() == [0, 0, 1, 1, 1]
    assert first.images[:, 0, 0, 0, 0].tolist() == [1.0, 3.0]
    assert first.origin.file_names == ["a", "c"]
    assert (second.clip_index.tolist(), second.origin.file_names) == ([0], ["b"])


@pytest.mark.parametrize(("chances", "kind"), [((1, 0, 0), MASK), ((0, 1, 0), BOX), ((0, 0, 1), CLICK)])
def test_prompts_lie_on_their_objects(chances, kind):
    masks = torch.zeros(20, 16, 16, dtype=torch.bool)
    masks[:, 4:9, 6:14] = True
    kinds, points = draw_prompts(masks, PromptChances(*chances), torch.Generator().manual_seed(0))
    assert kinds.tolist() == [kind] * 20
    if kind == BOX:
        assert (points - torch.tensor([[6.0, 4.0], [14.0, 9.0]])).abs().max() <= 0.75
    elif kind == CLICK:
        x, y = points[:, 0].long().unbind(1)
        assert masks[0, y, x].all()
        assert len(set(zip(x.tolist(), y.tolist(), strict=True))) > 5
