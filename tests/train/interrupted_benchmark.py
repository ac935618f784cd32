"""The demonstration's trained model on an SA-Co split, killed and resumed, must end with the file of a quiet run.

    python -m sam3.demo --output demo_output
    python -m tests.train.interrupted_benchmark demo_output OUT

The split is made of the demonstration's held-out pictures, every one asked for every word. One run is left alone,
the other gets ``kill -9`` twice. The numbers are those of the commands that measure published predictions. Linux and
macOS only.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.data.saco_folder import write_saco_files

REPOSITORY = Path(__file__).resolve().parents[2]
RUN = Path("gold_attributes")  # what the commands expect below the folder of all runs
PREDICTIONS = RUN / "dumps/gold_attributes/coco_predictions_segm.json"
JOURNAL = RUN / "dumps/gold_attributes/journal_0.jsonl"
PATIENCE = 1800  # seconds until a run that does not move is given up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="output folder of the demonstration")
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--killed-at", type=int, nargs="+", default=[30, 110], help="finished pictures (30 110)")
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    coco = json.loads((options.demo / "coco/val/annotations.json").read_text(encoding="utf-8"))
    truth = write_saco_files(options.out, coco)
    command = inference(options.demo, options.out)
    subprocess.run([*command, f"paths.experiment_log_dir={options.out / 'straight' / RUN}"], check=True, cwd=REPOSITORY)
    for pictures in options.killed_at:
        kill_after(pictures, command, options.out / "interrupted")
    subprocess.run(
        [*command, f"paths.experiment_log_dir={options.out / 'interrupted' / RUN}"], check=True, cwd=REPOSITORY
    )
    straight, interrupted = ((options.out / name / PREDICTIONS).read_bytes() for name in ("straight", "interrupted"))
    assert straight == interrupted, "the interrupted run ended with another file"
    print(f"{len(straight):,} bytes of predictions, equal after {len(options.killed_at)} kills")
    measure(options.out, truth)


def inference(demo: Path, out: Path) -> list[str]:
    """The command that predicts on the split; the folder of the run is missing."""
    settings = (
        *("data=saco_gold", "data.subset=attributes", "model=tiny", "scratch.resolution=112", "trainer.mode=val"),
        *("scratch.num_val_workers=0", "scratch.val_batch_size=8", "trainer.accelerator=cpu"),
        *(
            f"paths.base_annotation_path={out.resolve()}",
            f"paths.checkpoint_path={(demo / 'shapes_fp16.pt').resolve()}",
        ),
        f"paths.image_roots.metaclip={(demo / 'coco/val/images').resolve()}",
    )
    return [sys.executable, "sam3/train/train.py", "-c", "eval_config", *settings]


def kill_after(pictures: int, command: list[str], runs: Path) -> None:
    """Start the command and kill it with all its processes when the journal holds so many pictures."""
    process = subprocess.Popen(
        [*command, f"paths.experiment_log_dir={runs / RUN}"], cwd=REPOSITORY, start_new_session=True
    )
    end = time.monotonic() + PATIENCE
    while finished(runs / JOURNAL) < pictures:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < end, "the run does not move"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (runs / PREDICTIONS).exists(), "half a run left a file of predictions"
    print(f"killed with {finished(runs / JOURNAL)} pictures in the journal", flush=True)


def finished(journal: Path) -> int:
    """Whole lines after the first one, which describes the run."""
    return max(0, journal.read_bytes().count(b"\n") - 1) if journal.is_file() else 0


def measure(out: Path, truth: list[Path]) -> None:
    """cgF1 of masks and boxes through the two commands."""
    for iou_type in ("segm", "bbox"):
        print(f"{iou_type}: cgF1 * 100, IL_MCC, pmF1 * 100", flush=True)
        command = [sys.executable, "scripts/eval/gold/eval_sam3.py", "-g", out, "-p", out / "interrupted"]
        subprocess.run([*command, "--subset", "attributes", "--iou_type", iou_type], check=True, cwd=REPOSITORY)
    command = [sys.executable, "scripts/eval/standalone_cgf1.py", "--pred_file", out / "interrupted" / PREDICTIONS]
    subprocess.run([*command, "--gt_files", *truth], check=True, cwd=REPOSITORY)


if __name__ == "__main__":
    main()
