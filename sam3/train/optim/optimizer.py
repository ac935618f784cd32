"""The optimizer with its schedules, and gradient clipping."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sam3.errors import CheckpointError, ConfigError
from sam3.train.engine import load_whole_optimizer_state, whole_optimizer_state
from sam3.train.optim.groups import LayerDecay, ParameterGroup, Rule, make_groups
from sam3.train.optim.schedules import value_at


class ScheduledOptimizer:
    """A torch optimizer whose options (learning rate, weight decay) follow the schedules of its groups.

    Attributes:
        optimizer: The torch optimizer, for a gradient scaler.
        groups: The parameter groups, in the order of ``optimizer.param_groups``.
    """

    def __init__(self, groups: Sequence[ParameterGroup], make_optimizer: Callable[..., torch.optim.Optimizer]) -> None:
        self.groups = list(groups)
        self.optimizer = make_optimizer(
            [{"params": list(zip(group.names, group.parameters, strict=True))} for group in self.groups]
        )
        for group, own in zip(self.groups, self.optimizer.param_groups, strict=True):
            unknown = sorted(set(group.schedules) - set(own))
            if unknown:
                raise ConfigError(f"optim.options.{unknown[0]}: {type(self.optimizer).__name__} has no such option")
        self.apply_schedules(0, 1)

    def apply_schedules(self, step: int, total_steps: float) -> None:
        """Sets the options for the step after ``step`` finished ones, of ``total_steps`` in all."""
        for group, own in zip(self.groups, self.optimizer.param_groups, strict=True):
            own.update({option: value_at(schedule, step, total_steps) for option, schedule in group.schedules.items()})

    def step(self) -> None:
        self.optimizer.step()

    def zero_grad(self) -> None:
        """Drops all gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All parameters of all groups."""
        return [parameter for group in self.groups for parameter in group.parameters]

    def state_dict(self) -> dict[str, Any]:
        """Whole state of the torch optimizer (on the main process); each group carries its ``param_names``."""
        content = whole_optimizer_state(self.optimizer)
        for group, own in zip(self.groups, content["param_groups"], strict=True):
            own["param_names"] = list(group.names)
        return content

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over a saved whole state; what it keeps of it is copied.

        Raises:
            CheckpointError: It was saved with other parameter groups.
        """
        saved = [group.get("param_names") for group in state["param_groups"]]
        if len(saved) != len(self.groups):
            raise CheckpointError(
                f"the saved optimizer has {len(saved)} parameter groups, this run has {len(self.groups)}; resume with "
                "the model, freeze and optim settings it was saved with, or start from its weights only"
            )
        for index, (names, group) in enumerate(zip(saved, self.groups, strict=True)):
            if names is not None and list(names) != group.names:
                differing = sorted(set(names) ^ set(group.names)) or names
                raise CheckpointError(
                    f"parameter group {index} of the saved optimizer differs from this run's (first difference: "
                    f"{differing[0]!r}); resume with the settings it was saved with, or start from its weights only"
                )
        load_whole_optimizer_state(self.optimizer, state)


def build_optimizer(
    model: nn.Module,
    *,
    optimizer: Callable[..., torch.optim.Optimizer],
    options: Mapping[str, Sequence[Rule]],
    layer_decay: LayerDecay | None = None,
) -> ScheduledOptimizer:
    """Groups the model's parameters and gives them to ``optimizer`` (a class or partial, e.g. ``torch.optim.AdamW``).

    The other arguments are those of :func:`~sam3.train.optim.groups.make_groups`.
    """
    groups = make_groups(model, options, layer_decay=layer_decay)
    return ScheduledOptimizer(groups, optimizer)


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float | None, norm_type: float = 2.0) -> Tensor:
    """Scales all gradients so that their joint norm is at most ``max_norm`` (None: leaves them).

    Returns:
        The norm before clipping, a scalar on the device of the gradients.
    """
    parameters = list(parameters)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients, norm_type)
    if hasattr(norm, "full_tensor"):  # gradients that the processes share: the norm of all parts
        norm = norm.full_tensor()
    if max_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return norm
