"""The best and the worst validation images, truth beside prediction."""

from collections.abc import Sequence

from PIL import Image

from sam3.errors import DataError
from sam3.eval.hits import Counts, counts_of_images
from sam3.report.html import Markup, element, image, image_grid, join, missing, number, paragraph
from sam3.report.run_files import Validation
from sam3.train.prediction_images import compare

PICTURES = 6  # best, and as many worst
LONGEST_SIDE = 800  # pixels of a pair of pictures in the file

EXPLANATION = (
    "Images are ordered by their quality: the sum of the IoU of all hits, divided by hits + ½ false alarms + ½ "
    "misses, over all phrases together (panoptic quality of one image). A hit is a detection above the score threshold "
    "{threshold:g} with IoU of at least 0.5 with an object of its phrase. 1 is perfect, also where nothing is and "
    "nothing was found. Left: annotations; right: what the model found, with scores."
)


def best_and_worst(validation: Validation) -> tuple[list[int], list[int], dict[int, Counts]]:
    """Ids of the best images that hold objects, best first, of the worst images, worst first, and counts of all.

    No image is in both lists.
    """
    counts = counts_of_images(
        validation.hits.values(), [entry["id"] for entry in validation.truth["images"]], validation.score_threshold
    )

    def order(image_id: int) -> tuple[float, int, int]:
        own = counts[image_id]
        return own.quality, -(own.false_alarms + own.misses), own.hits

    ranked = sorted(counts, key=order)
    worst = [image_id for image_id in ranked if counts[image_id].quality < 1][: min(PICTURES, -(-len(ranked) // 2))]
    with_objects = [i for i in reversed(ranked) if counts[i].hits and i not in worst]
    return with_objects[:PICTURES], worst, counts


def pictures(validation: Validation) -> Markup:
    """Two galleries and how they were chosen."""
    best, worst, counts = best_and_worst(validation)
    try:
        galleries = [
            element("h3", "Worst"),
            _gallery(validation, worst, counts) if worst else paragraph("Every image is answered perfectly."),
            element("h3", "Best"),
            _gallery(validation, best, counts) if best else paragraph("In no image was an object found."),
        ]
    except DataError as error:
        galleries = [missing(f"The images cannot be shown: {error}")]
    return join([paragraph(EXPLANATION.format(threshold=validation.score_threshold)), *galleries])


def _gallery(validation: Validation, image_ids: Sequence[int], counts: dict[int, Counts]) -> Markup:
    entries = {entry["id"]: entry for entry in validation.truth["images"]}
    figures = []
    for image_id in image_ids:
        picture = Image.fromarray(
            compare(
                entries[image_id],
                validation.img_folder,
                validation.truth,
                validation.records,
                validation.score_threshold,
            )
        )
        picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
        name = entries[image_id]["file_name"]
        figures.append(
            (image(picture, f"{name}: annotations left, predictions right"), _caption(name, counts[image_id]))
        )
    return image_grid(figures, least_width=480)


def _caption(name: str, own: Counts) -> Markup:
    parts = [f"{own.hits} found", f"{own.false_alarms} false", f"{own.misses} missed"]
    return join([element("b", number(own.quality, 2)), " · ", ", ".join(parts), " · ", name])
