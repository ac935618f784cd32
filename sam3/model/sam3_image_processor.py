"""The user's side of the image model: set an image once, ask for phrases and examples as often as you like.

A processor holds no weights of its own, and the state of an image lives in a plain dict
(spec/detector.md section 14).
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from sam3.errors import UserError
from sam3.io.images import ImageLike, image_size, to_rgb_image
from sam3.io.model_card import ModelCard
from sam3.model.detector.detector import Sam3Image
from sam3.model.postprocess import detections
from sam3.ops.images import preprocess
from sam3.structures import VISUAL_PHRASE, Detections, GeometricPrompt, ImageFeatures, TextFeatures

_log = logging.getLogger(__name__)

State = dict[str, Any]

PROMPTS_PER_PASS = 16  # bounds the memory of the part that runs once per prompt
MAX_PROBABILITY_BYTES = 512 * 2**20
_IMAGE = ("original_height", "original_width", "original_heights", "original_widths", "backbone_out")
_PROMPTS = ("geometric_prompt", "text_prompt")
_RESULTS = ("boxes", "scores", "masks", "masks_logits")
_TEXT = ("language_features", "language_mask", "language_embeds")


class Sam3Processor:
    """Prompts on images, with pictures of any kind in and pixels of the original picture out.

    After a prompt the state holds, for K objects in the order of the model's queries:

    * ``boxes`` (K, 4) float32 xyxy, pixels, not clipped; ``scores`` (K,) in [0, 1];
    * ``masks`` (K, 1, H, W) bool;
    * ``masks_logits`` (K, 1, H, W) float32 **probabilities**, or None where they would exceed
      ``max_probability_bytes``.

    ``masks`` and ``masks_logits`` are None for a model without segmentation head. After
    :meth:`set_text_prompts` each entry is a list over the phrases; after :meth:`set_image_batch` it is a
    list over the images (each a list over the phrases, if both).

    Args:
        model: from ``build_sam3_image_model``; it is used in evaluation mode.
        resolution: side of the square network input, rounded up to a multiple of the patch; left out,
            the model's.
        device: only checked against the model's device, where everything runs.
        confidence_threshold: objects scoring strictly above it are reported. It belongs to the
            processor, not to a state.
        max_probability_bytes: bound on ``masks_logits`` of one prompt.
    """

    def __init__(
        self,
        model: Sam3Image,
        resolution: int | None = None,
        device: str | torch.device | None = None,
        confidence_threshold: float = 0.5,
        *,
        max_probability_bytes: int = MAX_PROBABILITY_BYTES,
    ) -> None:
        self.model = model
        self.resolution = _round_to_patch(model, resolution)
        self.confidence_threshold = _checked_threshold(confidence_threshold)
        self.max_probability_bytes = max_probability_bytes
        card = model.card or ModelCard()
        self.mean, self.std = card.mean, card.std
        if device is not None:
            _require_same_device(device, model.device)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @torch.inference_mode()
    def set_image(self, image: ImageLike, state: State | None = None) -> State:
        """Encode one picture.

        Args:
            image: PIL image of any mode, array (H, W, C), tensor (C, H, W); see ``sam3.io.images.to_rgb_image``.
            state: taken over; its old image, prompts and results are dropped. Left out, a new one is made.

        Returns:
            The state, with ``original_height``, ``original_width`` and ``backbone_out``.

        Raises:
            DataError: not a picture.
        """
        picture = to_rgb_image(image)
        state = _cleared(state)
        state["original_height"], state["original_width"] = image_size(picture)
        state["backbone_out"] = self._encode([picture])
        return state

    @torch.inference_mode()
    def set_image_batch(self, images: Sequence[ImageLike], state: State | None = None) -> State:
        """Encode several pictures at once; later phrases are searched in each of them.

        Returns:
            The state, with the lists ``original_heights`` and ``original_widths`` and ``backbone_out``.
        """
        if isinstance(images, str) or not isinstance(images, Sequence) or not images:
            raise UserError(f"set_image_batch expects a list of at least one image, got {type(images).__name__}")
        pictures = [to_rgb_image(image) for image in images]
        state = _cleared(state)
        heights, widths = zip(*map(image_size, pictures), strict=True)
        state["original_heights"], state["original_widths"] = list(heights), list(widths)
        state["backbone_out"] = self._encode(pictures)
        return state

    @torch.inference_mode()
    def set_text_prompt(self, prompt: str, state: State) -> State:
        """Find everything that ``prompt`` names. Replaces an earlier text; example boxes are kept.

        Raises:
            UserError: no image was set, or the prompt is no text.
        """
        self._encode_text([prompt], state)
        state["text_prompt"] = prompt
        return self._run(state)

    @torch.inference_mode()
    def set_text_prompts(self, prompts: Sequence[str], state: State) -> State:
        """Find what each of several phrases names, in one pass; results become lists over the phrases.

        Raises:
            UserError: no image was set, or there is no phrase.
        """
        if isinstance(prompts, str) or not isinstance(prompts, Sequence) or not prompts:
            raise UserError(f"set_text_prompts expects a list of at least one phrase, got {prompts!r}")
        self._encode_text(list(prompts), state)
        state["text_prompt"] = list(prompts)
        return self._run(state)

    @torch.inference_mode()
    def add_geometric_prompt(self, box: Sequence[float], label: bool | int, state: State) -> State:
        """Add an example box and search again.

        Args:
            box: (cx, cy, w, h) as fractions of the image's width and height.
            label: True, "more like this", or False, "not this".
            state: of :meth:`set_image`. Without a text, the phrase "visual" is searched.

        Raises:
            UserError: no image, a batch of several images, or a bad box or label.
        """
        sizes = _original_sizes(state)
        if len(sizes) > 1:
            raise UserError(f"an example box belongs to one image, the state holds {len(sizes)}; use set_image")
        example, label = _checked_box(box), _checked_label(label)
        if "language_features" not in state["backbone_out"]:
            self._encode_text([VISUAL_PHRASE], state)
            state["text_prompt"] = VISUAL_PHRASE
        prompt = state.get("geometric_prompt") or GeometricPrompt.empty(1, self.device)
        state["geometric_prompt"] = prompt.append_box(example.to(self.device), label)
        return self._run(state)

    def reset_all_prompts(self, state: State) -> None:
        """Forget texts, boxes and results; the image stays."""
        for name in _TEXT:
            state.get("backbone_out", {}).pop(name, None)
        for name in (*_PROMPTS, *_RESULTS):
            state.pop(name, None)

    @torch.inference_mode()
    def set_confidence_threshold(self, threshold: float, state: State | None = None) -> State | None:
        """Change the threshold, in [0, 1]; a state that has results gets new ones."""
        self.confidence_threshold = _checked_threshold(threshold)
        if state is not None and "boxes" in state:
            self._run(state)
        return state

    def _encode(self, pictures: Sequence[Any]) -> dict[str, Any]:
        pixels = torch.stack([preprocess(picture, self.resolution, self.mean, self.std) for picture in pictures])
        with _evaluation_mode(self.model):
            return _vision_entries(self.model.encode_image(pixels.to(self.device)))

    def _encode_text(self, phrases: list[str], state: State) -> None:
        _original_sizes(state)
        with _evaluation_mode(self.model):
            state["backbone_out"].update(_text_entries(self.model.encode_text(phrases)))

    def _run(self, state: State) -> State:
        """Ground every phrase in every image and store the results."""
        sizes, text = _original_sizes(state), _text_features(state["backbone_out"])
        found = [self._entries(one) for one in self._detect(state, sizes, text)]
        many_phrases, many_images = isinstance(state["text_prompt"], list), "original_heights" in state
        for name in _RESULTS:
            values = [entries[name] for entries in found]
            by_image = [values[start : start + len(text)] for start in range(0, len(values), len(text))]
            if not many_phrases:
                by_image = [of_phrases[0] for of_phrases in by_image]
            state[name] = by_image if many_images else by_image[0]
        return state

    def _detect(self, state: State, sizes: list[tuple[int, int]], text: TextFeatures) -> Iterator[Detections]:
        """Objects of every image and phrase, the phrases of the first image first."""
        features = _image_features(state["backbone_out"])
        prompt = state.get("geometric_prompt") or GeometricPrompt.empty(1, self.device)
        image_index = torch.arange(len(sizes)).repeat_interleave(len(text))
        phrase_index = torch.arange(len(text)).repeat(len(sizes))
        for images, phrases in zip(
            image_index.split(PROMPTS_PER_PASS), phrase_index.split(PROMPTS_PER_PASS), strict=True
        ):
            with _evaluation_mode(self.model):
                output = self.model.ground(
                    features,
                    text,
                    image_index=images.to(self.device),
                    phrase_index=phrases.to(self.device),
                    prompt=_repeated(prompt, len(images)),
                )
            yield from detections(
                output,
                original_sizes=[sizes[image] for image in images.tolist()],
                score_threshold=self.confidence_threshold,
                with_mask_probs=True,
                max_mask_prob_bytes=self.max_probability_bytes,
            )

    def _entries(self, found: Detections) -> dict[str, Tensor | None]:
        masks, probabilities = found.masks, found.mask_probs
        if masks is not None and probabilities is None:
            _log.info("masks_logits left out (max_probability_bytes): %d masks of %d x %d pixels", *masks.shape)
        return {
            "boxes": found.boxes,
            "scores": found.scores,
            "masks": None if masks is None else masks[:, None],
            "masks_logits": None if probabilities is None else probabilities[:, None],
        }


@contextmanager
def _evaluation_mode(model: Sam3Image) -> Iterator[None]:
    """No dropout and no training queries, whatever mode the model is in."""
    if not model.training:
        yield
        return
    model.eval()
    try:
        yield
    finally:
        model.train()


def _cleared(state: State | None) -> State:
    """The caller's dict without anything that belongs to an earlier image."""
    state = {} if state is None else state
    for name in (*_IMAGE, *_PROMPTS, *_RESULTS):
        state.pop(name, None)
    return state


