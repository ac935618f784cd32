"""The settings of a training run, typed.

The composed YAML is merged onto :class:`RunConfig` (``config_loading.py``): an unknown key or a value of the
wrong type stops the run with its full path. Fields of type ``Any`` hold ``_target_`` nodes, the parts people
swap; their arguments are checked against the signature of what they name.
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from sam3.errors import ConfigError
from sam3.train.launcher_schema import LauncherConfig, SubmititConfig
from sam3.train.setting_checks import not_negative, one_of, positive

AUTO = "auto"


@dataclass
class PathsConfig:
    """Where things lie."""

    dataset_root: str = MISSING  # folder with train/ and val/, each images/ + annotations.json
    experiment_log_dir: str | None = None  # output folder of the run; null = ./sam3_logs/<config name>
    bpe_path: str | None = None  # vocabulary of the tokenizer; null = the one inside the package
    checkpoint_path: str | None = None  # weights to start from; null = the released ones (download)
    stills_root: str | None = None  # COCO folder (images/ + annotations.json) whose pictures become clips
    base_annotation_path: str | None = None  # folder with the annotation files of a benchmark
    image_roots: dict[str, str | None] = field(default_factory=dict)  # image folders of a benchmark, by name
    roboflow_vl_100_root: str | None = None  # folder with the data sets of Roboflow-100-VL
    odinw_root: str | None = None  # folder with the data sets of ODinW13


@dataclass
class DatasetConfig:
    """What is searched."""

    class_name: str | None = None  # text prompt of a one-class dataset; null = the names in the annotation file
    allow_name_mismatch: bool = False  # accept a class_name that differs from the annotation file's category


@dataclass
class ScratchConfig:
    """Numbers used in several places; the other groups refer to them."""

    enable_segmentation: bool = True  # predict masks, not only boxes
    resolution: int = MISSING  # side of the square input, pixels; rounded up to a multiple of the patch
    max_epochs: int = 50
    train_batch_size: int | str = 2  # images a step and process; auto = as many as fit into the device
    val_batch_size: int = 1
    num_train_workers: int = 4  # loader processes; 0 = load in the training process
    num_val_workers: int = 2
    max_ann_per_img: int = 200  # a phrase with more objects in an image is not asked there
    max_masks_per_img: int | None = None  # at most so many pairs of a prompt enter the mask loss; null = all
    include_negatives: bool = True  # train phrases that are absent from the image, too
    max_negatives_per_img: int | None = None  # at most so many of them an image, drawn anew each time; null = all
    augmentation_variants: int | None = None  # different random versions of an image, repeated; null = always new
    norm_mean: list[float] = field(default_factory=lambda: [0.5, 0.5, 0.5])
    norm_std: list[float] = field(default_factory=lambda: [0.5, 0.5, 0.5])
    gradient_accumulation_steps: int = 1  # parts a batch is worked off in
    lr_scale: float = 0.1
    lr_transformer: float = MISSING
    lr_vision_backbone: float = MISSING
    lr_language_backbone: float = MISSING
    lrd_vision_backbone: float = 0.9  # learning-rate decay a layer, from the last ViT block downwards
    wd: float = 0.1
    scheduler_timescale: int = 20  # steps
    scheduler_warmup: int = 20  # steps
    scheduler_cooldown: int = 20  # steps
    use_presence_eval: bool = True  # multiply scores with the presence of the phrase in validation

    def __post_init__(self) -> None:
        positive("scratch", self, ("max_epochs", "val_batch_size"))
        if self.train_batch_size != AUTO:
            if isinstance(self.train_batch_size, str):
                raise ConfigError(f"scratch.train_batch_size is {self.train_batch_size!r}; give a number or {AUTO}")
            positive("scratch", self, ("train_batch_size",))
        not_negative("scratch", self, ("num_train_workers", "num_val_workers"))
        if self.augmentation_variants is not None:
            positive("scratch", self, ("augmentation_variants",))


@dataclass
class LoraConfig:
    """Low-rank adapters (arXiv 2106.09685)."""

    rank: int = 16  # of each adapter; its size grows with it
    alpha: float = 32.0  # the adapter counts alpha / rank
    targets: list[str] = field(default_factory=list)  # Unix patterns of the names of adapted matrices

    def __post_init__(self) -> None:
        positive("model.tune.lora", self, ("rank",))


@dataclass
class TuneConfig:
    """What of the network learns; the groups conf/tune/ are the choices that make sense."""

    freeze: list[str] = field(default_factory=list)  # Unix patterns of parameters that keep their values
    learn: list[str] = field(default_factory=list)  # exceptions to freeze
    lora: LoraConfig | None = None  # null = no adapters


@dataclass
class ModelSettings:
    """Which network, from which weights, and what of it learns."""

    _target_: str = "sam3.model_builder.build_sam3_image_model"
    preset: str = "sam3"  # a name of sam3.config.PRESETS
    overrides: dict[str, Any] = field(
        default_factory=dict
    )  # nested ModelConfig fields, e.g. {detector: {num_queries: 50}}
    checkpoint_path: str | None = None
    load_from_HF: bool = True  # download the released weights when checkpoint_path is null
    bpe_path: str | None = None
    resolution: int = MISSING
    enable_segmentation: bool = True
    # recompute activations in the backward pass: less memory, a third more time; of all parts, vision only, or none
    activation_checkpointing: bool | str = "all"
    compile: bool = False
    freeze: list[str] = field(default_factory=list)  # Unix patterns of parameters that never learn, whatever tune says
    tune: TuneConfig = field(default_factory=TuneConfig)
    feature_cache: str | None = None  # folder for what the frozen image trunk says of each image; null = none
    feature_cache_gib: float = 100.0  # the folder grows to this size

    def __post_init__(self) -> None:
        if not isinstance(self.activation_checkpointing, bool):
            one_of("model.activation_checkpointing", self.activation_checkpointing, ("none", "vision", "all"))
        if self.feature_cache_gib <= 0:
            raise ConfigError(f"model.feature_cache_gib is {self.feature_cache_gib}; give a positive number")


@dataclass
class SplitConfig:
    """One half of the data: a dataset and how it is loaded."""

    dataset: Any = MISSING  # _target_ node
    batch_size: int | str = 1
    num_workers: int = 0
    shuffle: bool = False
    drop_last: bool = False
    pin_memory: bool = True


@dataclass
class VideoBenchmarkConfig:
    """How the videos of a benchmark are answered."""

    temporal_disambiguation: bool = True  # false = the variant without heuristics over time
    settings: dict[str, Any] = field(default_factory=dict)  # thresholds of the video model that differ from its own


@dataclass
class BenchmarkConfig:
    """Predictions on a benchmark with a metric of its own, instead of COCO AP; needs trainer.mode=val."""

    name: str = MISSING  # of the split, for example gold_attributes; names the folder of its predictions
    gt_files: list[str] = field(default_factory=list)  # one annotation file per annotator; empty = predict only
    score_threshold: float = 0.3  # detections strictly above it are written; the metric itself counts from 0.5 on
    phrases_at_once: int = 16  # of one batch of pictures; bounds memory, the pictures are encoded once
    video: VideoBenchmarkConfig | None = None  # null = a benchmark of pictures

    def __post_init__(self) -> None:
        positive("data.benchmark", self, ("phrases_at_once",))


@dataclass
class DataConfig:
    subset: str | None = None  # which part of a benchmark
    split: str | None = None  # which split of that part
    subsets: dict[str, Any] = field(default_factory=dict)  # its parts: name -> where they lie
    benchmark: BenchmarkConfig | None = None
    index: int | None = None  # which of a collection's data sets, in alphabetical order; a job array counts it up
    name: str | None = None  # its folder
    eval_split: str | None = None  # which of its folders is validated on
    seed: int | None = None  # which few-shot choice
    train_file: str | None = None  # its annotation file
    eval_file: str | None = None  # of eval_split
    prompts_of: dict[str, Any] = field(default_factory=dict)  # data set of a collection -> its prompts
    prompts: Any = None  # null, a list of {id, name}, or a mapping id / name / "*" -> phrase
    negatives: Any = None  # _target_ node: phrases from outside the data set trained as absent; null = none
    probes: Any = None  # _target_ node: phrases from outside the data set asked in validation; null = none
    train: SplitConfig = field(default_factory=SplitConfig)
    val: SplitConfig = field(default_factory=SplitConfig)


@dataclass
class LossConfig:
    """Arguments of :class:`sam3.train.losses.criterion.Criterion`."""

    terms: dict[str, Any] = field(default_factory=dict)  # name -> _target_ node of a sam3.train.losses.terms.LossTerm
    matcher: Any = MISSING
    o2m_matcher: Any = MISSING
    o2m_weight: float = 2.0  # weight of the one-to-many branch
    o2m_matcher_on_aux: bool = False  # one-to-many matching on the earlier decoder layers, too
    normalization: str = "global"  # "global", "local", "none": what box losses are divided by
    scale_by_prompts: bool = True  # multiply the loss with the root of the number of prompts
    semantic: Any = None  # _target_ node of the loss on the semantic map
    clip: Any = None  # _target_ node of the loss of the tracker's training, which uses none of the other keys


@dataclass
class AmpConfig:
    """Mixed precision."""

    enabled: bool | str = "auto"  # auto = on for CUDA, off elsewhere
    dtype: str = "bfloat16"  # or float16, which brings a loss scaler

    def __post_init__(self) -> None:
        one_of("optim.amp.dtype", self.dtype, ("bfloat16", "float16"))
        if self.enabled not in (True, False, "auto"):
            raise ConfigError(f"optim.amp.enabled is {self.enabled!r}; expected true, false or auto")


@dataclass
class GradientClipConfig:
    max_norm: float = 0.1
    norm_type: float = 2.0


@dataclass
class LayerDecayConfig:
    """Smaller learning rates for the earlier ViT blocks (spec/training.md 4.3)."""

    value: float = 0.9
    apply_to: str = "backbone.vision_backbone.trunk"
    min_value: float = 0.0
    overrides: list[Any] = field(default_factory=list)  # {pattern, value}: fixed multipliers


@dataclass
class RuleConfig:
    """A schedule and the parameters it holds for; without patterns and classes, all that no other rule claims."""

    schedule: Any = MISSING  # _target_ node
    param_names: list[str] | None = None  # Unix patterns of full names
    module_classes: list[str] | None = None  # for example torch.nn.LayerNorm


@dataclass
class OptionsConfig:
    """Options of the optimizer that follow schedules: rule name -> rule."""

    lr: dict[str, RuleConfig] = field(default_factory=dict)
    weight_decay: dict[str, RuleConfig] = field(default_factory=dict)


@dataclass
class OptimConfig:
    amp: AmpConfig = field(default_factory=AmpConfig)
    optimizer: Any = MISSING  # _target_ node with _partial_, for example torch.optim.AdamW
    gradient_clip: GradientClipConfig | None = None
    layer_decay: LayerDecayConfig | None = None
    options: OptionsConfig = field(default_factory=OptionsConfig)


@dataclass
class CheckpointConfig:
    """What is saved. ``last.pt`` is always complete and fp32; the other keys shape the exports."""

    save_dir: str = MISSING
    save_every_steps: int = 0  # also write last.pt every n steps; 0 = at the end of each epoch only
    failed_saves_limit: int = 3  # so many saves of last.pt in a row that the disk refuses end the run
    save_freq: int = 0  # export checkpoint_<k>.pt every n epochs; 0 = never
    save_epochs: list[int] = field(default_factory=list)  # export checkpoint_<k>.pt after these epochs (from 1)
    save_model_only: bool = False  # exports without optimizer
    save_fp16: bool = False  # exports in half precision
    score_threshold: float = 0.5  # remembered in every file as the default of prediction
    resume_from: str | None = None  # complete file: continue; weights only: start from them
    on_conflict: str | None = None  # resume_from is not what last.pt descends from: "keep" last.pt or "restart"

    def __post_init__(self) -> None:
        not_negative("trainer.checkpoint", self, ("save_every_steps", "save_freq"))
        positive("trainer.checkpoint", self, ("failed_saves_limit",))
        if any(epoch < 1 for epoch in self.save_epochs):
            raise ConfigError(f"trainer.checkpoint.save_epochs is {self.save_epochs}; epochs count from 1")
        if self.on_conflict is not None:
            one_of("trainer.checkpoint.on_conflict", self.on_conflict, ("keep", "restart"))


@dataclass
class ValidationConfig:
    max_detections: int = 100  # best detections kept an image, over all categories
    use_presence: bool = True
    compute_loss: bool = True  # log the loss on validation data, too
    drift_images: int = 16  # validation images asked for general phrases to see how far the weights moved; 0 = none
    drift_phrases: int = 12  # general phrases asked of each of them

    def __post_init__(self) -> None:
        not_negative("trainer.validation", self, ("drift_images", "drift_phrases"))


@dataclass
class DistributedConfig:
    """How several processes talk to each other."""

    backend: str = "auto"  # nccl, gloo; auto = nccl for CUDA where torch has it, else gloo
    timeout_minutes: float = 30.0  # a process that waits longer than this for the others gives up

    def __post_init__(self) -> None:
        one_of("trainer.distributed.backend", self.backend, ("auto", "nccl", "gloo"))
        if self.timeout_minutes <= 0:
            raise ConfigError(f"trainer.distributed.timeout_minutes is {self.timeout_minutes}; expected more than 0")


@dataclass
class EarlyStoppingConfig:
    """Ends a run whose validation metric no longer grows."""

    patience: int = 5  # validations in a row without progress
    min_delta: float = 0.0  # growth of the metric that counts as progress must be larger than this

    def __post_init__(self) -> None:
        positive("trainer.early_stopping", self, ("patience",))
        not_negative("trainer.early_stopping", self, ("min_delta",))


@dataclass
class EmaConfig:
    """Exponential moving average of the weights, which is validated and exported in their place."""

    decay: float = 0.999  # share of the average that a step keeps; reached after a warm-up

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ConfigError(f"trainer.ema.decay is {self.decay}; expected 0 <= decay < 1")


@dataclass
class TrainerConfig:
    mode: str = "train"  # train (with validation), train_only, val
    max_epochs: int = 50
    val_epoch_freq: int = 1  # validate every n epochs; the last epoch is always validated
    skip_first_val: bool = False  # no validation after the first epoch
    seed_value: int = 123
    accelerator: str = "auto"  # cpu, cuda, cuda:1, mps; auto = CUDA where there is one, else the CPU
    allow_tf32: bool = False  # faster float32 products on CUDA, less exact
    deterministic: bool = False  # refuse operations that differ between runs
    gradient_accumulation_steps: int = 1
    prompts_per_pass: int | None = (
        8  # phrases of an image worked on at once; more take several passes; null = all at once
    )
    nonfinite_limit: int = 10  # steps in a row that may be skipped for a loss that is not finite
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    nonfinite_dumps: int = 5  # batches of such steps that each process keeps in dumps/nonfinite; 0 = none
    early_stopping: EarlyStoppingConfig | None = None  # end the run when the metric stops growing
    ema: EmaConfig | None = None  # validate and export averaged weights
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    best_metric: str = "cgf1"  # what best.pt is chosen by: cgf1 (ap where it is undefined) or ap
    drift_limit: float | None = None  # best.pt has no larger drift, if there is such a validation; null = any
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    callbacks: list[Any] = field(default_factory=list)  # _target_ nodes of sam3.train.callbacks.Callback

    def __post_init__(self) -> None:
        one_of("trainer.mode", self.mode, ("train", "train_only", "val"))
        one_of("trainer.best_metric", self.best_metric, ("cgf1", "ap"))
        if self.drift_limit is not None and not 0 < self.drift_limit <= 1:
            raise ConfigError(f"trainer.drift_limit is {self.drift_limit}; expected null or a number in (0, 1]")
        positive("trainer", self, ("max_epochs", "val_epoch_freq", "gradient_accumulation_steps", "nonfinite_limit"))
        if self.prompts_per_pass is not None:
            positive("trainer", self, ("prompts_per_pass",))
        not_negative("trainer", self, ("nonfinite_dumps",))
        if self.early_stopping is not None and self.mode == "train_only":
            raise ConfigError("trainer.early_stopping needs validations, and trainer.mode=train_only has none")


@dataclass
class TensorboardConfig:
    enabled: bool = True
    log_dir: str = MISSING
    flush_secs: int = 120
    prediction_images: int = 4  # validation images drawn with their predictions; 0 = none
    pr_curves: int = 10  # classes whose precision-recall curve is drawn, beside that of all together; 0 = none


@dataclass
class LoggingConfig:
    log_dir: str = MISSING
    log_freq: int = 10  # steps between two lines of the text log
    log_scalar_frequency: int = 100  # steps between two points of the curves
    log_level_primary: str = "INFO"
    log_level_secondary: str = "ERROR"  # of the other processes, whose messages go to the terminal only
    live_line: bool | str = "auto"  # a progress line in place; auto = when the output is a terminal
    all_groups: bool = False  # curves of every parameter group instead of the smallest and largest rates
    tensorboard: TensorboardConfig = field(default_factory=TensorboardConfig)
    report: Any = None  # _target_ node of a sam3.train.callbacks.Callback that writes report.html; null = none

    def __post_init__(self) -> None:
        positive("logging", self, ("log_freq", "log_scalar_frequency"))
        for name in ("log_level_primary", "log_level_secondary"):
            one_of(f"logging.{name}", getattr(self, name), ("DEBUG", "INFO", "WARNING", "ERROR"))


@dataclass
class RunConfig:
    """Everything a run is told."""

    paths: PathsConfig = field(default_factory=PathsConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    scratch: ScratchConfig = field(default_factory=ScratchConfig)
    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    launcher: LauncherConfig = field(default_factory=LauncherConfig)
    submitit: SubmititConfig = field(default_factory=SubmititConfig)
