"""Which changes of a configuration make a step smaller, and how small."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sam3.planning.plan.step import Estimate
from sam3.train.model_setup import model_config
from sam3.train.schema import RunConfig

CONTEXT_BYTES = int(0.6 * 2**30)  # of CUDA and its libraries; an assumption, not measured
_WORTHWHILE = 0.99  # of the size before
USABLE = 0.95  # of a card's memory; the rest is lost between the allocator's blocks


@dataclass(frozen=True)
class Change:
    """Overrides of the configuration."""

    overrides: tuple[str, ...]
    cost: str  # what one pays

    def __str__(self) -> str:
        return " ".join(self.overrides)

    @property
    def key(self) -> str:
        """What the first override sets."""
        return self.overrides[0].partition("=")[0]

    def applied_to(self, overrides: Sequence[str]) -> list[str]:
        """``overrides`` with these, which replace earlier values of the same keys."""
        keys = {text.partition("=")[0] for text in self.overrides}
        return [*(text for text in overrides if text.partition("=")[0] not in keys), *self.overrides]


@dataclass(frozen=True)
class Suggestion:
    """A change, alone or with others, and what a step then takes."""

    change: Change
    estimate: Estimate
    fits: bool


def fits(estimate: Estimate, memory: int) -> bool:
    """Whether a step has room on a card of ``memory`` bytes."""
    return estimate.peak + CONTEXT_BYTES <= USABLE * memory


def possible_changes(run: RunConfig, estimate: Estimate) -> list[Change]:
    """What is not done yet, cheapest for the result first."""
    shape, changes = estimate.shape, []
    parts = run.trainer.gradient_accumulation_steps
    masks = run.loss.terms.get("masks")
    if run.model.activation_checkpointing not in (True, "all"):
        changes.append(Change(("model.activation_checkpointing=all",), "a third more time"))
    if estimate.dtype is None and estimate.device == "cuda":
        changes.append(Change(("optim.amp.enabled=true",), "rounding of bfloat16"))
    if parts < shape.images:
        changes.append(Change((f"scratch.gradient_accumulation_steps={shape.images}",), "more, smaller kernels"))
    if masks is not None and shape.with_masks and masks.get("num_sample_points", 0) is None:
        changes.append(Change(("loss.terms.masks.num_sample_points=12544",), "masks judged at points"))
    if masks is not None and run.scratch.max_masks_per_img is None and max(shape.objects_per_prompt) > 8:
        changes.append(Change(("scratch.max_masks_per_img=8",), "fewer masks taught a step"))
    at_once = min(shape.phrases, run.trainer.prompts_per_pass or shape.phrases)
    if at_once > 2:
        changes.append(Change((f"trainer.prompts_per_pass={(at_once + 1) // 2}",), "more passes behind the encoder"))
    if not run.model.tune.freeze and not run.model.freeze:
        changes.append(Change(("tune=frozen_text",), "phrases keep their meaning"))
        changes.append(Change(("tune=lora",), "adapters learn, not weights"))
        changes.append(Change(("tune=decoder",), "the image encoder learns nothing"))
    changes += [
        Change((f"scratch.resolution={side}",), "small objects suffer") for side in smaller_sides(run, shape.resolution)
    ]
    return changes


def smaller_sides(run: RunConfig, side: int) -> list[int]:
    """Five sixths and two thirds of a resolution, in whole patches."""
    patch = model_config(run.model).vision.patch_size
    return [patch * round(side * share / patch) for share in (5 / 6, 2 / 3)]


def suggest(
    changes: Iterable[Change], estimate_with: Callable[[Change], Estimate], base: Estimate, memory: int | None
) -> Iterator[Suggestion]:
    """Each change that helps; if none is enough, the helpful ones one after the other until they are.

    Args:
        estimate_with: the estimate of the configuration with a change.
        base: the estimate of the configuration as it is.
        memory: of the card, bytes; None = only what each change brings.
    """
    helpful, enough = [], False
    for change in changes:
        estimate = estimate_with(change)
        if estimate.peak < _WORTHWHILE * base.peak:
            helpful.append(change)
            is_enough = memory is not None and fits(estimate, memory)
            enough |= is_enough
            yield Suggestion(change, estimate, is_enough)
    if memory is None or enough:
        return
    joined: dict[str, Change] = {}
    for change in helpful:
        joined[change.key] = change  # a later value of a key replaces an earlier one
        if len(joined) > 1:
            together = Change(tuple(text for part in joined.values() for text in part.overrides), "all of these")
            estimate = estimate_with(together)
            if fits(estimate, memory):
                yield Suggestion(together, estimate, True)
                return
