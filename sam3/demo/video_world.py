"""Moving shapes with exact masklets: the image world's objects in clips, and a ground truth file for the evaluation.

Clips are asked for forms ("circle", which may be red or yellow), so that objects of one phrase differ in colour and
size, as real ones of a kind do; who is who is lost on a program that looks at single frames where they cross or hide.
Every clip depends on the seed and its own number alone. Source of the file format: spec/evaluation.md 1.3. Legend: F
frames, K objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sam3.demo.backgrounds import background
from sam3.demo.world import Look, Shape, World, coverage, paint, random_look
from sam3.io.files import write_json
from sam3.ops import rle

PLAIN, CROSSING, OCCLUSION, LEAVING = "plain", "crossing", "occlusion", "leaving"
KINDS = (PLAIN, CROSSING, OCCLUSION, LEAVING)

SIDE = 112  # pixels of the square pictures, the input of the tiny preset
RADII = (0.11, 0.17)  # of the circle around a shape, as a share of the side
NUM_PASSES = 2  # of an object through the middle of a crossing or occlusion clip
NOISE = 3.0  # of the camera, grey levels


@dataclass(frozen=True)
class Actor:
    """One object of a clip."""

    colour: str
    form: str
    look: Look
    radius: float
    angle: float  # radians, constant
    path: np.ndarray  # (F, 2) x, y of the centre

    @property
    def phrase(self) -> str:
        """What a clip is asked for to find it."""
        return self.form

    @property
    def full_phrase(self) -> str:
        return f"{self.colour} {self.form}"

    def shape(self, frame: int) -> Shape:
        centre = tuple(float(value) for value in self.path[frame])
        return Shape(self.colour, self.form, centre, self.radius, self.angle)


@dataclass(frozen=True)
class Clip:
    """A short video and what is in it."""

    kind: str
    frames: np.ndarray  # (F, H, W, 3) uint8
    actors: list[Actor]  # from back to front
    masks: np.ndarray  # (K, F, H, W) bool: pixels on which an actor shows
    occluder: np.ndarray | None  # (4, 2) corners of a bar in front of everything


def write_video_world(
    folder: str | Path,
    world: World,
    *,
    num_videos: int,
    num_frames: int = 24,
    seed: int = 0,
    kinds: Sequence[str] = KINDS,
    num_negatives: int = 2,
) -> Path:
    """Write clips as picture folders ``clip_0000/00000.png`` and their ground truth.

    Args:
        kinds: of the clips, in turn.
        num_negatives: phrases asked of each clip that it does not show.

    Returns:
        The ground truth file, ``ground_truth.json``.
    """
    folder = Path(folder)
    names, videos, masklets, pairs = sorted(_colours(world)), [], [], []
    for index in range(num_videos):
        rng = np.random.default_rng([seed, index])
        clip = draw_clip(world, kinds[index % len(kinds)], num_frames, rng)
        video = _write_frames(folder, index, clip)
        videos.append(video)
        masklets += _masklets(clip, video, names, first_id=len(masklets) + 1)
        pairs += _pairs(clip, video, names, num_negatives, rng, first_id=len(pairs) + 1)
    path = folder / "ground_truth.json"
    document = {
        "info": {"version": "1", "description": f"moving shapes, seed {seed}"},
        "videos": videos,
        "annotations": masklets,
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, start=1)],
        "video_np_pairs": pairs,
    }
    write_json(path, document)
    return path


def draw_clip(world: World, kind: str, num_frames: int, rng: np.random.Generator) -> Clip:
    """A random clip of one of :data:`KINDS`."""
    make = {PLAIN: _plain, CROSSING: _crossing, OCCLUSION: _occlusion, LEAVING: _leaving}[kind]
    actors, occluder = make(world, num_frames, rng)
    actors = [actors[place] for place in rng.permutation(len(actors))]
    return Clip(kind, _render(actors, occluder, num_frames, rng), actors, visible_masks(actors, occluder), occluder)


def visible_masks(actors: Sequence[Actor], occluder: np.ndarray | None = None) -> np.ndarray:
    """(K, F, SIDE, SIDE) bool: pixels at least half covered by an actor and by nothing in front of it."""
    num_frames = len(actors[0].path) if actors else 0
    free = np.ones((num_frames, SIDE, SIDE), dtype=bool)
    if occluder is not None:
        free &= coverage(occluder, SIDE, SIDE) < 0.5
    masks = np.zeros((len(actors), num_frames, SIDE, SIDE), dtype=bool)
    for place in reversed(range(len(actors))):
        corners = [actors[place].shape(frame).corners for frame in range(num_frames)]
        own = np.stack([coverage(polygon, SIDE, SIDE) >= 0.5 for polygon in corners])
        masks[place] = own & free
        free &= ~own
    return masks


# --- kinds of clips: actors and what stands in front of them ---

_Scene = tuple[list[Actor], np.ndarray | None]


def _plain(world: World, num_frames: int, rng: np.random.Generator) -> _Scene:
    """One to three objects of different phrases, which never touch."""
    forms = rng.permutation(sorted(_colours(world)))[: rng.integers(1, 4)]
    actors: list[Actor] = []
    for form in forms:
        for _ in range(50):  # a crowded clip may end with fewer
            (actor,) = _actors(world, form, 1, rng)
            start, end = rng.uniform(actor.radius + 1, SIDE - actor.radius - 1, (2, 2))
            actor = replace(actor, path=start + np.linspace(0, 1, num_frames)[:, None] * (end - start))
            if all(_gap(actor, other) > 2 for other in actors):
                actors.append(actor)
                break
    return actors, None


def _crossing(world: World, num_frames: int, rng: np.random.Generator) -> _Scene:
    """Two objects of one phrase that go to and fro along lines through the middle, one over the other."""
    actors = _actors(world, _common_form(world, rng), 2, rng)
    first = rng.uniform(0, 2 * np.pi)
    paths = []
    for number, actor in enumerate(actors):
        direction = first + np.pi * (number + rng.uniform(-0.12, 0.12)) * 2 / len(actors)
        paths.append(_to_and_fro(actor, direction, rng.uniform(-3, 3), num_frames, rng.uniform(-0.02, 0.02)))
    return [replace(actor, path=path) for actor, path in zip(actors, paths, strict=True)], None


def _occlusion(world: World, num_frames: int, rng: np.random.Generator) -> _Scene:
    """Two objects of one phrase that go to and fro behind a bar, in lanes of their own or in one."""
    actors = _actors(world, _common_form(world, rng), 2, rng)
    direction = rng.choice([0.0, np.pi / 2]) + rng.uniform(-0.1, 0.1)
    lane = rng.uniform(0, 0.22) * SIDE
    paths = [
        _to_and_fro(actors[0], direction, lane, num_frames, rng.uniform(-0.06, 0.06)),
        _to_and_fro(actors[1], direction + np.pi, lane, num_frames, rng.uniform(-0.06, 0.06)),
    ]
    width = 2 * max(actor.radius for actor in actors) * rng.uniform(0.9, 1.15)
    moved = [replace(actor, path=path) for actor, path in zip(actors, paths, strict=True)]
    return moved, _bar(direction, width)


def _leaving(world: World, num_frames: int, rng: np.random.Generator) -> _Scene:
    """One or two objects of one phrase; the first leaves the picture on one side and comes back."""
    actors = _actors(world, _common_form(world, rng), int(rng.integers(1, 3)), rng)
    direction = rng.choice(4) * np.pi / 2
    lane = rng.uniform(0.15, 0.25) * SIDE
    along, across = _axes(direction)
    phase = np.linspace(rng.uniform(-0.2, 0), 1, num_frames)[:, None]
    reach = SIDE / 2 + 1.6 * actors[0].radius
    there = SIDE / 2 + lane * across + along * (reach * np.sin(np.pi * phase * 1.5) ** 2 * np.sign(phase))
    moved = [replace(actors[0], path=there)]
    for other in actors[1:]:
        moved.append(replace(other, path=_to_and_fro(other, direction, -lane, num_frames, 0.0, num_passes=1)))
    return moved, None


# --- parts ---


def _actors(world: World, form: str, count: int, rng: np.random.Generator) -> list[Actor]:
    """Objects of one form in different colours; they do not move yet."""
    actors = []
    for colour in rng.permutation(_colours(world)[form])[:count]:
        angle = 0.0 if form == "circle" else np.radians(rng.uniform(-10, 10))
        look = random_look(rng, str(colour))
        actors.append(Actor(str(colour), form, look, rng.uniform(*RADII) * SIDE, angle, path=np.zeros((0, 2))))
    return actors


def _common_form(world: World, rng: np.random.Generator) -> str:
    """A form that comes in two colours or more."""
    return str(rng.choice(sorted(form for form, colours in _colours(world).items() if len(colours) > 1)))


def _colours(world: World) -> dict[str, list[str]]:
    """Form -> the colours it comes in."""
    colours: dict[str, list[str]] = {}
    for phrase in world.phrases:
        colour, _, form = phrase.partition(" ")
        colours.setdefault(form, []).append(colour)
    return colours


def _to_and_fro(
    actor: Actor, direction: float, lane: float, num_frames: int, phase: float, *, num_passes: int = NUM_PASSES
) -> np.ndarray:
    """(F, 2): from one side to the other and back at even speed, ``lane`` pixels beside the middle."""
    along, across = _axes(direction)
    walked = num_passes * (np.arange(num_frames) / max(num_frames - 1, 1)) + phase
    place = 2 * np.abs((walked % 2) - 1) - 1  # 1 at the start, -1 after one pass
    reach = (SIDE / 2 - actor.radius - 1) / max(np.abs(along))
    reach = min(reach, SIDE / 2 - actor.radius - 1 + 6)  # along a diagonal no farther than the corners allow
    path = SIDE / 2 + lane * across + place[:, None] * reach * along
    return path.clip(actor.radius + 1, SIDE - actor.radius - 1)


def _axes(direction: float) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors along and across."""
    return np.array([np.cos(direction), np.sin(direction)]), np.array([-np.sin(direction), np.cos(direction)])


