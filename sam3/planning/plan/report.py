"""A plan as people read it, and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sam3.planning.plan.data_facts import DataFacts
from sam3.planning.plan.fitting import CONTEXT_BYTES, USABLE, Suggestion, fits
from sam3.planning.plan.step import Estimate
from sam3.train.plan import precision_text, size_text

TERA = 1e12


def format_plan(source: str, estimate: Estimate, facts: DataFacts, *, memory: int | None, tflops: float | None) -> str:
    """The plan of one configuration."""
    shape, e = estimate.shape, estimate
    lines = [
        f"configuration  {source}",
        f"step           {_count(shape.images, 'image')} of {shape.resolution} x {shape.resolution} pixels; in each "
        f"{_count(shape.phrases, 'phrase')}, {_count(shape.objects, 'object')} ({facts.source})",
        f"precision      {precision_text(e.dtype)}, kernels of {e.device}",
        f"parameters     {e.trainable:,} trainable, {e.frozen:,} frozen",
        f"static         weights {size_text(e.weights)}, gradients {size_text(e.gradients)}, optimizer "
        f"{size_text(e.moments)}" + (f", averages {size_text(e.averages)}" if e.averages else ""),
        f"activations    {size_text(e.trace.kept_after_forward)} kept for the backward pass, "
        f"{size_text(e.activations)} at the peak",
        f"peak           {size_text(e.peak)} "
        + ("while the weights change" if e.is_optimizer_the_peak else "in the backward pass or before it"),
        f"work           {e.trace.flop / TERA:,.3g} TFLOP a step",
        *_time(e, facts, tflops),
    ]
    if memory is not None:
        verdict = "fits" if fits(e, memory) else "does not fit"
        lines.append(
            f"card           {size_text(memory)}: {verdict} (of the card {USABLE:.0%} count, "
            f"{size_text(CONTEXT_BYTES)} are CUDA's own)"
        )
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _time(estimate: Estimate, facts: DataFacts, tflops: float | None) -> list[str]:
    if tflops is None:
        return []
    seconds = estimate.trace.flop / TERA / tflops
    if facts.steps_per_epoch is None:
        return [f"time           {seconds:.3g} s a step at {tflops:g} TFLOP/s; --images N tells the epoch"]
    return [
        f"time           {seconds:.3g} s a step, {_duration(seconds * facts.steps_per_epoch)} an epoch of "
        f"{facts.steps_per_epoch} steps at {tflops:g} TFLOP/s, data loading and validation not counted"
    ]


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def format_suggestion(suggestion: Suggestion, base: Estimate) -> str:
    """One line; sizes beside those of the configuration as it is."""
    e = suggestion.estimate
    return (
        f"  {size_text(e.peak):>10} {e.peak / base.peak - 1:>+5.0%}  {e.trace.flop / base.trace.flop - 1:>+5.0%} work  "
        f"{'fits  ' if suggestion.fits else '      '}{suggestion.change}  ({suggestion.change.cost})"
    )


def to_dict(
    source: str, estimate: Estimate, facts: DataFacts, suggestions: Sequence[Suggestion], *, memory: int | None
) -> dict[str, Any]:
    """Sizes in bytes."""
    return {
        "configuration": source,
        "assumptions": asdict(facts),
        **_estimate(estimate),
        "card_bytes": memory,
        "fits": None if memory is None else fits(estimate, memory),
        "suggestions": [
            {"overrides": list(s.change.overrides), "cost": s.change.cost, "fits": s.fits, **_estimate(s.estimate)}
            for s in suggestions
        ],
    }


def _estimate(estimate: Estimate) -> dict[str, Any]:
    e = estimate
    return {
        "batch": asdict(e.shape),
        "device": e.device,
        "precision": precision_text(e.dtype),
        "parameters": {"trainable": e.trainable, "frozen": e.frozen},
        "bytes": {
            "weights": e.weights,
            "gradients": e.gradients,
            "optimizer": e.moments,
            "averages": e.averages,
            "batch": e.batch,
            "kept_after_forward": e.trace.kept_after_forward,
            "activations_at_peak": e.activations,
            "peak": e.peak,
        },
        "flop_per_step": e.trace.flop,
    }
