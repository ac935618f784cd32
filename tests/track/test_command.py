"""The command from arguments to files, on a small random model."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sam3.errors import CheckpointError, DataError, UserError
from sam3.track.clip_folder import ClipFolder
from sam3.track.command import main, parse_arguments
from tests.small_checkpoint import save_small_checkpoint, save_small_video_checkpoint
from tests.track.conftest import write_frames, write_video

LENIENT = ["--score-threshold", "0.01", "--new-object-score", "0.01", "--max-objects", "2"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_video_checkpoint(tmp_path_factory.mktemp("weights") / "w.pt", prompts=("red square",))


def arguments(checkpoint: Path, out: Path, *more: str) -> list[str]:
    return [*more, "--checkpoint", str(checkpoint), "--output-dir", str(out), "--device", "cpu", *LENIENT]


def test_a_run_from_start_to_end(checkpoint: Path, tmp_path: Path, capsys):
    write_video(tmp_path / "in" / "a.mp4", count=3)
    (tmp_path / "in" / "bad.mp4").write_text("no video")
    call = arguments(checkpoint, tmp_path / "out", str(tmp_path / "in"))
    assert main([*call, "--prompt", "red square", "--prompt", "cat"]) == 0
    said = capsys.readouterr()
    assert "2 videos, phrases 'red square', 'cat'" in said.out
    assert "1 processed (3 frames), 0 skipped (finished earlier), 1 failed" in said.out
    assert "bad.mp4' cannot be read" in said.out
    assert re.search(r"a: 100%.*3/3 .*frame/s|s/frame", said.err), "progress with the time left"
    out = tmp_path / "out" / "a"
    assert {path.name for path in out.iterdir()} == {
        *("overlay.mp4", "masks", "masklets.json", "objects.csv", "frames.jsonl", "video.json")
    }
    found = {record["noun_phrase"] for record in json.loads((out / "masklets.json").read_text())}
    assert found == {"red square", "cat"}

    assert main([*call, "--prompt", "red square", "--prompt", "cat", "--strict"]) == 1
    assert "0 processed (0 frames), 1 skipped (finished earlier), 1 failed" in capsys.readouterr().out
    with pytest.raises(DataError, match="holds the results of other settings .phrases: .*--overwrite"):
        main(call)
    assert main([*call, "--overwrite", "--quiet", "--write", "csv,masklets", "--no-csv"]) == 0
    capsys.readouterr()
    assert json.loads((tmp_path / "out" / "run.json").read_text())["settings"]["phrases"] == ["red square"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["nowhere.mp4"], "nowhere.mp4: there is no such file or folder"),
        (["{frames}", "--prompt", " "], "--prompt is empty"),
        (["{frames}", "--new-object-score", "1.5"], "--new-object-score 1.5: scores lie between 0 and 1"),
        (["{frames}", "--max-objects", "0"], "--max-objects 0: give a positive number"),
        (["{frames}", "--set", "hotstart=1"], "--set: the video model has no threshold 'hotstart'; it has"),
        (["{frames}", "--set", "nms_iou=true"], "--set: nms_iou is True; expected a value like 0.1"),
        (["{frames}", "--set", "hotstart_delay=3"], "hotstart_unmatched .8.* must not exceed hotstart_delay .3"),
        (["{frames}", "--memory-budget", "much"], "--memory-budget is 'much'; expected a size"),
        (["{frames}", "--device", "cpus"], "--device: device 'cpus' cannot be used here"),
    ],
)
def test_what_cannot_be_used_is_named(checkpoint: Path, tmp_path: Path, more: list[str], message: str):
    frames = write_frames(tmp_path / "frames", 1)
    given = [part.format(frames=frames) for part in more]
    call = ["--checkpoint", str(checkpoint), "--output-dir", str(tmp_path / "out"), *given]
    with pytest.raises(UserError, match=message):
        main(call)


def test_weights_and_folders_that_cannot_be_used(checkpoint: Path, tmp_path: Path):
    frames = str(write_frames(tmp_path / "frames", 1))
    image_only = save_small_checkpoint(tmp_path / "image.pt")
    for weights in ("nowhere.pt", image_only):
        with pytest.raises(CheckpointError, match=str(weights)):
            main([frames, "--checkpoint", str(weights), "--output-dir", str(tmp_path / "out")])
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is a file; a folder is needed"):
        main(arguments(checkpoint, tmp_path / "file", frames))
    with pytest.raises(DataError, match="cannot be written"):
        main(arguments(checkpoint, tmp_path / "file" / "below", frames))
    assert main(arguments(checkpoint, tmp_path / "all_bad", str(_bad(tmp_path)))) == 2


def _bad(folder: Path) -> Path:
    path = folder / "bad.mp4"
    path.write_bytes(b"no video")
    return path


@pytest.mark.parametrize(("text", "rate"), [("25", 25), ("30000/1001", 30000 / 1001), ("29.97", 29.97)])
def test_frame_rates(text: str, rate: float):
    assert float(parse_arguments(["x", "--output", "o", "--fps", text]).fps) == pytest.approx(rate)


@pytest.mark.parametrize("more", [["--fps", "0"], ["--fps", "1/0"], ["--write", "video"], ["--set", "a=b"]])
def test_arguments_that_are_no_good_end_with_code_2(more: list[str], capsys):
    with pytest.raises(SystemExit) as end:
        parse_arguments(["x", "--output-dir", "o", *more])
    assert end.value.code == 2
    assert re.search(
        "no frame rate|no NAME=VALUE|is unknown; choose from overlay,masks,masklets,csv", capsys.readouterr().err
    )


def test_after_kill_nine_the_same_command_gives_the_files_of_a_straight_run(
    checkpoint: Path, tmp_path: Path, repository: Path, caplog: pytest.LogCaptureFixture
):
    frames = write_frames(tmp_path / "frames", 9)
    straight, out = tmp_path / "straight" / "frames", tmp_path / "out" / "frames"
    quick = ["--quiet", "--save-every", "2", "--no-temporal-disambiguation"]
    main(arguments(checkpoint, straight.parent, str(frames), *quick))
    assert not (straight / "session.safetensors").exists()
    call = [sys.executable, "-m", "sam3", "track", *arguments(checkpoint, out.parent, str(frames), *quick)]
    with subprocess.Popen(call, cwd=repository, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if (out / "session.safetensors").exists():
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.01)
    assert process.returncode == -signal.SIGKILL
    assert not (out / "video.json").exists()
    with caplog.at_level("INFO", "sam3.track"):
        assert main(arguments(checkpoint, out.parent, str(frames), *quick)) == 0
    went_on = re.search(r"goes on at frame (\d+)", caplog.text)
    assert int(went_on[1]) >= 2
    _require_equal(out, straight)
    assert not list(out.glob(".partial*"))


def _require_equal(out: Path, straight: Path) -> None:
    for name in ("masklets.json", "objects.csv", "frames.jsonl", "masks/index.json"):
        assert (out / name).read_bytes() == (straight / name).read_bytes()


@pytest.mark.parametrize("damage", ["cut", "ahead"])
def test_a_session_that_does_not_fit_is_not_gone_on_from(
    checkpoint: Path, tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    frames = write_frames(tmp_path / "frames", 6)
    straight, out = tmp_path / "straight" / "frames", tmp_path / "out" / "frames"
    quick = ["--quiet", "--save-every", "2", "--no-temporal-disambiguation", "--write", "masks,csv,masklets"]
    main(arguments(checkpoint, straight.parent, str(frames), *quick))

    class Killed(BaseException):
        pass

    original = ClipFolder.append

    def dies_on_frame_five(self, frame):
        if frame.index == 5:
            raise Killed
        original(self, frame)

    monkeypatch.setattr(ClipFolder, "append", dies_on_frame_five)
    with pytest.raises(Killed):
        main(arguments(checkpoint, out.parent, str(frames), *quick))
    monkeypatch.undo()
    session, journal = out / "session.safetensors", out / "frames.jsonl"
    if damage == "cut":
        session.write_bytes(session.read_bytes()[:-100])
    else:
        journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:2]))
    assert main(arguments(checkpoint, out.parent, str(frames), *quick)) == 0
    assert "this video is followed from its beginning" in caplog.text
    _require_equal(out, straight)


def test_the_script_is_the_same_command(repository: Path):
    script = repository / "tools" / "batch_track.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert "batch_track.py SOURCE [SOURCE ...]" in done.stdout
    assert "--no-temporal-disambiguation" in done.stdout
