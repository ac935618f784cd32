"""Training under a real SLURM; skipped where none can be started (``cluster.py`` says how to install it)."""

import re
import subprocess
import sys
import time

import pytest
import torch
import yaml

from sam3.train.checkpointing import LAST
from tests.slurm.cluster import Cluster, why_not
from tests.train.micro import SINGLE, assert_equal_weights, overrides, train, weights

pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]

PROCESSES = 2
RUN = ["scratch.max_epochs=2", "scratch.train_batch_size=1"]  # two processes, six images: three steps an epoch
HELD = 4  # steps before the run is disturbed: in the middle of the second epoch
SETTINGS = [*RUN, "launcher=slurm", "submitit.cpus_per_task=1"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    started = Cluster(tmp_path_factory.mktemp("slurm")).start()
    yield started
    started.stop()


def submit(cluster, data, out, *extra) -> str:
    """Number of the job that the command handed over."""
    arguments = overrides(data, out, *SETTINGS, *extra)
    command = [sys.executable, "sam3/train/train.py", "-c", SINGLE, *arguments, "--use-cluster", "1"]
    done = subprocess.run(command, env=cluster.environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "watch      squeue -j" in done.stdout
    return re.search(r"^submitted job (\d+): ", done.stdout, re.MULTILINE)[1]


def wait_until(condition, what, seconds=900):  # a busy machine takes minutes to start a job
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.3)


def start_soon(cluster, job_id):
    wait_until(lambda: cluster.job(job_id)["JobState"] == "PENDING", "the requeue")
    cluster.start_soon(job_id)


def wait_for_end(cluster, job_id, out):
    def is_over():
        return cluster.job(job_id)["JobState"] in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")

    wait_until(is_over, f"the end of job {job_id}")
    state = cluster.job(job_id)["JobState"]
    logs = sorted((out / "submitit_logs").glob("*log.*"))
    assert state == "COMPLETED", "\n".join(f"{path.name}:\n{path.read_text()[-3000:]}" for path in logs)


@pytest.fixture(scope="module")
def uninterrupted(cluster, one_class, tmp_path_factory):
    """The run that nothing disturbed, as a job, too."""
    out = tmp_path_factory.mktemp("whole")
    wait_for_end(cluster, submit(cluster, one_class, out, f"launcher.gpus_per_node={PROCESSES}"), out)
    return weights(out / "checkpoints" / LAST)


def hold(tmp_path):
    """Waits after the first step of the second epoch, the first time only."""
    return f"trainer.callbacks=[{{_target_: tests.train.faults.HoldAtStep, step: {HELD}, marker: {tmp_path / 'held'}}}]"


def test_a_requeued_job_ends_with_the_weights_of_an_uninterrupted_one(cluster, one_class, uninterrupted, tmp_path):
    out = tmp_path / "run"
    job_id = submit(cluster, one_class, out, f"launcher.gpus_per_node={PROCESSES}", hold(tmp_path))
    wait_until((tmp_path / "held_0").exists, "the middle of an epoch")
    cluster.run("scontrol", "requeue", job_id)
    start_soon(cluster, job_id)
    wait_for_end(cluster, job_id, out)
    assert cluster.job(job_id)["Restarts"] == "1"
    text = (out / "logs/log.txt").read_text()
    assert "stopped by SIGTERM" in text
    assert "1 epochs and 1 steps of the next one are done" in text
    assert_equal_weights(uninterrupted, weights(out / "checkpoints" / LAST))


def test_a_job_at_its_time_limit_requeues_itself(cluster, one_class, uninterrupted, tmp_path):
    """SLURM announces the limit by the signal that submitit asks for; here the test sends it."""
    out = tmp_path / "run"
    job_id = submit(cluster, one_class, out, f"launcher.gpus_per_node={PROCESSES}", hold(tmp_path))
    wait_until((tmp_path / "held_1").exists, "the middle of an epoch")
    cluster.run("scancel", "--signal=USR2", job_id)
    start_soon(cluster, job_id)
    wait_for_end(cluster, job_id, out)
    assert "stopped by SIGUSR2" in (out / "logs/log.txt").read_text()
    assert_equal_weights(uninterrupted, weights(out / "checkpoints" / LAST))


def test_a_process_that_fails_ends_the_job(cluster, one_class, tmp_path):
    """With its own traceback, and not after a timeout."""
    fail = "trainer.callbacks=[{_target_: tests.train.faults.FailInRank, step: 1, rank: 1}]"
    job_id = submit(cluster, one_class, tmp_path, f"launcher.gpus_per_node={PROCESSES}", fail)
    wait_until(lambda: cluster.job(job_id)["JobState"] == "FAILED", "the failure")
    assert "RuntimeError: fault of process 1" in (tmp_path / f"submitit_logs/{job_id}_1_log.err").read_text()


def test_an_array_of_three_writes_three_folders(cluster, one_class, tmp_path):
    rate = "scratch.lr_transformer=${divide:1e-3,${add:1,${submitit.job_array.task_index}}}"
    job_id = submit(cluster, one_class, tmp_path, "submitit.job_array.num_tasks=3", rate, "scratch.max_epochs=1")
    for index in range(3):
        wait_for_end(cluster, f"{job_id}_{index}", tmp_path)
    found = []
    for index in range(3):
        folder = tmp_path / f"task_{index}"
        config = yaml.safe_load((folder / "config_resolved.yaml").read_text())
        assert config["submitit"]["job_array"] == {"num_tasks": 3, "task_index": index}
        assert config["scratch"]["lr_transformer"] == pytest.approx(1e-3 / (1 + index))
        assert config["scratch"]["max_epochs"] == 1  # the command line is in it
        assert config["logging"]["log_dir"] == str(folder / "logs")
        assert (folder / "logs/train_stats.json").is_file()
        found.append(weights(folder / "checkpoints" / LAST))
    assert any(not torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_refused_job_is_explained(cluster, one_class, tmp_path):
    arguments = overrides(one_class, tmp_path, *SETTINGS, "submitit.partition=absent")
    command = [sys.executable, "sam3/train/train.py", "-c", SINGLE, *arguments]
    done = subprocess.run(command, env=cluster.environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 2
    assert "SLURM refuses the job" in done.stderr
    assert "invalid partition specified: absent" in done.stderr


def test_the_same_command_trains_alike_without_slurm(one_class, tmp_path, uninterrupted):
    out = train(one_class, tmp_path, *RUN, f"launcher.gpus_per_node={PROCESSES}")
    assert_equal_weights(uninterrupted, weights(out / "checkpoints" / LAST))
