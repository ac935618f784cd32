"""The conversion of a Labelme folder, step by step; :func:`convert` is the whole of it."""

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sam3.data.labelme_images import annotated_image, find_image_file, plain_image
from sam3.data.labelme_output import ConvertedImage, check_free, write_dataset
from sam3.data.labelme_reader import LabelmeFile, clean_label, read_labelme
from sam3.data.labelme_report import BadFile, ConversionReport, counted, format_bad_files
from sam3.data.labelme_scan import FoundFiles, check_folders, grouping, key_of, scan_folder
from sam3.data.labelme_shapes import is_supported, to_instances
from sam3.data.labelme_split import SplitItem, split_train
from sam3.errors import DataError

NO_CLASS = frozenset({"__ignore__", "_background_"})  # Labelme's labels for what is no object

Progress = Callable[[Iterable[Any], str, int], Iterable[Any]]  # (items, what is being done, how many) -> the items


@dataclass(frozen=True)
class LabelmeOptions:
    """What to convert, and how."""

    labelme_dir: Path
    output_dir: Path
    class_names: tuple[str, ...] = ()  # empty: every label except NO_CLASS
    single_class: bool = False  # every shape under the one name in class_names
    train_split: float = 0.8  # share of the images that go to train
    seed: int = 0
    group_by: str | None = None  # "folder", "video" or a regular expression
    skip_unsupported: bool = False  # leave out points, lines and the like
    skip_bad: bool = False  # leave out files that cannot be used
    include_unlabelled: bool = False  # images without a JSON file are images without objects
    overwrite: bool = False

    def __post_init__(self) -> None:
        names = dict.fromkeys(map(clean_label, self.class_names))
        object.__setattr__(self, "class_names", tuple(names))
        if "" in names:
            raise DataError("class_name must not be empty")
        if self.single_class and len(names) != 1:
            raise DataError(
                f"single_class puts every shape under one name: give exactly one class_name, got {len(names)}"
            )
        if not 0 <= self.train_split <= 1:
            raise DataError(
                f"train_split must be a share between 0 and 1, such as 0.8 for 80 percent, got {self.train_split}"
            )


def _silent(items: Iterable[Any], _what: str, _count: int) -> Iterable[Any]:
    return items


def convert(options: LabelmeOptions, *, progress: Progress = _silent) -> ConversionReport:
    """Convert a Labelme folder into ``<output_dir>/{train,val}/{images/*,annotations.json}``.

    Args:
        options: what to convert.
        progress: wraps each loop over files, to show how far it is.

    Raises:
        DataError: there is nothing to convert, no shape carries a class that was named, a file is bad and ``skip_bad``
            is off, or something would be overwritten. Nothing is written in all these cases.
    """
    check_folders(options.labelme_dir, options.output_dir)
    check_free(options.output_dir, overwrite=options.overwrite)
    group_of = grouping(options.group_by)
    found = scan_folder(options.labelme_dir)
    bad = BadFiles(options.labelme_dir)

    annotations = _read_annotations(found.annotations, bad, progress)
    labels = Counter(shape.label for annotation in annotations for shape in annotation.shapes)
    class_of_label = choose_classes(labels, options, bad)
    images, skipped = _convert_annotations(annotations, class_of_label, options, bad=bad, progress=progress)
    unlabelled = _without_annotation(found, annotations)
    if options.include_unlabelled:
        images += _convert_plain_images(unlabelled, bad, progress)
    bad.refuse(options)
    class_names = _used_classes(images, options)

    images.sort(key=lambda image: image.key)
    items = [_split_item(image, group_of(image.key)) for image in images]
    num_groups = _count_groups(images, group_of, options)
    in_train = split_train(items, options.train_split, options.seed)
    written = write_dataset(options.output_dir, images, in_train=in_train, class_names=class_names)
    for _ in progress(written, "writing images", len(images)):
        pass
    return ConversionReport(
        output_dir=options.output_dir,
        class_names=class_names,
        images=tuple(images),
        in_train=tuple(in_train),
        num_groups=num_groups,
        left_out_labels=Counter({label: count for label, count in labels.items() if label not in class_of_label}),
        skipped_shapes=skipped,
        bad_files=tuple(bad.files),
        unlabelled_images=() if options.include_unlabelled else tuple(map(bad.name_of, unlabelled)),
    )


def choose_classes(labels: Counter[str], options: LabelmeOptions, bad: "BadFiles") -> dict[str, str]:
    """From each label that is to be learned to its class; labels that are not in it are left out.

    Raises:
        DataError: a class is named that no shape carries, or there is no shape to learn from.
    """
    if options.class_names and not options.single_class:
        missing = [name for name in options.class_names if name not in labels]
        if missing:
            raise DataError(_unknown_class(missing[0], labels) + bad.also())
        return {name: name for name in options.class_names}
    objects = [label for label in labels if label not in NO_CLASS]
    if not objects:
        only = f"only {counted(labels)}" if labels else "none"
        raise DataError(
            f"no shape to learn from in '{options.labelme_dir}': labels found there: {only}{bad.also() or '.'}"
        )
    return {label: options.class_names[0] if options.single_class else label for label in objects}


