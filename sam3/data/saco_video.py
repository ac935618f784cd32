"""Ground truth of SA-Co/VEval: videos, phrases asked of them, and the masklets that answer.

Read entry by entry and kept small; every fault is named by file, entry and field. Source: spec/evaluation.md 1.3.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sam3.data.masklets import Masklet, Record, read_boxes, read_masks, whole_number
from sam3.errors import DataError, listed
from sam3.io.json_stream import iterate_object

_LISTS = ("videos", "annotations", "categories", "video_np_pairs")


class PairId(NamedTuple):
    """One phrase asked of one video."""

    video_id: int
    category_id: int


@dataclass(frozen=True, slots=True)
class Video:
    """One clip."""

    id: int
    name: str
    file_names: tuple[str, ...]  # below the media folder, one per frame; not always neighbours in the source
    height: int
    width: int

    def __len__(self) -> int:
        """Frames."""
        return len(self.file_names)


@dataclass(frozen=True, slots=True)
class TruthMasklet(Masklet):
    """One annotated object."""

    id: int
    is_crowd: bool
    tags: tuple[str, ...] | None  # None: the file does not tag this object


@dataclass
class VideoGroundTruth:
    """A VEval file."""

    videos: dict[int, Video]  # in file order
    categories: dict[int, str]  # phrase table, in file order
    masklets: list[TruthMasklet]  # in file order
    pairs: dict[PairId, str] | None  # every evaluated pair and its phrase, in file order; None: the file lists none
    source: str = "the ground truth"
    _by_video: dict[int, list[TruthMasklet]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for masklet in self.masklets:
            self._by_video.setdefault(masklet.video_id, []).append(masklet)

    def of_video(self, video_id: int) -> list[TruthMasklet]:
        """The masklets of one video, in file order."""
        return self._by_video.get(video_id, [])

    def phrase(self, pair: PairId) -> str:
        """The phrase of a pair, from the pair list or the phrase table."""
        listed_phrase = (self.pairs or {}).get(pair)
        return listed_phrase or self.categories.get(pair.category_id, f"category {pair.category_id}")


def read_ground_truth(path: str | Path, *, with_masklets: bool = True) -> VideoGroundTruth:
    """Read and check a VEval ground truth file.

    Args:
        with_masklets: ``False`` skips the annotated objects, which a model that answers must not see anyway.

    Raises:
        DataError: the file cannot be used; the message names it, the entry and the field.
    """
    members = iterate_object(path, lists=_LISTS)
    return _collect((member for member in members if with_masklets or member[0] != "annotations"), str(path))


def ground_truth_of(document: Record, source: str = "the ground truth") -> VideoGroundTruth:
    """The same from a JSON object in memory, which is left as it is."""
    if not isinstance(document, dict):
        raise DataError(f"{source}: expected a JSON object, got {type(document).__name__}")
    members = (
        (name, entry)
        for name, value in document.items()
        for entry in (value if isinstance(value, list) and value else [value])
    )
    return _collect(members, source)


def _collect(members: Iterator[tuple[str, Any]], source: str) -> VideoGroundTruth:
    read = dict(zip(_LISTS, (_video, _masklet, _category, _pair), strict=True))
    found: dict[str, list[Any]] = {name: [] for name in read}
    seen = set()
    for name, entry in members:
        seen.add(name)
        if name in found and entry != []:  # an empty list has no entries
            where = f"{source}: {name}[{len(found[name])}]"
            if not isinstance(entry, dict):
                raise DataError(f"{where} is {type(entry).__name__}, expected an object")
            found[name].append(read[name](entry, where))
    videos = _by_id(found["videos"], "videos", source)
    if not videos:
        raise DataError(f"{source}: no videos; expected a list 'videos' with at least one entry")
    truth = VideoGroundTruth(
        videos=videos,
        categories=_by_id(found["categories"], "categories", source),
        masklets=found["annotations"],
        pairs=dict(found["video_np_pairs"]) if "video_np_pairs" in seen else None,
        source=source,
    )
    _check_references(truth)
    return truth


def _video(entry: Record, where: str) -> tuple[int, Video]:
    identifier = whole_number(entry, "id", where)
    names = entry.get("file_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{where}: file_names must be a list of texts, one per frame")
    if "length" in entry and whole_number(entry, "length", where) != len(names):
        raise DataError(f"{where}: length is {entry['length']}, but file_names has {len(names)} entries")
    height, width = (whole_number(entry, side, where) for side in ("height", "width"))
    name = str(entry.get("video_name", identifier))
    return identifier, Video(identifier, name, tuple(names), height, width)


def _masklet(entry: Record, where: str) -> TruthMasklet:
    boxes, given = read_boxes(entry, where)
    size = None
    if entry.get("height") is not None and entry.get("width") is not None:
        size = whole_number(entry, "height", where), whole_number(entry, "width", where)
    tags = entry.get("tags")
    if tags is not None and not (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)):
        raise DataError(f"{where}: tags is {tags!r}, expected a list of texts")
    return TruthMasklet(
        video_id=whole_number(entry, "video_id", where),
        category_id=whole_number(entry, "category_id", where),
        boxes=boxes,
        box_given=given,
        masks=read_masks(entry, where, size) if "segmentations" in entry else None,
        id=whole_number(entry, "id", where),
        is_crowd=bool(entry.get("iscrowd", 0)),
        tags=None if tags is None else tuple(tags),
    )


def _category(entry: Record, where: str) -> tuple[int, str]:
    return whole_number(entry, "id", where), str(entry.get("name", entry["id"]))


def _pair(entry: Record, where: str) -> tuple[PairId, str]:
    pair = PairId(whole_number(entry, "video_id", where), whole_number(entry, "category_id", where))
    return pair, str(entry.get("noun_phrase") or "")


def _by_id(entries: list[tuple[int, Any]], name: str, source: str) -> dict[int, Any]:
    result = dict(entries)
    if len(result) < len(entries):
        seen: set[int] = set()
        doubled = sorted({key for key, _ in entries if key in seen or seen.add(key)})
        raise DataError(f"{source}: {name} lists an id more than once: {listed(doubled)}")
    return result


def _check_references(truth: VideoGroundTruth) -> None:
    identifiers: set[int] = set()
    for index, masklet in enumerate(truth.masklets):
        where = f"{truth.source}: annotations[{index}] (id {masklet.id})"
        if masklet.id in identifiers:
            raise DataError(f"{where}: another annotation has the same id")
        identifiers.add(masklet.id)
        check_against_video(masklet, truth.videos.get(masklet.video_id), where)
    for index, pair in enumerate(truth.pairs or ()):
        if pair.video_id not in truth.videos:
            raise DataError(
                f"{truth.source}: video_np_pairs[{index}]: video_id {pair.video_id} is not among the videos"
            )


def check_against_video(masklet: Masklet, video: Video | None, where: str) -> None:
    """A masklet must belong to a listed video and have one entry per frame and masks of its size.

    Raises:
        DataError: it does not; the message names the field.
    """
    if video is None:
        raise DataError(f"{where}: video_id {masklet.video_id} is not among the videos of the ground truth")
    if len(masklet) != len(video):
        raise DataError(f"{where}: bboxes has {len(masklet)} entries, but video {video.id} has {len(video)} frames")
    masks = masklet.masks
    if masks is None:
        return
    if len(masks.areas) != len(video):
        raise DataError(
            f"{where}: segmentations has {len(masks.areas)} entries, but video {video.id} has {len(video)} frames"
        )
    if masks.areas.any() and (masks.height, masks.width) != (video.height, video.width):
        raise DataError(
            f"{where}: segmentations are of size [{masks.height}, {masks.width}], but video {video.id} is "
            f"[{video.height}, {video.width}] (height, width)"
        )
