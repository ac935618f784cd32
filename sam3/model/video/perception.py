"""What the networks see on the frames of one video; each frame is encoded once for everything that is asked of it.

Frames are worked off in chunks: their pictures go through the networks as one batch, and several processes share them
(:mod:`sam3.model.video.partners`). A chunk never leaves the range that was announced, and every frame is asked with its
own prompt. Source: spec/tracker_video.md 6.3, 6.13; its 11.7 is fixed.
"""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sam3.io.frames import FrameSource, PictureList, VideoFile
from sam3.model.tracker.tracker import TrackerFeatures
from sam3.model.video.partners import ALONE, Partners
from sam3.model.video.sam3_video import Sam3Video
from sam3.model.video.schedule import detection_chunk
from sam3.model.video.video_model import Detections
from sam3.ops.boxes import inverse_sigmoid
from sam3.ops.images import preprocess
from sam3.ops.reference_pixels import reference_pixels
from sam3.structures import GeometricPrompt, ImageFeatures, TextFeatures

_LOGIT_LIMIT = 10.0
_PAIRS_PER_CALL = 16  # on GPUs; at 1008 pixels a pair costs 70 MB of masks
_KEPT_FRAMES = 2  # whose features are kept at least


@dataclass(frozen=True, eq=False)
class Question:
    """One thing that is looked for in a video."""

    text: TextFeatures  # of one phrase, on every frame
    example: GeometricPrompt | None = None  # one row ...
    example_frame: int | None = None  # ... for this frame alone
    only_with_example: bool = False  # no other frame is asked
    lingers: bool = False  # the example counts for the next frame, too, as where the reference looks ahead

    def is_asked_on(self, frame: int) -> bool:
        return not self.only_with_example or frame == self.example_frame

    def example_on(self, frame: int) -> GeometricPrompt | None:
        if self.example_frame is None or not 0 <= frame - self.example_frame <= self.lingers:
            return None
        return self.example


@dataclass
class _View:
    """What is known of one frame."""

    second_pyramid: list[Tensor]  # levels (1, C, ., .) of the tracker's neck
    image: ImageFeatures | None  # of one picture; None = another process holds it
    features: TrackerFeatures | None = None  # made when the tracker first looks
    answers: dict[Question, Detections] = field(default_factory=dict)


