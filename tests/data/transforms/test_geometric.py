"""Resize, pad, flip, normalise: numbers, masks that follow their boxes, inputs left alone."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from sam3.data.samples import Query
from sam3.data.transforms.geometric import (
    Normalize,
    PadToSize,
    RandomHorizontalFlip,
    RandomResize,
    decode_mask,
    decode_masks,
    horizontal_flip,
    normalize,
    pad,
    resize,
    resize_scales,
)
from sam3.errors import ConfigError
from sam3.ops import rle
from tests.data.transforms.samples import make_sample

BOX = [5.0, 4.0, 15.0, 16.0]


def _mask_box(mask):
    rows, columns = torch.nonzero(mask, as_tuple=True)
    return [columns.min().item(), rows.min().item(), columns.max().item() + 1, rows.max().item() + 1]


def test_scales_of_the_reference():
    assert resize_scales(1008) == tuple(range(480, 993, 32))
    assert len(resize_scales(1008)) == 17


@pytest.mark.parametrize("resolution", [1, 14, 56, 112, 224, 336, 479, 480, 504, 800, 1344])
def test_scales_are_never_empty_nor_above_the_resolution(resolution):
    scales = resize_scales(resolution)
    assert scales
    assert 1 <= min(scales) <= max(scales) <= resolution


def test_scales_of_a_small_resolution_shrink_in_proportion():
    assert resize_scales(112) == tuple(range(56, 113, 4))
    assert resize_scales(112, min_size=100) == (100, 104, 108, 112)
    assert resize_scales(500, min_size=490) == (500,)


@pytest.mark.parametrize(
    "arguments", [{"resolution": 0}, {"resolution": 9, "min_size": 0}, {"resolution": 9, "stride": 0}]
)
def test_scales_refuse_numbers_below_one(arguments):
    with pytest.raises(ConfigError, match="positive"):
        resize_scales(**arguments)


def test_resize_scales_boxes_areas_and_masks():
    queries = [Query("thing", 1, (0,), input_boxes=torch.tensor([BOX]), input_box_labels=torch.ones(1).long())]
    sample = make_sample([BOX], queries)
    result = resize(sample, 40, 90)
    assert result.size == (40, 90)
    assert result.objects.boxes.tolist() == [[15, 8, 45, 32]]
    assert result.queries[0].input_boxes.tolist() == [[15, 8, 45, 32]]
    assert result.objects.areas[0] == pytest.approx(120 / 600 * 6)
    assert _mask_box(result.objects.masks[0]) == [15, 8, 45, 32]
    assert result.original_size == (20, 30)


def test_transforms_leave_their_input_alone():
    sample = make_sample([BOX])
    pixels, boxes = np.array(sample.image), sample.objects.boxes.clone()
    for change in (
        lambda: resize(sample, 8, 8),
        lambda: pad(sample, left=1, top=2, right=3, bottom=4),
        lambda: horizontal_flip(sample),
        lambda: normalize(sample, [0.5] * 3, [0.5] * 3),
    ):
        change()
        assert (np.array(sample.image) == pixels).all()
        assert torch.equal(sample.objects.boxes, boxes)
        assert isinstance(sample.objects.masks[0], dict)


def test_masks_are_antialiased_and_rounded_half_to_even():
    line = torch.zeros(4, 16, dtype=torch.bool)
    line[:, 3:5] = True  # the very middle of a new pixel, and a quarter of it
    sample = make_sample([[3, 0, 5, 4]], size=(4, 16), masks=[line])
    assert not resize(sample, 1, 2).objects.masks[0].any()
    half = make_sample([[0, 0, 1, 1]], size=(1, 2), masks=[torch.tensor([[True, False]])])
    assert resize(half, 1, 3).objects.masks[0].tolist() == [[True, False, False]]


@pytest.mark.parametrize("size", [(1200, 1000), (1001, 1003)])
@pytest.mark.parametrize("new", [448, 1008, 1500])
def test_large_encoded_masks_are_resized_as_whole_ones_are(size, new):
    height, width = size
    boxes = [[0, 0, 90, 30], [300.0, 200, 455, 317], [width - 1, height - 1, width, height], [0, 5, width, 8]]
    sample = make_sample(boxes, size=size)
    whole = replace(sample, objects=decode_masks(sample).objects)
    for quick, full in zip(resize(sample, new, new).objects.masks, resize(whole, new, new).objects.masks, strict=True):
        assert quick.any() == full.any()
        assert (quick != full).sum() <= full.sum() // 200  # pixels that are exactly one half round either way


def test_the_empty_pixels_around_a_large_mask_count():
    sample = make_sample([[0, 512, 1000, 517]], size=(1024, 1000))  # 0.49 of a row of new pixels
    assert not resize(sample, 128, 125).objects.masks[0].any()


def test_a_large_mask_without_pixels_becomes_its_box():
    empty = rle.encode(np.zeros((1100, 1000), dtype=bool))
    sample = make_sample([[100, 110, 200, 330]], size=(1100, 1000), masks=[empty])
    assert _mask_box(resize(sample, 550, 500).objects.masks[0]) == [50, 55, 100, 165]


def test_pad_moves_everything():
    result = pad(make_sample([BOX]), left=3, top=5, right=7, bottom=11)
    assert result.size == (36, 40)
    assert result.objects.boxes.tolist() == [[8, 9, 18, 21]]
    assert _mask_box(result.objects.masks[0]) == [8, 9, 18, 21]
    pixels = np.array(result.image)
    assert pixels[:5].max() == pixels[:, :3].max() == pixels[25:].max() == pixels[:, 33:].max() == 0
    assert (pixels[5:25, 3:33] == np.array(make_sample([]).image)).all()


def test_pad_to_size_draws_the_column_first():
    rng = random.Random(5)
    left, top = rng.randint(0, 10), rng.randint(0, 20)
    result = PadToSize(40)(make_sample([BOX]), random.Random(5))
    assert result.size == (40, 40)
    assert result.objects.boxes[0].tolist() == [BOX[0] + left, BOX[1] + top, BOX[2] + left, BOX[3] + top]


def test_pad_to_size_of_a_larger_image_is_refused():
    with pytest.raises(ConfigError, match="30 x 20 pixels cannot be padded to 25"):
        PadToSize(25)(make_sample([]), random.Random(0))


def test_flip_twice_is_nothing():
    sample = make_sample([BOX])
    once = horizontal_flip(sample)
    assert once.objects.boxes.tolist() == [[15, 4, 25, 16]]
    assert _mask_box(once.objects.masks[0]) == [15, 4, 25, 16]
    twice = horizontal_flip(once)
    assert torch.equal(twice.objects.boxes, sample.objects.boxes)
    assert (np.array(twice.image) == np.array(sample.image)).all()


def test_random_flip_follows_its_probability():
    sample, rng = make_sample([BOX]), random.Random(0)
    flipped = sum(RandomHorizontalFlip(0.25)(sample, rng) is not sample for _ in range(400))
    assert 70 <= flipped <= 130
    assert RandomHorizontalFlip(0.0)(sample, rng) is sample


def test_normalize_gives_the_input_of_the_network():
    sample = make_sample([BOX])
    result = Normalize((0.5, 0.4, 0.3), (0.5, 0.25, 1.0))(sample, random.Random(0))
    pixel = np.array(sample.image)[3, 7] / 255
    assert result.image.shape == (3, 20, 30)
    assert result.image.dtype == torch.float32
    expected = [(pixel[0] - 0.5) / 0.5, (pixel[1] - 0.4) / 0.25, pixel[2] - 0.3]
    assert result.image[:, 3, 7].tolist() == pytest.approx(expected, abs=1e-6)
    assert result.objects.boxes[0].tolist() == pytest.approx([1 / 3, 0.5, 1 / 3, 0.6])


def test_random_resize_is_square_and_uses_every_scale():
    rng = random.Random(0)
    sizes = {RandomResize((4, 6, 8))(make_sample([]), rng).size for _ in range(50)}
    assert sizes == {(4, 4), (6, 6), (8, 8)}


@pytest.mark.parametrize(
    ("box", "expected"),
    [([2.9, 1.2, 5.1, 1.9], [2, 1, 5, 2]), ([0, 0, 0, 0], [0, 0, 1, 1]), ([30, 20, 30, 20], [29, 19, 30, 20])],
)
def test_an_empty_mask_becomes_its_box_of_at_least_one_pixel(box, expected):
    empty = rle.encode(np.zeros((20, 30), dtype=bool))
    mask = decode_mask(empty, torch.tensor(box), (20, 30))
    assert mask.shape == (20, 30)
    assert _mask_box(mask) == expected
    assert mask.sum() == (expected[2] - expected[0]) * (expected[3] - expected[1])


def test_objects_without_masks_and_samples_without_objects():
    result = resize(make_sample([BOX, BOX], masks=[None, None]), 8, 8)
    assert result.objects.masks == [None, None]
    assert resize(make_sample([BOX], masks=None), 8, 8).objects.masks is None
    empty = normalize(pad(resize(make_sample([]), 1, 1), left=0, top=1, right=0, bottom=0), [0.5] * 3, [0.5] * 3)
    assert empty.image.shape == (3, 2, 1)
    assert empty.objects.boxes.shape == (0, 4)
    assert empty.image[:, 0].tolist() == [[-1.0]] * 3
