"""What of the network learns: the groups of conf/tune/."""

import pytest
import torch

from sam3.errors import CheckpointError, ConfigError
from sam3.io.adapter_file import read_adapter
from sam3.io.checkpoint import read_checkpoint
from sam3.model.layers.drop_path import DropPath
from sam3.model_builder import build_sam3_image_model
from sam3.train.config_loading import load_config
from sam3.train.model_setup import build_model
from sam3.train.schema import TuneConfig
from sam3.train.tuning import apply_tuning
from tests.train.micro import SINGLE, assert_equal_weights, make_trainer, overrides, train, weights


def model_of(*extra):
    return build_model(load_config(SINGLE, overrides("/data", "/out", *extra)).run.model, "cpu")


def learning_parts(model):
    return {".".join(name.split(".")[:2]) for name, p in model.named_parameters() if p.requires_grad}


# --- which parts ---


@pytest.mark.parametrize(
    ("choice", "share"),
    [("full", 1.0), ("frozen_text", 0.58), ("decoder", 0.04), ("head", 0.005), ("lora", 0.0222)],
)
def test_shares_of_the_released_network_that_learn(choice, share):
    settings = load_config(SINGLE, ["paths.dataset_root=/d", f"tune={choice}"]).run.model
    with torch.device("meta"):
        model = build_model(settings, "meta", with_weights=False)
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    base = 840_509_750
    assert learning / base == pytest.approx(share, rel=0.15)


def test_each_choice_freezes_what_it_says():
    parts = {
        choice: learning_parts(model_of(f"tune={choice}")) for choice in ("full", "frozen_text", "decoder", "head")
    }
    everything = parts["full"]
    assert parts["frozen_text"] == everything - {"backbone.language_backbone"}
    assert parts["decoder"] == everything - {"backbone.language_backbone", "backbone.vision_backbone"}
    assert "transformer.encoder" not in parts["head"]
    assert {"segmentation_head.mask_predictor", "dot_prod_scoring.hs_proj"} <= parts["head"]
    names = [n for n, p in model_of("tune=lora").named_parameters() if p.requires_grad]
    assert names
    assert all(".lora_" in name or name.startswith("segmentation_head.") for name in names)


def test_head_works_without_a_mask_head():
    assert learning_parts(model_of("tune=head", "scratch.enable_segmentation=false"))


def test_patterns_must_mean_something():
    model = model_of()
    apply_tuning(model, TuneConfig(), ["*.bias", "backbone.language_backbone.*"])
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen
    assert all(name.endswith(".bias") or name.startswith("backbone.language_backbone.") for name in frozen)
    with pytest.raises(ConfigError, match="model.freeze: pattern 'backbone.text.*' matches no parameter"):
        apply_tuning(model, TuneConfig(), ["backbone.text.*"])
    with pytest.raises(ConfigError, match="model.tune.learn: pattern 'heads.*' matches no parameter"):
        apply_tuning(model, TuneConfig(freeze=["*"], learn=["heads.*"]))
    with pytest.raises(ConfigError, match="nothing would learn"):
        apply_tuning(model, TuneConfig(freeze=["*"]))
    with pytest.raises(ConfigError, match="lora.targets: pattern '.*norm.*' matches no matrix"):
        model_of("tune=lora", "model.tune.lora.targets=['*.norm1.*']")
    apply_tuning(model, TuneConfig())
    assert all(p.requires_grad for p in model.parameters())


def test_what_is_frozen_gets_no_adapter():
    adapted = learning_parts(model_of("tune=lora"))
    frozen = learning_parts(model_of("tune=lora", "model.freeze=['backbone.language_backbone.*']"))
    assert "backbone.language_backbone" in adapted
    assert frozen == adapted - {"backbone.language_backbone"}


def test_what_the_model_settings_freeze_stays_frozen():
    model = model_of("tune=head", "model.freeze=['segmentation_head.*']")
    assert not any(p.requires_grad for p in model.segmentation_head.parameters())


# --- frozen parts ---


def test_frozen_parts_drop_nothing_and_keep_no_graph(one_class, tmp_path):
    trainer = make_trainer(one_class, tmp_path, "tune=decoder")
    model = trainer.model.train()
    drop = [m for m in model.modules() if isinstance(m, DropPath)]
    assert drop
    assert not any(m.training for m in drop)
    assert model.transformer.decoder.layers[0].training
    batch = next(trainer.train_loader.iterate())
    features = model.encode_image(batch.images)
    assert not features.pyramid[-1].requires_grad
    assert torch.equal(features.pyramid[-1], model.encode_image(batch.images).pyramid[-1])
    assert model(batch).one_to_many is not None


