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
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_results_come_in_order(workers):
    assert list(ordered_map(twice, range(20), workers=workers)) == [2 * item for item in range(20)]
    assert list(ordered_map(add, [1, 2, 3], workers=workers, shared={"base": 10})) == [11, 12, 13]
    assert list(ordered_map(twice, [], workers=workers)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_keeps_its_kind_and_message(workers):
    with pytest.raises(DataError, match="entry 0 is wrong"):
        list(ordered_map(fail, [0, 1], workers=workers))


def test_a_process_that_is_killed_is_reported_and_nothing_hangs():
    with pytest.raises(UserError, match="one of 2 processes was killed"):
        list(ordered_map(die, [0, 1], workers=2))