def _bar(direction: float, width: float) -> np.ndarray:
    """(4, 2): a bar through the middle, across ``direction``."""
    along, across = _axes(direction)
    ends = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    return np.array([SIDE / 2 + a * width / 2 * along + b * SIDE * across for a, b in ends])


def _gap(first: Actor, second: Actor) -> float:
    """Smallest distance between the circles around two objects, pixels."""
    return float(np.linalg.norm(first.path - second.path, axis=1).min() - first.radius - second.radius)


def _render(
    actors: Sequence[Actor], occluder: np.ndarray | None, num_frames: int, rng: np.random.Generator
) -> np.ndarray:
    """(F, SIDE, SIDE, 3) uint8."""
    scenery = background(rng, SIDE, SIDE)
    bar = background(rng, SIDE, SIDE)
    share = np.zeros((SIDE, SIDE, 1)) if occluder is None else coverage(occluder, SIDE, SIDE)[..., None]
    frames = []
    for frame in range(num_frames):
        picture = scenery
        for actor in actors:
            picture = paint(picture, actor.shape(frame), actor.look, rng)
        picture = picture * (1 - share) + bar * share
        frames.append((picture + rng.normal(0, NOISE, picture.shape)).clip(0, 255).astype(np.uint8))
    return np.stack(frames)


