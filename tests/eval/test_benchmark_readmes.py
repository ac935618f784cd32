"""The guides of SA-Co/Gold and Silver: published tables, subsets, and commands that exist."""

import json
import re

import pytest

from sam3.eval.benchmark_command import GOLD, SILVER
from tests.integration.documents import commands, local_links, table_rows

# column of the table -> subset
COLUMNS = {
    "gold": {
        "metaclip": "metaclip_nps", "sa1b": "sa1b_nps", "crowded": "crowded", "food": "fg_food",
        "sport": "fg_sports_equipment", "attributes": "attributes", "wiki common": "wiki_common",
    },
    "silver": {
        "BDD100k": "bdd100k", "DROID": "droid", "Ego4D": "ego4d", "food rec": "food_rec", "GeoDE": "geode",
        "iNaturalist": "inaturalist", "NGA": "nga_art", "SA-V": "sav", "YT1B": "yt1b", "Fathomnet": "fathomnet",
    },
}  # fmt: skip


@pytest.fixture
def official(repository):
    return json.loads((repository / "tests/golden/eval/official_numbers.json").read_text())


def guide(repository, name):
    return repository / f"scripts/eval/{name}/README.md"


def published(numbers):
    """cgF1 / IL_MCC / pmF1 as the table writes them."""
    return 100 * numbers["cgF1"], numbers["IL_MCC"], 100 * numbers["positive_micro_F1"]


@pytest.mark.parametrize("benchmark", ["gold", "silver"])
def test_the_row_of_sam3_equals_the_recorded_numbers(benchmark, repository, official):
    text = guide(repository, benchmark).read_text(encoding="utf-8")
    header = re.search(r"^\| model \|(.*)\|$", text, flags=re.MULTILINE)[1]
    names = ["average", *COLUMNS[benchmark]]
    assert [cell.strip() for cell in header.split("|")] == names
    (row,) = [cells[1:] for cells in table_rows(guide(repository, benchmark), "model") if cells[0] == "**SAM 3**"]
    subsets = {name: published(official[benchmark][key]["segm"]) for name, key in COLUMNS[benchmark].items()}
    subsets["average"] = tuple(sum(column) / len(column) for column in zip(*subsets.values(), strict=True))
    for name, cell in zip(names, row, strict=True):
        for printed, value in zip(cell.split("/"), subsets[name], strict=True):
            assert float(printed) == round(value, 2), (name, cell)
    boxes = [published(numbers["bbox"])[0] for numbers in official[benchmark].values()]
    assert f"average cgF1 {sum(boxes) / len(boxes):.2f}" in text


@pytest.mark.parametrize("benchmark", ["gold", "silver"])
def test_all_rows_are_quoted_as_published(benchmark, repository, shared):
    spec = (shared / "spec" / "evaluation.md").read_text(encoding="utf-8")
    table = spec.split(f"**{benchmark.title()}**\n\n", 1)[1].split("\n\n", 1)[0].strip()
    assert len(table.splitlines()) > 6
    assert table in guide(repository, benchmark).read_text(encoding="utf-8")


@pytest.mark.parametrize(("benchmark", "data"), [("gold", GOLD), ("silver", SILVER)])
def test_the_subsets_are_those_of_the_command(benchmark, data, repository, official):
    assert {subset.name for subset in data.subsets} == set(official[benchmark]) == set(COLUMNS[benchmark].values())
    listed = {row[0] for row in table_rows(guide(repository, benchmark), "subset")}
    assert len(listed) == len(data.subsets)
    for name in listed:
        assert any(subset.name in (name, f"{name}_nps") for subset in data.subsets), name


@pytest.mark.parametrize("benchmark", ["gold", "silver"])
def test_commands_and_links_lead_somewhere(benchmark, repository):
    document = guide(repository, benchmark)
    for command in commands(document):
        program, script, *arguments = command.split()
        assert program == "python"
        assert (repository / script).is_file(), command
        if "eval_config" in arguments:
            assert (repository / f"sam3/train/conf/data/saco_{benchmark}.yaml").is_file()
    for link in local_links(document):
        assert (document.parent / link).exists(), link
    for script in re.findall(r"`(\w+\.py)\b", document.read_text(encoding="utf-8")):
        assert (document.parent / script).is_file(), script
