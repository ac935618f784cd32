"""From ``-c VALUE key=value ...`` to checked settings."""

import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from sam3.errors import ConfigError
from sam3.train.config_loading import (
    check_config,
    conf_folder,
    find_config,
    load_config,
    shipped_names,
)

SINGLE = "train_config_single_class"
ROOT = "paths.dataset_root=/data"

# Every option of every group appears in one of these; a test below sees to it.
COMPOSITIONS = [
    [],
    ["model=tiny", "loss=box", "optim=adamw_flat", "trainer=eval_only", "checkpoint=model_only_fp16"],
    ["data=coco_multi_class", "loss=box_mask_sampled", "optim=adamw_from_scratch", "logging=text_only"],
    ["loss=box_mask_semantic", "trainer=cpu_debug", "data/transforms@data.train.dataset.transforms=finetune_flip"],
    ["experiment=smoke"],
    ["experiment=small_dataset"],
    ["experiment=frozen_text"],
    *([f"tune={choice}"] for choice in ("full", "frozen_text", "decoder", "head", "lora")),
    ["experiment=tiny_from_scratch"],
    ["launcher=slurm"],
    ["launcher=slurm_array"],
]
# Options that need folders of data; test_job_lists.py and test_benchmark.py compose each of them.
NEED_DATA = {
    *(f"data/odinw13{kind}" for kind in ("", "_positive", "_text_and_visual", "_visual_only")),
    *("data/roboflow_vl100", "experiment/odinw_10shot", "experiment/roboflow_100_images"),
    *("data/saco_gold", "data/saco_image", "data/saco_silver", "data/saco_veval"),
    *("data/clips_and_stills", "experiment/tiny_tracker"),  # and train/tracker/test_training.py these
}


@pytest.fixture(scope="module")
def single():
    return load_config(SINGLE, [ROOT])


# --- the file ---


def test_the_readme_command_names_a_file_of_the_repository(repository, monkeypatch, tmp_path):
    expected = conf_folder() / f"{SINGLE}.yaml"
    monkeypatch.chdir(repository)
    assert find_config("sam3/train/conf/train_config_single_class.yaml") == expected
    monkeypatch.chdir(tmp_path)  # from anywhere else it is still found, relative to the repository
    for value in ("sam3/train/conf/train_config_single_class.yaml", str(expected), SINGLE, f"{SINGLE}.yaml"):
        assert find_config(value) == expected
    assert find_config(f"conf/{SINGLE}") == expected


def test_a_file_of_the_working_directory_comes_first(monkeypatch, tmp_path):
    own = tmp_path / f"{SINGLE}.yaml"
    own.write_text("scratch: {max_epochs: 3}")
    monkeypatch.chdir(tmp_path)
    assert find_config(f"{SINGLE}.yaml") == own


def test_a_wrong_name_lists_what_was_tried_and_what_is_close():
    with pytest.raises(ConfigError, match="no such configuration. Tried .*conf/train_config_singleclass") as error:
        find_config("conf/train_config_singleclass")
    assert SINGLE in str(error.value)


def test_a_file_outside_the_repository_inherits(tmp_path):
    own = tmp_path / "bolts é.yaml"
    own.write_text(
        "# @package _global_\n"
        "defaults:\n  - /train_config_single_class\n  - _self_\n"
        "paths: {dataset_root: /data/bolts, experiment_log_dir: /runs/bolts}\n"
        "dataset: {class_name: bolt}\n"
    )
    run = load_config(str(own)).run
    assert run.data.train.dataset["ann_file"] == "/data/bolts/train/annotations.json"
    assert run.logging.tensorboard.log_dir == "/runs/bolts/tensorboard"
    assert run.data.prompts == {"*": "bolt"}


@pytest.mark.parametrize("head", ["", "defaults: [_self_]\n", "# @package _global_\ndefaults:\n  - _self_\n"])
def test_a_plain_file_is_laid_over_the_one_class_configuration(tmp_path, head):
    own = tmp_path / "values.yaml"
    own.write_text(head + "paths: {dataset_root: /d}\nscratch: {max_epochs: 7, lr_transformer: '${times:2,0.5}'}\n")
    run = load_config(str(own)).run
    assert (run.trainer.max_epochs, run.scratch.lr_transformer) == (7, 1.0)
    assert run.scratch.train_batch_size == 2  # of the one-class configuration


