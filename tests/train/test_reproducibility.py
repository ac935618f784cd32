"""Random generators can be stopped and continued."""

import random

import numpy as np
import torch

from sam3.train.reproducibility import random_state, restore_random_state, seed_everything, untouched_randomness


def draw():
    return random.random(), np.random.rand(), random.gauss(0, 1), torch.rand(3).tolist()  # noqa: NPY002


def test_the_same_seed_gives_the_same_numbers():
    seed_everything(5)
    first = draw()
    seed_everything(5)
    assert draw() == first
    seed_everything(6)
    assert draw() != first


def test_a_saved_state_goes_on_where_it_was(tmp_path):
    seed_everything(1)
    random.gauss(0, 1)  # leaves a second value in store
    torch.save(random_state(), tmp_path / "state.pt")
    first = draw()
    draw()
    restore_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert draw() == first


def test_what_the_block_draws_does_not_matter():
    seed_everything(1)
    expected = draw()
    seed_everything(1)
    with untouched_randomness():
        draw()
    assert draw() == expected
