"""Classes, phrases, and what the splits have in common that they must not, or do not have that they must."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from sam3.data.prompts import describe_categories, phrases_of_categories
from sam3.errors import DataError
from sam3.model.text.tokenizer import Tokenizer
from sam3.planning.doctor.annotation_file import Content
from sam3.planning.doctor.findings import Drop, Finding, SetFields, UnifyCategories
from sam3.planning.doctor.pictures import Picture, near_duplicates
from sam3.planning.doctor.settings import Settings

Pictures = Mapping[int, Picture]  # position of the image -> its file


def check_splits(contents: Sequence[Content], settings: Settings) -> Iterator[Finding]:
    """A training run needs two halves."""
    names = [content.split.name for content in contents]
    root = str(contents[0].split.ann_file.parent.parent)
    if "train" not in names and names != ["data"]:
        yield Finding("split-missing", "train", root, "", "there is no folder train/")
    if settings.needs_val and "train" in names and len(names) == 1:
        yield Finding("split-missing", "val", root, "", "there is no folder val/; validation needs it")


def check_classes(contents: Sequence[Content], settings: Settings) -> Iterator[Finding]:
    """Names, phrases, and in which splits a class has objects."""
    usable = [content for content in contents if content.categories]
    for content in usable:
        if settings.class_names is not None:
            yield from _check_names(content, settings.class_names)
    yield from _check_equal(usable)
    yield from _check_phrases(usable, settings)
    yield from _check_presence(usable)


def _check_names(content: Content, expected: Sequence[str]) -> Iterator[Finding]:
    unused = [name for name in expected if name not in content.categories.values()]
    positions = {entry["id"]: index for index, entry in enumerate(content.document["categories"]) if _has_id(entry)}
    for category_id, name in content.categories.items():
        if name in expected:
            continue
        same = [other for other in unused if _plain(other) == _plain(name)]
        if len(content.categories) == 1 and len(expected) == 1:
            same = list(expected)
        renamed = [SetFields("categories", positions[category_id], {"name": same[0]})] if len(same) == 1 else []
        message = f"the class is called {name!r}, the configuration asks for {', '.join(map(repr, expected))}"
        yield content.finding("class-name-differs", "categories", positions[category_id], message, *renamed)
        unused = [other for other in unused if other not in same]
    for name in unused:
        message = f"the configuration asks for {name!r}; there is no such class"
        yield content.finding("class-name-differs", None, 0, message)


def _has_id(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("id"), int)


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


def _check_equal(contents: Sequence[Content]) -> Iterator[Finding]:
    for other in contents[1:]:
        first = contents[0]
        if dict(sorted(first.categories.items())) != dict(sorted(other.categories.items())):
            message = (
                f"{first.split.name} has {describe_categories(first.categories)}, "
                f"{other.split.name} has {describe_categories(other.categories)}"
            )
            yield other.finding("categories-differ", None, 0, message, UnifyCategories())


def _check_phrases(contents: Sequence[Content], settings: Settings) -> Iterator[Finding]:
    tokenizer, told = Tokenizer(settings.bpe_path), set()
    for content in contents:
        try:
            phrases = phrases_of_categories(content.categories, settings.prompts)
        except DataError as error:
            yield content.finding("class-name-differs", None, 0, str(error))
            continue
        for phrase in phrases.values():
            length = len(tokenizer.encode(phrase)) + 2  # start and end
            if length > settings.context_length and phrase not in told:
                told.add(phrase)
                message = f"{phrase!r} has {length} tokens; the text encoder reads {settings.context_length}"
                yield content.finding("phrase-too-long", None, 0, message)


def _check_presence(contents: Sequence[Content]) -> Iterator[Finding]:
    objects = {
        content.split.name: Counter(content.categories[entry["category_id"]] for entry in content.annotations.values())
        for content in contents
    }
    names = dict.fromkeys(name for content in contents for name in content.categories.values())
    for name in names:
        present = [split for split, counts in objects.items() if counts[name]]
        file = str(contents[0].split.ann_file)
        if not present:
            yield Finding("class-without-objects", "", file, "", f"{name!r} has no object")
        elif len(contents) > 1 and len(present) == 1:
            absent = ", ".join(split for split in objects if split not in present)
            count = objects[present[0]][name]
            message = f"{name!r} has {count} objects in {present[0]} and none in {absent}"
            yield Finding("class-in-one-split", present[0], file, "", message)


def check_copies(contents: Sequence[Content], pictures: Sequence[Pictures]) -> Iterator[Finding]:
    """Pictures that lie in two splits. Of equal files the one in the earlier split goes, so that what is measured
    stays what it was."""
    for (first, its), (second, others) in combinations(zip(contents, pictures, strict=True), 2):
        yield from _equal_files(first, its, second, others)
        position_of = {id(picture): position for position, picture in its.items()}
        for picture, other in near_duplicates(_usable(its), _usable(others)):
            message = f"shows the same as {other.path}, in another file"
            yield first.finding(
                "image-near-duplicate", "images", position_of[id(picture)], message, file=str(picture.path)
            )


def _equal_files(first: Content, its: Pictures, second: Content, others: Pictures) -> Iterator[Finding]:
    known = {picture.digest: picture for picture in _usable(others)}
    for position, picture in its.items():
        if picture.is_usable and picture.digest in known:
            message = f"the same file as {known[picture.digest].path} in {second.split.name}"
            drop = Drop("images", position)
            yield first.finding("image-duplicate", "images", position, message, drop, file=str(picture.path))


def _usable(pictures: Pictures) -> list[Picture]:
    return [picture for picture in pictures.values() if picture.is_usable]
