"""Padded sequences: joining them and averaging over what is valid. Masks: True = padding."""

from torch import Tensor, cat


def concat_padded(first: Tensor, first_mask: Tensor, second: Tensor, second_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Join two padded sequences so that the valid items of the second directly follow those of the first.

    Args:
        first: (P, S1, C).
        first_mask: (P, S1) bool, True = padding, anywhere in the row.
        second: (P, S2, C).
        second_mask: (P, S2) bool.

    Returns:
        (P, S1 + S2, C) and its mask, right-padded; padded slots hold left-overs (spec detector 7.1).
    """
    items = cat([first, second], 1)
    mask = cat([first_mask, second_mask], 1)
    order = mask.int().argsort(dim=1, stable=True)
    return items.gather(1, order[..., None].expand_as(items)), mask.gather(1, order)


def masked_mean(items: Tensor, mask: Tensor) -> Tensor:
    """Mean over the valid items: (P, S, C), (P, S) bool -> (P, C); zeros where nothing is valid."""
    valid = (~mask).to(items.dtype)[..., None]
    return (items * valid).sum(1) / valid.sum(1).clamp(min=1)
