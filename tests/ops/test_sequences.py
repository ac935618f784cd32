import torch

from sam3.ops.sequences import concat_padded, masked_mean

VALID, PAD = False, True


def test_second_follows_the_valid_items_of_the_first() -> None:
    first = torch.tensor([[1.0, 2, 0], [3, 0, 0]])[..., None]
    first_mask = torch.tensor([[VALID, VALID, PAD], [VALID, PAD, PAD]])
    second = torch.tensor([[7.0, 8], [9, 0]])[..., None]
    second_mask = torch.tensor([[VALID, VALID], [VALID, PAD]])
    joined, mask = concat_padded(first, first_mask, second, second_mask)
    assert joined.shape == (2, 5, 1)
    assert mask.tolist() == [[VALID] * 4 + [PAD], [VALID] * 2 + [PAD] * 3]
    assert joined[0, :4, 0].tolist() == [1, 2, 7, 8]
    assert joined[1, :2, 0].tolist() == [3, 9]


def test_empty_parts() -> None:
    nothing, no_mask = torch.zeros(2, 0, 3), torch.zeros(2, 0, dtype=torch.bool)
    items, mask = torch.randn(2, 4, 3), torch.zeros(2, 4, dtype=torch.bool)
    for parts in ((nothing, no_mask, items, mask), (items, mask, nothing, no_mask)):
        joined, joined_mask = concat_padded(*parts)
        assert torch.equal(joined, items)
        assert torch.equal(joined_mask, mask)
    assert concat_padded(nothing, no_mask, nothing, no_mask)[0].shape == (2, 0, 3)


def test_padding_inside_a_row_is_moved_to_its_end() -> None:
    items = torch.tensor([[[1.0], [0.0], [2.0]]])
    mask = torch.tensor([[VALID, PAD, VALID]])
    joined, joined_mask = concat_padded(items, mask, torch.tensor([[[5.0]]]), torch.tensor([[VALID]]))
    assert joined[0, :3, 0].tolist() == [1, 2, 5]
    assert joined_mask.tolist() == [[VALID, VALID, VALID, PAD]]


def test_gradient_goes_back_to_the_right_item() -> None:
    first = torch.randn(1, 2, 1, requires_grad=True)
    second = torch.randn(1, 1, 1, requires_grad=True)
    joined, _ = concat_padded(first, torch.tensor([[VALID, PAD]]), second, torch.tensor([[VALID]]))
    joined[0, 1].sum().backward()
    assert second.grad.item() == 1
    assert first.grad.abs().sum() == 0


def test_masked_mean_ignores_padding() -> None:
    items = torch.tensor([[[2.0], [4.0], [100.0]], [[5.0], [6.0], [7.0]]])
    mask = torch.tensor([[VALID, VALID, PAD], [PAD, PAD, PAD]])
    assert masked_mean(items, mask).tolist() == [[3.0], [0.0]]
