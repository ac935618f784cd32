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
class TrackerConfig:
    """Prompt encoder, mask decoder, memory encoder and memory attention (spec/tracker_video.md 1.2).

    ``d_model``, ``image_size`` and ``patch_size`` are those of the model it belongs to
    (:meth:`ModelConfig.tracker_config`).
    """

    d_model: int = 256
    image_size: int = 1008
    patch_size: int = 14
    memory_dim: int = 64  # channels of a memory map
    mask_prompt_channels: int = 16
    decoder_layers: int = 2
    decoder_heads: int = 8
    decoder_mlp_dim: int = 2048
    attention_downsample_rate: int = 2
    num_multimask_outputs: int = 3
    iou_head_hidden_dim: int = 256
    iou_head_depth: int = 3
    iou_sigmoid: bool = True  # False for the click model of SAM 3.1 files
    memory_attention_layers: int = 4
    memory_attention_heads: int = 1
    memory_attention_mlp_dim: int = 2048
    memory_attention_dropout: float = 0.1
    rope_theta: float = 10000.0
    fuser_layers: int = 2
    fuser_kernel: int = 7
    num_maskmem: int = 7  # rows of the temporal code: one for conditioning frames, the others for recent ones
    max_cond_frames: int = 4  # conditioning frames attended
    max_pointers: int = 16
    max_points: int = 16  # of a prompt: the first half and the last half
    memory_stride: int = 1  # frames between memories
    use_memory_selection: bool = True  # prefer recent frames on which the object was seen well
    memory_selection_threshold: float = 0.01
    mask_scale: float = 20.0  # what the memory encoder reads: mask_scale * probability + mask_bias
    mask_bias: float = -10.0
    multimask_max_points: int = 1  # prompts of at most so many points get three candidate masks
    multimask_for_tracking: bool = True
    dynamic_multimask: bool = True
    stability_delta: float = 0.05
    stability_threshold: float = 0.98

    def __post_init__(self) -> None:
        _require_divides("tracker.decoder_heads", self.decoder_heads, "tracker.d_model", self.d_model)
        inner = self.d_model // self.attention_downsample_rate
        _require_divides("tracker.decoder_heads", self.decoder_heads, "tracker.d_model / downsample rate", inner)
        _require_divides("tracker.memory_dim", self.memory_dim, "tracker.d_model", self.d_model)

    @property
    def grid_size(self) -> int:
        """Cells a side of the image embedding."""
        return self.image_size // self.patch_size

    @property
    def low_res_size(self) -> int:
        """Side of the decoder's masks and of mask prompts."""
        return 4 * self.grid_size

    @property
    def memory_mask_size(self) -> int:
        """Side at which masks enter the memory encoder, and at which whole masks are given as prompts."""
        return 16 * self.grid_size


@dataclass(frozen=True)
class ModelConfig:
    """The whole image model."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    neck: NeckConfig = field(default_factory=NeckConfig)
    text: TextConfig = field(default_factory=TextConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    enable_segmentation: bool = True
    tracker: TrackerConfig = field(default_factory=TrackerConfig)

    def tracker_config(self) -> TrackerConfig:
        """That of the tracker on top of this model's features."""
        return replace(
            self.tracker,
            d_model=self.detector.d_model,
            image_size=self.vision.image_size,
            patch_size=self.vision.patch_size,
        )

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
        tracker=TrackerConfig(
            d_model=32,
            memory_dim=8,
            decoder_heads=4,
            decoder_mlp_dim=64,
            iou_head_hidden_dim=32,
            memory_attention_layers=2,
            memory_attention_mlp_dim=64,
            memory_attention_dropout=0.0,
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
