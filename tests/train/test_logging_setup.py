"""Text log, JSON lines, curves."""

import json
import logging

from sam3.train.logging_setup import Curves, JsonLines, start_text_log, stop_text_log
from sam3.train.schema import TensorboardConfig


def test_lines_reach_file_and_terminal_once(tmp_path, capsys):
    start_text_log(tmp_path)
    start_text_log(tmp_path)  # a second start adds no second copy of each line
    text_log = tmp_path / "log.txt"
    logging.getLogger("sam3.train.test").info("准备好了")
    assert text_log.read_text(encoding="utf-8").count("INFO 准备好了") == 1
    assert capsys.readouterr().out.count("准备好了") == 1
    stop_text_log()
    logging.getLogger("sam3.train.test").info("later")
    assert "later" not in text_log.read_text(encoding="utf-8")


def test_json_lines(tmp_path):
    lines = JsonLines(tmp_path / "logs" / "stats.json")
    assert lines.read() == []
    for epoch in range(3):
        lines.append({"Trainer/epoch": epoch, "loss": float("nan") if epoch == 1 else 0.5})
    assert [line["loss"] for line in lines.read()] == [0.5, None, 0.5]
    lines.forget_from(2)
    assert [line["Trainer/epoch"] for line in lines.read()] == [0, 1]
    with open(lines.path, "a") as file:
        file.write('{"Trainer/epoch": 2, "lo')  # the machine went down
    lines.forget_from(2)
    assert [json.loads(line)["Trainer/epoch"] for line in lines.path.read_text().splitlines()] == [0, 1]


def test_no_curves_no_files(tmp_path):
    curves = Curves(TensorboardConfig(enabled=False, log_dir=str(tmp_path / "tensorboard")))
    curves.scalars({"a": 1.0}, 0)
    curves.close()
    assert not (tmp_path / "tensorboard").exists()


def test_a_resumed_run_marks_where_it_starts_again(tmp_path):
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    for first in (0, 2):
        curves = Curves(TensorboardConfig(log_dir=str(tmp_path / str(first))), first_step=first)
        curves.scalars({"loss": 1.0}, first)
        curves.close()
    kinds = {
        first: [(event.step, event.WhichOneof("what")) for event in EventFileLoader(str(path)).Load()]
        for first in (0, 2)
        for path in (tmp_path / str(first)).iterdir()
    }
    assert (2, "session_log") in kinds[2]
    assert all(what != "session_log" for _, what in kinds[0])
