"""Overlays colour what was found, where it was found, and work at every size."""

import numpy as np
import pytest
from PIL import Image

from sam3.io.overlay import PALETTE, draw_overlay, label_colours
from sam3.structures import FoundObject
from tests.predict.conftest import disc, found_object

GREY = (100, 100, 100)


def test_masks_are_tinted_and_the_rest_is_left_alone():
    mask = disc(500, 600, center=(300, 250), radius=100, hole=50)
    overlay = draw_overlay(Image.new("RGB", (600, 500), GREY), [found_object("cat", mask)], {"cat": (255, 0, 0)})
    pixels = np.asarray(overlay)
    assert overlay.size == (600, 500)
    assert pixels[250, 375].tolist() == [162, 60, 60]  # in the ring: 40 % red
    assert pixels[250, 300].tolist() == list(GREY)  # in the hole
    assert pixels[20, 580].tolist() == list(GREY)
    assert pixels[200, 200].tolist() == [255, 0, 0]  # on the box's left side
    assert pixels[250, 351].tolist() != list(GREY)


def test_the_picture_given_is_not_changed():
    image = Image.new("RGB", (600, 500), GREY)
    draw_overlay(image, [found_object("cat", np.ones((500, 600), bool))], {"cat": (255, 0, 0)})
    assert image.getextrema() == ((100, 100),) * 3


def test_nothing_found_gives_the_picture_itself():
    image = Image.effect_noise((500, 480), 50).convert("RGB")
    np.testing.assert_array_equal(np.asarray(draw_overlay(image, [], {})), np.asarray(image))


@pytest.mark.parametrize(
    ("size", "factor"), [((1, 1), 8), ((3000, 2), 1), ((2, 3000), 1), ((112, 112), 5), ((480, 9), 1)]
)
def test_small_images_are_enlarged_by_a_whole_factor(size, factor):
    overlay = draw_overlay(Image.new("RGB", size), [found_object("a", np.ones(size[::-1], bool))], label_colours(["a"]))
    assert overlay.size == (size[0] * factor, size[1] * factor)
    assert np.asarray(overlay).any()


def test_boxes_outside_the_image_and_empty_masks_are_drawn_at_the_border():
    found = [
        FoundObject("a", 0.5, (-30.0, -20.0, 900.0, 700.0), found_object("a", np.zeros((500, 600), bool)).segmentation),
        FoundObject("a", 0.5, (700.0, 700.0, 650.0, 650.0), None),
    ]
    pixels = np.asarray(draw_overlay(Image.new("RGB", (600, 500)), found, {"a": (0, 255, 0)}))
    assert pixels[499, 300].tolist() == [0, 255, 0]


def test_captions_stay_inside_and_are_readable():
    mask = np.zeros((500, 600), bool)
    mask[0:40, 560:600] = True
    label = "an extraordinarily long phrase about nothing"
    pixels = np.asarray(draw_overlay(Image.new("RGB", (600, 500)), [found_object(label, mask)], {label: (255, 255, 0)}))
    plate = (pixels == (255, 255, 0)).all(-1)
    assert plate[:30, :600].sum() > 2000  # the plate is drawn, moved to the left
    assert (pixels[:30][:, 300:] == 0).all(-1).any()  # dark letters on a bright plate


def test_letters_of_any_script_are_drawn_without_an_error():
    draw_overlay(
        Image.new("RGB", (500, 500)), [found_object("红色圆 é ß", np.ones((500, 500), bool))], {"红色圆 é ß": GREY}
    )


def test_every_label_has_its_own_colour():
    labels = [f"label {number}" for number in range(40)]
    colours = label_colours([*labels, labels[0]])
    assert list(colours) == labels
    assert len(set(colours.values())) == 40
    assert colours["label 0"] == PALETTE[0]
