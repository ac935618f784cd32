"""The doctor's findings as a table and as JSON."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from sam3.planning.doctor.examination import Examination
from sam3.planning.doctor.findings import DEFECTS, Finding, Severity


def format_table(examination: Examination, *, examples: int = 3) -> str:
    """One block for each kind of defect, worst first, with its first ``examples``."""
    splits = ", ".join(
        f"{content.split.name} {len(content.images)} images {len(content.annotations)} objects"
        for content in examination.contents
    )
    lines = [splits]
    for code, group in groupby(examination.findings, key=lambda finding: finding.code):
        lines += ["", *_block(code, list(group), examples)]
    counts = ", ".join(
        f"{count} {severity}{'s' if count != 1 and severity is not Severity.INFO else ''}"
        for severity in Severity
        if (count := examination.count(severity))
    )
    fixable = sum(bool(finding.repairs) for finding in examination.findings)
    summary = f"{counts}; --fix NEW_FOLDER repairs {fixable}" if counts else "nothing found"
    return "\n".join([*lines, "", summary])


def _block(code: str, findings: Sequence[Finding], examples: int) -> list[str]:
    defect = DEFECTS[code]
    fixable = sum(bool(finding.repairs) for finding in findings)
    fix = f"  [--fix: {defect.repair}]" if fixable and defect.repair else ""
    lines = [f"{defect.severity:<8}{code:<28}{len(findings):>6}  {defect.meaning}{fix}"]
    for finding in findings[:examples]:
        place = f"{finding.file}{': ' + finding.entry if finding.entry else ''}"
        lines.append(f"          {place}: {finding.message}")
    if len(findings) > examples:
        lines.append(f"          and {len(findings) - examples} more")
    return lines


def to_dict(examination: Examination) -> dict[str, Any]:
    """Everything, for ``--json``."""
    return {
        "splits": {
            content.split.name: {
                "annotations": str(content.split.ann_file),
                "images": len(content.images),
                "objects": len(content.annotations),
            }
            for content in examination.contents
        },
        "counts": {str(severity): examination.count(severity) for severity in Severity},
        "findings": [finding.to_dict() for finding in examination.findings],
    }
