import pytest

from sam3.errors import UserError
from sam3.ops.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("16GiB", 16 * 2**30), ("24", 24 * 2**30), ("40 GB", 40 * 10**9), ("512MiB", 512 * 2**20), (4096, 4096)],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["much", "-3GiB", "0", "16TiB", 0, -5, True, 1.5, None])
def test_other_sizes_are_refused_by_name(text):
    with pytest.raises(UserError, match=r"memory_budget is .*; expected a size such as 16GiB"):
        parse_size(text, "memory_budget")


def test_sizes_are_written_as_people_read_them():
    assert [format_size(size) for size in (2**30, 3 * 2**29, 340 * 2**20)] == ["1.0 GiB", "1.5 GiB", "340 MiB"]
