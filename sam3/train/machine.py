"""On what a run is trained, for those who read its report later."""

import os
import platform
from datetime import datetime
from typing import Any

import torch

import sam3
from sam3.train import distributed
from sam3.train.meters import GIGABYTE

MACHINE_FILE = "machine.json"  # in the folder of the run


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Plain values; names no user and no host, so that a report can be passed on."""
    facts = {
        "device": str(device),
        "processes": distributed.world_size(),
        "processor": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads a process",
        "system": f"{platform.system()} {platform.release()}",
        "versions": f"sam3 {sam3.__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        "started": f"{datetime.now():%Y-%m-%d %H:%M}",
    }
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        facts["device"] = f"{card.name}, {card.total_memory / GIGABYTE:.0f} GiB"
        facts["versions"] += f", CUDA {torch.version.cuda}"
    return facts
