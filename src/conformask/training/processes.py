"""Several processes that share one training run."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.fabric import Fabric
from lightning.fabric.utilities.exceptions import MisconfigurationException

from conformask.arithmetic import best_device
from conformask.errors import InvalidArgumentError
from conformask.progress import TORCHRUN


def is_first_process() -> bool:
    """Return whether this process writes the files of training: the only one, or the first of several.

    With several devices Lightning starts the same command again for each, and all run the same lines. This
    asks torch, not the environment: a file that no process writes is lost.
    """
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not several or torch.distributed.get_rank() == 0


@dataclass(frozen=True)
class Compute:
    """The devices that share the work, and the folder of its finished parts.

    Args:
        devices: passed to Lightning, which starts this program again for each device; "auto" takes all.
        nodes: number of machines, passed to Lightning.
        parts: a folder for finished parts, from which a killed run resumes; it is removed at the end. Several
            devices share the work through it. Training has its run folder instead.

    Raises:
        InvalidArgumentError: the devices are invalid or more than there are, or there are no nodes.

    Example:
        >>> Compute(parts="parts").devices
        1
    """

    devices: int | str = 1
    nodes: int = 1
    parts: str | Path | None = None

    def __post_init__(self) -> None:
        check_devices(self.devices)
        if self.nodes < 1:
            raise InvalidArgumentError(f"nodes = {self.nodes}: must be a number above 0")


def launch_fabric(compute: Compute) -> Fabric:
    """Start the processes that share the work, one for each device on each node; this one may be all.

    Raises:
        InvalidArgumentError: torchrun started another number of processes.
    """
    fabric = Fabric(devices=compute.devices, num_nodes=compute.nodes)
    check_torchrun(fabric.world_size)
    fabric.launch()
    return fabric


def check_torchrun(processes: int) -> None:
    """Refuse to work as one process if torchrun started several: each would write all the files.

    Raises:
        InvalidArgumentError: torchrun started another number; suggests the options.
    """
    started = os.environ.get("WORLD_SIZE", "1") if TORCHRUN in os.environ else str(processes)
    if int(started) != processes:
        raise InvalidArgumentError(
            f"torchrun started {started} processes, but --devices and --nodes specify {processes}: set "
            "--devices to its --nproc-per-node and --nodes to its --nnodes"
        )


def check_devices(devices: int | str) -> None:
    """Refuse devices that Lightning would fail on, or more than this machine has.

    Raises:
        InvalidArgumentError: the devices are invalid or too many; says how many there are.
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


ONE_DEVICE, ALL_DEVICES = Compute(), Compute("auto")
