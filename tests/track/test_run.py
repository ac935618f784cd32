"""Videos through known answers to files: their contents, interruptions, bad videos."""

import csv
import json
import signal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam3.data.saco_video import read_ground_truth
from sam3.errors import DataError
from sam3.eval.masklet_file import read_masklets
from sam3.ops import rle
from sam3.track.outputs import COLUMNS
from tests.track.conftest import Killed, KnownAnswers, follow, read_video, write_frames, write_video

FILES = ("masklets.json", "objects.csv", "frames.jsonl", "video.json", "masks/index.json")


def contents(folder: Path) -> dict[str, bytes]:
    masks = sorted(path.relative_to(folder) for path in folder.glob("masks/*/*.png"))
    return {str(name): (folder / name).read_bytes() for name in (*FILES, *masks)}


def test_every_file_of_a_video(frames: Path, tmp_path: Path):
    summary = follow(tmp_path / "out", frames, rate=Fraction(10))
    assert (summary.processed, summary.frames, dict(summary.objects)) == (1, 6, {"red square": 1, "kleine Öse": 1})
    out = tmp_path / "out" / "a b"

    truth = read_ground_truth(out / "video.json")
    records = json.loads((out / "masklets.json").read_text())
    masklets = read_masklets(out / "masklets.json", truth)
    assert [(r["obj_id"], r["noun_phrase"], r["video_id"], r["category_id"], r["score"]) for r in records] == [
        (0, "red square", 1, 1, 0.9),
        (3, "kleine Öse", 1, 2, 0.75),
    ]
    assert masklets[0].present().tolist() == [False, True, True, True, True, True]
    assert masklets[1].boxes[4].tolist() == [6, 8, 10, 10]
    assert masklets[1].boxes[1].tolist() == [0, 0, 0, 0]
    assert records[0]["areas"] == [0, 100, 100, 100, 100, 100]
    assert rle.decode(records[0]["segmentations"][2]).sum() == 100

    rows = list(csv.reader(open(out / "objects.csv", encoding="utf-8")))
    assert tuple(rows[0]) == COLUMNS
    assert rows[1] == ["1", "0.1", "0", "red square", "0.9", "3", "5", "10", "10", "100"]
    assert len(rows) == 1 + 5 + 4

    listed = json.loads((out / "masks" / "index.json").read_text())
    assert [(item["folder"], item["frames"], item["first_frame"], item["last_frame"]) for item in listed] == [
        ("000_red-square", 5, 1, 5),
        ("003_kleine-Öse", 4, 2, 5),
    ]
    mask = np.asarray(Image.open(out / "masks" / "003_kleine-Öse" / "000004.png"))
    assert mask.shape == (30, 41)
    assert set(np.unique(mask)) == {0, 255}
    assert (mask > 0).nonzero()[1].min() == 6

    shown, rate = read_video(out / "overlay.mp4")
    assert len(shown) == 6
    assert rate == 10
    factor = shown[0].shape[1] // 41
    assert shown[0].shape[:2] == tuple(side + side % 2 for side in (30 * factor, 41 * factor))
    assert np.abs(shown[5].astype(int) - shown[0]).max() > 100


@pytest.mark.parametrize("dies_at", [0, 1, 4, 5])
def test_an_interrupted_run_ends_with_the_files_of_a_straight_one(frames: Path, tmp_path: Path, dies_at: int):
    follow(tmp_path / "straight", frames)
    with pytest.raises(Killed):
        follow(tmp_path / "out", frames, predictor=KnownAnswers(dies_at))
    found = tmp_path / "out" / "a b"
    assert not [
        name for name in ("overlay.mp4", "objects.csv", "masklets.json", "video.json") if (found / name).exists()
    ]
    if (found / "frames.jsonl").exists():
        with open(found / "frames.jsonl", "ab") as file:
            file.write(b'{"frame": 4, "obj')  # what a kill leaves of a line
    (found / ".partial.overlay.x.mp4").write_bytes(b"half")
    follow(tmp_path / "out", frames)
    assert contents(found) == contents(tmp_path / "straight" / "a b")
    assert len(read_video(found / "overlay.mp4")[0]) == 6
    assert not list(found.glob(".partial*"))


def test_a_finished_video_is_skipped_and_gets_what_it_lacks_without_the_network(frames: Path, tmp_path: Path):
    follow(tmp_path / "out", frames, kinds=("csv",))
    out = tmp_path / "out" / "a b"
    assert not (out / "masks").exists()
    nobody = KnownAnswers(dies_at=0)
    summary = follow(tmp_path / "out", frames, predictor=nobody)
    assert (summary.processed, summary.skipped) == (0, 1)
    assert summary.objects.total() == 2
    follow(tmp_path / "straight", frames)
    assert contents(out) == contents(tmp_path / "straight" / "a b")
    assert follow(tmp_path / "out", frames, predictor=nobody).skipped == 1


