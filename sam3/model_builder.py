"""The public build functions: configuration, network, weights, device."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sam3.config import ModelConfig, TrackerConfig, resolve_config, sam3
from sam3.errors import CheckpointError, ConfigError
from sam3.model.detector.detector import Sam3Image
from sam3.model.initialization import initialize_tracker, initialize_weights
from sam3.model.interactive_predictor import InteractivePredictor
from sam3.model.layers.layer_list import set_activation_checkpointing
from sam3.model.sam3_video_predictor import Sam3VideoPredictor
from sam3.model.shared_video_predictor import SharedVideoPredictor
from sam3.model.video.partners import Partners
from sam3.model.video.sam3_video import Sam3Video
from sam3.model.video.settings import VideoSettings, without_heuristics

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from sam3.io.checkpoint import Checkpoint

_log = logging.getLogger(__name__)

DEFAULT_CONFIG = "sam3"
_VIDEO_LOADERS = ("cv2", "torchcodec")


def build_sam3_image_model(
    checkpoint_path: str | Path | None = None,
    *,
    load_from_HF: bool = True,
    device: str | torch.device | None = None,
    eval_mode: bool = True,
    bpe_path: str | Path | None = None,
    enable_segmentation: bool = True,
    enable_inst_interactivity: bool = False,
    resolution: int | None = None,
    compile: bool = False,
    config: str | ModelConfig = DEFAULT_CONFIG,
    activation_checkpointing: bool | str = False,
    adapter: str | Path | None = None,
) -> Sam3Image:
    """Build the image model and give it weights.

    Args:
        checkpoint_path: a weight file of any known layout; then nothing is fetched from the network.
        load_from_HF: without a path, download the released weights, if ``config`` has their shape.
            ``False`` gives random weights to train from.
        device: left out, CUDA where there is one, else the CPU. On CUDA, TF32 is switched on (:func:`set_tf32`).
        eval_mode: ``False`` leaves the model in training mode.
        bpe_path: vocabulary file; left out, the packaged one.
        enable_segmentation: ``False`` leaves out masks.
        enable_inst_interactivity: also build the second pyramid and the click model
            (:meth:`~sam3.model.interactive_predictor.InteractivePredictor.predict_inst`).
        resolution: side of the input in pixels, rounded up to a multiple of the patch; left out, the config's.
        compile: ``torch.compile`` the trunk and the pixel decoder.
        config: a preset's name or a :class:`ModelConfig`. A checkpoint that carries its own model
            configuration takes precedence over the default.
        activation_checkpointing: recompute activations in the backward pass to save memory: ``all`` (or True),
            ``vision`` (of the image trunk only) or ``none`` (or False).
        adapter: adapter file that LoRA training wrote; it is merged into the weights, which must be its base.

    Raises:
        ConfigError: an unknown preset, device or impossible shape.
        CheckpointError: the weights are missing, unreadable or do not fit.
    """
    target = resolve_device(device)
    checkpoint = _read_weights(checkpoint_path, load_from_HF, config)
    if adapter is not None:
        checkpoint = _adapted(checkpoint, adapter)
    model_config = _final_config(
        config,
        checkpoint,
        resolution=resolution,
        enable_segmentation=enable_segmentation,
        second_neck=enable_inst_interactivity,
    )
    with torch.device("meta"):
        model = Sam3Image(model_config, bpe_path=bpe_path)
        if enable_inst_interactivity:
            model.inst_interactive_predictor = InteractivePredictor(_tracker_config(model_config, checkpoint))
    model.to_empty(device=target)
    if checkpoint is None:
        initialize_weights(model)
    else:
        _load(model, checkpoint)
    set_activation_checkpointing(model, activation_checkpointing)
    model.train(not eval_mode)
    if target.type == "cuda":
        set_tf32(True)
    if compile:
        _compile(model)
    return model


def build_sam3_video_model(
    checkpoint_path: str | Path | None = None,
    *,
    load_from_HF: bool = True,
    device: str | torch.device | None = None,
    bpe_path: str | Path | None = None,
    apply_temporal_disambiguation: bool = True,
    resolution: int | None = None,
    compile: bool = False,
    config: str | ModelConfig = DEFAULT_CONFIG,
    has_presence_token: bool = True,
    geo_encoder_use_img_cross_attn: bool = True,
    strict_state_dict_loading: bool = True,
    tracker_checkpoint_path: str | Path | None = None,
) -> Sam3Video:
    """Build detector and tracker with their weights; arguments as of :func:`build_sam3_image_model`.

    Args:
        tracker_checkpoint_path: where the tracker and its pyramid come from instead, for a ``checkpoint_path`` of a
            detector alone, as its training writes them. They should have been trained on the same image trunk.
        apply_temporal_disambiguation: the tracker prefers memories of frames on which an object was seen well.
        has_presence_token: the detector has one; ``False`` is refused.
        geo_encoder_use_img_cross_attn: it does; ``False`` changes nothing, there as here, and is warned of.
        strict_state_dict_loading: weights must fit; ``False`` changes nothing and is warned of.

    Raises:
        CheckpointError: also for a SAM 3.1 file, whose tracker is another network.
    """
    if not has_presence_token:
        raise ConfigError("has_presence_token=False: the detector's scores need the presence token; leave it out")
    if not geo_encoder_use_img_cross_attn:
        _log.warning("geo_encoder_use_img_cross_attn=False changes nothing: example boxes always look at the picture")
    if not strict_state_dict_loading:
        _log.warning("strict_state_dict_loading=False changes nothing: weights that do not fit are refused, and named")
    target = resolve_device(device)
    checkpoint = _read_weights(checkpoint_path, load_from_HF, config)
    if checkpoint is not None and checkpoint.layout == "sam3.1":
        raise CheckpointError(
            f"weights '{checkpoint.path}' are of SAM 3.1, whose tracker is another network: they serve images and "
            "clicks (build_sam3_image_model), not the SAM 3 video model"
        )
    if tracker_checkpoint_path is not None:
        checkpoint = _with_tracker(checkpoint, tracker_checkpoint_path)
    elif checkpoint is not None and not checkpoint.tracker_state:
        raise CheckpointError(
            f"weights '{checkpoint.path}' are of a detector alone: say where the tracker comes from with "
            "tracker_checkpoint_path (sam3.pt, or a file of the tracker's training), or build an image model"
        )
    options = {"resolution": resolution, "enable_segmentation": True, "second_neck": True}
    model_config = _final_config(config, checkpoint, **options)
    memory = replace(model_config.tracker, use_memory_selection=apply_temporal_disambiguation)
    with torch.device("meta"):
        model = Sam3Video(replace(model_config, tracker=memory), bpe_path=bpe_path)
    model.to_empty(device=target)
    if checkpoint is None:
        initialize_weights(model.detector)
        initialize_tracker(model.tracker)
    else:
        _load(model, checkpoint)
        model.detector.card = checkpoint.card
    if compile:
        _compile(model.detector)
    return model.eval()


def build_sam3_video_predictor(
    checkpoint_path: str | Path | None = None,
    *,
    gpus_to_use: Sequence[int] | None = None,
    process_group: "ProcessGroup | None" = None,
    apply_temporal_disambiguation: bool = True,
    compatibility: str = "fixed",
    frames_per_chunk: int = 1,
    session_expiry_s: float | None = None,
    video_loader_type: str = "cv2",
    async_loading_frames: bool = False,
    memory_budget: str | int | None = None,
    **options: Any,
) -> Sam3VideoPredictor | SharedVideoPredictor:
    """The predictor of :mod:`sam3.model.sam3_video_predictor`; further arguments as of :func:`build_sam3_video_model`.

    Args:
        gpus_to_use: share the frames among these GPUs: this process works on the first, a helper process on each of
            the others. With ``device="cpu"``, as many processes on the CPU. Needs ``if __name__ == "__main__":``.
        process_group: share the frames with processes that exist, as torchrun starts them: a group of theirs that
            carries tensors of the CPU (Gloo). All of them must make the same requests.
        apply_temporal_disambiguation: ``False`` is the build without heuristics: nothing is removed or held back for
            being seen too rarely, nothing re-conditioned. Duplicates, occlusions and small holes are dealt with still.
        compatibility: ``"reference"`` repeats the defects of the reference that change results, see
            docs/video_compatibility.md.
        frames_per_chunk: frames that one process encodes and detects together; more keep a GPU busier and take memory.
        session_expiry_s: seconds without a request after which a session is closed; None = never.
        video_loader_type: ``"cv2"`` or ``"torchcodec"``; both are read by PyAV, frame by frame.
        async_loading_frames: frames are read when they are needed; ``True`` changes nothing.
        memory_budget: of a session in each process, such as "4GiB" (docs/video_memory.md).
    """
    settings = VideoSettings() if apply_temporal_disambiguation else without_heuristics()
    settings = replace(settings, frames_per_chunk=frames_per_chunk, as_reference=_is_reference(compatibility))
    if video_loader_type not in _VIDEO_LOADERS:
        raise ConfigError(f"video_loader_type is {video_loader_type!r}; expected one of {', '.join(_VIDEO_LOADERS)}")
    if async_loading_frames:
        _log.warning("async_loading_frames=True changes nothing: frames are read when they are needed")
    options |= {"apply_temporal_disambiguation": apply_temporal_disambiguation}
    own_options = {"session_expiry_s": session_expiry_s, "memory_budget": memory_budget}
    build = partial(_video_predictor, checkpoint_path, settings, own_options, options, torch.initial_seed())
    device = str(options.pop("device", None) or "auto")
    if gpus_to_use is None or len(gpus_to_use) == 1:
        own = device if gpus_to_use is None or device == "cpu" else f"cuda:{gpus_to_use[0]}"
        return build(Partners(process_group), own)
    if not gpus_to_use or len(set(gpus_to_use)) < len(gpus_to_use):
        raise ConfigError(f"gpus_to_use must name different GPUs, such as [0, 1]; got {list(gpus_to_use)}")
    if process_group is not None:
        raise ConfigError("give gpus_to_use, which starts helper processes, or process_group, which joins others")
    return SharedVideoPredictor(build, ["cpu" if device == "cpu" else f"cuda:{gpu}" for gpu in gpus_to_use])


def _video_predictor(
    checkpoint_path: str | Path | None,
    settings: VideoSettings,
    own_options: dict[str, Any],
    options: dict[str, Any],
    seed: int,
    partners: Partners,
    device: str,
) -> Sam3VideoPredictor:
    """That of one process. Weights that are random are so in the same way in all of them."""
    with torch.random.fork_rng(devices=[], enabled=partners.size > 1):
        if partners.size > 1:
            torch.manual_seed(seed)
        model = build_sam3_video_model(checkpoint_path, device=device, **options)
    return Sam3VideoPredictor(model, settings, partners=partners, **own_options)


def _is_reference(compatibility: str) -> bool:
    if compatibility not in ("fixed", "reference"):
        raise ConfigError(f"compatibility is {compatibility!r}; expected fixed or reference")
    return compatibility == "reference"


def _tracker_config(config: ModelConfig, checkpoint: "Checkpoint | None") -> TrackerConfig:
    """Single images remember nothing; the quality head of SAM 3.1 has no sigmoid (spec/sam31.md)."""
    is_31 = checkpoint is not None and checkpoint.layout == "sam3.1"
    return replace(config.tracker_config(), use_memory_selection=False, iou_sigmoid=not is_31)


def resolve_device(device: str | torch.device | None = None) -> torch.device:
    """The device of that name, after trying it; ``None`` and ``"auto"`` mean CUDA where there is one, else the CPU.

    Raises:
        ConfigError: there is no such device, or not on this machine.
    """
    if device is None or device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"device {str(device)!r} cannot be used here ({reason}); use auto, cpu, cuda, cuda:1 or mps"
        ) from error


def set_tf32(allowed: bool) -> None:
    """Whether float32 products on CUDA may round their inputs to TF32: faster, less exact, for the whole process."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def _read_weights(path: str | Path | None, load_from_hub: bool, config: str | ModelConfig) -> "Checkpoint | None":
    """The given file, the released one, or nothing."""
    if path is None:
        if not (load_from_hub and _has_released_shape(resolve_config(config))):
            return None
        from sam3.io.hub import download_released_weights

        path = download_released_weights()
    from sam3.io.checkpoint import read_checkpoint

    return read_checkpoint(path)