def _original_sizes(state: State) -> list[tuple[int, int]]:
    """(height, width) of each image of the state."""
    if not isinstance(state, dict) or "backbone_out" not in state:
        raise UserError("no image in the state: call set_image first and pass on what it returns (prompt, state)")
    if "original_heights" in state:
        return list(zip(state["original_heights"], state["original_widths"], strict=True))
    return [(state["original_height"], state["original_width"])]


def _repeated(prompt: GeometricPrompt, count: int) -> GeometricPrompt:
    """The one row of ``prompt``, ``count`` times."""
    return GeometricPrompt(**{f.name: getattr(prompt, f.name).repeat_interleave(count, 0) for f in fields(prompt)})


# ------------------------------------------------------- the published names of features, sequence first in the dict


def _vision_entries(features: ImageFeatures) -> dict[str, Any]:
    second = None
    if features.second_pyramid is not None:
        second = _level_entries(features.second_pyramid, features.second_positions)
    return _level_entries(features.pyramid, features.positions) | {"sam2_backbone_out": second}


def _level_entries(pyramid: list[Tensor], positions: list[Tensor]) -> dict[str, Any]:
    return {"vision_features": pyramid[-1], "vision_pos_enc": positions, "backbone_fpn": pyramid}


def _image_features(backbone_out: dict[str, Any]) -> ImageFeatures:
    second = backbone_out["sam2_backbone_out"] or {}
    return ImageFeatures(
        pyramid=backbone_out["backbone_fpn"],
        positions=backbone_out["vision_pos_enc"],
        second_pyramid=second.get("backbone_fpn"),
        second_positions=second.get("vision_pos_enc"),
    )


