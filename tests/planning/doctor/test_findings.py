"""The catalogue of defects."""

from sam3.planning.doctor.findings import DEFECTS


def test_the_documentation_lists_every_code(repository):
    text = (repository / "docs" / "doctor.md").read_text(encoding="utf-8")
    for code, defect in DEFECTS.items():
        assert f"| `{code}` | {defect.severity} | {defect.meaning} | {defect.repair or '–'} |" in text
