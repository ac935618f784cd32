"""Predictions on an SA-Co split through the command, interrupted and straight, and their cgF1."""

import json
from pathlib import Path

import pytest

from sam3.errors import ConfigError, DataError
from sam3.train import image_benchmark
from sam3.train.config_loading import load_config
from sam3.train.train import main
from tests.data.saco_folder import write_saco_folder
from tests.small_checkpoint import RESOLUTION, save_small_checkpoint

OVERRIDES = (
    "model.overrides={vision: {embed_dim: 32, num_heads: 2, depth: 2, global_blocks: [1]}, "
    "text: {width: 16, num_heads: 2, num_layers: 1, projection_dim: 16}, "
    "detector: {d_model: 32, decoder_layers: 2, num_queries: 6, prompt_mlp_dim: 32}}"
)
PREDICTIONS = Path("dumps/gold_attributes") / image_benchmark.PREDICTIONS


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saco ä")
    write_saco_folder(folder)
    save_small_checkpoint(folder / "weights.pt")
    return folder


def arguments(world: Path, out: Path, *extra: str) -> list[str]:
    return [
        *("-c", "eval_config", "data=saco_gold", "data.subset=attributes", "model=tiny", OVERRIDES),
        *(f"scratch.resolution={RESOLUTION}", "scratch.val_batch_size=2", "scratch.num_val_workers=0"),
        *(f"paths.base_annotation_path={world}", f"paths.image_roots.metaclip={world / 'images'}"),
        *(f"paths.checkpoint_path={world / 'weights.pt'}", f"paths.experiment_log_dir={out}"),
        *("trainer.accelerator=cpu", "data.benchmark.score_threshold=0.001", "data.benchmark.phrases_at_once=2"),
        *extra,
    ]


@pytest.fixture(scope="module")
def straight(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("straight")
    main(arguments(world, out))
    return out


def test_every_pair_is_asked_and_records_are_those_of_the_format(straight: Path):
    records = json.loads((straight / PREDICTIONS).read_text())
    assert {record["image_id"] for record in records} <= set(range(101, 119))
    assert len({record["image_id"] for record in records}) > 9
    for record in records:
        assert set(record) == {"image_id", "category_id", "segmentation", "area", "bbox", "score"}
        assert record["category_id"] == 1
        assert record["segmentation"]["size"] == [96, 96]
        assert all(-0.5 < value < 1.5 for value in record["bbox"])
    assert [record["image_id"] for record in records] == sorted(record["image_id"] for record in records)


def test_cgf1_of_masks_and_boxes_is_measured_from_the_file(straight: Path):
    line = json.loads((straight / "logs" / "val_stats.json").read_text())
    for iou_type in ("segm", "bbox"):
        assert f"Meters_val/gold_attributes/cgF1_eval_{iou_type}_cgF1" in line
    assert len([name for name in line if "/cgF1_eval_" in name]) == 52


def test_an_interrupted_run_ends_with_the_same_file(
    world: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Killed(Exception):
        pass

    original, calls = image_benchmark.PairPredictor.__call__, []

    def dies_on_the_second_batch(self, batch):
        calls.append(batch.origin.file_names)
        if len(calls) == 2:
            raise Killed
        return original(self, batch)

    monkeypatch.setattr(image_benchmark.PairPredictor, "__call__", dies_on_the_second_batch)
    with pytest.raises(Killed):
        main(arguments(world, tmp_path))
    journal = tmp_path / "dumps/gold_attributes/journal_0.jsonl"
    with open(journal, "ab") as file:  # what a kill leaves of a line
        file.write(b'{"item": 2, "rec')
    main(arguments(world, tmp_path))
    assert (tmp_path / PREDICTIONS).read_bytes() == (straight / PREDICTIONS).read_bytes()
    assert not journal.exists()
    seen = [name for names in calls[2:] for name in names]
    assert len(seen) == 4, "finished pictures are not predicted again"
    main(arguments(world, tmp_path))
    assert len(calls) == 4, "a finished run is only measured again"


def test_predictions_of_other_weights_or_settings_are_not_mixed(world: Path, straight: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="holds predictions of another run .different: score_threshold."):
        main(arguments(world, straight, "data.benchmark.score_threshold=0.2"))
    folder = tmp_path / "dumps/gold_attributes"
    folder.mkdir(parents=True)
    (folder / "journal_3.jsonl").write_text('{"weights": "others"}\n')
    with pytest.raises(DataError, match="begun with other settings"):
        main(arguments(world, tmp_path))


def test_the_dry_run_says_what_will_be_asked(world: Path, tmp_path: Path, capsys):
    main(arguments(world, tmp_path / "out", "--dry-run"))
    assert "gold_attributes: 6 pictures, 18 pairs" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("trainer.mode=train", "data.benchmark needs trainer.mode=val"),
        ("scratch.enable_segmentation=false", "enable_segmentation must be true"),
        ("data.benchmark.gt_files=[nowhere.json]", "data.benchmark.gt_files: there is no file nowhere.json"),
        ("paths.checkpoint_path=nowhere.pt", "paths.checkpoint_path: there is no file nowhere.pt"),
        ("data.benchmark.phrases_at_once=0", "data.benchmark.phrases_at_once is 0"),
    ],
)
def test_wrong_settings_are_named(world: Path, tmp_path: Path, extra: str, message: str):
    with pytest.raises(ConfigError, match=message):
        main(arguments(world, tmp_path, extra))


@pytest.mark.parametrize("name", ["gold", "silver"])
def test_every_subset_is_composed(world: Path, tmp_path: Path, name: str):
    roots = "paths.image_roots={metaclip: m, sa1b: s, silver: v}"
    base = ["paths.base_annotation_path=/a", f"paths.experiment_log_dir={tmp_path}", f"data=saco_{name}", roots]
    subsets = load_config("eval_config", base).run.data.subsets
    assert len(subsets) == {"gold": 7, "silver": 10}[name]
    for subset in subsets:
        data = load_config("eval_config", [*base, f"data.subset={subset}"]).run.data
        assert data.benchmark.name == f"{name}_{subset}"
        assert len(data.benchmark.gt_files) == {"gold": 3, "silver": 1}[name]
        assert data.benchmark.gt_files[0] == data.val.dataset["ann_file"]