def test_a_changed_video_is_begun_anew(frames: Path, tmp_path: Path):
    follow(tmp_path / "out", frames)
    write_frames(frames, 3)
    for name in ("3.png", "4.png", "5.png"):
        (frames / name).unlink()
    assert follow(tmp_path / "out", frames).frames == 3
    assert not (tmp_path / "out" / "a b" / "masks" / "000_red-square" / "000004.png").exists()


def test_several_videos_a_bad_one_among_them(tmp_path: Path):
    write_video(tmp_path / "videos" / "one.mp4")
    write_video(tmp_path / "videos" / "two.mp4", count=4, rate=25)
    (tmp_path / "videos" / "bad.mp4").write_bytes(b"no video")
    mixed = write_frames(tmp_path / "mixed")
    Image.new("RGB", (8, 8)).save(mixed / "3.png")
    summary = follow(tmp_path / "out", tmp_path / "videos", mixed)
    assert (summary.processed, summary.frames) == (2, 10)
    reasons = json.loads((tmp_path / "out" / "failures.json").read_text())
    assert [Path(entry["video"]).name for entry in reasons] == ["bad.mp4", "mixed"]
    assert not (tmp_path / "out" / "bad").exists()
    assert "cannot be read" in reasons[0]["reason"]
    assert "all frames of a video must have one size" in reasons[1]["reason"]
    shown, rate = read_video(tmp_path / "out" / "two" / "overlay.mp4")
    assert (len(shown), rate) == (4, 25)
    ids = [
        json.loads((tmp_path / "out" / name / "masklets.json").read_text())[0]["video_id"] for name in ("one", "two")
    ]
    assert ids == [2, 3]


def test_frames_that_are_stored_are_written_before_they_are_lost(frames: Path, tmp_path: Path):
    with pytest.raises(Killed):
        follow(tmp_path / "out", frames, predictor=KnownAnswers(4))
    lines = (tmp_path / "out" / "a b" / "frames.jsonl").read_text().splitlines()
    assert [json.loads(line)["frame"] for line in lines[1:]] == [0, 1, 2, 3]


def test_other_settings_are_refused(frames: Path, tmp_path: Path):
    from sam3.track.run_folder import TrackRun, TrackSettings

    follow(tmp_path / "out", frames)
    with pytest.raises(DataError, match=r"phrases: .*-> \[\"car\"\].*--overwrite"):
        TrackRun.open(tmp_path / "out", TrackSettings("weights", ["car"], 56, "fp32"))
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is a file"):
        TrackRun.open(tmp_path / "file", TrackSettings("weights", ["car"], 56, "fp32"))


class Interrupted(KnownAnswers):
    """Ctrl-C is pressed on a frame."""

    def __init__(self, frame: int, times: int = 1) -> None:
        super().__init__()
        self.frame, self.times = frame, times

    def track(self, source, prompts, **saving):
        for found in super().track(source, prompts):
            for _ in range(self.times if found.index == self.frame else 0):
                signal.raise_signal(signal.SIGINT)
            yield found


CAMERA = "lavfi:testsrc2=size=64x48:rate=5"  # endless, of FFmpeg's own making


def test_ctrl_c_ends_a_camera_and_its_files_are_whole(tmp_path: Path, capsys):
    before = signal.getsignal(signal.SIGINT)  # ignored where the tests were started in the background
    summary = follow(tmp_path / "out", CAMERA, predictor=Interrupted(4), progress=True)
    assert (summary.processed, summary.frames) == (1, 5)
    assert "5frame [" in capsys.readouterr().err, "frames are counted although nobody knows how many there will be"
    out = tmp_path / "out" / "lavfi-testsrc2-size-64x48-rate-5"
    assert len(read_video(out / "overlay.mp4")[0]) == 5
    assert len(read_masklets(out / "masklets.json", read_ground_truth(out / "video.json"))) == 2
    with pytest.raises(KeyboardInterrupt):
        follow(tmp_path / "twice", CAMERA, predictor=Interrupted(4, times=2))
    assert signal.getsignal(signal.SIGINT) is before
    assert follow(tmp_path / "out", CAMERA, predictor=KnownAnswers(dies_at=0)).skipped == 1


def test_what_a_camera_showed_before_a_kill_is_kept(tmp_path: Path):
    with pytest.raises(Killed):
        follow(tmp_path / "out", CAMERA, predictor=KnownAnswers(3))
    summary = follow(tmp_path / "out", CAMERA, predictor=KnownAnswers(dies_at=0))
    assert (summary.processed, summary.frames) == (1, 3)
    out = tmp_path / "out" / "lavfi-testsrc2-size-64x48-rate-5"
    assert not (out / "overlay.mp4").exists(), "its pictures are gone"
    assert len(read_masklets(out / "masklets.json", read_ground_truth(out / "video.json"))) == 2
