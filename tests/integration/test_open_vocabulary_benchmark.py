"""What ``benchmarks/open_vocabulary.py`` asks and how it counts; the trainings themselves take too long here."""

import importlib.util
import json

import pytest

from sam3.data.negatives import Negatives
from sam3.demo.world import World


@pytest.fixture(scope="module")
def benchmark(repository):
    spec = importlib.util.spec_from_file_location("open_vocabulary", repository / "benchmarks/open_vocabulary.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_general_phrases_are_ones_that_training_cannot_have_seen(benchmark):
    words = World().phrases
    asked = benchmark.evenly(benchmark.held_out_phrases(words), 40)
    assert len(set(asked)) == 40
    assert not set(asked) & set(Negatives().source(words).phrases)


def test_near_misses_are_the_words_that_the_world_never_draws(benchmark):
    assert len(benchmark.near_misses()) == 6 * 3 - 6
    assert "red square" in benchmark.near_misses()
    assert not set(World().phrases) & set(benchmark.near_misses())


def test_firing_is_counted_by_pair(benchmark, tmp_path):
    records = [{"image_id": 1, "category_id": 2}, {"image_id": 1, "category_id": 2}, {"image_id": 3, "category_id": 1}]
    (tmp_path / "coco_predictions.json").write_text(json.dumps(records))
    assert benchmark.firing_share(tmp_path, 4, {"images": [1, 2, 3, 4, 5]}) == pytest.approx(2 / 20)


def test_the_table_has_a_row_a_run_and_means(benchmark):
    row = dict.fromkeys(benchmark.COLUMNS, 0.25)
    results = {("without", 0): row, ("without", 1): {key: 0.75 for key in row}, ("with negatives", 0): row}
    lines = benchmark.table(results, [0, 1]).splitlines()
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")
    assert [line.split("|")[1:3] for line in lines[2:]] == [
        [" with negatives ", " 0 "],
        [" with negatives ", " mean "],
        [" without ", " 0 "],
        [" without ", " 1 "],
        [" without ", " mean "],
    ]
    assert lines[-1].count("0.500") == len(benchmark.COLUMNS)


def test_the_verdict_names_the_worst_seed(benchmark):
    row = dict.fromkeys(benchmark.COLUMNS, 0.0) | {"ap": 0.8}
    results = {("with negatives", 0): row, ("with negatives", 1): row | {"general_phrases": 0.1}, ("without", 0): row}
    assert "0.100 (bound 0.10); mean AP 0.800 against 0.800 without negatives: passed" in benchmark.verdict(results)
    results["with negatives", 0] = row | {"absent_words": 0.11}
    assert benchmark.verdict(results).endswith("MISSED")
    assert "nothing to compare" in benchmark.verdict({("without", 0): row})
