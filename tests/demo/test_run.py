"""The demonstration from end to end, very small: what it writes, what it says, what it repeats."""

import json

import pytest
from torch.testing import assert_close

from sam3.demo import run
from sam3.demo.__main__ import main
from sam3.demo.run import Outcome
from sam3.demo.scoring import Score
from sam3.errors import UserError
from sam3.io.checkpoint import read_checkpoint
from tests.integration.commands import call


def outcome(ap_50: float, firing_rate: float) -> Outcome:
    scores = {"trained": Score(ap_50, 0.5, firing_rate, 0.9), "untrained": Score(0.1, 0.0, 0.0, 0.0)}
    return Outcome(phrases=["red circle"], num_train_images=3, num_val_images=1, scores=scores)


@pytest.mark.parametrize(
    ("ap_50", "firing_rate", "words"),
    [
        (0.7, 0.05, []),
        (0.69, 0.0, ["AP50 0.690 is below 0.70"]),
        (0.9, 0.06, ["fire in 6.0% of the cases"]),
        (0.1, 0.0, ["below", "not better than 0.100 (untrained)"]),
    ],
)
def test_the_bounds(ap_50, firing_rate, words):
    failures = outcome(ap_50, firing_rate).failures
    assert len(failures) == len(words)
    assert all(word in failure for word, failure in zip(words, failures, strict=True))


@pytest.mark.slow
def test_the_whole_way_twice(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(run, "run", call)
    arguments = ["--output", str(tmp_path / "demo"), "--images", "24", "--seed", "5", "scratch.max_epochs=1"]
    assert main(arguments) == 1  # one epoch is not enough
    said = capfd.readouterr().out
    assert "[6/6] measure" in said
    assert "It did not learn enough: mask AP50" in said

    metrics = json.loads((tmp_path / "demo" / "metrics.json").read_text())
    assert metrics["seed"] == 5
    assert metrics["num_train_images"] + metrics["num_val_images"] == 24
    assert set(metrics["scores"]) == {"trained", "untrained", "predict the image centre", "predict nothing"}
    assert metrics["scores"]["predict nothing"]["ap_50"] == 0
    assert metrics["seconds"]["total"] > 0
    assert (tmp_path / "demo" / "predictions.png").stat().st_size > 1000
    weights = read_checkpoint(tmp_path / "demo" / "shapes_fp16.pt").state_dict

    assert main(arguments) == 1  # again: nothing is trained twice
    assert_close(read_checkpoint(tmp_path / "demo" / "shapes_fp16.pt").state_dict, weights, rtol=0, atol=0)
    again = json.loads((tmp_path / "demo" / "metrics.json").read_text())
    assert again["scores"] == metrics["scores"]

    with pytest.raises(UserError, match="another demonstration"):
        main([*arguments, "--seed", "6"])


def test_a_failing_command_stops_the_demonstration(tmp_path, capfd):
    with pytest.raises(UserError, match=r"labelme_to_coco.py ended with exit code 2; its message stands above"):
        run.run("labelme_to_coco.py", "--labelme_dir", tmp_path / "absent", "--output_dir", tmp_path / "out")
    captured = capfd.readouterr()
    assert "$ python labelme_to_coco.py --labelme_dir" in captured.out
    assert "absent" in captured.err