def test_a_copy_of_the_shipped_file_works_anywhere(tmp_path):
    copy = tmp_path / "copy.yaml"
    shutil.copy(conf_folder() / "train_config_multi_class.yaml", copy)
    assert load_config(str(copy), [ROOT]).run.data.prompts is None


@pytest.mark.parametrize(("content", "message"), [("a: [", "not readable YAML"), ("- a", "must hold keys and values")])
def test_broken_files_are_named(tmp_path, content, message):
    path = tmp_path / "broken.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=f"broken.yaml .*{message}|broken.yaml is {message}"):
        load_config(str(path))


# --- composition ---


@pytest.mark.parametrize("name", shipped_names())
def test_every_primary_file_composes(name):
    roots = ["paths.image_roots={metaclip: /m, sa1b: /s, silver: /v}"] if name == "eval_config" else []
    run = load_config(name, [ROOT, *roots]).run
    assert run.trainer.max_epochs == 50
    assert run.scratch.include_negatives
    if run.trainer.mode == "val":  # nothing to train on
        assert run.data.train.dataset is None
    elif name == "train_config_tracker":
        assert list(run.data.train.dataset["sources"]) == ["videos", "stills"]
    else:
        assert run.data.train.dataset["transforms"]["hflip_prob"] == 0.0
    assert (run.trainer.val_epoch_freq, run.trainer.skip_first_val) == (1, False)


@pytest.mark.parametrize("overrides", COMPOSITIONS, ids=" ".join)
def test_every_group_option_composes_and_binds(overrides):
    assert load_config(SINGLE, [ROOT, *overrides]).run.model.resolution > 0


