"""The confusion matrix as a picture."""

import numpy as np

from sam3.train.matrix_picture import CELL, FULL, MARGIN, MAX_ROWS, PAPER, matrix_picture


def corner_of(picture: np.ndarray, rows: int, columns: int, cell: tuple[int, int]) -> tuple[int, ...]:
    """Colour of a cell just inside its frame."""
    height, width = picture.shape[:2]
    top, left = height - MARGIN - CELL * rows, width - MARGIN - CELL * columns
    return tuple(picture[top + CELL * cell[0] + 4, left + CELL * cell[1] + 4])


def test_colours_are_shares_of_a_row():
    picture = matrix_picture(["red", "蓝"], ["red", "蓝", "background"], [[5, 0, 0], [0, 0, 20_000]])
    colours = {(row, column): corner_of(picture, 2, 3, (row, column)) for row in range(2) for column in range(3)}
    assert colours[0, 0] == colours[1, 2] == FULL
    assert [cell for cell, colour in colours.items() if colour == PAPER] == [(0, 1), (0, 2), (1, 0), (1, 1)]


def test_rows_without_anything_and_long_names():
    picture = matrix_picture(["a" * 200], ["b" * 200], [[0]])
    assert corner_of(picture, 1, 1, (0, 0)) == PAPER
    assert max(picture.shape) < 400


def test_very_many_classes_are_cut():
    count = MAX_ROWS + 40
    picture = matrix_picture(["x"] * count, ["y"] * count, np.eye(count, dtype=int).tolist())
    assert picture.shape[0] < CELL * MAX_ROWS + 100
