"""The demonstration's world: coloured shapes on textured backgrounds, annotated as Labelme would.

Needs numpy and Pillow only. Every picture depends on the seed and its own number alone, so a world
of 20 pictures is the beginning of the world of 200 with the same seed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from sam3.data.labelme_document import labelme_document, labelme_shape
from sam3.demo.backgrounds import background
from sam3.io.files import write_json

COLOURS = {
    "red": (205, 45, 45),
    "green": (50, 165, 70),
    "blue": (50, 80, 205),
    "yellow": (225, 205, 50),
    "purple": (160, 60, 190),
    "cyan": (50, 190, 200),
}
FORMS = ("circle", "square", "triangle")

SUPERSAMPLING = 4  # edges are drawn this much larger, then averaged: smooth like a photograph's


@dataclass(frozen=True)
class World:
    """What the pictures may contain; lengths are in pixels."""

    # Each word names a colour and a form. Every colour has one form: a network as small as the tiny preset
    # tells six colours apart within minutes, but not the product of colours and forms.
    phrases: tuple[str, ...] = (
        "red circle",
        "green square",
        "blue triangle",
        "yellow circle",
        "purple square",
        "cyan triangle",
    )
    image_sides: tuple[int, int] = (112, 160)  # smallest and largest width and height
    num_shapes: tuple[int, int] = (1, 3)  # fewest and most in one picture
    radii: tuple[float, float] = (0.13, 0.24)  # of the circle around a shape, as a share of the shorter side
    max_tilt: float = 10.0  # degrees that a square or triangle leans at most, to either side
    empty_share: float = 0.05  # of pictures without any shape

    def __post_init__(self) -> None:
        for phrase in self.phrases:
            colour, _, form = phrase.partition(" ")
            if colour not in COLOURS or form not in FORMS:
                known = f"a colour ({', '.join(COLOURS)}) and a form ({', '.join(FORMS)})"
                raise ValueError(f"unknown phrase {phrase!r}; expected {known}")


@dataclass(frozen=True)
class Shape:
    """One object of a picture: a circle, or a polygon inscribed in that circle."""

    colour: str
    form: str
    centre: tuple[float, float]  # x, y
    radius: float
    angle: float = 0.0  # radians; 0 = an upright square or triangle

    @property
    def label(self) -> str:
        return f"{self.colour} {self.form}"

    @property
    def corners(self) -> np.ndarray:
        """(K, 2) x, y of the polygon; of a circle, 72 points on it."""
        count = {"circle": 72, "square": 4, "triangle": 3}[self.form]
        first = -np.pi / 4 if self.form == "square" else -np.pi / 2
        angles = self.angle + first + 2 * np.pi * np.arange(count) / count
        return np.asarray(self.centre) + self.radius * np.stack([np.cos(angles), np.sin(angles)], 1)


@dataclass(frozen=True)
class Scene:
    """A picture and what is in it."""

    image: np.ndarray  # (H, W, 3) uint8
    shapes: list[Shape]


def write_world(folder: str | Path, world: World, *, num_images: int, seed: int = 0) -> list[Path]:
    """Write ``num_images`` pictures and their Labelme files into ``folder``; returns the pictures' paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(num_images):
        scene = draw_scene(world, np.random.default_rng([seed, index]))
        path = folder / f"scene_{index:04d}.png"
        Image.fromarray(scene.image).save(path)
        write_json(path.with_suffix(".json"), annotation_of(scene, path.name), indent=1)
        paths.append(path)
    return paths


def draw_scene(world: World, rng: np.random.Generator) -> Scene:
    """A random picture of ``world``; its shapes do not touch."""
    height, width = (int(side) for side in rng.integers(world.image_sides[0], world.image_sides[1] + 1, 2))
    shapes = _place_shapes(world, rng, height, width)
    picture = background(rng, height, width)
    for shape in shapes:
        picture = paint(picture, shape, random_look(rng, shape.colour), rng)
    return Scene(image=picture.clip(0, 255).astype(np.uint8), shapes=shapes)


