from pathlib import Path

import pytest

from tests.parity import detector

pytestmark = pytest.mark.parity


def misses(folder: Path) -> tuple[int, list[str]]:
    rows = detector.check(folder)
    return len(rows), [f"{row.quantity}: {row.error:.3g} > {row.limit:.3g}" for row in rows if not row.ok]


def test_subset_of_a_bare_clone(repository: Path) -> None:
    compared, missed = misses(repository / "tests" / "golden" / "detector")
    assert missed == []
    assert compared > 500


def test_full_set(shared: Path) -> None:
    compared, missed = misses(shared / "golden" / "detector")
    assert missed == []
    assert compared > 1000


def test_a_wrong_number_is_a_miss(repository: Path, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for file in (repository / "tests" / "golden" / "detector").iterdir():
        if not file.name.startswith("case7"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    expected = load_file(tmp_path / "case8_train_expected.safetensors")
    expected["pred_logits"][0, 0] += 0.1
    save_file(expected, tmp_path / "case8_train_expected.safetensors")
    assert detector.main([str(tmp_path)]) == 1
    assert "case8_train: pred_logits" in next(line for line in capsys.readouterr().out.splitlines() if "NO" in line)
