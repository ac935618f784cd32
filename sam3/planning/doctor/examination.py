"""One pass over a data set: everything that training would trip over, nothing changed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sam3.planning.doctor.annotation_file import Content, read_content
from sam3.planning.doctor.dataset_checks import check_classes, check_copies, check_splits
from sam3.planning.doctor.findings import DEFECTS, Finding, Severity
from sam3.planning.doctor.locate import Split
from sam3.planning.doctor.pictures import Picture, read_pictures
from sam3.planning.doctor.settings import Settings
from sam3.planning.doctor.split_checks import check_objects, check_pictures

_T = TypeVar("_T")
Progress = Callable[[Iterable[_T], int], Iterable[_T]]  # wraps what is worked through; the number is its length


@dataclass(frozen=True)
class Examination:
    """What was found, worst first, and what it was found in."""

    contents: tuple[Content, ...]
    pictures: tuple[dict[int, Picture], ...]  # per content: position of the image -> its file
    findings: tuple[Finding, ...]

    def count(self, severity: Severity) -> int:
        """Number of findings that are this bad."""
        return sum(finding.severity is severity for finding in self.findings)

    @property
    def num_images(self) -> int:
        return sum(len(content.images) for content in self.contents)

    @property
    def num_objects(self) -> int:
        return sum(len(content.annotations) for content in self.contents)


def examine(splits: Sequence[Split], settings: Settings, progress: Progress | None = None) -> Examination:
    """Look at every entry and every picture of the splits."""
    contents, findings = [], []
    for split in splits:
        content, found = read_content(split)
        contents.append(content)
        findings += found
    pictures = _look(contents, settings, progress or (lambda items, total: items))
    findings += check_splits(contents, settings)
    for content, its in zip(contents, pictures, strict=True):
        findings += check_pictures(content, its)
        findings += check_objects(content, its, settings)
    findings += check_classes(contents, settings)
    findings += check_copies(contents, pictures)
    order = list(Severity)
    place = {code: index for index, code in enumerate(DEFECTS)}
    findings.sort(key=lambda finding: (order.index(finding.severity), place[finding.code]))
    return Examination(tuple(contents), tuple(pictures), tuple(findings))


def _look(contents: Sequence[Content], settings: Settings, progress: Progress) -> list[dict[int, Picture]]:
    """Every picture that an entry names, read once."""
    paths = [
        content.split.img_folder / str(entry["file_name"]) for content in contents for entry in content.images.values()
    ]
    pictures = read_pictures(paths, decode=settings.decode, workers=settings.workers)
    stream: Iterator[Picture] = iter(progress(pictures, len(paths)))
    return [{position: next(stream) for position in content.images} for content in contents]
