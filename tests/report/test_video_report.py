"""The page of a video evaluation: what it says, that it stands alone, and that it survives missing frames."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam3.errors import UserError
from sam3.eval.command import main
from sam3.eval.video_errors import VideoErrorKind
from sam3.report.video_pictures import shown_frames, track_labels
from tests.eval.masklets import HEIGHT, WIDTH, document, track
from tests.report.self_contained import Page

FRAMES = 6
LEFT, RIGHT = (2, 3, 8, 10), (18, 3, 8, 10)
HALF = FRAMES // 2


def still(box, frames: int = FRAMES) -> list:
    return [box] * frames


def annotations() -> list[dict]:
    """Video 0: two objects of phrase 1; video 1: one of phrase 2; video 2: none."""
    found = [track(still(box), category_id=1) for box in (LEFT, RIGHT)]
    found.append(track(still(LEFT), video_id=1, category_id=2))
    tags = ["tracking_challenging_pair"]
    return [entry | {"tags": tags if entry["category_id"] == 1 else []} for entry in found]


def perfect() -> list[dict]:
    return [
        {name: value for name, value in entry.items() if name != "tags"} | {"score": 0.9} for entry in annotations()
    ]


PLANTED = {
    VideoErrorKind.IDENTITY: [
        track([LEFT] * HALF + [RIGHT] * HALF, category_id=1, score=0.9),
        track([RIGHT] * HALF + [LEFT] * HALF, category_id=1, score=0.9),
        perfect()[2],
    ],
    VideoErrorKind.SILENCE: perfect()[:2],
    VideoErrorKind.FALSE_ALARM: [*perfect(), track(still(LEFT), video_id=2, category_id=1, score=0.9)],
    VideoErrorKind.MISS: [track([None] * 2 + still(LEFT, FRAMES - 2), category_id=1, score=0.9), *perfect()[1:]],
    VideoErrorKind.SPURIOUS: [*perfect(), track(still((10, 15, 9, 4)), video_id=1, category_id=2, score=0.9)],
    VideoErrorKind.LOCALISATION: [track(still((4, 3, 8, 10)), category_id=1, score=0.9), *perfect()[1:]],
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("video <ü>")
    truth = document(annotations(), num_videos=3, num_frames=FRAMES)
    (folder / "gt.json").write_text(json.dumps(truth))
    files = {kind.name.lower(): records for kind, records in PLANTED.items()} | {"perfect": perfect()}
    for name, records in files.items():
        (folder / f"{name}.json").write_text(json.dumps(records))
    for video in range(3):
        (folder / "frames" / f"v{video}").mkdir(parents=True)
        for frame in range(FRAMES):
            picture = np.full((HEIGHT, WIDTH, 3), 40 * video + 10 * frame, dtype=np.uint8)
            Image.fromarray(picture).save(folder / "frames" / f"v{video}" / f"{frame}.jpg")
    return folder


def run(world: Path, out: Path, predictions: str, *extra: str) -> str:
    files = ["--gt_annot_file", str(world / "gt.json"), "--pred_file", str(world / f"{predictions}.json")]
    main(["phota", *files, "--report", str(out), *extra])
    return out.read_text(encoding="utf-8")


def points(page: str) -> dict[str, float]:
    """Points lost by kind of error, from the first table."""
    rows = re.findall(r'<tr><td>([\w ]+)</td><td class="number"[^>]*>[^<]*</td><td[^>]*data-sort="([^"]+)"', page)
    return {name: float(value) for name, value in rows[: len(VideoErrorKind)]}


@pytest.mark.parametrize("kind", list(VideoErrorKind))
def test_a_planted_error_moves_its_own_part_alone(world: Path, tmp_path: Path, capsys, kind: VideoErrorKind):
    page = run(world, tmp_path / "r.html", kind.name.lower())
    score = json.loads(capsys.readouterr().out)["video_mask_all_phrase_HOTA"]
    lost = points(page)
    assert lost[kind.value] == pytest.approx(100 - 100 * score, abs=1e-6)
    assert lost[kind.value] > 0.5
    assert sum(map(abs, lost.values())) == pytest.approx(lost[kind.value], abs=1e-6)


def test_the_page_says_all_and_asks_nobody_for_anything(world: Path, tmp_path: Path):
    more = ("--compare", str(world / "perfect.json"), "--frames", str(world / "frames"))
    text = run(world, tmp_path / "r.html", "identity", *more)
    for title in ("Where the score was lost", "Subsets", "Compared with another file", "Phrases", "Worst pairs"):
        assert f"<h2>{title}</h2>" in text
    page = Page(text)
    assert page.references == []
    assert text.count("data:image/jpeg;base64,") == 1
    assert "identity: challenging pairs" in text
    assert "“phrase 1”, v0: objects: 2, tracks: 2, 4 identity; frames 0, 2, 3, 5" in text


def test_missing_frames_are_named_and_the_page_is_written(world: Path, tmp_path: Path):
    page = run(world, tmp_path / "r.html", "miss", "--frames", str(tmp_path / "nowhere"))
    assert "nowhere" in page
    assert "data:image" not in page


def test_boxes_and_whole_evaluations_have_the_same_page(world: Path, tmp_path: Path):
    boxes = run(world, tmp_path / "b.html", "spurious", "--iou_type", "bbox", "--frames", str(world / "frames"))
    assert "pHOTA of boxes: spurious" in boxes
    files = ["--gt_annot_file", str(world / "gt.json"), "--pred_file", str(world / "spurious.json")]
    main(["veval", "one", *files, "--eval_res_file", str(tmp_path / "r.json"), "--report", str(tmp_path / "v.html")])
    number = json.loads((tmp_path / "r.json").read_text())["dataset_results"]["video_mask_all_phrase_HOTA"]
    assert f"All pairs together score {100 * number:.2f} of 100" in (tmp_path / "v.html").read_text(encoding="utf-8")


def test_sets_are_reported_together_and_compared(world: Path, tmp_path: Path):
    for folder, predictions in (("gt", "gt"), ("a", "miss"), ("b", "perfect")):
        (tmp_path / folder).mkdir()
        for name in ("saco_veval_sav_val", "saco_veval_yt1b_val"):
            (tmp_path / folder / f"{name}.json").write_bytes((world / f"{predictions}.json").read_bytes())
    folders = ["--gt_annot_dir", str(tmp_path / "gt"), "--pred_dir", str(tmp_path / "a")]
    folders += ["--eval_res_dir", str(tmp_path / "out"), "--subset", "saco_veval_sav_val", "saco_veval_yt1b_val"]
    with pytest.raises(UserError, match="--compare_dir is shown in the report"):
        main(["veval", "all", *folders, "--compare_dir", str(tmp_path / "b")])
    main(["veval", "all", *folders, "--compare_dir", str(tmp_path / "b"), "--report", str(tmp_path / "r.html")])
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "pHOTA of masks: 2 sets" in page
    compared = page.split("<h2>Compared")[1].split("<h2>")[0]
    names = re.findall(r"<tr><td>([^<]+)</td>", compared)
    assert names == [
        "saco_veval_sav_val",
        "saco_veval_sav_val: challenging pairs",
        "saco_veval_yt1b_val",
        "saco_veval_yt1b_val: challenging pairs",
    ]


def test_a_file_against_itself_does_not_differ(world: Path, tmp_path: Path):
    page = run(world, tmp_path / "r.html", "miss", "--compare", str(world / "miss.json"))
    row = re.search(r"<tr><td>miss</td>(.*?)</tr>", page.split("<h2>Compared")[1], re.DOTALL).group(1)
    values = [float(value) for value in re.findall(r'data-sort="([^"]+)"', row)]
    assert values[2:5] == [0, 0, 0]
    assert values[5] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--compare", "x.json"], "name its file with --report"),
        (["--frames", "x"], "name its file with --report"),
        (["--report", "r.html", "--unit", "video"], "needs --unit phrase"),
    ],
)
def test_arguments_that_do_not_fit_together_are_refused(world: Path, arguments: list[str], message: str):
    files = ["--gt_annot_file", str(world / "gt.json"), "--pred_file", str(world / "miss.json")]
    with pytest.raises(UserError, match=message):
        main(["phota", *files, *arguments])


def test_each_object_gives_its_colour_to_one_track():
    followed = np.array([[5, 6, 0], [0, 6, 0]])
    assert track_labels(followed) == (["object 1", "object 2"], ["object 1", "object 2", "track 3"])
    assert track_labels(np.zeros((0, 2), dtype=int)) == ([], ["track 1", "track 2"])
    assert track_labels(np.zeros((1, 1), dtype=int)) == (["object 1"], ["track 1"])


def test_frames_of_a_strip_show_something():
    class Shown:
        boxes = np.zeros((100, 4))

    Shown.boxes[[10, 11, 90]] = 1
    assert shown_frames([Shown], [], 100) == [10, 11, 90]
    assert shown_frames([], [], 2) == [0, 1]
