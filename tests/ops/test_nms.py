import torch

from sam3.ops.nms import greedy_nms


def test_a_chain_keeps_its_ends():
    ious = torch.tensor([[1.0, 0.6, 0.0], [0.6, 1.0, 0.6], [0.0, 0.6, 1.0]])
    assert greedy_nms(ious, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist() == [True, False, True]
    assert greedy_nms(ious, torch.tensor([0.8, 0.9, 0.7]), 0.5).tolist() == [False, True, False]


def test_the_threshold_is_exclusive_and_ties_keep_the_first():
    ious = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    assert greedy_nms(ious, torch.tensor([0.5, 0.5]), 0.5).tolist() == [True, True]
    assert greedy_nms(ious, torch.tensor([0.5, 0.5]), 0.4).tolist() == [True, False]
    assert greedy_nms(torch.zeros(0, 0), torch.zeros(0), 0.5).shape == (0,)
