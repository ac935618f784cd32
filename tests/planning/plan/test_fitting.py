"""What is suggested, and when it is enough."""

from types import SimpleNamespace

from sam3.planning.plan.fitting import CONTEXT_BYTES, USABLE, Change, fits, possible_changes, suggest
from sam3.planning.plan.stand_ins import BatchShape
from sam3.train.config_loading import load_config

GIB = 2**30


def estimate(peak: float, shape: BatchShape | None = None, **values):
    return SimpleNamespace(peak=int(peak * GIB), shape=shape, **values)


def changes_of(*overrides: str, **values):
    run = load_config("train_config_single_class", ["paths.dataset_root=/data", *overrides]).run
    shape = BatchShape(2, run.model.resolution, values.pop("phrases", 1), values.pop("objects", 20), with_masks=True)
    values = {"dtype": "bfloat16", "device": "cuda"} | values
    return [change.overrides[0] for change in possible_changes(run, estimate(1, shape, **values))]


def test_the_released_network_has_many_ways():
    assert changes_of() == [
        "scratch.gradient_accumulation_steps=2",
        "loss.terms.masks.num_sample_points=12544",
        "scratch.max_masks_per_img=8",
        "tune=frozen_text",
        "tune=lora",
        "tune=decoder",
        "scratch.resolution=840",
        "scratch.resolution=672",
    ]


def test_what_is_done_already_is_not_suggested():
    done = [
        "tune=lora",
        "loss=box_mask_sampled",
        "scratch.gradient_accumulation_steps=2",
        "scratch.max_masks_per_img=4",
    ]
    assert changes_of(*done) == ["scratch.resolution=840", "scratch.resolution=672"]


def test_what_is_switched_off_is_suggested():
    found = changes_of("model=tiny", dtype=None, phrases=9)
    assert found[:2] == ["model.activation_checkpointing=all", "optim.amp.enabled=true"]
    assert "trainer.prompts_per_pass=4" in found


def test_suggestions_can_be_given_on_the_command_line_and_replace_what_was_given():
    for key in ("loss.terms.masks.num_sample_points", "tune"):
        change = Change(tuple(text for text in changes_of() if text.startswith(f"{key}="))[:1], "")
        applied = change.applied_to(["paths.dataset_root=/data", f"{key}=null", "scratch.max_epochs=3"])
        assert applied == ["paths.dataset_root=/data", "scratch.max_epochs=3", *change.overrides]
        load_config("train_config_single_class", applied)


def test_a_card_keeps_some_memory_for_itself():
    memory = 16 * GIB
    room = USABLE * memory - CONTEXT_BYTES
    assert fits(estimate(room / GIB), memory)
    assert not fits(estimate(room / GIB + 0.01), memory)


SIZES = {"a=1": 18.0, "b=1": 25.0, "c=1": 15.0, "a=1 c=1": 9.0}


def found(memory: int | None) -> list[tuple[str, bool]]:
    changes = [Change((name,), "") for name in ("a=1", "b=1", "c=1")]
    suggestions = suggest(changes, lambda change: estimate(SIZES[str(change)]), estimate(20), memory)
    return [(str(suggestion.change), suggestion.fits) for suggestion in suggestions]


def test_changes_are_joined_only_where_one_is_not_enough():
    assert found(18 * GIB) == [("a=1", False), ("c=1", True)]
    assert found(12 * GIB) == [("a=1", False), ("c=1", False), ("a=1 c=1", True)]
    assert found(4 * GIB) == [("a=1", False), ("c=1", False)]
    assert found(None) == [("a=1", False), ("c=1", False)]
