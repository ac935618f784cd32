"""What docs/evaluation.md promises: options that exist, links that lead somewhere, Python that runs."""

import re
import shlex

import pytest

from sam3.eval.command import main
from tests.eval.saco_files import found, image, mask, thing, truth, write
from tests.integration.documents import blocks, commands, local_links


@pytest.fixture
def guide(repository):
    return repository / "docs" / "evaluation.md"


@pytest.fixture
def report_guide(repository):
    return repository / "docs" / "evaluation_report.md"


def test_every_option_of_its_commands_exists(guide, capsys):
    for command in commands(guide):
        program, group, name, *arguments = shlex.split(command)
        assert (program, group) == ("sam3", "eval")
        with pytest.raises(SystemExit):
            main([name, "--help"])
        text = capsys.readouterr().out
        for option in (argument for argument in arguments if argument.startswith("--")):
            assert option in text, command


def test_every_option_of_the_reports_commands_exists(report_guide, capsys):
    evaluations = [line for line in commands(report_guide) if line.startswith("sam3 eval")]
    assert len(evaluations) == 5
    for command in evaluations:
        arguments = shlex.split(command)[2:]
        names = [word for word in arguments[:2] if re.fullmatch("[a-z0-9]+", word)]
        with pytest.raises(SystemExit):
            main([*names, "--help"])
        text = capsys.readouterr().out
        for option in (argument for argument in arguments if argument.startswith("--")):
            assert option in text, command


def test_its_links_lead_somewhere(guide):
    for link in local_links(guide):
        assert (guide.parent / link).exists(), link


def test_its_python_runs(guide, tmp_path, monkeypatch, capsys):
    box = (5, 5, 10, 10)
    content = truth([image(1), image(2)], [thing(1, box)])
    for name in ("gt_a.json", "gt_b.json"):
        write(tmp_path / name, content)
    write(tmp_path / "pred.json", [found(1, box)])
    monkeypatch.chdir(tmp_path)
    values = {"rles": [mask(*box)], "scores": [0.9], "rles_of_a": [mask(*box)], "rles_of_b": []}
    (code,) = blocks(guide, "python")
    exec(compile(code, str(guide), "exec"), values)
    assert re.search(r"^0\.99999\d+ \{'cgF1_eval_segm_cgF1': 0\.9998", capsys.readouterr().out)
