"""What SLURM is asked for; the jobs themselves run in tests/slurm."""

import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
import torch.distributed as dist

from sam3.errors import ConfigError
from sam3.io.files import write_json
from sam3.train import slurm_task
from sam3.train.config_loading import load_config
from sam3.train.slurm import Submission, announcement, array_runs, executor_parameters, run_folder, submit
from sam3.train.slurm_task import open_store, wait_for_note
from sam3.train.stop_signals import StoppedBySignal
from tests.train.micro import SINGLE, overrides


@pytest.fixture
def load(one_class, tmp_path):
    def load(*extra):
        return load_config(SINGLE, overrides(one_class, tmp_path / "run", "launcher=slurm", *extra))

    return load


def script(loaded):
    """The batch script, read back: option -> value, and its other lines."""
    submitit = pytest.importorskip("submitit")
    from submitit.slurm.slurm import SlurmExecutor

    parameters = executor_parameters(loaded.run, "name")
    valid = {f"slurm_{name}" for name in SlurmExecutor._valid_parameters()}
    assert {name for name in parameters if name.startswith("slurm_")} <= valid
    generic = {name: value for name, value in parameters.items() if not name.startswith("slurm_")}
    own = {name.removeprefix("slurm_"): v for name, v in parameters.items() if name.startswith("slurm_")}
    renamed = {SlurmExecutor._equivalence_dict().get(name, name): value for name, value in generic.items()}
    if "mem" in renamed:
        renamed["mem"] = submitit.slurm.slurm._convert_mem(renamed["mem"])
    lines = submitit.slurm.slurm._make_sbatch_string("COMMAND", "/logs", **renamed, **own).splitlines()
    options = [line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")]
    return dict(option.partition("=")[::2] for option in options), [x for x in lines if not x.startswith("#")]


def test_every_setting_reaches_the_batch_script(load):
    loaded = load(
        "launcher.num_nodes=2",
        "launcher.gpus_per_node=4",
        "trainer.accelerator=auto",
        "submitit.name=my run",
        "submitit.partition=gpu",
        "submitit.account=lab",
        "submitit.qos=high",
        "submitit.timeout_hour=1.51",
        "submitit.signal_delay_s=77",
        "submitit.cpus_per_task=6",
        "submitit.mem_gb=96",
        "submitit.constraint=a100&nvme",
        "submitit.include_nodes=[n1,n2,n3]",
        "submitit.exclude_nodes=[n8,n9]",
        "submitit.comment=a word",
        "submitit.srun_args.cpu_bind=none",
        "submitit.sbatch={reservation: friday}",
        "submitit.setup=['module load cuda']",
    )
    options, lines = script(loaded)
    expected = {
        "nodes": "2",
        "ntasks-per-node": "4",
        "gpus-per-node": "4",
        "job-name": "'my run'",
        "partition": "gpu",
        "account": "lab",
        "qos": "high",
        "time": "91",
        "signal": "USR2@77",
        "cpus-per-task": "6",
        "mem": "96GB",
        "constraint": "'a100&nvme'",
        "nodelist": "n1,n2,n3",
        "exclude": "n8,n9",
        "comment": "'a word'",
        "reservation": "friday",
        "requeue": "",
    }
    assert {name: options.get(name) for name in expected} == expected
    assert "module load cuda" in lines
    srun = next(line for line in lines if line.startswith("srun"))
    assert "--kill-on-bad-exit=1 --cpu-bind none" in srun
    assert "submitit.mem" not in options


def test_what_is_not_set_is_not_sent(load):
    options, _ = script(load())
    absent = {"exclude", "nodelist", "constraint", "partition", "account", "qos", "mem", "comment"}
    assert not absent & options.keys()
    assert "gpus-per-node" not in options  # trainer.accelerator=cpu
    assert options["job-name"] == "name"
    assert script(load("submitit.mem=100M"))[0]["mem"] == "100M"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("submitit.port_range=[5]", r"submitit.port_range is \[5\]; expected \[lowest, highest\]"),
        ("submitit.port_range=[500,80]", "submitit.port_range"),
        ("submitit.timeout_hour=0", "submitit.timeout_hour is 0"),
        ("submitit.job_array.num_tasks=-1", "submitit.job_array.num_tasks is -1"),
        ("submitit.constraints=a100", r"unknown configuration keys: submitit.constraints .*submitit.constraint\b"),
    ],
)
def test_impossible_settings_are_named(load, setting, message):
    with pytest.raises(ConfigError, match=message):
        load(setting)


