"""What the guide of SA-Co/VEval promises: the published numbers, options that exist, and an example that runs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.documents import blocks, commands, local_links, table_rows

DOMAINS = ("SA-V", "YT-Temporal-1B", "SmartGlasses")


@pytest.fixture
def readme(repository):
    return repository / "scripts" / "eval" / "veval" / "README.md"


def test_official_numbers_are_those_of_the_publication(readme, shared):
    text = (shared / "spec" / "evaluation.md").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith("**Video** cgF1 / pHOTA")]
    model, human = {}, {}
    for domain in DOMAINS:
        found = re.search(rf"{domain} test ([\d.]+/[\d.]+) \((?:human )?([\d.]+/[\d.]+)\)", line)
        model[domain], human[domain] = found.groups()
    rows = {row[0]: row[1:] for row in table_rows(readme, "")}
    assert rows == {"SAM 3": [model[name] for name in DOMAINS], "human": [human[name] for name in DOMAINS]}


def test_published_keys_are_in_the_results(readme):
    from sam3.eval.veval_command import HEADLINES

    assert {row[0]: row[1].strip("`") for row in table_rows(readme, "published")} == HEADLINES


def test_every_option_of_its_commands_exists(readme, repository):
    helps: dict[tuple[str, ...], str] = {}
    for command in commands(readme):
        program, script, *arguments = shlex.split(command)
        assert program == "python"
        called = (str(repository / script), *(arguments[:1] if arguments[0] in ("one", "all") else []), "--help")
        if called not in helps:
            helps[called] = subprocess.run([sys.executable, *called], capture_output=True, text=True, check=True).stdout
        shown = helps[called]
        for option in (item for item in arguments if item.startswith("--")):
            assert option in shown, command


def test_the_example_prints_what_is_shown(readme, repository, tmp_path):
    for command in commands(readme)[-2:]:
        _, script, *arguments = shlex.split(command)
        done = subprocess.run(
            [sys.executable, str(repository / script), *arguments], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert done.stdout in blocks(readme, "")


@pytest.mark.parametrize("document", ["scripts/eval/veval/README.md", "docs/evaluation_video.md"])
def test_links_lead_to_files(document, repository):
    path = Path(repository) / document
    for target in local_links(path):
        assert (path.parent / target).exists(), target


def test_the_example_in_python_runs(repository, tmp_path):
    (code,) = blocks(repository / "docs" / "evaluation_video.md", "python")
    maker = repository / "benchmarks" / "eval" / "video_data.py"
    subprocess.run([sys.executable, maker, tmp_path, "--videos", "1", "--frames", "3"], check=True)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            code.replace('"gt.json"', repr(str(tmp_path / "gt.json"))).replace(
                '"pred.json"', repr(str(tmp_path / "pred.json"))
            ),
        ],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    assert "video_mask_all_phrase_HOTA" in done.stdout, done.stderr
