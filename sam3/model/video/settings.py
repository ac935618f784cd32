"""Every threshold of the video model in one place (spec/tracker_video.md 6.1, default build)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from sam3.errors import ConfigError


@dataclass(frozen=True)
class VideoSettings:
    """The released behaviour; :func:`without_heuristics` gives the plain one. Frames unless said otherwise."""

    score_threshold: float = 0.5  # detections above it exist
    nms_iou: float = 0.1  # of two detections that overlap more, the weaker goes; 0 = off
    new_object_score: float = 0.7  # detections from it on may become objects
    association_iou: float = 0.1  # a detection that overlaps a track by it belongs to it
    track_match_iou: float = 0.5  # a track that overlaps a detection by it has been seen
    one_to_one_matching: bool = False
    max_objects: int = 10_000
    hotstart_delay: int = 15  # outputs wait so long, so that short-lived mistakes never show
    hotstart_unmatched: int = 8  # a young object unseen so often is removed
    hotstart_duplicate: int = 8  # a young object that shares a detection with an older one so often is removed
    hide_unmatched_only_when_young: bool = True
    keep_alive_initial: int = 30
    keep_alive_max: int = 30
    keep_alive_min: int = -1
    keep_alive_counts_empty: bool = False
    occlusion_iou: float = 0.7  # of two tracks that overlap so much, the one occluded more recently is blanked; 0 = off
    clean_area: int = 16  # pixels of masks of 288 x 288, fewer on smaller ones; holes and specks up to it go
    recondition_every: int = 16  # 0 = never
    confident_score: float = 0.8  # of detections that may re-condition a track ...
    confident_iou: float = 0.8  # ... which they overlap so much ...
    recondition_logit: float = 0.8  # ... and whose object score exceeds this
    confirmation: int = 0  # detections in a row before an object shows; 0 = at once
    refinement_window: int = 16  # detector prompts so near a click lose their say
    min_share_kept: float = 0.3  # of an object's area among its neighbours, or it is remembered as absent
    as_reference: bool = False  # repeat the defects of the reference that change results (spec/tracker_video.md 11)
    frames_per_chunk: int = 1  # frames that one process encodes and detects together
    border: float | None = None  # new detections whose centre is nearer to the border (share of the side) are dropped

    def __post_init__(self) -> None:
        if self.frames_per_chunk < 1:
            raise ConfigError(f"frames_per_chunk must be 1 or more, got {self.frames_per_chunk}")
        if self.hotstart_delay and max(self.hotstart_unmatched, self.hotstart_duplicate) > self.hotstart_delay:
            raise ConfigError(
                f"hotstart_unmatched ({self.hotstart_unmatched}) and hotstart_duplicate ({self.hotstart_duplicate}) "
                f"must not exceed hotstart_delay ({self.hotstart_delay}): what is removed later has been shown"
            )


def without_heuristics() -> VideoSettings:
    """The released build without temporal disambiguation; duplicates and occlusions are still dealt with."""
    return replace(VideoSettings(), hotstart_delay=0, hotstart_unmatched=0, hotstart_duplicate=0, recondition_every=0)


def with_thresholds(settings: VideoSettings, given: Mapping[str, Any]) -> VideoSettings:
    """``settings`` with some of its fields changed, checked as what users wrote.

    Raises:
        ConfigError: an unknown name, a value of another kind, or numbers that contradict each other.
    """
    known = asdict(VideoSettings())
    for name, value in given.items():
        if name not in known:
            raise ConfigError(f"the video model has no threshold {name!r}; it has {', '.join(sorted(known))}")
        kinds = {bool: (bool,), int: (int,), float: (int, float), type(None): (int, float, type(None))}[
            type(known[name])
        ]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise ConfigError(f"{name} is {value!r}; expected a value like {known[name]!r}")
    return replace(settings, **given)