def _text_entries(text: TextFeatures) -> dict[str, Tensor]:
    values = (text.features.transpose(0, 1), text.mask, text.embeddings.transpose(0, 1))
    return dict(zip(_TEXT, values, strict=True))


def _text_features(backbone_out: dict[str, Any]) -> TextFeatures:
    features, mask, embeddings = (backbone_out[name] for name in _TEXT)
    return TextFeatures(features.transpose(0, 1), mask, embeddings.transpose(0, 1))


# ------------------------------------------------------------------------------------------- checks of what users give


def _round_to_patch(model: Sam3Image, resolution: int | None) -> int:
    if resolution is None:
        return model.config.vision.image_size
    rounded = model.config.with_resolution(resolution).vision.image_size
    if rounded != resolution:
        _log.warning("resolution %d is no multiple of the patch: using %d", resolution, rounded)
    return rounded


def _require_same_device(device: str | torch.device, actual: torch.device) -> None:
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"there is no device {device!r}; the model is on {actual}") from error
    if wanted.type != actual.type or (wanted.index is not None and wanted.index != actual.index):
        raise UserError(
            f"the model is on {actual}, the processor was asked for {wanted}; call model.to('{wanted}') first"
        )


def _checked_threshold(threshold: float) -> float:
    if not isinstance(threshold, Real) or not 0 <= threshold <= 1:
        raise UserError(f"the confidence threshold must be a number in [0, 1], got {threshold!r}")
    return float(threshold)


def _checked_box(box: Sequence[float]) -> Tensor:
    try:
        values = torch.as_tensor(box, dtype=torch.float32).flatten()
    except (TypeError, ValueError, RuntimeError):
        values = torch.empty(0)
    if len(values) != 4 or not values.isfinite().all() or values[2:].min() < 0 or not _meets_image(values):
        raise UserError(
            "an example box is (cx, cy, w, h) in fractions of the image's width and height and lies on the image, "
            f"got {box!r}; divide pixels by the image's size"
        )
    return values


def _meets_image(box: Tensor) -> bool:
    """Whether a part of the box lies on the image; boxes in pixels do not."""
    centre, half = box[:2], box[2:] / 2
    return bool((centre + half >= 0).all() and (centre - half <= 1).all() and box.abs().max() <= 2)


def _checked_label(label: bool | int) -> int:
    if label not in (0, 1):
        raise UserError(f"the label of a box is True (more like this) or False (not this), got {label!r}")
    return int(label)
