"""The shape of the network: one dataclass per part, one number per field.

Every number that decides a tensor's shape, or that configurations vary, stands here; constants that
belong to one formula stand beside it. Presets: :func:`sam3` (the released 848 M model) and
:func:`tiny` (learns on a CPU in minutes). Source of the numbers: ``spec/detector.md`` sections 4-12.
"""

from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from numbers import Integral
from typing import Any

from sam3.errors import ConfigError


@dataclass(frozen=True)
class VisionConfig:
    """Plain ViT with windowed and global blocks."""

    image_size: int = 1008  # side of the square input, pixels; a multiple of patch_size
    patch_size: int = 14
    in_channels: int = 3
    pretrain_image_size: int = 336  # the absolute positions cover pretrain_image_size / patch_size tokens a side
    embed_dim: int = 1024
    depth: int = 32
    num_heads: int = 16
    mlp_ratio: float = 4.625
    window_size: int = 24  # tokens a side of an attention window
    global_blocks: tuple[int, ...] = (7, 15, 23, 31)  # blocks that attend to the whole grid
    drop_path_rate: float = 0.1  # of the last block; grows linearly from 0
    rope_theta: float = 10000.0
    layer_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        _require_divides("vision.num_heads", self.num_heads, "vision.embed_dim", self.embed_dim)
        _require_divides("vision.patch_size", self.patch_size, "vision.image_size", self.image_size)
        _require_divides("vision.patch_size", self.patch_size, "vision.pretrain_image_size", self.pretrain_image_size)
        head_dim = self.embed_dim // self.num_heads
        if head_dim % 4:
            raise ConfigError(f"vision: rotary positions need a head width divisible by 4, got {head_dim}")
        outside = [block for block in self.global_blocks if not 0 <= block < self.depth]
        if outside or not self.global_blocks:
            raise ConfigError(f"vision.global_blocks {self.global_blocks} must name blocks in 0..{self.depth - 1}")

    @property
    def grid_size(self) -> int:
        """Tokens a side at the configured image size."""
        return self.image_size // self.patch_size

    @property
    def mlp_dim(self) -> int:
        return int(self.embed_dim * self.mlp_ratio)


@dataclass(frozen=True)
class NeckConfig:
    """Feature pyramid on the ViT's single map."""

    scale_factors: tuple[float, ...] = (4.0, 2.0, 1.0, 0.5)
    dropped_levels: int = 1  # coarsest levels that are computed by the released weights but never used ("scalp")
    second_neck: bool = False  # the tracker's and click model's own pyramid, keys sam2_convs.*


@dataclass(frozen=True)
class TextConfig:
    """Causal text transformer (CLIP style)."""

    vocab_size: int = 49408
    context_length: int = 32
    width: int = 1024
    num_heads: int = 16
    num_layers: int = 24
    mlp_ratio: float = 4.0
    projection_dim: int = 512  # of text_projection, which the file holds and nothing reads

    def __post_init__(self) -> None:
        _require_divides("text.num_heads", self.num_heads, "text.width", self.width)


@dataclass(frozen=True)
class DetectorConfig:
    """Geometry encoder, fusion encoder, decoder, scoring and segmentation head."""

    d_model: int = 256
    num_heads: int = 8
    dim_feedforward: int = 2048
    dropout: float = 0.1
    geometry_layers: int = 3
    roi_size: int = 7
    encoder_layers: int = 6
    decoder_layers: int = 6
    num_queries: int = 200
    prompt_mlp_dim: int = 2048  # hidden width of the scoring module's prompt MLP
    score_clamp: float = 12.0
    pixel_decoder_stages: int = 3  # conv stages in the file; the last is never used
    group_norm_groups: int = 8
    joint_scores: bool = False  # multiply presence into the logits (the detector inside the video model)

    def __post_init__(self) -> None:
        _require_divides("detector.num_heads", self.num_heads, "detector.d_model", self.d_model)
        _require_divides("detector.group_norm_groups", self.group_norm_groups, "detector.d_model", self.d_model)


@dataclass(frozen=True)
class ModelConfig:
    """The whole image model."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    neck: NeckConfig = field(default_factory=NeckConfig)
    text: TextConfig = field(default_factory=TextConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    enable_segmentation: bool = True

    def with_resolution(self, resolution: int) -> "ModelConfig":
        """The same network for another input side, rounded **up** to a multiple of the patch."""
        if not isinstance(resolution, Integral):
            raise ConfigError(f"resolution must be a whole number of pixels, got {resolution!r}")
        if resolution < 1:
            raise ConfigError(f"resolution must be positive, got {resolution}")
        patch = self.vision.patch_size
        return replace(self, vision=replace(self.vision, image_size=-(-resolution // patch) * patch))

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dict (JSON and checkpoint friendly)."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Inverse of :meth:`to_dict`; an unknown key raises :class:`ConfigError` with its full path."""
        return _from_dict(cls, values, "model")


def sam3() -> ModelConfig:
    """The released model: 840.5 M parameters, 848.3 M with the second neck."""
    return ModelConfig()


def tiny() -> ModelConfig:
    """A SAM 3 that learns coloured shapes on one CPU thread in minutes (112 px, real tokenizer)."""
    return ModelConfig(
        vision=VisionConfig(
            image_size=112,
            pretrain_image_size=112,
            embed_dim=64,
            depth=3,
            num_heads=4,
            mlp_ratio=4.0,
            window_size=4,
            global_blocks=(2,),
            drop_path_rate=0.0,
        ),
        text=TextConfig(context_length=16, width=32, num_heads=4, num_layers=2, projection_dim=32),
        detector=DetectorConfig(
            d_model=32,
            num_heads=4,
            dim_feedforward=128,
            dropout=0.0,
            geometry_layers=1,
            encoder_layers=1,
            decoder_layers=2,
            num_queries=6,
            prompt_mlp_dim=64,
        ),
    )


PRESETS = {"sam3": sam3, "tiny": tiny}


def resolve_config(config: "str | ModelConfig") -> ModelConfig:
    """A preset's name or a finished config; an unknown name lists the presets."""
    if isinstance(config, ModelConfig):
        return config
    if not isinstance(config, str) or config not in PRESETS:
        raise ConfigError(f"unknown model preset {config!r}; known: {', '.join(PRESETS)} (or pass a ModelConfig)")
    return PRESETS[config]()


def _from_dict(cls: type, values: dict[str, Any], path: str) -> Any:
    known = {f.name: f for f in fields(cls)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ConfigError(f"unknown key {path}.{unknown[0]}; known: {', '.join(known)}")
    arguments = {}
    for name, value in values.items():
        default = known[name].default_factory() if is_dataclass(known[name].type) else known[name].default
        if is_dataclass(default):
            value = _from_dict(type(default), value, f"{path}.{name}")
        elif isinstance(default, tuple):
            value = tuple(value)
        arguments[name] = value
    return cls(**arguments)


def _require_divides(divisor_name: str, divisor: int, name: str, value: int) -> None:
    if value % divisor:
        raise ConfigError(f"{divisor_name} ({divisor}) must divide {name} ({value})")
