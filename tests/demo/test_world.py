"""The demonstration's pictures and annotations: repeatable, complete, and agreeing with each other."""

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sam3.demo.backgrounds import PATTERNS, background
from sam3.demo.world import COLOURS, Scene, Shape, World, annotation_of, draw_scene, write_world


def scenes(world: World, count: int, seed: int = 0) -> list[Scene]:
    return [draw_scene(world, np.random.default_rng([seed, index])) for index in range(count)]


@pytest.mark.parametrize("phrase", ["mauve circle", "red hexagon", "red", ""])
def test_an_unknown_phrase_is_named(phrase):
    with pytest.raises(ValueError, match=f"unknown phrase '{phrase}'; expected a colour \\(red, green"):
        World(phrases=(phrase,))


def test_files_depend_on_seed_and_number_only(tmp_path):
    world = World()
    few = write_world(tmp_path / "few", world, num_images=2, seed=3)
    many = write_world(tmp_path / "many", world, num_images=4, seed=3)
    other = write_world(tmp_path / "other", world, num_images=2, seed=4)
    assert [path.name for path in few] == ["scene_0000.png", "scene_0001.png"]
    for one, same, different in zip(few, many, other, strict=False):
        assert one.read_bytes() == same.read_bytes()
        assert one.with_suffix(".json").read_bytes() == same.with_suffix(".json").read_bytes()
        assert one.read_bytes() != different.read_bytes()


def test_labelme_files_describe_their_pictures(tmp_path):
    for path in write_world(tmp_path, World(), num_images=8):
        document = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        with Image.open(path) as image:
            assert (document["imageWidth"], document["imageHeight"]) == image.size
            assert 112 <= min(image.size) <= max(image.size) <= 160
        assert document["imagePath"] == path.name
        assert all(shape["label"] in World().phrases for shape in document["shapes"])


def test_every_kind_of_annotation_and_every_word_occurs_and_some_pictures_are_empty():
    all_scenes = scenes(World(), 200)
    documents = [annotation_of(scene, "a.png") for scene in all_scenes]
    kinds = Counter(shape["shape_type"] for document in documents for shape in document["shapes"])
    assert set(kinds) == {"circle", "rectangle", "polygon"}
    words = Counter(shape.label for scene in all_scenes for shape in scene.shapes)
    assert set(words) == set(World().phrases)
    assert min(words.values()) > 15
    sizes = Counter(len(scene.shapes) for scene in all_scenes)
    assert set(sizes) == {0, 1, 2, 3}
    assert 2 <= sizes[0] <= 20


def test_the_annotation_covers_the_painted_pixels():
    shape = Shape(colour="red", form="triangle", centre=(40, 30), radius=20)
    assert shape.corners[0] == pytest.approx([40, 10])  # the tip points up
    rectangle = Shape(colour="red", form="square", centre=(50, 60), radius=10 * 2**0.5)
    document = annotation_of(Scene(np.zeros((100, 100, 3), np.uint8), [rectangle]), "a.png")
    assert document["shapes"][0]["shape_type"] == "rectangle"
    assert document["shapes"][0]["points"] == [[40.0, 50.0], [60.0, 70.0]]


def test_inside_a_shape_the_picture_has_its_colour():
    for scene in scenes(World(), 40):
        for shape in scene.shapes:
            canvas = Image.new("1", scene.image.shape[1::-1])
            ImageDraw.Draw(canvas).polygon([tuple(p) for p in shape.corners], fill=1)
            inside = scene.image[np.asarray(canvas)].mean(0)
            distance = {name: np.abs(inside - colour).sum() for name, colour in COLOURS.items()}
            assert min(distance, key=distance.get) == shape.colour


def test_shapes_lie_inside_and_apart():
    for scene in scenes(World(num_shapes=(2, 4)), 60):
        height, width = scene.image.shape[:2]
        for index, shape in enumerate(scene.shapes):
            assert (shape.corners >= 0).all()
            assert (shape.corners <= [width, height]).all()
            for other in scene.shapes[:index]:
                assert np.hypot(*np.subtract(shape.centre, other.centre)) > shape.radius + other.radius


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.__name__)
def test_patterns_stay_between_zero_and_one(pattern):
    for seed in range(5):
        values = pattern(np.random.default_rng(seed), 37, 53)
        assert values.shape == (37, 53)
        assert values.min() >= 0
        assert values.max() <= 1


def test_backgrounds_are_nearly_grey_and_differ():
    pictures = [background(np.random.default_rng(seed), 64, 64) for seed in range(30)]
    means = np.stack([picture.mean((0, 1)) for picture in pictures])
    assert np.ptp(means, 1).max() < 40  # the words' colours are at least 120 apart
    assert np.ptp(means.mean(1)) > 50
