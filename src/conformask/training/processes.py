"""Several processes at work on one training."""

import os

import torch
from lightning.fabric import Fabric
from lightning.fabric.utilities.exceptions import MisconfigurationException

from conformask.arithmetic import best_device
from conformask.errors import InvalidArgumentError
from conformask.progress import TORCHRUN


def is_first_process() -> bool:
    """Whether this process writes what a training leaves: the only one, or the first of several.

    With several devices Lightning starts the same command again for each, and all go through the same lines.
    Asks torch, not the environment: what is not written is lost.
    """
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not together or torch.distributed.get_rank() == 0


def together(devices: int | str, nodes: int) -> Fabric:
    """Start the processes that share the work, one for each device on each node; perhaps this one alone.

    Raises:
        InvalidArgumentError: torchrun started another number of processes.
    """
    fabric = Fabric(devices=devices, num_nodes=nodes)
    check_torchrun(fabric.world_size)
    fabric.launch()
    return fabric


def check_torchrun(processes: int) -> None:
    """Refuse to work as one process where torchrun started several: each would write all the files.

    Raises:
        InvalidArgumentError: torchrun started another number; says which options to give.
    """
    started = os.environ.get("WORLD_SIZE", "1") if TORCHRUN in os.environ else str(processes)
    if int(started) != processes:
        raise InvalidArgumentError(
            f"torchrun started {started} processes, and --devices and --nodes say {processes}: give "
            "--devices as its --nproc-per-node and --nodes as its --nnodes"
        )


def check_devices(devices: int | str) -> None:
    """Refuse devices that Lightning would fail on, or of which this machine has fewer.

    Raises:
        InvalidArgumentError: says what it has.
    """
    if devices in ("auto", 1, "1"):
        return
    cores = os.cpu_count() or 1
    there = cores if best_device().type == "cpu" else torch.accelerator.device_count()
    try:
        asked = Fabric(devices=devices).world_size
    except (TypeError, ValueError, MisconfigurationException):
        asked = 0
    if not 0 < asked <= there:
        raise InvalidArgumentError(f"devices = {devices}: this machine has {there}; give a number, or auto")