def annotation_of(scene: Scene, file_name: str) -> dict[str, Any]:
    """The content of the Labelme file beside the picture ``file_name``."""
    shapes = [_labelme_shape(shape) for shape in scene.shapes]
    return labelme_document(shapes, image_path=file_name, image_size=scene.image.shape[:2])


def _place_shapes(world: World, rng: np.random.Generator, height: int, width: int) -> list[Shape]:
    """Random shapes whose surrounding circles lie inside the picture and apart from each other."""
    if rng.uniform() < world.empty_share:
        return []
    wanted = int(rng.integers(world.num_shapes[0], world.num_shapes[1] + 1))
    placed: list[Shape] = []
    for _ in range(50 * wanted):  # a crowded picture may end with fewer than wanted
        radius = rng.uniform(*world.radii) * min(height, width)
        centre = (rng.uniform(radius + 1, width - radius - 1), rng.uniform(radius + 1, height - radius - 1))
        if all(np.hypot(*np.subtract(centre, p.centre)) > radius + p.radius + 2 for p in placed):
            placed.append(_random_shape(world, rng, centre, radius))
        if len(placed) == wanted:
            break
    return placed


def _random_shape(world: World, rng: np.random.Generator, centre: tuple[float, float], radius: float) -> Shape:
    upright = rng.uniform() < 0.5
    colour, form = world.phrases[rng.integers(len(world.phrases))].split()
    return Shape(
        colour=colour,
        form=form,
        centre=centre,
        radius=radius,
        angle=0.0 if upright else np.radians(rng.uniform(-world.max_tilt, world.max_tilt)),
    )


@dataclass(frozen=True)
class Look:
    """How one object is painted; a video paints it alike on every frame."""

    colour: np.ndarray  # (3,) in [0, 255]
    shading_angle: float  # radians; the direction in which the object gets lighter
    shading: float  # relative change from the middle to the edge


def random_look(rng: np.random.Generator, colour: str) -> Look:
    """The colour varied, shaded from one side to the other."""
    varied = np.asarray(COLOURS[colour]) + rng.uniform(-25, 25, 3)
    return Look(varied, shading_angle=rng.uniform(0, 2 * np.pi), shading=rng.uniform(0, 0.25))


def paint(picture: np.ndarray, shape: Shape, look: Look, rng: np.random.Generator) -> np.ndarray:
    """``picture`` (H, W, 3) with ``shape`` on it, grained."""
    height, width = picture.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    angle = look.shading_angle
    offset = (columns - shape.centre[0]) * np.cos(angle) + (rows - shape.centre[1]) * np.sin(angle)
    shading = 1 + look.shading * offset / shape.radius
    painted = look.colour * shading[..., None] + rng.normal(0, 6, picture.shape)
    share = coverage(shape.corners, height, width)[..., None]
    return picture * (1 - share) + painted * share


def coverage(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W) share of each pixel that the polygon (K, 2) covers."""
    canvas = Image.new("L", (width * SUPERSAMPLING, height * SUPERSAMPLING))
    ImageDraw.Draw(canvas).polygon([tuple(point * SUPERSAMPLING) for point in corners], fill=255)
    return np.asarray(canvas.resize((width, height), Image.Resampling.BOX), dtype=np.float32) / 255


def _labelme_shape(shape: Shape) -> dict[str, Any]:
    """The kind of annotation a person would draw: a circle, a rectangle, or else a polygon."""
    if shape.form == "circle":
        kind, points = "circle", [shape.centre, (shape.centre[0] + shape.radius, shape.centre[1])]
    elif shape.form == "square" and shape.angle == 0.0:
        kind, points = "rectangle", [shape.corners[3], shape.corners[1]]  # top left, bottom right
    else:
        kind, points = "polygon", list(shape.corners)
    return labelme_shape(shape.label, [(round(float(x), 2), round(float(y), 2)) for x, y in points], kind)
