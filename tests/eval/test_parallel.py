import multiprocessing
import os
import signal

import pytest

from sam3.errors import DataError, UserError
from sam3.eval.parallel import ordered_map


def twice(item):
    return 2 * item


def add(item, shared):
    return item + shared["base"]


def fail(item):
    raise DataError(f"entry {item} is wrong")


def die(item):
    """Of the process that is not the first."""
    if multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)


def fail_late(item):
    if item in (1, 2):
        raise DataError(f"entry {item} is wrong")
    return item


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_results_come_in_order(workers):
    assert list(ordered_map(twice, range(20), workers=workers)) == [2 * item for item in range(20)]
    assert list(ordered_map(add, [1, 2, 3], workers=workers, shared={"base": 10})) == [11, 12, 13]
    assert list(ordered_map(twice, [], workers=workers)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_keeps_its_kind_and_message(workers):
    with pytest.raises(DataError, match="entry 0 is wrong"):
        list(ordered_map(fail, [0, 1], workers=workers))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_of_several_errors_the_first_in_order_is_raised_after_what_came_before(workers):
    results = ordered_map(fail_late, range(6), workers=workers)
    assert next(results) == 0
    with pytest.raises(DataError, match="entry 1 is wrong"):
        next(results)


def test_no_process_is_left_behind():
    for _ in ordered_map(twice, range(6), workers=3):
        assert multiprocessing.active_children() == []


def test_a_process_that_is_killed_is_reported_and_nothing_hangs():
    with pytest.raises(UserError, match="one of 2 processes was killed"):
        list(ordered_map(die, [0, 1], workers=2))
