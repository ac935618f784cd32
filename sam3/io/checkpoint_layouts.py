"""The ways in which weight files name the same tensors, and what becomes of each name.

Known: the released file (``detector.`` and ``tracker.``), the bare image model, the ``transformers``
image and video models, and SAM 3.1; each may be wrapped by ``module.`` or ``_orig_mod.``.
Sources: spec/detector.md sections 17 and 18, spec/sam31.md.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from sam3.errors import CheckpointError
from sam3.io import transformers_names
from sam3.io.transformers_names import POINT_PROMPTS
from sam3.io.transformers_tracker_names import tracker_from_transformers

DETECTOR, TRACKER = "detector.", "tracker."
_IMAGE_MODEL = ("backbone.", "geometry_encoder.", "transformer.", "segmentation_head.", "dot_prod_scoring.")
CLICK_MODEL = "inst_interactive_predictor.model."  # the tracker's weights inside an image model built for clicks
_TRACKER_31 = "tracker.model."
_ROTARY_TABLE = ".attn.freqs_cis"

# SAM 3.1 lacks the coarsest level of both necks, which nobody reads.
_ABSENT_31 = r"backbone\.vision_backbone\.(sam2_)?convs\.3\..*"
# Its click model is the prompt encoder and the mask decoder; the memory belongs to a tracker of another shape.
_MEMORY_31 = (
    re.escape(CLICK_MODEL) + r"(?!(sam_prompt_encoder|sam_mask_decoder|mask_downsample|obj_ptr_proj)\.|no_mem_embed$).*"
)
_RENAMED_31 = (
    (r"interactive_sam_prompt_encoder\.", "sam_prompt_encoder."),
    (r"interactive_sam_mask_decoder\.", "sam_mask_decoder."),
    (r"interactivity_no_mem_embed$", "no_mem_embed"),
    (r"interactive_mask_downsample\.", "mask_downsample."),
    (r"interactive_obj_ptr_proj\.", "obj_ptr_proj."),
)


@dataclass
class NamedWeights:
    """The tensors of a weight file under our names."""

    layout: str  # "sam3", "image model", "transformers", "transformers video" or "sam3.1"
    image: dict[str, Tensor] = field(default_factory=dict)  # names of the image model, without prefix
    tracker: dict[str, Tensor] = field(default_factory=dict)  # names of the tracker, no prefix
    rotary_tables: list[str] = field(default_factory=list)  # recomputed by the model, not read
    unused: list[str] = field(default_factory=list)  # of parts that we do not have, as named in the file
    may_be_missing: tuple[str, ...] = ()  # patterns of our names which this layout never holds


def name_weights(tensors: Mapping[str, Tensor]) -> NamedWeights:
    """Recognise the layout of ``tensors`` and give them our names.

    Raises:
        CheckpointError: no layout of ours; the message shows the first name.
    """
    tensors = _unwrap(tensors)
    if any(name.startswith(_TRACKER_31) or ".interactive_convs." in name for name in tensors):
        named = _from_sam31(tensors)
    elif any(name.startswith((DETECTOR, TRACKER)) for name in tensors):
        named = _from_released(tensors)
    elif any(name.startswith(_IMAGE_MODEL) for name in tensors) and not _is_transformers(tensors):
        named = _from_image_model(tensors)
    elif _is_transformers(tensors):
        named = _from_transformers(tensors)
    else:
        raise CheckpointError(
            f"unknown layout: none of {len(tensors)} tensors is of SAM 3 (first: {next(iter(tensors), None)!r}). "
            "Expected names that start with detector., backbone. or (transformers) vision_encoder."
        )
    return _without_rotary_tables(named)


def _unwrap(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without what DistributedDataParallel and torch.compile put around names."""
    unwrapped = {name.replace("_orig_mod.", ""): tensor for name, tensor in tensors.items()}
    while unwrapped and all(name.startswith("module.") for name in unwrapped):
        unwrapped = {name.removeprefix("module."): tensor for name, tensor in unwrapped.items()}
    return unwrapped


def _from_released(tensors: dict[str, Tensor]) -> NamedWeights:
    named = NamedWeights("sam3")
    for name, tensor in tensors.items():
        if name.startswith(TRACKER):
            named.tracker[name.removeprefix(TRACKER)] = tensor
        else:
            named.image[name.removeprefix(DETECTOR)] = tensor
    return named


def _from_image_model(tensors: dict[str, Tensor]) -> NamedWeights:
    named = NamedWeights("image model")
    for name, tensor in tensors.items():
        if name.startswith(CLICK_MODEL):
            named.tracker[name.removeprefix(CLICK_MODEL)] = tensor
        else:
            named.image[name] = tensor
    return named


def _from_sam31(tensors: dict[str, Tensor]) -> NamedWeights:
    named = NamedWeights("sam3.1", may_be_missing=(_ABSENT_31, _MEMORY_31))
    for name, tensor in tensors.items():
        if name.startswith(_TRACKER_31):
            ours = _tracker_name_31(name.removeprefix(_TRACKER_31))
            if ours is None:
                named.unused.append(name)
            else:
                named.tracker[ours] = tensor
        elif ".propagation_convs." in name:
            named.unused.append(name)
        else:
            named.image[name.removeprefix(DETECTOR).replace(".interactive_convs.", ".sam2_convs.")] = tensor
    return named


def _tracker_name_31(name: str) -> str | None:
    for pattern, replacement in _RENAMED_31:
        renamed, count = re.subn(f"^{pattern}", replacement, name)
        if count:
            return renamed
    return None


def _is_transformers(tensors: dict[str, Tensor]) -> bool:
    """Whether most names are theirs; a few (``geometry_encoder.final_proj.weight``) are the same as ours."""
    return 2 * sum(map(transformers_names.is_transformers_name, tensors)) > len(tensors)


def _from_transformers(tensors: dict[str, Tensor]) -> NamedWeights:
    named = NamedWeights("transformers", may_be_missing=(POINT_PROMPTS,))
    theirs: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith((transformers_names.VIDEO_PREFIX, transformers_names.TRACKER_PREFIX)):
            named.layout = "transformers video"
        if name.startswith(transformers_names.TRACKER_PREFIX):
            named.tracker[name.removeprefix(transformers_names.TRACKER_PREFIX)] = tensor
        elif transformers_names.is_transformers_name(name):
            theirs[name] = tensor
        else:
            named.image[name] = tensor  # unexpected; the loader says so
    named.image.update(transformers_names.from_transformers(theirs))
    named.tracker = tracker_from_transformers(named.tracker)
    return named


def _without_rotary_tables(named: NamedWeights) -> NamedWeights:
    named.rotary_tables = [name for name in named.image if name.endswith(_ROTARY_TABLE)]
    for name in named.rotary_tables:
        del named.image[name]
    return named