def _adapted(base: "Checkpoint | None", adapter: str | Path) -> "Checkpoint":
    from sam3.io.adapter_file import apply_adapter, read_adapter

    if base is None:
        raise ConfigError(f"adapter {adapter} needs the weights it was trained on; give checkpoint_path")
    return apply_adapter(base, read_adapter(adapter))


def _with_tracker(detector: "Checkpoint | None", path: str | Path) -> "Checkpoint":
    """``detector`` with the tracker and its pyramid of the file ``path``."""
    from sam3.io.checkpoint import read_checkpoint
    from sam3.io.transformers_names import SECOND_NECK

    other = read_checkpoint(path)
    if detector is None:
        raise ConfigError(f"tracker_checkpoint_path {path} needs the checkpoint_path of the detector beside it")
    if not other.tracker_state or other.layout == "sam3.1":
        raise CheckpointError(f"tracker_checkpoint_path '{path}' (layout: {other.layout}) holds no SAM 3 tracker")
    neck = {name: tensor for name, tensor in other.state_dict.items() if name.startswith(SECOND_NECK)}
    return replace(detector, state_dict=detector.state_dict | neck, tracker_state=other.tracker_state)


def _load(model: Sam3Image | Sam3Video, checkpoint: "Checkpoint") -> None:
    from sam3.io.checkpoint import load_into
    from sam3.io.checkpoint_layouts import CLICK_MODEL

    clicks = getattr(model, "inst_interactive_predictor", None)
    if clicks is not None and checkpoint.layout == "sam3.1":
        initialize_tracker(clicks.model)  # clicks on single images remember nothing: the file lacks the memory
    report = load_into(model, checkpoint)
    for name in report.unset:  # tensors that the file's layout never holds
        if not name.startswith(CLICK_MODEL):  # every other owner is a Linear or a convolution
            model.get_submodule(name.rpartition(".")[0]).reset_parameters()
    model.card = checkpoint.card


