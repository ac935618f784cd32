import torch

from sam3.ops.components import clean_masks, component_areas, fill_small_holes, remove_small_specks


def grid(*rows: str) -> torch.Tensor:
    return torch.tensor([[letter == "#" for letter in row] for row in rows])[None]


def test_diagonal_neighbours_are_connected():
    areas = component_areas(grid("#.#", ".#.", "..."))
    assert areas[0].tolist() == [[3, 0, 3], [0, 3, 0], [0, 0, 0]]
    assert component_areas(torch.zeros(0, 4, 5, dtype=torch.bool)).shape == (0, 4, 5)
    assert component_areas(torch.ones(1, 1, 1, dtype=torch.bool)).tolist() == [[[1]]]


def test_small_holes_are_filled_and_large_ones_stay():
    logits = torch.where(grid("#####", "#.###", "#####", "##..#", "#####"), 3.0, -3.0)
    filled = fill_small_holes(logits, 1)
    assert filled[0, 1, 1] == 0.1
    assert (filled[0, 3, 2:4] == -3).all()
    assert (fill_small_holes(logits, 2) > 0).all()


def test_specks_go_but_never_more_than_half_of_an_object():
    logits = torch.where(grid("####.", "####.", ".....", "....#"), 3.0, -3.0)
    cleaned = remove_small_specks(logits, 16)
    assert (cleaned > 0).sum() == 8
    alone = torch.where(grid("#..", "...", "..."), 3.0, -3.0)
    assert torch.equal(remove_small_specks(alone, 16), alone)


def test_area_zero_and_no_object_change_nothing():
    logits = torch.randn(2, 6, 6)
    assert clean_masks(logits, 0) is logits
    assert clean_masks(torch.zeros(0, 6, 6), 16).shape == (0, 6, 6)