def _unknown_class(name: str, labels: Counter[str]) -> str:
    known = {label.casefold(): label for label in labels}
    near = difflib.get_close_matches(name.casefold(), known, n=1)
    hint = f"; did you mean {known[near[0]]!r}?" if near else "."
    return f"no shape carries the class_name {name!r}. Labels found: {counted(labels) or 'none'}{hint}"


class BadFiles:
    """What cannot be used, collected over all steps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[BadFile] = []

    def name_of(self, path: Path) -> str:
        """How ``path`` is called in messages: its place below the Labelme folder."""
        return path.relative_to(self.folder).as_posix()

    @contextmanager
    def noting(self, path: Path) -> Iterator[None]:
        """Turns a :class:`DataError` inside the block into an entry for ``path``."""
        try:
            yield
        except DataError as error:
            self.files.append(BadFile(self.name_of(path), str(error)))

    def refuse(self, options: LabelmeOptions) -> None:
        """Raises :class:`DataError` naming every bad file, unless the user wants them left out."""
        if self.files and not options.skip_bad:
            raise DataError(
                f"{_files(len(self.files))} cannot be used, nothing was written:\n{format_bad_files(self.files)}\n"
                "Mend them, or pass --skip_bad to leave them out."
            )

    def also(self) -> str:
        """The list, as an addition to the message of another error."""
        if not self.files:
            return ""
        return f"\nBesides, {_files(len(self.files))} cannot be read:\n{format_bad_files(self.files)}"


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _read_annotations(paths: Sequence[Path], bad: BadFiles, progress: Progress) -> list[LabelmeFile]:
    annotations = []
    for path in progress(paths, "reading annotations", len(paths)):
        with bad.noting(path):
            annotations.append(read_labelme(path))
    return annotations


def _convert_annotations(
    annotations: Sequence[LabelmeFile],
    class_of_label: Mapping[str, str],
    options: LabelmeOptions,
    *,
    bad: BadFiles,
    progress: Progress,
) -> tuple[list[ConvertedImage], Counter[tuple[str, str]]]:
    """The usable images with their instances, and the unsupported shapes left out by (label, type)."""
    images, skipped, owners = [], Counter(), {}
    for annotation in progress(annotations, "checking images", len(annotations)):
        with bad.noting(annotation.path):
            source = annotated_image(annotation)
            owner = owners.setdefault(source.file.resolve(), annotation.path)
            if owner != annotation.path:
                raise DataError(
                    f"annotates image '{source.file.name}', as '{bad.name_of(owner)}' does; keep one of them"
                )
            wanted = [shape for shape in annotation.shapes if shape.label in class_of_label]
            kept = [shape for shape in wanted if is_supported(shape) or not options.skip_unsupported]
            instances = to_instances(kept, source.height, source.width)
            named = tuple(replace(instance, label=class_of_label[instance.label]) for instance in instances)
            images.append(ConvertedImage(key_of(annotation.path, options.labelme_dir), source, named))
            skipped.update((shape.label, shape.shape_type) for shape in wanted)
            skipped.subtract((shape.label, shape.shape_type) for shape in kept)
    return images, +skipped


def _without_annotation(found: FoundFiles, annotations: Sequence[LabelmeFile]) -> list[Path]:
    """Image files that no JSON file, good or bad, belongs to."""
    annotated = {path.with_suffix("") for path in found.annotations}
    used = set()
    for annotation in annotations:
        with suppress(DataError):
            used.add(find_image_file(annotation).resolve())
    return [path for path in found.images if path.with_suffix("") not in annotated and path.resolve() not in used]


def _convert_plain_images(paths: Sequence[Path], bad: BadFiles, progress: Progress) -> list[ConvertedImage]:
    images = []
    for path in progress(paths, "checking images without JSON", len(paths)):
        with bad.noting(path):
            images.append(ConvertedImage(key_of(path, bad.folder), plain_image(path), ()))
    return images


def _used_classes(images: Iterable[ConvertedImage], options: LabelmeOptions) -> tuple[str, ...]:
    """Category names in order: as named by the user, else sorted."""
    used = {instance.label for image in images for instance in image.instances}
    empty = [name for name in options.class_names if name not in used]
    if empty or not used:
        what = f"of class {empty[0]!r} " if empty else ""
        raise DataError(
            f"no usable shape {what}is left: all were of unsupported types or in bad files; "
            "run without --skip_unsupported and --skip_bad to see which"
        )
    return options.class_names or tuple(sorted(used))


def _split_item(image: ConvertedImage, group: str | None) -> SplitItem:
    return SplitItem(
        group=f"image {image.key}" if group is None else f"group {group}",
        classes=frozenset(instance.label for instance in image.instances),
    )


def _count_groups(
    images: Sequence[ConvertedImage], group_of: Callable[[str], str | None], options: LabelmeOptions
) -> int | None:
    if options.group_by is None:
        return None
    groups = {group for image in images if (group := group_of(image.key)) is not None}
    if not groups:
        raise DataError(
            f"group_by {options.group_by!r} matches none of the {len(images)} images; the first is {images[0].key!r}"
        )
    return len(groups)