def _has_released_shape(config: ModelConfig) -> bool:
    released = sam3()
    return released == replace(
        config,
        vision=replace(config.vision, image_size=released.vision.image_size),
        neck=replace(config.neck, second_neck=released.neck.second_neck),
        enable_segmentation=released.enable_segmentation,
    )


def _final_config(
    config: str | ModelConfig,
    checkpoint: "Checkpoint | None",
    *,
    resolution: int | None,
    enable_segmentation: bool,
    second_neck: bool,
) -> ModelConfig:
    carried = checkpoint.card.model_config if checkpoint is not None and checkpoint.card is not None else None
    if carried is not None and config == DEFAULT_CONFIG:
        result = ModelConfig.from_dict(carried)
    else:
        result = resolve_config(config)
    if resolution is not None:
        result = result.with_resolution(resolution)
        if result.vision.image_size != resolution:
            _log.warning(
                "resolution %d is no multiple of the patch (%d): using %d",
                resolution,
                result.vision.patch_size,
                result.vision.image_size,
            )
    return replace(
        result,
        neck=replace(result.neck, second_neck=result.neck.second_neck or second_neck),
        enable_segmentation=result.enable_segmentation and enable_segmentation,
    )


def _compile(model: Sam3Image) -> None:
    """Compile in place: the modules keep their names, so the state dict keeps its keys."""
    model.backbone.vision_backbone.trunk.compile()
    if model.segmentation_head is not None:
        model.segmentation_head.pixel_decoder.compile(dynamic=True)
