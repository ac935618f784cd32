"""``sam3 track``: find objects in videos and follow them."""

import argparse
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

    from sam3.io.model_card import ModelCard
    from sam3.model.video.settings import VideoSettings
    from sam3.track.follower import Follower
    from sam3.track.run_folder import TrackSettings

KINDS = ("overlay", "masks", "masklets", "csv")

DESCRIPTION = """\
Find every object that the given phrases name, in videos, and follow each through all frames.

  %(prog)s street.mp4 --prompt "red car" --prompt person --output-dir followed
  %(prog)s videos/ --run runs/holes --output-dir followed --no-masks

A source is a video file, a folder of frames, a folder of video files, a camera (/dev/video0, dshow:video=NAME) or
the address of a stream (rtsp://...), which Ctrl-C ends. A checkpoint of ours remembers the phrases
it was trained on; then --prompt can be left out. All phrases are looked for in one pass over the frames. Videos that
an earlier run finished are skipped and an interrupted one is taken up again, so simply start the command again.
"""

EPILOG = """\
Output folder, for each video <name>/: overlay.mp4 (to look at), masks/<id>_<phrase>/<frame>.png, masklets.json (the
prediction format of SA-Co/VEval, with video.json, which it refers to), objects.csv (a row per frame and object),
frames.jsonl (every mask; what an interrupted run goes on from, and what files that are wanted later are made of).

Exit code: 0, also when single videos failed (with --strict then 1); 2 when the arguments cannot be used or no video
at all could be processed.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see :data:`DESCRIPTION`.

    Raises:
        UserError: arguments, checkpoint, sources or output cannot be used.
    """
    arguments = parse_arguments(argv)
    show_log()
    from sam3.io.checkpoint import read_checkpoint
    from sam3.track.clips import list_clips
    from sam3.track.outputs import OUTPUTS
    from sam3.track.run import ClipWork, track_clips
    from sam3.track.run_folder import TrackRun

    if arguments.save_every < 1:
        raise ConfigError(f"--save-every {arguments.save_every}: give a positive number of frames")
    output = Path(arguments.output_dir)
    clips = list_clips(arguments.source, recursive=arguments.recursive, exclude=output)
    checkpoint = checkpoint_path(arguments.checkpoint, arguments.run)
    device = device_of(arguments.device)
    settings = _settings(arguments, checkpoint, read_checkpoint(checkpoint).card, device)
    run = TrackRun.open(output, settings, overwrite=arguments.overwrite)
    entries = run.enter(clips)
    if arguments.overwrite:
        run.forget(entries)
    _say_plan(checkpoint, settings, len(clips), device)
    work = ClipWork(
        run,
        lambda: _build_follower(arguments, checkpoint, settings, device),
        [OUTPUTS[kind]() for kind in arguments.write],
        rate=arguments.fps,
        progress=not arguments.quiet,
    )
    try:
        summary = track_clips(entries, work)
    except KeyboardInterrupt:
        return say_interrupted("frames")
    summary.say(output, "--new-object-score")
    return summary.exit_code(is_strict=arguments.strict)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, with ``write`` reduced to the kinds of files wanted."""
    usage = "%(prog)s SOURCE [SOURCE ...] (--checkpoint FILE | --run DIR) --output-dir DIR [--prompt PHRASE] [options]"
    parser = CommandParser("track", usage=usage, description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("source", nargs="+", metavar="SOURCE", help="video files, folders of either, cameras")
    add_weight_arguments(parser)
    parser.add_argument(
        "--output-dir", "--output", dest="output_dir", required=True, metavar="DIR", help="folder for the results"
    )
    parser.add_argument("--prompt", action="append", metavar="PHRASE", help="what to find; repeatable")
    parser.add_argument("--recursive", action="store_true", help="look into sub-folders of SOURCE")
    parser.add_argument(
        "--score-threshold", type=float, metavar="S", help="detections that score higher keep an object alive (0.5)"
    )
    parser.add_argument(
        "--new-object-score", type=float, metavar="S", help="a detection that scores so high may begin one (0.7)"
    )
    parser.add_argument("--max-objects", type=int, metavar="N", help="followed at the same time, per phrase (10000)")
    parser.add_argument(
        "--memory-budget", metavar="SIZE", help="of a video, like 4GiB: what is remembered and followed stays below"
    )
    parser.add_argument(
        "--no-temporal-disambiguation",
        action="store_true",
        help="without the heuristics over time: objects show at once, short-lived mistakes, too",
    )
    parser.add_argument(
        "--set",
        action="append",
        type=_setting,
        default=[],
        metavar="NAME=VALUE",
        help="any other threshold of the video model (sam3/model/video/settings.py); repeatable",
    )
    parser.add_argument(
        "--save-every", type=int, default=100, metavar="N", help="frames followed twice, at most, after a kill (100)"
    )
    add_output_kinds(parser, KINDS)
    parser.add_argument(
        "--fps",
        type=_rate,
        metavar="F",
        help="frame rate of overlay and table (the video's; 24 for frames and cameras)",
    )
    add_run_arguments(parser, "--output-dir", "a video")
    add_device_arguments(parser)
    arguments = parser.parse_args(argv)
    arguments.write = wanted_kinds(arguments)
    return arguments


def _rate(text: str) -> Fraction:
    """The value of ``--fps``: 25, 29.97 or 30000/1001."""
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no frame rate; give a number like 25 or 30000/1001")
    return rate


def _setting(text: str) -> tuple[str, Any]:
    """A value of ``--set``."""
    name, _, value = text.partition("=")
    try:
        return name.strip(), json.loads(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=VALUE with a number, true, false or null") from None


def _settings(
    arguments: argparse.Namespace, checkpoint: Path, card: "ModelCard | None", device: "torch.device"
) -> "TrackSettings":
    from sam3.io.files import fingerprint
    from sam3.ops.sizes import parse_size
    from sam3.track.run_folder import TrackSettings

    if arguments.memory_budget is not None:
        parse_size(arguments.memory_budget, "--memory-budget")
    phrases = list(prompts_of(arguments.prompt, card, checkpoint).values())
    return TrackSettings(
        checkpoint=fingerprint(checkpoint),
        phrases=list(dict.fromkeys(phrases)),
        resolution=resolution_of(arguments.resolution, card, arguments.config),
        dtype=dtype_of(arguments.dtype, device),
        temporal_disambiguation=not arguments.no_temporal_disambiguation,
        thresholds=_thresholds(arguments),
        memory_budget=arguments.memory_budget,
    )


def _thresholds(arguments: argparse.Namespace) -> dict[str, Any]:
    """Those of the video model that were given."""
    from sam3.model.video.settings import with_thresholds

    found = dict(arguments.set)
    for name in ("score_threshold", "new_object_score", "max_objects"):
        value = getattr(arguments, name)
        if value is None:
            continue
        option = "--" + name.replace("_", "-")
        if name == "max_objects" and value < 1:
            raise ConfigError(f"{option} {value}: give a positive number")
        if name != "max_objects":
            require_threshold(option, value)
        found[name] = value
    try:
        with_thresholds(_base_settings(not arguments.no_temporal_disambiguation), found)
    except ConfigError as error:
        raise ConfigError(f"--set: {error}") from error
    return found


def _base_settings(temporal_disambiguation: bool) -> "VideoSettings":
    from sam3.model.video.settings import VideoSettings, without_heuristics

    return VideoSettings() if temporal_disambiguation else without_heuristics()


def _build_follower(
    arguments: argparse.Namespace, checkpoint: Path, settings: "TrackSettings", device: "torch.device"
) -> "Follower":
    import torch

    from sam3.model.video.settings import with_thresholds
    from sam3.model_builder import build_sam3_video_predictor
    from sam3.track.follower import Follower

    predictor = build_sam3_video_predictor(
        checkpoint,
        apply_temporal_disambiguation=settings.temporal_disambiguation,
        device=device,
        resolution=settings.resolution,
        config=arguments.config,
        memory_budget=settings.memory_budget,
    )
    predictor.settings = with_thresholds(predictor.settings, settings.thresholds)
    dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[settings.dtype]
    return Follower(predictor, settings.phrases, dtype, arguments.save_every)


def _say_plan(checkpoint: Path, settings: "TrackSettings", num_clips: int, device: "torch.device") -> None:
    phrases = ", ".join(map(repr, settings.phrases))
    print(f"{checkpoint}, {settings.resolution} px, {settings.dtype} on {device}")
    print(f"{num_clips} video{'s' * (num_clips != 1)}, phrases {phrases}", flush=True)