def test_two_memories_and_too_few_machines_are_refused(load):
    with pytest.raises(ConfigError, match="submitit.mem is 4G and submitit.mem_gb is 5.0; give one of them"):
        load("submitit.mem=4G", "submitit.mem_gb=5")
    loaded = load("launcher.num_nodes=2", "submitit.include_nodes=[n1]")
    with pytest.raises(ConfigError, match="include_nodes names 1 machines .n1., but launcher.num_nodes is 2"):
        executor_parameters(loaded.run, "name")


def test_without_slurm_nothing_is_started(load, monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda *_: None)
    with pytest.raises(ConfigError, match="no SLURM here .*sbatch.*--use-cluster 0"):
        submit(load())
    assert not (tmp_path / "run").exists()


def test_each_run_of_an_array_has_its_own_settings_and_folder(load, tmp_path):
    index = "${submitit.job_array.task_index}"
    runs = array_runs(load("submitit.job_array.num_tasks=3", f"trainer.seed_value={index}"))
    assert [run.run.trainer.seed_value for run in runs] == [0, 1, 2]
    assert [run_folder(run) for run in runs] == [tmp_path / "run" / f"task_{i}" for i in range(3)]
    assert [run.run.trainer.checkpoint.save_dir for run in runs] == [
        str(tmp_path / "run" / f"task_{i}" / "checkpoints") for i in range(3)
    ]
    assert [run.resolved()["submitit"]["job_array"]["task_index"] for run in runs] == [0, 1, 2]
    named = array_runs(load("submitit.job_array.num_tasks=2", f"paths.experiment_log_dir={tmp_path}/seed_{index}"))
    assert [run_folder(run) for run in named] == [tmp_path / "seed_0", tmp_path / "seed_1"]


def test_the_announcement_says_how_to_follow_and_to_end(load):
    told = announcement([Submission("12", Path("/runs/a b"), Path("/runs/a b/submitit_logs/12_0_log.out"))], load().run)
    assert "submitted job 12: 1 run of 1 x 1 processes, at most 72 h a go" in told
    assert "/runs/a b/submitit_logs/12_0_log.out (errors: 12_0_log.err" in told
    assert "watch      squeue -j 12; tail -F '/runs/a b/logs/log.txt'" in told
    assert "cancel     scancel 12" in told


def test_the_meeting_point_takes_a_free_port_of_the_range():
    low = next(port for port in range(23000, 60000, 7) if _is_free(port) and _is_free(port + 1))
    first = open_store([low, low + 1])
    second = open_store([low, low + 1])
    assert {first.port, second.port} == {low, low + 1}
    with pytest.raises(RuntimeError, match=f"no port of submitit.port_range {low}..{low + 1} is free"):
        open_store([low, low + 1])


def _is_free(port):
    try:
        dist.TCPStore("0.0.0.0", port, is_master=True, wait_for_workers=False)
    except dist.DistNetworkError:
        return False
    return True


def test_the_note_of_process_0_is_waited_for(tmp_path):
    path = tmp_path / "note.json"

    def write():
        time.sleep(0.3)
        write_json(path, {"host": "n1", "port": 7})

    thread = threading.Thread(target=write)
    thread.start()
    assert wait_for_note(path, 30) == {"host": "n1", "port": 7}
    thread.join()
    with pytest.raises(RuntimeError, match="process 0 of the job did not say within 0 s where to meet"):
        wait_for_note(tmp_path / "absent.json", 0)


@pytest.mark.parametrize(("is_main", "code"), [(True, 128 + signal.SIGUSR2), (False, 0)])
def test_who_leaves_asks_the_handler_of_the_cluster_first(monkeypatch, is_main, code):
    asked = []
    monkeypatch.setattr(slurm_task.signal, "getsignal", lambda _: lambda number, _: asked.append(number))
    with pytest.raises(SystemExit) as left:
        slurm_task._leave(StoppedBySignal(signal.SIGUSR2), is_main=is_main)
    assert (left.value.code, asked) == (code, [signal.SIGUSR2])
