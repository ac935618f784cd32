"""The shipped pipelines (``spec/training.md`` 5.4)."""

from collections.abc import Sequence

from sam3.data.transforms.compose import Compose, Transform
from sam3.data.transforms.filters import RemoveCrowdedQueries, RemoveCrowds, RemoveEmptyObjects, SampleNegatives
from sam3.data.transforms.geometric import Normalize, PadToSize, RandomHorizontalFlip, RandomResize, resize_scales
from sam3.data.transforms.prompts import JitterInputBoxes, TextToVisual

_HALF = (0.5, 0.5, 0.5)


def finetune(
    resolution: int,
    *,
    min_size: int = 480,
    mean: Sequence[float] = _HALF,
    std: Sequence[float] = _HALF,
    box_noise_std: float = 0.1,
    box_noise_max: float | None = 20,
    visual_probability: float = 0.0,
    hflip_prob: float = 0.0,
    max_ann_per_img: int = 200,
    max_negatives: int | None = None,
) -> Compose:
    """Training: square resize to a random scale, padded to ``resolution`` at a random place.

    Args:
        resolution: side of the result, pixels.
        min_size: smallest scale; see :func:`~sam3.data.transforms.geometric.resize_scales`.
        box_noise_std: jitter of example boxes, as a share of their size.
        box_noise_max: largest jitter, pixels.
        visual_probability: share of the positive queries that ask by example box instead of by word.
        hflip_prob: 0 by default, because phrases know left and right.
        max_ann_per_img: queries with more objects in one image are left out.
        max_negatives: most absent phrases asked of one image, drawn anew each time; None = all of them. At
            least 1 when images may have no object, or these images are unusable.
    """
    return Compose(
        [
            RemoveCrowds(),
            *_if(visual_probability, TextToVisual(visual_probability)),
            JitterInputBoxes(box_noise_std, box_noise_max),
            RandomResize(resize_scales(resolution, min_size=min_size)),
            *_if(hflip_prob, RandomHorizontalFlip(hflip_prob)),
            PadToSize(resolution),
            RemoveEmptyObjects(),
            Normalize(tuple(mean), tuple(std)),
            RemoveCrowdedQueries(max_ann_per_img),
            *([] if max_negatives is None else [SampleNegatives(max_negatives)]),
        ]
    )


def square_eval(
    resolution: int,
    *,
    mean: Sequence[float] = _HALF,
    std: Sequence[float] = _HALF,
    visual_probability: float = 0.0,
    visual_keeps_text: bool = False,
) -> Compose:
    """Validation: square resize to ``resolution``, nothing at random, nothing left out.

    Args:
        visual_probability: 1 = ask by example box instead of by word (an object of the query, chosen at random).
        visual_keeps_text: ask by word and box instead.
    """
    return Compose(
        [
            *_if(visual_probability, TextToVisual(visual_probability, keep_text=visual_keeps_text)),
            RandomResize((resolution,)),
            Normalize(tuple(mean), tuple(std)),
        ]
    )


def _if(wanted: float, transform: Transform) -> list[Transform]:
    return [transform] if wanted else []
