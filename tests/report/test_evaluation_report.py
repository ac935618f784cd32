"""The page of an evaluation: what it says, that it stands alone, and that it survives missing pictures."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest

from sam3.errors import UserError
from sam3.eval.cgf1_command import main
from sam3.ops import rle
from sam3.report.evaluation_analysis import Subset, analyse, phrases
from tests.data.saco_folder import write_saco_folder


def predictions(gt_file: Path, seed: int, share: float = 0.7) -> list[dict]:
    """Most objects of the file, some shifted, and a few false alarms."""
    rng = random.Random(seed)
    truth = json.loads(gt_file.read_text())
    records = []
    for entry in truth["annotations"]:
        if rng.random() < share:
            size = next((p["height"], p["width"]) for p in truth["images"] if p["id"] == entry["image_id"])
            mask = rle.decode(rle.from_any(entry["segmentation"], *size))
            segmentation = rle.encode(np.roll(mask, rng.choice([0, 0, 4]), axis=1))
            record = {"image_id": entry["image_id"], "category_id": 1, "segmentation": segmentation}
            records.append(record | {"bbox": entry["bbox"], "score": 0.9})
    used = {entry["image_id"] for entry in truth["annotations"]}
    square = np.zeros((96, 96), dtype=bool)
    square[10:30, 10:30] = True
    for pair in truth["images"]:
        if pair["id"] not in used and rng.random() < 0.3:
            record = {"image_id": pair["id"], "category_id": 1, "segmentation": rle.encode(square), "score": 0.8}
            records.append(record | {"bbox": [0.1, 0.1, 0.2, 0.2]})
    return records


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eval <ü>")
    files = write_saco_folder(folder, pictures=10)
    for name, seed, share in (("first", 0, 0.9), ("second", 1, 0.5)):
        (folder / f"{name}.json").write_text(json.dumps(predictions(files[0], seed, share)))
    return folder


def run(world: Path, out: Path, *extra: str, iou_type: str = "segm") -> str:
    ground_truth = sorted(str(path) for path in world.glob("gold_*.json"))
    arguments = ["--pred_file", str(world / "first.json"), "--gt_files", *ground_truth, "--iou_type", iou_type]
    main([*arguments, "--report", str(out), *extra])
    return out.read_text(encoding="utf-8")


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_the_page_says_where_the_score_was_lost(world: Path, tmp_path: Path, capsys, iou_type: str):
    page = run(
        world,
        tmp_path / "r.html",
        *("--compare", str(world / "second.json"), "--images", str(world / "images")),
        iou_type=iou_type,
    )
    score = json.loads(capsys.readouterr().out)[f"cgF1_eval_{iou_type}_cgF1"]
    assert f"All pairs together score {100 * score:.2f} of 100" in page
    for title in (
        "Where the score was lost",
        "Compared with another file",
        "Phrases",
        "Worst pairs",
        "Files and method",
    ):
        assert f"<h2>{title}</h2>" in page
    assert page.count("data:image/jpeg;base64,") >= 1
    points = re.findall(r'<tr><td>([\w ]+)</td><td class="number"[^>]*>[^<]*</td><td[^>]*data-sort="([^"]+)"', page)
    assert sum(float(value) for _, value in points[:7]) == pytest.approx(100 - 100 * score, abs=1e-6)


def test_the_page_asks_nobody_for_anything(world: Path, tmp_path: Path):
    page = run(world, tmp_path / "r.html", "--images", str(world / "images"))
    sources = re.findall(r'(?:src|href)="([^"]*)"|url\(([^)]*)\)|@import', page)
    assert all(source.startswith(("data:", "#")) for pair in sources for source in pair if source)
    assert "<ü>" not in page.replace("&lt;ü&gt;", "")


def test_pictures_that_are_missing_are_named(world: Path, tmp_path: Path):
    (tmp_path / "nothing").mkdir()
    page = run(world, tmp_path / "r.html", "--images", str(tmp_path / "nothing"))
    assert "does not exist; expected a picture file" in page
    assert "no folder of pictures was given" in run(world, tmp_path / "other.html")


def test_the_other_file_is_compared_on_the_same_pictures(world: Path):
    ground_truth = tuple(sorted(world.glob("gold_*.json")))
    analysis = analyse(Subset("x", world / "first.json", ground_truth, other_pred_file=world / "second.json"))
    other = analyse(Subset("y", world / "second.json", ground_truth))
    assert analysis.difference.difference == pytest.approx(analysis.interval.score - other.interval.score, abs=1e-12)
    assert analysis.difference.low <= analysis.difference.difference <= analysis.difference.high


def test_phrases_with_errors_come_first_by_what_they_cost(world: Path):
    ground_truth = tuple(sorted(world.glob("gold_*.json")))
    results = phrases([analyse(Subset("x", world / "second.json", ground_truth))])
    assert [result.gain for result in results] == sorted((result.gain for result in results), reverse=True)
    assert len({result.phrase for result in results}) == len(results)


def test_flags_of_the_report_need_the_report(world: Path):
    with pytest.raises(UserError, match="name its file with --report"):
        main(["--pred_file", "p", "--gt_files", "g", "--images", "d"])
