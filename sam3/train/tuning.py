"""What of a network learns: everything, some parts, or low-rank adapters (conf/tune/)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor, nn

from sam3.errors import ConfigError
from sam3.io.adapter_file import Adapter, Recipe, base_fingerprint
from sam3.io.low_rank import adapted_weight
from sam3.io.model_card import ModelCard
from sam3.model.low_rank import add_adapters, has_adapters
from sam3.train.schema import LoraConfig, TuneConfig

OPTIONAL_PART = "segmentation_head."  # models may be built without it


def apply_tuning(model: nn.Module, settings: TuneConfig, frozen: Sequence[str] = ()) -> None:
    """Add adapters, then switch gradients on and off; frozen parts go to evaluation mode with ``model.train()``.

    Args:
        settings: ``learn`` names exceptions to ``freeze``; adapters always learn.
        frozen: patterns that hold whatever ``settings`` say (``model.freeze``); what they match gets no adapter.

    Raises:
        ConfigError: a pattern that matches nothing, or nothing left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    for key, patterns in (
        ("model.freeze", frozen),
        ("model.tune.freeze", settings.freeze),
        ("model.tune.learn", settings.learn),
    ):
        _require_matches(key, patterns, names)
    if settings.lora is not None:
        lora = settings.lora
        add_adapters(model, lora.targets, rank=lora.rank, alpha=lora.alpha, frozen=frozen)
    for name, parameter in model.named_parameters():
        stays = _matches(name, frozen) or (_matches(name, settings.freeze) and not _matches(name, settings.learn))
        parameter.requires_grad_(adapted_weight(name) is not None or not stays)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(
            f"model.freeze {list(frozen)} and model.tune.freeze {list(settings.freeze)} match every parameter; nothing "
            "would learn"
        )
    model.train(model.training)


@dataclass(frozen=True)
class AdapterPlan:
    """Which tensors of a run make its adapter file, and what that file says of its base."""

    recipe: Recipe
    names: frozenset[str]

    @classmethod
    def of(cls, model: nn.Module, settings: LoraConfig) -> "AdapterPlan":
        """For a model with adapters whose other weights are still those of the base, or do not learn."""
        state = model.state_dict()
        learnt = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        names = frozenset(name for name in state if name in learnt or adapted_weight(name) is not None)
        base = base_fingerprint(state, names)
        return cls(Recipe(settings.rank, settings.alpha, list(settings.targets), base), names)

    def adapter(self, state: Mapping[str, Tensor], card: ModelCard) -> Adapter:
        """The adapter as it is in ``state``, a state dict of the model."""
        return Adapter({name: state[name] for name in state if name in self.names}, card, self.recipe)


def adapter_plan(model: nn.Module, settings: TuneConfig) -> AdapterPlan | None:
    """None for a model without adapters."""
    return AdapterPlan.of(model, settings.lora) if settings.lora is not None and has_adapters(model) else None


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _require_matches(key: str, patterns: Sequence[str], names: Sequence[str]) -> None:
    for pattern in patterns:
        if pattern.startswith(OPTIONAL_PART) and not any(name.startswith(OPTIONAL_PART) for name in names):
            continue
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigError(f"{key}: pattern {pattern!r} matches no parameter of the model (first: {names[0]!r})")
