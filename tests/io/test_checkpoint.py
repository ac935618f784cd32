"""Every layout loads n / n; whatever does not fit is refused by name."""

import logging
import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sam3.errors import CheckpointError
from sam3.io.checkpoint import ModelCard, load_into, read_checkpoint, save_weights
from sam3.io.transformers_names import to_transformers
from tests.io import weights
from tests.io.weights import BACKBONE, SHAPES, assert_holds, click_model, image_model, random_state, released_file

STATE = random_state(SHAPES)
HALF_STEP = 2**-8  # relative rounding of bfloat16
SECOND = f"{BACKBONE}sam2_convs."


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def saved_safetensors(path: Path, tensors: dict[str, Tensor]) -> Path:
    from safetensors.torch import save_file

    save_file(tensors, path, metadata={"format": "pt"})
    return path


def with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


LAYOUTS = {
    "released": released_file(),
    "released, under model": {"model": released_file()},
    "trainer": {"model": STATE, "optimizer": {"state": {0: {"step": 3}}}, "epoch": 4, "best": {"AP": 0.5}},
    "distributed": with_prefix("module.", STATE),
    "compiled": {"model": with_prefix("module._orig_mod.", STATE)},
    "compiled trunk": {name.replace("trunk.", "trunk._orig_mod."): tensor for name, tensor in STATE.items()},
    "bare image model": STATE,
    "click model": random_state(SHAPES | weights.SECOND_NECK)
    | with_prefix("inst_interactive_predictor.model.", random_state(weights.TRACKER)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_torch_layouts_load_completely(layout: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = saved(tmp_path / "gewichte – 权重.pt", LAYOUTS[layout])
    model = image_model()
    with caplog.at_level(logging.INFO):
        report = load_into(model, read_checkpoint(path))
    assert report.matched == report.total == len(SHAPES) + (2 if "released" in layout else 0)
    assert f"matched {report.total} / {report.total}" in caplog.text
    assert report.unexpected == report.unset == []
    assert caplog.records[-1].levelno == logging.INFO
    assert_holds(model, STATE)


def test_old_torch_format_loads(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    model = image_model()
    load_into(model, read_checkpoint(tmp_path / "old.pth"))
    assert_holds(model, STATE)


def test_unused_parts_of_the_released_file_are_listed(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(saved(tmp_path / "sam3.pt", released_file()))
    report = load_into(image_model(), checkpoint)
    assert set(report.unused) == set(weights.SECOND_NECK) | {f"tracker.{name}" for name in weights.TRACKER}
    assert checkpoint.layout == "sam3"
    assert checkpoint.tracker_state.keys() == weights.TRACKER.keys()
    assert not any("freqs_cis" in name for name in checkpoint.state_dict)
    assert len(load_into(click_model(), checkpoint).unused) == len(weights.TRACKER)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_half_precision_files_are_converted_to_the_models_type(dtype: torch.dtype, suffix: str, tmp_path: Path) -> None:
    half = {name: tensor.to(dtype) for name, tensor in STATE.items()}
    path = tmp_path / f"half{suffix}"
    (saved if suffix == ".pt" else saved_safetensors)(path, half)
    model = image_model()
    load_into(model, read_checkpoint(path))
    assert all(tensor.dtype == torch.float32 for tensor in model.state_dict().values())
    assert_holds(model, {name: tensor.float() for name, tensor in half.items()})
    load_into(model.to(torch.bfloat16), read_checkpoint(path))
    assert all(tensor.dtype == torch.bfloat16 for tensor in model.state_dict().values())


def test_safetensors_recognised_by_content(tmp_path: Path) -> None:
    path = saved_safetensors(tmp_path / "gewichte.bin", with_prefix("detector.", STATE))
    model = image_model()
    load_into(model, read_checkpoint(path))
    assert_holds(model, STATE)


def sharded(folder: Path, tensors: dict[str, Tensor]) -> Path:
    import json

    folder.mkdir(parents=True)
    names, shard_of = sorted(tensors), {}
    for part in range(2):
        file_name = f"model-0000{part + 1}-of-00002.safetensors"
        saved_safetensors(folder / file_name, {name: tensors[name] for name in names[part::2]})
        shard_of |= dict.fromkeys(names[part::2], file_name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shard_of}))
    return folder


def test_sharded_folder(tmp_path: Path) -> None:
    model = image_model()
    report = load_into(model, read_checkpoint(sharded(tmp_path / "teile", released_file())))
    assert report.matched == report.total
    assert_holds(model, STATE)


@pytest.mark.parametrize("video_file", [False, True])
@pytest.mark.parametrize("in_shards", [False, True])
def test_transformers_folder(video_file: bool, in_shards: bool, tmp_path: Path) -> None:
    state = random_state(SHAPES | weights.SECOND_NECK)
    theirs = to_transformers(state, video_file=video_file)
    if video_file:
        theirs["tracker_model.no_memory_embedding"] = torch.zeros(1, 1, 2)
    folder = tmp_path / "hf"
    if in_shards:
        sharded(folder, theirs)
    else:
        folder.mkdir()
        saved_safetensors(folder / "model.safetensors", theirs)
    (folder / "config.json").write_text("{}")
    model = click_model() if video_file else image_model()
    report = load_into(model, read_checkpoint(folder))
    assert report.layout == ("transformers video" if video_file else "transformers")
    assert report.unset == ["geometry_encoder.points_pool_project.bias"]  # they have no point prompts
    assert report.matched == report.total - 1
    assert report.unexpected == []
    state["geometry_encoder.points_pool_project.bias"] = torch.zeros(2)
    state[f"{BACKBONE}trunk.pos_embed"][:, 0] = 0  # the row of the class token, which nothing reads
    assert_holds(model, state)


def sam31_file() -> dict[str, Tensor]:
    image = {
        name: tensor for name, tensor in random_state(SHAPES | weights.SECOND_NECK).items() if "convs.3." not in name
    }
    tracker = {
        "interactive_sam_prompt_encoder.no_mask_embed.weight": torch.zeros(1, 2),
        "interactive_sam_mask_decoder.iou_token.weight": torch.zeros(1, 2),
        "interactivity_no_mem_embed": torch.zeros(1, 1, 2),
        "interactive_mask_downsample.weight": torch.zeros(1),
        "interactive_obj_ptr_proj.layers.0.weight": torch.zeros(1),
        "maskmem_tpos_enc": torch.zeros(7),
        "no_mem_embed_of_the_bucket": torch.zeros(7),
    }
    detector = {name.replace(".sam2_convs.", ".interactive_convs."): tensor for name, tensor in image.items()}
    detector[f"{BACKBONE}propagation_convs.0.conv_1x1.weight"] = torch.zeros(1)
    return with_prefix("detector.", detector) | with_prefix("tracker.model.", tracker)


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"model": state}])
def test_sam31(wrap, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(saved(tmp_path / "sam3.1_multiplex.pt", wrap(sam31_file())))
    assert checkpoint.layout == "sam3.1"
    assert set(checkpoint.tracker_state) == {
        "sam_prompt_encoder.no_mask_embed.weight",
        "sam_mask_decoder.iou_token.weight",
        "no_mem_embed",
        "mask_downsample.weight",
        "obj_ptr_proj.layers.0.weight",
    }
    model = click_model()
    report = load_into(model, checkpoint)
    assert report.unset == [f"{BACKBONE}convs.3.conv_1x1.weight", f"{SECOND}3.conv_1x1.weight"]
    assert report.matched == report.total - 2
    assert "2 not in the file, left at their initial values" in str(report)
    assert "tracker.model.maskmem_tpos_enc" in report.unused
    assert "tracker.model.no_mem_embed_of_the_bucket" in report.unused
    assert f"detector.{BACKBONE}propagation_convs.0.conv_1x1.weight" in report.unused
    expected = random_state(SHAPES | weights.SECOND_NECK)
    assert torch.equal(model.state_dict()[f"{SECOND}2.conv_1x1.weight"], expected[f"{SECOND}2.conv_1x1.weight"])


def test_model_without_segmentation_head_takes_a_full_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shapes = {name: shape for name, shape in SHAPES.items() if not name.startswith("segmentation_head.")}
    with caplog.at_level(logging.INFO):
        report = load_into(weights.ParameterTree(shapes), read_checkpoint(saved(tmp_path / "a.pt", STATE)))
    assert report.matched == report.total == len(shapes)
    assert report.unused == ["segmentation_head.semantic_seg_head.weight"]
    assert "1 unused, of parts that this model does not have (first: segmentation_head" in caplog.text


def test_unknown_extra_tensors_are_reported_loudly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = saved(tmp_path / "a.pt", STATE | {"backbone.new_part.weight": torch.zeros(1), "other": torch.zeros(1)})
    report = load_into(image_model(), read_checkpoint(path))
    assert report.unexpected == ["backbone.new_part.weight", "other"]
    assert caplog.records[-1].levelno == logging.WARNING
    assert "2 UNEXPECTED and ignored (first: backbone.new_part.weight)" in caplog.text


def test_allow_missing_names_what_may_stay(tmp_path: Path) -> None:
    left_out = "dot_prod_scoring.prompt_mlp.layers.1.weight"
    path = saved(tmp_path / "a.pt", {name: tensor for name, tensor in STATE.items() if name != left_out})
    report = load_into(image_model(), read_checkpoint(path), allow_missing=[r"dot_prod_scoring\..*"])
    assert report.unset == [left_out]


# --------------------------------------------------------------------------------------------------------- refusals


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("the-code-ran",)


def malicious_raw(path: Path) -> None:
    path.write_bytes(pickle.dumps(Malicious()))


def truncated(path: Path) -> None:
    torch.save(STATE, path)
    path.write_bytes(path.read_bytes()[:2000])


def truncated_safetensors(path: Path) -> None:
    saved_safetensors(path, STATE)
    path.write_bytes(path.read_bytes()[:-3])


def text_file(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")


REFUSED = {
    "malicious.pt": (lambda path: torch.save({"model": Malicious()}, path), "refused, .*'posix.mkdir'"),
    "malicious_raw.pt": (malicious_raw, "refused, .*could run code"),
    "truncated.pt": (truncated, "damaged, truncated"),
    "truncated.safetensors": (truncated_safetensors, "damaged or truncated safetensors"),
    "empty.pt": (Path.touch, r"empty \(0 bytes\)"),
    "empty.safetensors": (Path.touch, r"empty \(0 bytes\)"),
    "pointer.pt": (text_file, "refused, .*Expected a file of tensors only"),
    "list.pt": (lambda path: torch.save([torch.zeros(1)], path), "holds a list"),
    "nothing.pt": (lambda path: torch.save({}, path), "unknown layout: none of 0 tensors"),
    "numbers.pt": (lambda path: torch.save({"epoch": 3, "lr": 0.1}, path), "unknown layout, entry 'epoch' is a int"),
    "by_number.pt": (lambda path: torch.save({3: torch.zeros(1)}, path), "unknown layout, entry 3"),
    "other.pt": (
        lambda path: torch.save({"fc.weight": torch.zeros(1)}, path),
        r"unknown layout: none of 1 tensors is of SAM 3 \(first: 'fc.weight'\)",
    ),
    "card.pt": (lambda path: torch.save({"model": STATE, "card": 3}, path), "model card must be a mapping"),
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", REFUSED)
def test_files_that_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write, message = REFUSED[name]
    write(tmp_path / name)
    with pytest.raises(CheckpointError, match=f"{name}.*{message}"):
        read_checkpoint(tmp_path / name)
    assert not (tmp_path / "the-code-ran").exists()


def test_missing_file_lists_its_neighbours(tmp_path: Path) -> None:
    saved(tmp_path / "epoch_10.pt", STATE)
    with pytest.raises(CheckpointError, match=r"last\.pt' do not exist\. Weight files in .*: epoch_10\.pt"):
        read_checkpoint(tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="do not exist"):
        read_checkpoint(tmp_path / "no folder" / "last.pt")


def test_folders_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "leer").mkdir()
    with pytest.raises(CheckpointError, match=r"leer': expected model.safetensors.index.json.*: none"):
        read_checkpoint(tmp_path / "leer")
    folder = sharded(tmp_path / "teile", STATE)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"teile': 1 of 2 shards are missing \(first: 'model-00002"):
        read_checkpoint(folder)
    saved_safetensors(folder / "model-00002-of-00002.safetensors", {"x": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"shard 'model-00002-of-00002.safetensors' lacks the tensor 'backbone"):
        read_checkpoint(folder)
    (folder / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(CheckpointError, match="expected JSON with a weight_map"):
        read_checkpoint(folder)


def test_folder_with_one_file_of_ours(tmp_path: Path) -> None:
    saved(tmp_path / "best.pt", STATE)
    assert read_checkpoint(tmp_path).path == tmp_path
    saved(tmp_path / "last.pt", STATE)
    with pytest.raises(CheckpointError, match=r"best\.pt, last\.pt"):
        read_checkpoint(tmp_path)


def untouched(model: torch.nn.Module) -> bool:
    return all(not tensor.any() for tensor in model.state_dict().values())


def test_a_missing_tensor_is_named_and_nothing_is_copied(tmp_path: Path) -> None:
    first = f"{BACKBONE}trunk.blocks.0.attn.qkv.bias"
    state = {
        name: tensor
        for name, tensor in STATE.items()
        if name not in (first, "dot_prod_scoring.prompt_mlp.layers.1.weight")
    }
    checkpoint, model = read_checkpoint(saved(tmp_path / "lücke.pt", state)), image_model()
    with pytest.raises(CheckpointError, match=rf"lücke\.pt'.*2 of {len(SHAPES)} tensors .*first: '{first}'"):
        load_into(model, checkpoint)
    assert untouched(model)


def test_names_are_those_of_the_released_file(tmp_path: Path) -> None:
    first, *others = STATE
    checkpoint = read_checkpoint(
        saved(tmp_path / "sam3.pt", with_prefix("detector.", {name: STATE[name] for name in others}))
    )
    with pytest.raises(CheckpointError, match=rf"sam3\.pt'.*first: 'detector\.{first}'"):
        load_into(image_model(), checkpoint)


def test_a_wrong_shape_is_named_and_nothing_is_copied(tmp_path: Path) -> None:
    state = STATE | {f"{BACKBONE}trunk.pos_embed": torch.zeros(1, 10, 4)}
    checkpoint, model = read_checkpoint(saved(tmp_path / "form.pt", state)), image_model()
    shapes = r"'backbone\.vision_backbone\.trunk\.pos_embed' is \(1, 10, 4\) in the file and \(1, 5, 4\)"
    with pytest.raises(CheckpointError, match=rf"form\.pt'.*1 of {len(SHAPES)} tensors .*{shapes}"):
        load_into(model, checkpoint)
    assert untouched(model)


def test_a_quantised_file_is_refused(tmp_path: Path) -> None:
    state = STATE | {f"{BACKBONE}trunk.pos_embed": torch.zeros(SHAPES[f"{BACKBONE}trunk.pos_embed"]).to(torch.int8)}
    checkpoint, model = read_checkpoint(saved(tmp_path / "int8.pt", state)), image_model()
    with pytest.raises(CheckpointError, match=rf"int8\.pt'.*1 of {len(SHAPES)} tensors hold torch\.int8 .*pos_embed"):
        load_into(model, checkpoint)
    assert untouched(model)


def test_a_file_of_the_tracker_alone_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "tracker.pt", with_prefix("tracker.", random_state(weights.TRACKER)))
    with pytest.raises(CheckpointError, match=r"tracker\.pt'.*no tensor is of the image model .*maskmem_tpos_enc"):
        load_into(image_model(), read_checkpoint(path))


def test_click_model_refuses_a_file_without_second_neck(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"sam2_convs\.0.*It has no weights for clicks"):
        load_into(click_model(), read_checkpoint(saved(tmp_path / "a.pt", STATE)))


def test_meta_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="meta device"):
        load_into(image_model().to("meta"), read_checkpoint(saved(tmp_path / "a.pt", STATE)))


# ---------------------------------------------------------------------------------------------------------- writing

CARD = ModelCard(
    class_names=["cat", "Straße"],
    prompts=["a cat", "die Straße"],
    resolution=560,
    mean=(0.4, 0.5, 0.6),
    score_threshold=0.3,
    model_config={"vision": {"global_blocks": [2]}},
    metric={"mask AP": 0.71},
    epoch=7,
)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize(
    ("layout", "prefix"), [("sam3", ""), ("sam3", "detector."), ("transformers", ""), ("transformers video", "")]
)
def test_what_is_saved_can_be_read(suffix: str, dtype: str, layout: str, prefix: str, tmp_path: Path) -> None:
    path = tmp_path / "ausgabe" / f"größe{suffix}"
    state = {name: tensor for name, tensor in STATE.items() if "points_" not in name}
    state[f"{BACKBONE}trunk.pos_embed"][:, 0] = 0
    save_weights(path, state, CARD, dtype=dtype, prefix=prefix, layout=layout)
    checkpoint = read_checkpoint(path)
    assert checkpoint.card == CARD
    assert checkpoint.state_dict.keys() == state.keys()
    for name, tensor in checkpoint.state_dict.items():
        assert tensor.dtype == {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[dtype]
        assert torch.allclose(
            tensor.float(), state[name], rtol=0 if dtype == "fp32" else HALF_STEP, atol=0 if dtype == "fp32" else 1e-6
        )
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_released_prefix_and_rotary_tables_for_the_reference(tmp_path: Path) -> None:
    tables = random_state(weights.ROTARY_TABLES)
    for path in (tmp_path / "a.pt", tmp_path / "a.safetensors"):
        save_weights(path, STATE, None, dtype="fp16", prefix="detector.", rotary_tables=tables)
        checkpoint = read_checkpoint(path)
        assert sorted(checkpoint.rotary_tables) == sorted(tables)
        assert checkpoint.card is None
    raw = torch.load(tmp_path / "a.pt", weights_only=True)["model"]
    for name, table in tables.items():
        assert raw[f"detector.{name}"].dtype == torch.complex64
        assert torch.equal(raw[f"detector.{name}"], table)


def test_saving_changes_no_input(tmp_path: Path) -> None:
    state = {name: tensor.clone() for name, tensor in STATE.items()}
    save_weights(tmp_path / "a.pt", state, CARD, dtype="bf16")
    assert all(torch.equal(state[name], STATE[name]) and state[name].dtype == torch.float32 for name in STATE)


def test_tensors_that_share_memory_are_saved_apart(tmp_path: Path) -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    state = {"backbone.a": whole, "backbone.b": whole, "backbone.c": whole.T}
    for path in (tmp_path / "a.safetensors", tmp_path / "a.pt"):
        save_weights(path, state, None)
        assert all(torch.equal(t, state[name]) for name, t in read_checkpoint(path).state_dict.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "int8"}, "unknown weight precision 'int8'; expected fp32, fp16, bf16"),
        ({"layout": "onnx"}, "unknown layout 'onnx'"),
        ({"layout": "transformers", "prefix": "detector."}, "fixed names"),
    ],
)
def test_bad_options_are_refused(arguments: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        save_weights(tmp_path / "a.pt", STATE, None, **arguments)


def test_bad_suffix_and_too_large_values_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"must end in \.pt, \.pth, \.safetensors"):
        save_weights(tmp_path / "a.onnx", STATE, None)
    with pytest.raises(CheckpointError, match=r"tensor 'backbone\.x' holds 7e\+04, beyond the range of fp16"):
        save_weights(tmp_path / "a.pt", {"backbone.x": torch.tensor([7e4, float("inf")])}, None, dtype="fp16")
    assert list(tmp_path.iterdir()) == []