@dataclass
class Perception:
    """
    Args:
        model: the networks, in evaluation mode.
        source: the frames.
        frames_per_chunk: frames that one process encodes and asks together.
        min_score: detections must exceed it to be kept.
        pairs_per_call: frames times phrases that the detector is asked about in one call, at most; 0 = 16 on GPUs. On a
            CPU more than one gain nothing, and one alone has the same last bits whatever else is looked for.
        partners: the processes that share the frames; all of them make the same calls.
        as_reference: pixels as the reference makes them.
    """

    model: Sam3Video
    source: FrameSource
    frames_per_chunk: int = 1
    min_score: float = 0.0
    pairs_per_call: int = 0
    partners: Partners = ALONE
    as_reference: bool = False
    _questions: list[Question] = field(default_factory=list, init=False)
    _expected: Container[int] = field(default=(), init=False)
    _views: dict[int, _View] = field(default_factory=dict, init=False)

    def ask(self, questions: Iterable[Question]) -> None:
        """Look for these from now on; what was answered already is not asked again."""
        self._questions = list(questions)

    def expect(self, frames: Container[int]) -> None:
        """Announce the frames that will be looked at; a chunk holds no other ones."""
        self._expected = frames

    def detect(self, frame: int) -> list[Detections]:
        """What answers each of the questions on a frame; joint scores in [0, 1]."""
        self._see(frame)
        known = self._views[frame].answers
        if any(question not in known for question in self._questions):
            self._answer(self._chunk(frame))
        return [known[question] for question in self._questions]

    def tracker_features(self, frame: int) -> TrackerFeatures:
        """What the tracker needs of a frame."""
        self._see(frame)
        view = self._views[frame]
        if view.features is None:
            view.features = self.model.tracker.features(view.second_pyramid)
        return view.features

    def nothing(self) -> Detections:
        """No detection."""
        side = self.model.tracker.config.low_res_size
        scores = torch.zeros(0, device=self.model.detector.device)
        return Detections(scores, scores.reshape(0, 4), scores.reshape(0, side, side))

    # --- parts ---

    def _chunk(self, frame: int) -> list[int]:
        """The frames that are seen together with ``frame``."""
        size = self.frames_per_chunk * self.partners.size
        if size == 1 or frame not in self._expected:
            return [frame]
        return [other for other in detection_chunk(frame, frame + size, size) if other in self._expected]

    def _own(self, frames: Sequence[int]) -> list[int]:
        """The frames of a chunk that this process works on."""
        return list(frames[self.partners.rank :: self.partners.size])

    def _see(self, frame: int) -> None:
        """Encode the chunk of a frame, unless it is known."""
        if frame in self._views:
            return
        frames = self._chunk(frame)
        images: dict[int, ImageFeatures] = {}
        pyramids = self.partners.share(lambda: self._encode(self._own(frames), images))
        for pyramid in pyramids:
            for other, levels in pyramid.items():
                self._views.pop(other, None)  # the order of the views is that of their making
                self._views[other] = _View(
                    [level.to(self.model.detector.device) for level in levels], images.get(other)
                )
        for old in list(self._views)[: -max(_KEPT_FRAMES, len(frames))]:
            del self._views[old]

    def _encode(self, frames: list[int], images: dict[int, ImageFeatures]) -> dict[int, list[Tensor]]:
        """The tracker's pyramid of each frame; all that is known of them is put into ``images``."""
        if not frames:
            return {}
        detector = self.model.detector
        side = detector.config.vision.image_size
        pixels = [frame_pixels(self.source, frame, side, as_reference=self.as_reference) for frame in frames]
        features = detector.encode_image(torch.stack(pixels).to(detector.device).float())
        for row, frame in enumerate(frames):
            levels = [level[row : row + 1] for level in features.pyramid]
            second = [level[row : row + 1] for level in features.second_pyramid]
            images[frame] = ImageFeatures(levels, features.positions, second)
        return {frame: self.partners.portable(images[frame].second_pyramid) for frame in frames}

    def _answer(self, frames: list[int]) -> None:
        """Ask the questions on frames of a chunk, together; nothing is asked again."""
        seen = [frame for frame in frames if frame in self._views]
        for answers in self.partners.share(lambda: self._detect(seen)):
            for (frame, index), found in answers.items():
                self._views[frame].answers[self._questions[index]] = found.to(self.model.detector.device)

    def _detect(self, frames: list[int]) -> dict[tuple[int, int], Detections]:
        """What is not known yet of the frames that this process holds; by frame and number of the question."""
        own = [frame for frame in frames if self._views[frame].image is not None]
        new = [
            (frame, index)
            for frame in own
            for index, question in enumerate(self._questions)
            if question not in self._views[frame].answers
        ]
        asked = [(frame, index) for frame, index in new if self._questions[index].is_asked_on(frame)]
        found = dict.fromkeys(new, self.nothing())
        size = self.pairs_per_call or (1 if self.model.detector.device.type == "cpu" else _PAIRS_PER_CALL)
        for begin in range(0, len(asked), size):
            group = asked[begin : begin + size]
            answers = self._ground([(frame, self._questions[index]) for frame, index in group])
            found |= dict(zip(group, answers, strict=True))
        return found

    def _ground(self, asked: list[tuple[int, Question]]) -> list[Detections]:
        detector = self.model.detector
        frames = list(dict.fromkeys(frame for frame, _ in asked))
        questions = list(dict.fromkeys(question for _, question in asked))
        output = detector.ground(
            _joined_images([self._views[frame].image for frame in frames]),
            _joined_texts([question.text for question in questions]),
            image_index=torch.tensor([frames.index(frame) for frame, _ in asked], device=detector.device),
            phrase_index=torch.tensor([questions.index(question) for _, question in asked], device=detector.device),
            prompt=_joined_examples([question.example_on(frame) for frame, question in asked], detector.device),
        ).one_to_one
        scores = inverse_sigmoid(output.scores()).clamp(-_LOGIT_LIMIT, _LOGIT_LIMIT).sigmoid()
        every = [
            Detections(scores[row], output.boxes_xyxy[row].float(), output.masks[row].float())
            for row in range(len(asked))
        ]
        return [self.partners.portable(found.select(found.scores > self.min_score)) for found in every]


def frame_pixels(source: FrameSource, frame: int, side: int, *, as_reference: bool = False) -> Tensor:
    """(3, side, side): a frame as the network reads it."""
    picture = source.frame(frame)
    if not as_reference:
        return preprocess(picture, side, (0.5,) * 3, (0.5,) * 3)
    loader = "pil" if isinstance(source, PictureList) else "cv2" if isinstance(source, VideoFile) else "folder"
    return reference_pixels(picture, side, loader)


def _joined_images(images: list[ImageFeatures]) -> ImageFeatures:
    if len(images) == 1:
        return images[0]
    levels = zip(*(image.pyramid for image in images), strict=True)
    return ImageFeatures([torch.cat(level) for level in levels], images[0].positions)


def _joined_texts(texts: list[TextFeatures]) -> TextFeatures:
    if len(texts) == 1:
        return texts[0]
    parts = ([text.features for text in texts], [text.mask for text in texts], [text.embeddings for text in texts])
    return TextFeatures(*(torch.cat(part) for part in parts))


def _joined_examples(examples: list[GeometricPrompt | None], device: torch.device) -> GeometricPrompt | None:
    """One prompt with a row for each example; None without any."""
    if all(example is None for example in examples):
        return None
    rows = [GeometricPrompt.empty(1, device) if example is None else example for example in examples]
    if len(rows) == 1:
        return rows[0]
    return GeometricPrompt(
        boxes=_padded([row.boxes for row in rows], 0.0),
        box_labels=_padded([row.box_labels for row in rows], 0),
        box_mask=_padded([row.box_mask for row in rows], True),
        points=_padded([row.points for row in rows], 0.0),
        point_labels=_padded([row.point_labels for row in rows], 0),
        point_mask=_padded([row.point_mask for row in rows], True),
    )


def _padded(rows: list[Tensor], filler: float | bool) -> Tensor:
    """(1, n_i, ...) rows -> (P, max n, ...)."""
    joined = rows[0].new_full((len(rows), max(row.shape[1] for row in rows), *rows[0].shape[2:]), filler)
    for index, row in enumerate(rows):
        joined[index, : row.shape[1]] = row[0]
    return joined
