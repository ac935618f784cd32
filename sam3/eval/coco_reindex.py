"""Zero-based COCO ids counted from one, for tools that read the id 0 as "unmatched" (pycocotools among them).

Our own COCO AP does not need it. Source: spec/evaluation.md section 4.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sam3.errors import DataError
from sam3.io.files import read_json, write_json

# kind of entry -> the field by which annotations refer to it
_REFERENCES = {"annotations": None, "images": "image_id", "categories": "category_id"}


def reindexed(document: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which no annotation, image or category has the id 0.

    If one of a kind has, 1 is added to all ids of that kind and to the references to them; each kind by itself.

    Raises:
        DataError: it is no COCO document.
    """
    if not isinstance(document, Mapping) or not document.keys() & _REFERENCES.keys():
        raise DataError("expected a COCO object with at least one of images, annotations, categories")
    for kind in document.keys() & _REFERENCES.keys():
        if not isinstance(document[kind], list) or not all(isinstance(entry, Mapping) for entry in document[kind]):
            raise DataError(f"{kind} must be a list of objects")
    shifted = [kind for kind in _REFERENCES if any(entry.get("id") == 0 for entry in document.get(kind, ()))]
    result = dict(document)
    for kind in shifted:
        result[kind] = [_plus_one(entry, "id") for entry in result[kind]]
    for kind in shifted:
        reference = _REFERENCES[kind]
        if reference and "annotations" in result:
            result["annotations"] = [_plus_one(entry, reference) for entry in result["annotations"]]
    return result


def _plus_one(entry: Mapping[str, Any], field: str) -> dict[str, Any]:
    return {**entry, field: entry[field] + 1} if field in entry else dict(entry)


def reindex_coco_to_temp(input_json_path: str | Path) -> Path:
    """Write :func:`reindexed` of a file to ``<new temporary folder>/<stem>_1_indexed<suffix>``, changed or not.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: it is no COCO file.
    """
    source = Path(input_json_path)
    if not source.is_file():
        raise FileNotFoundError(f"no COCO file {source}")
    try:
        document = reindexed(read_json(source))
    except DataError as error:
        raise DataError(f"{source}: {error}") from error
    target = Path(tempfile.mkdtemp()) / f"{source.stem}_1_indexed{source.suffix}"
    write_json(target, document, indent=2)
    return target
