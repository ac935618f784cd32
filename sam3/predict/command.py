"""``sam3 predict`` and ``tools/batch_inference.py``: find objects in a folder of images."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sam3.arguments import CommandParser
from sam3.errors import ConfigError
from sam3.predict.arguments import (
    add_device_arguments,
    add_output_kinds,
    add_run_arguments,
    add_weight_arguments,
    checkpoint_path,
    device_of,
    dtype_of,
    prompts_of,
    require_threshold,
    resolution_of,
    show_log,
    wanted_kinds,
)
from sam3.predict.summary import say_interrupted

if TYPE_CHECKING:
    import torch

    from sam3.io.checkpoint import ModelCard
    from sam3.predict.predictor import ImagePredictor
    from sam3.predict.run_folder import RunSettings
    from sam3.predict.writers import ResultWriter

OUTPUTS = ("overlay", "masks", "coco", "labelme")

DESCRIPTION = """\
Find every object that the given phrases name, in many images.

  %(prog)s --run runs/holes --input photos --output found
  %(prog)s --checkpoint best_fp16.pt --input photos --output found --prompt "red car" --prompt person

A checkpoint of ours remembers the phrases it was trained on; then --prompt can be left out. Images that an earlier
run finished are skipped, so an interrupted run is simply started again. An image that cannot be read is reported
at the end and does not stop the run.
"""

EPILOG = """\
Output folder: overlays/ (pictures to look at), masks/ (one PNG per object), labelme/ (polygons to edit in Labelme),
coco_predictions.json with coco_images.json, predictions/ (one JSON per image), failures.json if an image failed.