def test_the_compositions_cover_every_shipped_file():
    root = conf_folder()
    used = set()
    for name in shipped_names():
        for entry in OmegaConf.load(root / f"{name}.yaml").defaults:
            if entry != "base" and entry != "_self_":
                used |= {f"{group}/{option}" for group, option in entry.items()}
    for override in (text for texts in COMPOSITIONS for text in texts):
        group, option = override.split("=")
        used.add(f"{group.split('@')[0]}/{option}")
    shipped = {path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml")}
    inherited = {"data/transforms/finetune", "data/transforms/square_eval", "base", *shipped_names()}
    assert shipped - inherited - used == NEED_DATA - used


def test_an_experiment_wins_over_the_file_and_the_command_line_over_both(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("defaults: [/train_config_single_class, _self_]\nscratch: {max_epochs: 9, train_batch_size: 5}\n")
    run = load_config(str(own), [ROOT, "experiment=smoke", "scratch.train_batch_size=3"]).run
    assert run.scratch.max_epochs == 1
    assert run.scratch.train_batch_size == 3
    assert run.trainer.accelerator == "cpu"


def test_small_dataset_and_frozen_text_say_what_they_change():
    run = load_config(SINGLE, [ROOT, "experiment=small_dataset"]).run
    checkpoint = run.trainer.checkpoint
    assert (checkpoint.save_model_only, checkpoint.save_fp16) == (True, True)
    assert checkpoint.save_epochs == [10, 20, 30, 40, 50]
    assert run.scratch.lr_transformer == pytest.approx(4e-5)
    assert run.optim.options.lr["vision"].schedule["base_lr"] == pytest.approx(1.25e-5)
    tune = load_config(SINGLE, [ROOT, "experiment=frozen_text"]).run.model.tune
    assert tune == load_config(SINGLE, [ROOT, "tune=frozen_text"]).run.model.tune
    assert tune.freeze == ["backbone.language_backbone.*"]


def test_readme_defaults(single):
    run = single.run
    assert (run.scratch.train_batch_size, run.scratch.val_batch_size, run.scratch.num_train_workers) == (2, 1, 4)
    assert (run.scratch.resolution, run.model.resolution) == (1008, 1008)
    assert run.paths.bpe_path == "assets/bpe_simple_vocab_16e6.txt.gz"
    assert run.launcher.gpus_per_node == 1
    assert run.trainer.checkpoint.resume_from is None
    rules = run.optim.options.lr
    rates = [rules[name].schedule["base_lr"] for name in ("transformer", "vision", "language")]
    assert rates == pytest.approx([8e-5, 2.5e-5, 5e-6])
    assert list(rules) == ["transformer", "vision", "language"]  # the order of the parameter groups


# --- values ---


def test_overrides_reach_every_place(tmp_path):
    run = load_config(
        SINGLE,
        [
            "paths.dataset_root=/资料/my bolts (new)",
            "dataset.class_name='M8 bolt, short'",
            "scratch.resolution=700",
            "scratch.train_batch_size=3",
            "trainer.data.train.num_workers=1",
        ],
    ).run
    assert run.data.val.dataset["img_folder"] == "/资料/my bolts (new)/val/images"
    assert run.data.train.dataset["class_name"] == "M8 bolt, short"
    assert run.data.train.dataset["transforms"]["resolution"] == run.model.resolution == 700
    assert (run.data.train.batch_size, run.data.train.num_workers) == (3, 1)


def test_resolution_belongs_to_the_preset_unless_given():
    assert load_config(SINGLE, [ROOT, "model=tiny"]).run.model.resolution == 112
    loaded = load_config(SINGLE, [ROOT, "scratch.resolution=800"])
    assert loaded.run.model.resolution == loaded.run.data.val.dataset["transforms"]["resolution"] == 812
    assert any("800 is not a multiple of the patch (14); using 812" in note for note in loaded.notes)
    with pytest.raises(ConfigError, match="resolution must be positive, got -3"):
        load_config(SINGLE, [ROOT, "scratch.resolution=-3"])


def test_no_output_folder_means_one_named_after_the_configuration(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    loaded = load_config(SINGLE, [ROOT, "paths.experiment_log_dir=null"])
    assert loaded.run.launcher.experiment_log_dir == str(tmp_path / "sam3_logs" / SINGLE)
    assert loaded.run.trainer.checkpoint.save_dir == str(tmp_path / "sam3_logs" / SINGLE / "checkpoints")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("scratch.train_batchsize", 3, "scratch.train_batchsize .closest: scratch.train_batch_size"),
        ("max_epochs", 3, "max_epochs .closest: scratch.max_epochs, trainer.max_epochs"),
        ("trainer.checkpoint.save_fp61", True, "closest: trainer.checkpoint.save_fp16"),
        ("model.overides", {}, "model.overides .closest: model.overrides"),
        ("optim.options.lr.vision.shedule", 1, "optim.options.lr.vision.shedule"),
        ("scratch.max_epochs", "many", "scratch.max_epochs: Value 'many'"),
        ("scratch.norm_mean", 0.5, "scratch.norm_mean"),
        ("scratch.max_epochs", 0, "scratch.max_epochs is 0; expected 1 or more"),
        ("scratch.train_batch_size", 0, "scratch.train_batch_size is 0; expected 1 or more"),
        ("scratch.num_train_workers", -1, "scratch.num_train_workers is -1; expected 0 or more"),
        ("trainer.mode", "training", "trainer.mode is 'training'; expected one of train, train_only, val"),
        ("optim.amp.dtype", "float8", "optim.amp.dtype is 'float8'"),
        ("optim.amp.enabled", "yes", "optim.amp.enabled is 'yes'"),
        ("trainer.checkpoint.save_epochs", [0], "epochs count from 1"),
        ("trainer.checkpoint.save_every_steps", -1, "save_every_steps is -1; expected 0 or more"),
        ("trainer.checkpoint.on_conflict", "ask", "on_conflict is 'ask'"),
        ("model.overrides", {"vision": {"dept": 3}}, "unknown key model.vision.dept"),
        ("optim.optimizer._target_", "torch.optim.AdamX", "optim.optimizer._target_: 'torch.optim.AdamX'"),
        ("optim.optimizer.momentum", 0.9, "optim.optimizer.momentum: torch.optim.AdamW has no such argument"),
        ("data.train.dataset.limit_idss", 3, "limit_idss: .*ImageDataset .*closest: limit_ids"),
        ("scratch.lr_scale", "${scratch.nothing}", "scratch.nothing"),
    ],
)
def test_mistakes_are_named_with_their_full_key(single, key, value, message):
    written = OmegaConf.create(OmegaConf.to_container(single.composed, resolve=False))
    OmegaConf.update(written, key, value, merge=False)
    with pytest.raises(ConfigError, match=message):
        check_config(written, "own.yaml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "checkpoint.save_modelonly=true",
            "trainer.checkpoint.save_modelonly .closest: trainer.checkpoint.save_model_",
        ),
        ("model.preset=huge", "unknown model preset 'huge'"),
        ("model=tny", "(?s)Could not find 'model/tny'.*tiny"),
        ("scratch.max_epochs=1,2", "one value a key"),
        ("scratch.max_epochs", "expected key=value"),
    ],
)
def test_mistakes_on_the_command_line_are_named(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(SINGLE, [ROOT, override])


def test_several_unknown_keys_are_listed_at_once(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("scratch: {epochs: 3}\nlauncher: {gpus: 2}\n")
    with pytest.raises(ConfigError, match="scratch.epochs .*launcher.gpus "):
        load_config(str(own), [ROOT])


def test_a_missing_value_is_asked_for():
    with pytest.raises(ConfigError, match="paths.dataset_root has no value"):
        load_config(SINGLE, ["paths.dataset_root=???"])


# --- aliases ---


def test_checkpoint_block_at_the_top_is_an_alias(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("checkpoint: {save_model_only: true, save_fp16: true, save_epochs: [10, 20]}\n")
    loaded = load_config(str(own), [ROOT, "checkpoint.save_epochs=[30]"])
    checkpoint = loaded.run.trainer.checkpoint
    assert (checkpoint.save_model_only, checkpoint.save_fp16, checkpoint.save_epochs) == (True, True, [30])
    assert any("block checkpoint was read as trainer.checkpoint" in note for note in loaded.notes)
    assert "checkpoint" not in loaded.resolved()


def test_checkpoint_block_on_the_command_line():
    checkpoint = load_config(SINGLE, [ROOT, "checkpoint={save_fp16: true, save_epochs: [1, 2]}"]).run.trainer.checkpoint
    assert (checkpoint.save_fp16, checkpoint.save_epochs, checkpoint.save_model_only) == (True, [1, 2], False)


def test_the_alias_wins_over_a_group_but_not_over_another_word_of_the_file(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("checkpoint: {save_epochs: [1]}\n")
    run = load_config(str(own), [ROOT, "checkpoint=model_only_fp16"]).run
    assert (run.trainer.checkpoint.save_epochs, run.trainer.checkpoint.save_fp16) == ([1], True)
    own.write_text("checkpoint: {save_epochs: [1]}\ntrainer: {checkpoint: {save_epochs: [2]}}\n")
    with pytest.raises(ConfigError, match="give one of them"):
        load_config(str(own), [ROOT])


def test_trainer_blocks_of_the_reference_are_moved_to_the_top(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("trainer: {data: {train: {batch_size: 6}}, optim: {gradient_clip: {max_norm: 2.0}}}\n")
    run = load_config(str(own), [ROOT]).run
    assert (run.data.train.batch_size, run.optim.gradient_clip.max_norm) == (6, 2.0)


# --- what is written down ---


def test_composed_keeps_interpolations_and_resolved_fills_them(single):
    composed = OmegaConf.to_container(single.composed, resolve=False)
    assert composed["trainer"]["max_epochs"] == "${scratch.max_epochs}"
    assert single.resolved()["trainer"]["max_epochs"] == 50


def test_the_resolved_file_of_a_run_starts_the_same_run(single, tmp_path):
    path = tmp_path / "config_resolved.yaml"
    OmegaConf.save(OmegaConf.create(single.resolved()), path)
    assert load_config(str(path)).resolved() == single.resolved()


def test_conf_holds_no_path_of_a_machine():
    for path in conf_folder().rglob("*.yaml"):
        assert "/home/" not in path.read_text(encoding="utf-8"), Path(path).name
