"""Clicks, boxes and rough masks of one object in one image -> its mask (the SAM 1 task; spec/tracker_video.md 5).

The pictures are those of :class:`~sam3.model.sam3_image_processor.Sam3Processor`: encode once, click often.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from sam3.config import TrackerConfig
from sam3.errors import UserError
from sam3.model.tracker.prompt_encoder import BOTTOM_RIGHT, TOP_LEFT
from sam3.model.tracker.tracker import Tracker, TrackerFeatures
from sam3.ops.components import fill_small_holes

HOLE_AREA = 256  # pixels of a low-resolution mask: smaller holes are filled
_FILLED, _LIMIT = 10.0, 32.0  # logits of filled holes; bound of logits that may be given back

Prediction = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]  # masks, qualities, low resolution


class InteractivePredictor(nn.Module):
    """The tracker on single images; ``model.*`` are its weights."""

    def __init__(self, config: TrackerConfig) -> None:
        super().__init__()
        self.model = Tracker(config)

    @torch.inference_mode()
    def predict_inst(
        self,
        state: Mapping[str, Any],
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> Prediction:
        """The object that is meant, in the picture of ``state``.

        Args:
            state: of ``Sam3Processor.set_image``.
            point_coords: (N, 2) or (B, N, 2) xy, pixels of the picture.
            point_labels: (N,) or (B, N), 1 = on the object, 0 = off it.
            box: (4,) or (B, 4) xyxy, pixels of the picture.
            mask_input: (1, h, h) or (B, 1, h, h) logits, such as a row of an earlier third result.
            multimask_output: three candidates for a prompt that leaves room for them; else one.
            return_logits: masks as logits instead of 0 and 1.
            normalize_coords: False = coordinates are shares of width and height already.

        Returns:
            Float32 arrays: masks (M, H, W), predicted qualities (M,), low-resolution logits (M, h, h); with B prompts
            each with a leading B. M is 3 or 1.

        Raises:
            UserError: no picture, points without labels, or numbers of points and boxes that differ.
        """
        if "original_height" not in state:
            raise UserError(
                "the state holds no single image: call Sam3Processor.set_image first (or predict_inst_batch)"
            )
        given = {"point_coords": point_coords, "point_labels": point_labels, "box": box, "mask_input": mask_input}
        options = {"multimask": multimask_output, "logits": return_logits, "in_pixels": normalize_coords}
        size = state["original_height"], state["original_width"]
        return self._predict(self._features(state, 0), size, given, **options)

    @torch.inference_mode()
    def predict_inst_batch(
        self,
        state: Mapping[str, Any],
        point_coords_batch: Sequence[ArrayLike | None] | None = None,
        point_labels_batch: Sequence[ArrayLike | None] | None = None,
        box_batch: Sequence[ArrayLike | None] | None = None,
        mask_input_batch: Sequence[ArrayLike | None] | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> tuple[list[NDArray], list[NDArray], list[NDArray]]:
        """:meth:`predict_inst` for every picture of ``Sam3Processor.set_image_batch``; lists, one entry a picture."""
        if "original_heights" not in state:
            raise UserError("the state holds no batch of images: call Sam3Processor.set_image_batch first")
        sizes = list(zip(state["original_heights"], state["original_widths"], strict=True))
        columns = {
            "point_coords": point_coords_batch,
            "point_labels": point_labels_batch,
            "box": box_batch,
            "mask_input": mask_input_batch,
        }
        for name, values in columns.items():
            if values is not None and len(values) != len(sizes):
                raise UserError(f"{name}_batch has {len(values)} entries for {len(sizes)} images; give one for each")
        options = {"multimask": multimask_output, "logits": return_logits, "in_pixels": normalize_coords}
        results = [
            self._predict(
                self._features(state, index),
                size,
                {name: None if values is None else values[index] for name, values in columns.items()},
                **options,
            )
            for index, size in enumerate(sizes)
        ]
        return tuple(map(list, zip(*results, strict=True)))

    # --- parts ---

    def predict(
        self,
        features: TrackerFeatures,
        size: tuple[int, int],
        *,
        points: tuple[Tensor, Tensor] | None,
        masks: Tensor | None,
        multimask: bool,
        logits: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """
        Args:
            size: (H, W) wanted.
            points: (B, K, 2) xy in model pixels and (B, K) labels.
            masks: (B, 1, h, h) logits.

        Returns:
            (B, M, H, W), (B, M) and (B, M, h, h).
        """
        tracker = self.model
        sparse, dense = tracker.sam_prompt_encoder(points=points, masks=masks, grid=features.grid)
        decoded = tracker.sam_mask_decoder(
            tracker.without_memory(features),
            tracker.sam_prompt_encoder.dense_code(features.grid),
            sparse,
            dense,
            skips=features.skips,
            multimask=multimask,
        )
        low = decoded.masks.float()
        side = low.shape[-1]
        filled = fill_small_holes(low.reshape(-1, side, side), HOLE_AREA, value=_FILLED).reshape(low.shape)
        large = F.interpolate(filled, size, mode="bilinear", align_corners=False)
        shown = large if logits else (large > 0).float()
        return shown, decoded.ious.float(), low.clamp(-_LIMIT, _LIMIT)

    @property
    def _device(self) -> torch.device:
        return self.model.no_obj_ptr.device

    def _features(self, state: Mapping[str, Any], index: int) -> TrackerFeatures:
        second = state["backbone_out"]["sam2_backbone_out"]
        return self.model.features([level[index : index + 1] for level in second["backbone_fpn"]])

    def _predict(
        self,
        features: TrackerFeatures,
        size: tuple[int, int],
        given: Mapping[str, ArrayLike | None],
        *,
        multimask: bool,
        logits: bool,
        in_pixels: bool,
    ) -> Prediction:
        scale = self.model.config.image_size / torch.tensor([size[1], size[0]] if in_pixels else [1, 1])
        points = self._points(given["point_coords"], given["point_labels"], given["box"], scale)
        masks = self._mask_input(given["mask_input"])
        if points is None and masks is None:
            raise UserError(
                "nothing says which object is meant: give point_coords with point_labels, a box or mask_input"
            )
        found = self.predict(features, size, points=points, masks=masks, multimask=multimask, logits=logits)
        arrays = [value.cpu().numpy() for value in found]
        return tuple(array[0] for array in arrays) if len(arrays[0]) == 1 else tuple(arrays)

    def _points(
        self, coordinates: ArrayLike | None, labels: ArrayLike | None, box: ArrayLike | None, scale: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """All prompts as points: the corners of a box come first."""
        if (coordinates is None) != (labels is None):
            raise UserError("point_coords and point_labels belong together: give both or neither")
        parts: list[tuple[Tensor, Tensor]] = []
        if box is not None:
            corners = _tensor(box, "box", (4,)).reshape(-1, 2, 2)
            parts.append((corners, torch.tensor([TOP_LEFT, BOTTOM_RIGHT]).expand(len(corners), 2)))
        if coordinates is not None:
            points = _tensor(coordinates, "point_coords", (2,))
            points = points[None] if points.dim() == 2 else points
            names = torch.as_tensor(np.asarray(labels)).long().reshape(len(points), -1)
            if names.shape[1] != points.shape[1]:
                raise UserError(f"{points.shape[1]} points need as many labels, got {names.shape[1]}")
            parts.append((points, names))
        if not parts:
            return None
        if len({len(part) for part, _ in parts}) > 1:
            raise UserError(
                f"{len(parts[0][0])} boxes and {len(parts[1][0])} lists of points: their numbers must agree"
            )
        place = torch.cat([part for part, _ in parts], 1) * scale
        return place.to(self._device), torch.cat([part for _, part in parts], 1).to(self._device)

    def _mask_input(self, mask: ArrayLike | None) -> Tensor | None:
        if mask is None:
            return None
        side = self.model.config.low_res_size
        tensor = torch.as_tensor(np.asarray(mask), dtype=torch.float32)
        tensor = tensor[None] if tensor.dim() == 3 else tensor
        if tensor.dim() != 4 or tensor.shape[1:] != (1, side, side):
            raise UserError(
                f"mask_input has the shape {tuple(np.shape(mask))}; expected (1, {side}, {side}) or "
                f"(B, 1, {side}, {side}), such as a row of the third result of an earlier call"
            )
        return tensor.to(self._device)


def _tensor(values: ArrayLike, name: str, last: tuple[int, ...]) -> Tensor:
    tensor = torch.as_tensor(np.asarray(values), dtype=torch.float32)
    if tensor.dim() == 0 or tuple(tensor.shape[-1:]) != last or not torch.isfinite(tensor).all():
        raise UserError(f"{name} must be finite numbers of shape (..., {last[0]}), got {tuple(tensor.shape)}")
    return tensor
