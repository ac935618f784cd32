"""Masklets on a VEval split through the command, interrupted and straight, phrase by phrase, and their metrics."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from sam3.data.saco_video import read_ground_truth
from sam3.data.saco_video_dataset import SacoVideoDataset
from sam3.errors import ConfigError, DataError
from sam3.eval.masklet_file import read_masklets
from sam3.eval.veval_command import main as veval
from sam3.train.config_loading import load_config
from sam3.train.train import main
from sam3.train.video_benchmark import VideoBenchmark
from tests.data.veval_folder import COLOURS, write_veval_folder
from tests.small_checkpoint import RESOLUTION, save_small_video_checkpoint

PREDICTIONS = Path("preds/saco_veval_sav_val_preds.json")
JOURNALS = Path("dumps/saco_veval_sav_val")
# An untrained network is sure of nothing: every detection may become an object, but for doubles, two at a time.
LENIENT = "{score_threshold: 0.01, new_object_score: 0.01, max_objects: 2, nms_iou: 0.3}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("veval ä")
    write_veval_folder(folder, frames=3)
    save_small_video_checkpoint(folder / "weights.pt")
    return folder


def arguments(world: Path, out: Path, *extra: str) -> list[str]:
    return [
        *("-c", "eval_config", "trainer.mode=val", "data=saco_veval", "data.subset=sav", "data.split=val"),
        *(f"scratch.resolution={RESOLUTION}", "trainer.accelerator=cpu"),
        *(f"paths.base_annotation_path={world}", f"paths.image_roots.veval={world / 'media'}"),
        *(f"paths.checkpoint_path={world / 'weights.pt'}", f"paths.experiment_log_dir={out}"),
        f"data.benchmark.video.settings={LENIENT}",
        *extra,
    ]


@pytest.fixture(scope="module")
def straight(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("straight")
    main(arguments(world, out))
    return out


def test_every_video_is_answered_in_the_format_of_the_benchmark(world: Path, straight: Path):
    truth = read_ground_truth(world / "saco_veval_sav_val.json")
    records = json.loads((straight / PREDICTIONS).read_text())
    masklets = read_masklets(straight / PREDICTIONS, truth)
    assert {masklet.video_id for masklet in masklets} == set(range(100, 106))
    assert {masklet.category_id for masklet in masklets} <= set(truth.categories)
    assert len({masklet.category_id for masklet in masklets}) > 1
    for record in records:
        assert set(record) == {"video_id", "category_id", "score", "bboxes", "segmentations", "areas"}
        assert len(record["bboxes"]) == 3
        assert max(record["areas"]) > 0
        assert 0.01 < record["score"] <= 1


def test_the_real_command_reads_the_file_and_gives_the_numbers_of_the_run(world: Path, straight: Path, tmp_path: Path):
    truth, result = world / "saco_veval_sav_val.json", tmp_path / "result.json"
    call = ["--gt_annot_file", truth, "--pred_file", straight / PREDICTIONS, "--eval_res_file", result]
    assert veval(["one", *map(str, call)]) == 0
    numbers = json.loads(result.read_text())
    assert len(numbers["dataset_results"]) == 54
    assert len(numbers["video_np_results"]) == 6 * 4
    line = json.loads((straight / "logs" / "val_stats.json").read_text())
    for key in ("video_mask_demo_cgf1_micro_50_95", "video_mask_all_phrase_HOTA"):
        assert line[f"Meters_val/saco_veval_sav_val/{key}"] == numbers["dataset_results"][key]
    assert json.loads((straight / "preds" / "saco_veval_sav_val_eval_res.json").read_text()) == numbers


def test_an_interrupted_run_ends_with_the_same_file(
    world: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Killed(Exception):
        pass

    original, seen = SacoVideoDataset.frames, []

    def dies_on_the_third_video(self, item):
        seen.append(item)
        if len(seen) == 3:
            raise Killed
        return original(self, item)

    monkeypatch.setattr(SacoVideoDataset, "frames", dies_on_the_third_video)
    with pytest.raises(Killed):
        main(arguments(world, tmp_path))
    with open(tmp_path / JOURNALS / "journal_0.jsonl", "ab") as file:  # what a kill leaves of a line
        file.write(b'{"item": 2, "rec')
    main(arguments(world, tmp_path))
    assert (tmp_path / PREDICTIONS).read_bytes() == (straight / PREDICTIONS).read_bytes()
    assert seen[:3] == [0, 1, 2]
    assert seen[3:] == [2, 3, 4, 5], "finished videos are not followed again"
    main(arguments(world, tmp_path))
    assert len(seen) == 7, "a finished run is only measured again"


def test_two_processes_share_the_videos_and_end_with_the_same_file(world: Path, straight: Path, tmp_path: Path):
    main(arguments(world, tmp_path, "launcher.gpus_per_node=2"))
    assert (tmp_path / PREDICTIONS).read_bytes() == (straight / PREDICTIONS).read_bytes()


def test_all_phrases_in_one_pass_are_answered_as_one_by_one(world: Path, straight: Path, tmp_path: Path):
    """The same questions in four files, one phrase each."""
    together = json.loads((straight / PREDICTIONS).read_text())
    apart = []
    document = json.loads((world / "saco_veval_sav_val.json").read_text())
    for number in range(len(COLOURS)):
        pairs = [pair for pair in document["video_np_pairs"] if pair["category_id"] == 10 + number]
        pairs = [pair for pair in pairs if pair["video_id"] < 102]
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "saco_veval_sav_val.json").write_text(
            json.dumps(document | {"video_np_pairs": pairs})
        )
        out = tmp_path / f"out_{number}"
        main(
            arguments(world, out, f"paths.base_annotation_path={tmp_path / str(number)}", "data.benchmark.gt_files=[]")
        )
        apart += json.loads((out / PREDICTIONS).read_text())
    some = [record for record in together if record["video_id"] < 102]
    assert len(some) > 4
    assert sorted(some, key=lambda record: record["video_id"]) == sorted(
        apart, key=lambda record: (record["video_id"], record["category_id"])
    )


def test_the_variant_without_heuristics_is_one_key(world: Path, tmp_path: Path):
    plain = "data.benchmark.video.temporal_disambiguation=false"
    write_veval_folder(tmp_path, videos=1, frames=3)
    few = [f"paths.base_annotation_path={tmp_path}", f"paths.image_roots.veval={tmp_path / 'media'}"]
    main(arguments(world, tmp_path / "with", *few))
    main(arguments(world, tmp_path / "without", *few, plain))
    assert (tmp_path / "with" / PREDICTIONS).read_bytes() != (tmp_path / "without" / PREDICTIONS).read_bytes()
    with pytest.raises(ConfigError, match="holds predictions of another run .different: temporal_disambiguation."):
        main(arguments(world, tmp_path / "with", *few, plain))
    predictor = VideoBenchmark(load_config("eval_config", arguments(world, tmp_path, plain)[2:]).run)._predictor("cpu")
    assert predictor.settings.hotstart_delay == 0
    assert not predictor.model.tracker.config.use_memory_selection


def test_the_dry_run_says_what_will_be_asked(world: Path, tmp_path: Path, capsys):
    main(arguments(world, tmp_path / "out", "--dry-run"))
    said = capsys.readouterr().out
    assert "saco_veval_sav_val: 6 videos, 18 frames, 24 pairs" in said
    assert "with heuristics over time, score_threshold 0.01" in said
    assert not (tmp_path / "out").exists()


def test_wrong_settings_and_missing_frames_are_named(world: Path, tmp_path: Path):
    with pytest.raises(
        ConfigError, match="data.benchmark.video.settings: the video model has no threshold 'hotstart'; it"
    ):
        main(arguments(world, tmp_path, "data.benchmark.video.settings={hotstart: 1}"))
    with pytest.raises(ConfigError, match="ann_file: the file .*sav_test.json does not exist"):
        main(arguments(world, tmp_path, "data.split=test"))
    with pytest.raises(ConfigError, match="img_folder: the folder .*saco_sg.* does not exist"):
        main(arguments(world, tmp_path, "data.subset=smartglasses", f"data.val.dataset.ann_file={world}"))


def test_a_benchmark_leaves_nothing_out(tmp_path: Path):
    truth = write_veval_folder(tmp_path, videos=1, frames=3)
    media = tmp_path / "media" / "saco_sav" / "JPEGImages_24fps"
    dataset = SacoVideoDataset(media, truth)
    assert (len(dataset), dataset.num_queries, dataset.num_frames) == (1, 4, 3)
    assert dataset.questions[0].categories == {phrase: [10 + n] for n, phrase in enumerate(COLOURS)}
    (media / "v 0" / "00006.jpg").unlink()
    with pytest.raises(DataError, match=r"frame '.*00006.jpg' of video 100 \('v 0'\) does not exist"):
        dataset.frames(0)
    document = json.loads(truth.read_text())
    document["videos"][0]["file_names"] = document["videos"][0]["file_names"][:2]
    document["videos"][0] |= {"length": 2, "height": 57}
    truth.write_text(json.dumps(document))
    with pytest.raises(DataError, match="annotated at 57 x 56 pixels .* its frames have 56 x 56"):
        SacoVideoDataset(media, truth).frames(0)
    with pytest.raises(DataError, match="none of the first frames of 1 videos"):
        SacoVideoDataset(tmp_path, truth)
    truth.write_text(json.dumps({name: value for name, value in document.items() if name != "video_np_pairs"}))
    with pytest.raises(DataError, match="no video_np_pairs, so it is not known which phrases are asked"):
        SacoVideoDataset(media, truth)


def test_long_videos_are_dealt_out_first():
    costs = [3, 9, 1, 5, 4]
    benchmark = SimpleNamespace(dataset=SimpleNamespace(questions=[SimpleNamespace(cost=cost) for cost in costs]))
    assert VideoBenchmark.shares(benchmark, [0, 1, 2, 3, 4], 2) == [[1, 0], [3, 4, 2]]
    assert VideoBenchmark.shares(benchmark, [2], 2) == [[2], []]


@pytest.mark.parametrize("subset", ["sav", "yt1b", "smartglasses"])
def test_every_set_is_composed(tmp_path: Path, subset: str):
    for split in ("val", "test"):
        data = load_config(
            "eval_config",
            ["paths.base_annotation_path=/a", "paths.image_roots.veval=/m", f"paths.experiment_log_dir={tmp_path}"]
            + ["data=saco_veval", f"data.subset={subset}", f"data.split={split}"],
        ).run.data
        assert data.benchmark.name == f"saco_veval_{subset}_{split}"
        assert data.benchmark.gt_files == [f"/a/saco_veval_{subset}_{split}.json"]
        assert data.val.dataset["img_folder"].startswith("/m/saco_")