def test_a_frozen_decoder_still_doubles_its_queries(one_class, tmp_path):
    trainer = make_trainer(one_class, tmp_path, "model.freeze=['transformer.*']")
    trainer.model.train()
    assert not trainer.model.transformer.decoder.training
    output = trainer.model(next(trainer.train_loader.iterate()))
    assert output.one_to_many.logits.shape == output.one_to_one.logits.shape


# --- adapters ---


def test_training_adapters_leaves_the_base_alone_and_writes_them_apart(one_class, tmp_path):
    base = train(one_class, tmp_path / "base", "scratch.max_epochs=1") / "checkpoints" / "last.pt"
    start = [f"paths.checkpoint_path={base}", "model.checkpoint_path=${paths.checkpoint_path}"]
    run = train(one_class, tmp_path / "run", *start, "tune=lora", "model.tune.lora.rank=2", "scratch.max_epochs=1")
    before, after = weights(base), weights(run / "checkpoints" / "last.pt")
    learnt = {name for name, tensor in before.items() if not torch.equal(after[name], tensor)}
    assert learnt
    assert all(name.startswith("segmentation_head.") for name in learnt)
    ups = [tensor for name, tensor in after.items() if name.endswith(".up")]
    assert any(tensor.any() for tensor in ups)

    path = run / "checkpoints" / "best_adapter.safetensors"
    adapter = read_adapter(path)
    assert adapter.card.class_names == ["red circle"]
    assert {t for n, t in adapter.tensors.items() if n.endswith(".scale")} != set()
    by_flag = build_sam3_image_model(base, adapter=path, device="cpu").state_dict()
    inside = build_sam3_image_model(run / "checkpoints" / "best.pt", device="cpu").state_dict()
    assert_equal_weights(by_flag, inside)
    with pytest.raises(CheckpointError, match="was trained on other weights"):
        other = train(one_class, tmp_path / "other", "scratch.max_epochs=1", "trainer.seed_value=5")
        build_sam3_image_model(other / "checkpoints" / "last.pt", adapter=path, device="cpu")
    with pytest.raises(ConfigError, match="needs the weights it was trained on"):
        build_sam3_image_model(adapter=path, load_from_HF=False, config="tiny", device="cpu")


def test_merged_weights_answer_as_adapters_do(one_class, tmp_path):
    trainer = make_trainer(one_class, tmp_path, "tune=lora", "scratch.max_epochs=1")
    trainer.run()
    apart = trainer.model.eval().requires_grad_(False)
    merged = build_sam3_image_model(tmp_path / "checkpoints" / "last.pt", device="cpu").requires_grad_(False)
    batch = next(trainer.train_loader.iterate())
    with torch.no_grad():
        one, two = apart(batch).one_to_one, merged(batch).one_to_one
    for name in ("logits", "boxes", "presence_logits", "masks"):
        torch.testing.assert_close(getattr(one, name), getattr(two, name), rtol=0, atol=1e-5)


def test_adapters_resume_exactly(one_class, tmp_path):
    lora = ["tune=lora", "model.tune.lora.rank=2", "scratch.max_epochs=2", "optim=adamw_flat"]
    straight = train(one_class, tmp_path / "straight", *lora)
    cut = ["trainer.checkpoint.save_every_steps=1", *lora]
    trainer = make_trainer(one_class, tmp_path / "cut", *cut)
    trainer.train_epoch()
    train(one_class, tmp_path / "cut", *cut)
    name = "checkpoints/last.pt"
    assert_equal_weights(weights(straight / name), weights(tmp_path / "cut" / name))


def test_training_may_go_on_from_adapters_or_from_plain_weights(one_class, tmp_path):
    model_only = ["checkpoint.save_model_only=true", "scratch.max_epochs=1", "tune=lora"]
    first = train(one_class, tmp_path / "first", *model_only) / "checkpoints" / "best.pt"
    resumed = make_trainer(one_class, tmp_path / "second", "tune=lora", f"trainer.checkpoint.resume_from={first}")
    assert_equal_weights(dict(resumed.model.state_dict()), weights(first))
    plain = tmp_path / "plain.pt"
    torch.save({"model": read_checkpoint(first).state_dict}, plain)
    fresh = make_trainer(one_class, tmp_path / "third", "tune=lora", f"trainer.checkpoint.resume_from={plain}")
    assert not any(t.any() for name, t in fresh.model.state_dict().items() if name.endswith(".up"))
