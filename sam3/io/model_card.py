"""What a weight file must say so that it can be used: words, picture size, threshold, shape of the network."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from sam3 import __version__
from sam3.errors import CheckpointError


@dataclass
class ModelCard:
    """Stored inside every weight file of ours, beside the tensors."""

    class_names: list[str] = field(default_factory=list)  # of the training data
    prompts: list[str] = field(default_factory=list)  # phrase of each class, as trained
    resolution: int = 1008  # side of the square network input, pixels
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)  # of values in [0, 1]
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    score_threshold: float = 0.5  # detections above it count
    model_config: dict[str, Any] | None = None  # ModelConfig.to_dict()
    sam3_version: str = __version__  # that wrote the file
    metric: dict[str, float] = field(default_factory=dict)  # on the validation data when saved
    epoch: int | None = None
    interpolation: float | None = None  # share of the tuned weights where they were mixed with their base

    def to_dict(self) -> dict[str, Any]:
        """Plain values only: fit for JSON and for ``torch.load(weights_only=True)``."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelCard":
        """Inverse of :meth:`to_dict`; fields that are missing keep their defaults, unknown ones are skipped.

        Raises:
            CheckpointError: ``values`` is not a mapping, or its mean or std is not three numbers.
        """
        if not isinstance(values, Mapping):
            raise CheckpointError(f"the model card must be a mapping, got {type(values).__name__}")
        known = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        for name in ("mean", "std"):
            if name in known:
                known[name] = _three_numbers(name, known[name])
        return cls(**known)


def _three_numbers(name: str, values: Any) -> tuple[float, ...]:
    try:
        red, green, blue = map(float, values)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"model card: {name} must be three numbers, got {values!r}") from error
    return red, green, blue