Exit code: 0, also when single images failed (with --strict then 1); 2 when the arguments cannot be used or no image
at all could be processed.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see :data:`DESCRIPTION`.

    Raises:
        UserError: arguments, checkpoint, input or output cannot be used.
    """
    arguments = parse_arguments(argv)
    show_log()
    from sam3.predict.folder import predict_images
    from sam3.predict.inputs import list_images
    from sam3.predict.run_folder import RunFolder
    from sam3.predict.writers import write_coco

    output = Path(arguments.output)
    _require_own_folder(output, arguments.input)
    images = list_images(arguments.input, recursive=arguments.recursive, exclude=output)
    checkpoint = checkpoint_path(arguments.checkpoint, arguments.run)
    device = device_of(arguments.device)
    card = _read_card(checkpoint, arguments.adapter)
    settings = _settings(arguments, checkpoint, card, device)
    workers = _workers(arguments.workers, device)
    folder = RunFolder.open(output, settings, overwrite=arguments.overwrite)
    _say_plan(checkpoint, settings, card, len(images), device)
    try:
        summary = predict_images(
            folder.enter(images),
            folder,
            lambda: _build_predictor(arguments, checkpoint, settings, device),
            _writers(arguments, output, settings),
            redo=arguments.overwrite,
            workers=workers,
            progress=not arguments.quiet,
        )
    except KeyboardInterrupt:
        return say_interrupted("images")
    if "coco" in arguments.write:
        write_coco(output, folder.results(), list(settings.prompts))
    summary.say(output, "--score-threshold")
    return summary.exit_code(is_strict=arguments.strict)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, with ``write`` reduced to the kinds of files wanted."""
    usage = "%(prog)s (--checkpoint FILE | --run DIR) --input PATH --output DIR [--prompt PHRASE] [options]"
    parser = CommandParser("predict", usage=usage, description=DESCRIPTION, epilog=EPILOG)
    add_weight_arguments(parser)
    parser.add_argument("--adapter", metavar="FILE", help="adapter file of a LoRA training on top of these weights")
    parser.add_argument(
        "--input", nargs="+", action="extend", required=True, metavar="PATH", help="folders, images, .txt lists"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--prompt", action="append", metavar="PHRASE", help="what to find; repeatable")
    parser.add_argument("--recursive", action="store_true", help="look into sub-folders of --input")
    parser.add_argument(
        "--score-threshold", type=float, metavar="S", help="keep objects that score higher (checkpoint's, else 0.5)"
    )
    parser.add_argument(
        "--max-detections", type=int, default=-1, metavar="N", help="at most N per image and phrase (-1: no limit)"
    )
    add_output_kinds(parser, OUTPUTS)
    parser.add_argument(
        "--polygon-tolerance", type=float, default=1.5, metavar="PX", help="of Labelme polygons; 0: exact (1.5)"
    )
    add_run_arguments(parser, "--output", "an image")
    add_device_arguments(parser)
    parser.add_argument(
        "--workers", type=int, metavar="N", help="images read and written beside the network (4 with a GPU, else 1)"
    )
    arguments = parser.parse_args(argv)
    arguments.write = wanted_kinds(arguments)
    return arguments


def _require_own_folder(output: Path, inputs: Sequence[str]) -> None:
    """Pictures written among the inputs would be taken for inputs by the next run."""
    if any(Path(given).resolve() == output.resolve() for given in inputs):
        raise ConfigError(f"--output {output} is also an --input; give the results a folder of their own")


def _workers(given: int | None, device: "torch.device") -> int:
    """On a GPU, reading and writing pictures takes longer than finding; on the CPU, the network needs all cores."""
    if given is not None and given < 1:
        raise ConfigError(f"--workers {given}: give a positive number")
    return given or (4 if device.type == "cuda" else 1)


def _read_card(checkpoint: Path, adapter: str | None) -> "ModelCard | None":
    from sam3.io.adapter_file import read_adapter
    from sam3.io.checkpoint import read_checkpoint

    if adapter is not None:
        return read_adapter(adapter).card
    return read_checkpoint(checkpoint).card


def _settings(
    arguments: argparse.Namespace, checkpoint: Path, card: "ModelCard | None", device: "torch.device"
) -> "RunSettings":
    from sam3.io.files import fingerprint
    from sam3.io.model_card import ModelCard
    from sam3.predict.run_folder import RunSettings

    threshold = arguments.score_threshold
    if threshold is None:
        threshold = (card or ModelCard()).score_threshold
    require_threshold("--score-threshold", threshold)
    if arguments.max_detections != -1 and arguments.max_detections < 1:
        raise ConfigError(f"--max-detections {arguments.max_detections}: give a positive number, or -1 for no limit")
    if arguments.polygon_tolerance < 0:
        raise ConfigError(f"--polygon-tolerance {arguments.polygon_tolerance}: give 0 (exact) or a positive number")
    return RunSettings(
        checkpoint="+".join(fingerprint(Path(file)) for file in (checkpoint, arguments.adapter) if file is not None),
        prompts=prompts_of(arguments.prompt, card, checkpoint),
        score_threshold=threshold,
        max_detections=arguments.max_detections,
        resolution=resolution_of(arguments.resolution, card, arguments.config),
        dtype=dtype_of(arguments.dtype, device),
    )


def _build_predictor(
    arguments: argparse.Namespace, checkpoint: Path, settings: "RunSettings", device: "torch.device"
) -> "ImagePredictor":
    import torch

    from sam3.io.model_card import ModelCard
    from sam3.model_builder import build_sam3_image_model
    from sam3.predict.predictor import ImagePredictor

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[settings.dtype]
    model = build_sam3_image_model(
        checkpoint,
        device=device,
        config=arguments.config,
        resolution=settings.resolution,
        adapter=arguments.adapter,
    ).to(dtype)
    card = model.card or ModelCard()
    return ImagePredictor(
        model,
        settings.prompts,
        resolution=model.config.vision.image_size,
        mean=card.mean,
        std=card.std,
        score_threshold=settings.score_threshold,
        max_detections=settings.max_detections,
    )


def _writers(arguments: argparse.Namespace, output: Path, settings: "RunSettings") -> "list[ResultWriter]":
    from sam3.io.overlay import label_colours
    from sam3.predict.writers import LabelmeWriter, MaskWriter, OverlayWriter

    writers: dict[str, ResultWriter] = {
        "overlay": OverlayWriter(output, label_colours(settings.prompts)),
        "masks": MaskWriter(output),
        "labelme": LabelmeWriter(output, tolerance=arguments.polygon_tolerance),
    }
    return [writer for kind, writer in writers.items() if kind in arguments.write]


def _say_plan(
    checkpoint: Path, settings: "RunSettings", card: "ModelCard | None", num_images: int, device: "torch.device"
) -> None:
    phrases = ", ".join(repr(phrase) for phrase in settings.prompts.values())
    print(f"{checkpoint}, {settings.resolution} px, {settings.dtype} on {device}")
    print(
        f"{num_images} image{'s' * (num_images != 1)}, phrases {phrases}, score > {settings.score_threshold:g}",
        flush=True,
    )
    if settings.dtype == "fp16" and device.type == "cpu":
        print("note: fp16 is very slow on a CPU; fp32 and bf16 are not", flush=True)
    trained = card.prompts if card is not None else []
    foreign = [phrase for phrase in settings.prompts.values() if trained and phrase not in trained]
    if foreign:
        known, new = ", ".join(map(repr, trained)), ", ".join(map(repr, foreign))
        print(f"note: the checkpoint was fine-tuned on {known}, not on {new}", flush=True)
