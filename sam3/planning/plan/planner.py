"""From a configuration to a printed plan."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence

from tqdm import tqdm

from sam3.errors import ConfigError
from sam3.planning.plan.data_facts import DataFacts, read_facts
from sam3.planning.plan.fitting import Change, Suggestion, fits, possible_changes, suggest
from sam3.planning.plan.report import format_plan, format_suggestion, to_dict
from sam3.planning.plan.step import Estimate, estimate_step
from sam3.train.config_loading import load_config
from sam3.train.schema import RunConfig


def plan(
    config: str,
    overrides: Sequence[str],
    *,
    device: str | None,
    memory: int | None,
    tflops: float | None,
    given: Mapping[str, int | None],
    always_suggest: bool,
    as_json: bool,
) -> int:
    """Print the plan; 1 if the card is too small.

    Args:
        device: whose kernels to assume; None = the configuration's.
        memory: of the card, bytes.
        given: arguments of :func:`~sam3.planning.plan.data_facts.read_facts` from the command line.
    """
    logging.getLogger("sam3.data").setLevel(logging.ERROR)  # the doctor speaks of the data
    loaded = load_config(config, overrides)
    if loaded.run.data.train.dataset is None or loaded.run.trainer.mode == "val":
        raise ConfigError(
            f"{loaded.source} trains nothing (trainer.mode={loaded.run.trainer.mode}); there is no step to plan"
        )
    facts = read_facts(loaded.run, **given)
    device = device or _device_of(loaded.run)
    estimate = estimate_step(loaded.run, facts.shape(loaded.run), device)
    if not as_json:
        print(format_plan(loaded.source, estimate, facts, memory=memory, tflops=tflops), flush=True)
    is_enough = memory is None or fits(estimate, memory)
    suggestions = []
    if always_suggest or not is_enough:
        if not as_json:
            print("\nwhat would change it (peak, work, configuration):", flush=True)
        for suggestion in _suggestions(config, overrides, facts, estimate, memory):
            suggestions.append(suggestion)
            if not as_json:
                tqdm.write(format_suggestion(suggestion, estimate))
        if not is_enough and not as_json and not any(suggestion.fits for suggestion in suggestions):
            print("none of these is enough; a smaller batch and resolution, or a larger card, are left")
    if as_json:
        print(json.dumps(to_dict(loaded.source, estimate, facts, suggestions, memory=memory), indent=1))
    return 0 if is_enough else 1


def _device_of(run: RunConfig) -> str:
    """``auto`` and other accelerators are planned for as CUDA."""
    return "cpu" if run.trainer.accelerator == "cpu" else "cuda"


def _suggestions(
    config: str, overrides: Sequence[str], facts: DataFacts, estimate: Estimate, memory: int | None
) -> Iterator[Suggestion]:
    changes = possible_changes(load_config(config, overrides).run, estimate)

    def estimate_with(change: Change) -> Estimate:
        run = load_config(config, change.applied_to(overrides)).run
        return estimate_step(run, facts.shape(run), estimate.device)

    bar = tqdm(changes, desc="tracing", unit="change", leave=False, disable=None)
    return suggest(bar, estimate_with, estimate, memory)
