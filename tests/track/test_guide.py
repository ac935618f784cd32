"""What docs/track.md promises: commands that are understood, files that are written, code that runs."""

import re
import shlex
from pathlib import Path

import pytest

from sam3.track.command import parse_arguments
from tests.integration.documents import blocks, commands, table_rows
from tests.small_checkpoint import save_small_video_checkpoint
from tests.track.conftest import follow


@pytest.fixture
def guide(repository: Path) -> Path:
    return repository / "docs" / "track.md"


def test_every_command_is_understood(guide: Path):
    found = commands(guide)
    assert len(found) >= 3
    for command in found:
        program, subcommand, *arguments = shlex.split(command)
        assert (program, subcommand) == ("sam3", "track")
        parse_arguments(arguments)


def test_thresholds_exist_with_the_stated_default(guide: Path):
    from sam3.model.video.settings import VideoSettings

    for option, _, default in table_rows(guide, "option"):
        name = option.strip("`").split()[0].removeprefix("--").replace("-", "_")
        assert hasattr(parse_arguments(["x", "--output-dir", "o"]), name)
        if hasattr(VideoSettings(), name):
            assert getattr(VideoSettings(), name) == float(default)


def test_every_file_of_the_table_is_written(guide: Path, frames: Path, tmp_path: Path):
    follow(tmp_path / "out", frames)
    for name, _ in table_rows(guide, "file"):
        pattern = re.sub(r"<\w+>", "*", name.strip("`"))
        assert list((tmp_path / "out" / "a b").glob(pattern)), name


def test_the_code_runs(guide: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    weights = save_small_video_checkpoint(tmp_path / "sam3.pt")
    monkeypatch.setattr("sam3.io.hub.download_released_weights", lambda: weights)
    monkeypatch.chdir(repository)
    names: dict = {}
    for code in blocks(guide, "python"):
        exec(code, names)  # our own text
    assert names["frame"].index == 23