# --- files ---


def _write_frames(folder: Path, index: int, clip: Clip) -> dict[str, Any]:
    """Writes the pictures; returns the entry of ``videos``."""
    name = f"clip_{index:04d}"
    (folder / name).mkdir(parents=True, exist_ok=True)
    files = [f"{name}/{frame:05d}.png" for frame in range(len(clip.frames))]
    for file, picture in zip(files, clip.frames, strict=True):
        Image.fromarray(picture).save(folder / file)
    size = {"height": SIDE, "width": SIDE, "length": len(files)}
    return {"id": index + 1, "video_name": name, "kind": clip.kind, "file_names": files, **size}


def _masklets(clip: Clip, video: dict[str, Any], names: list[str], *, first_id: int) -> list[dict[str, Any]]:
    """Entries of ``annotations``; frames on which an object does not show hold null."""
    entries = []
    for actor, masks in zip(clip.actors, clip.masks, strict=True):
        if not masks.any():
            continue
        runs = [rle.encode(mask) if mask.any() else None for mask in masks]
        entries.append(
            {
                "id": first_id + len(entries),
                "video_id": video["id"],
                "category_id": names.index(actor.phrase) + 1,
                "noun_phrase": actor.phrase,
                "full_phrase": actor.full_phrase,
                "height": SIDE,
                "width": SIDE,
                "iscrowd": 0,
                "segmentations": runs,
                "bboxes": [None if run is None else rle.to_box_xywh(run) for run in runs],
                "areas": [None if run is None else rle.area(run) for run in runs],
            }
        )
    return entries


def _pairs(
    clip: Clip, video: dict[str, Any], names: list[str], num_negatives: int, rng: np.random.Generator, *, first_id: int
) -> list[dict[str, Any]]:
    """Entries of ``video_np_pairs``: the phrases that the clip shows, and some that it does not."""
    shown = [actor.phrase for actor, masks in zip(clip.actors, clip.masks, strict=True) if masks.any()]
    absent = [name for name in names if name not in shown]
    asked = sorted(set(shown)) + sorted(str(name) for name in rng.permutation(absent)[:num_negatives])
    return [
        {
            "id": first_id + place,
            "video_id": video["id"],
            "category_id": names.index(phrase) + 1,
            "noun_phrase": phrase,
            "num_masklets": shown.count(phrase),
        }
        for place, phrase in enumerate(asked)
    ]
