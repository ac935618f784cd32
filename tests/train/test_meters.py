"""Running means, pace, the live line."""

import io

import pytest
import torch

from sam3.train.meters import LiveLine, Pace, RunningMeans, clock_text, memory_gb


def test_means_are_weighted_and_survive_saving():
    means = RunningMeans()
    means.update({"a": torch.tensor(1.0), "b": 4.0}, weight=1)
    means.update({"a": torch.tensor(4.0)}, weight=2)
    assert means.means() == {"a": 3.0, "b": 4.0}
    again = RunningMeans()
    again.load_state_dict(means.state_dict())
    again.update({"a": 1.0}, weight=3)
    assert again.means() == {"a": 2.0, "b": 4.0}
    means.reset()
    assert means.means() == {}


def test_means_do_not_keep_the_graph():
    means = RunningMeans()
    means.update({"a": torch.ones((), requires_grad=True) * 2})
    assert means._sums["a"][0].grad_fn is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "00:00:00"), (59.6, "00:01:00"), (3725, "01:02:05"), (90061, "1d 01:01:01"), (-3, "00:00:00")],
)
def test_clock(seconds, text):
    assert clock_text(seconds) == text


def test_pace_of_even_steps():
    pace = Pace()
    for _ in range(3):
        pace.update(0.5, images=4)
    assert pace.images_per_second == pytest.approx(8.0)
    assert pace.remaining(20) == "00:00:10"


def test_live_line_replaces_itself_and_is_silent_without_a_terminal():
    stream = io.StringIO()
    line = LiveLine(True, stream)
    line.show("a long first line")
    line.show("too soon")
    line.PERIOD = 0
    line.show("second")
    assert "too soon" not in stream.getvalue()
    assert stream.getvalue().count("\r") == 2
    assert "\n" not in stream.getvalue()
    quiet = io.StringIO()
    LiveLine("auto", quiet).show("text")
    assert quiet.getvalue() == ""


def test_memory_is_a_plausible_number():
    assert 0.01 < memory_gb(torch.device("cpu")) < 100
