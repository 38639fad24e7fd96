"""Several processes that share the work; Lightning, which starts them, takes seconds to import."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from conformask.arithmetic import best_device
from conformask.errors import InvalidArgumentError
from conformask.progress import TORCHRUN, main_process


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

    Examples:
        >>> import conformask as cm
        >>> cm.Compute(parts="parts").devices
        1
    """

    devices: int | str = 1
    nodes: int = 1
    parts: str | Path | None = None

    def __post_init__(self) -> None:
        check_devices(self.devices)
        if self.nodes < 1:
            raise InvalidArgumentError(f"nodes = {self.nodes}: must be a number above 0")


def _nothing() -> None:
    """Wait for no other process."""


@dataclass(frozen=True)
class Processes:
    """The processes that share the work."""

    rank: int = 0
    """The number of this process."""
    count: int = 1
    wait: Callable[[], None] = _nothing
    """Function that returns when every process has called it."""

    @property
    def is_first(self) -> bool:
        """True in the one process that does what is done once."""
        return self.rank == 0


def launch(compute: Compute) -> Processes:
    """Start the processes that share the work, one for each device on each node; this one may be all.

    Raises:
        InvalidArgumentError: see check_processes.
    """
    if compute.devices in (1, "1") and compute.nodes == 1:
        check_processes(1)
        return Processes()
    from lightning.fabric import Fabric

    fabric = Fabric(devices=compute.devices, num_nodes=compute.nodes)
    check_processes(fabric.world_size)
    fabric.launch()
    return Processes(fabric.global_rank, fabric.world_size, fabric.barrier)


def check_processes(processes: int) -> None:
    """Refuse a number of processes that disagrees with what started this one.

    Several that work as one each would all write every file; one that is not the first would write none.

    Raises:
        InvalidArgumentError: torchrun started another number, or this one is not the first; suggests what to
            change.
    """
    started = os.environ.get("WORLD_SIZE", "1") if TORCHRUN in os.environ else str(processes)
    if int(started) != processes:
        raise InvalidArgumentError(
            f"torchrun started {started} processes, but --devices and --nodes specify {processes}: set "
            "--devices to its --nproc-per-node and --nodes to its --nnodes"
        )
    if processes == 1 and not main_process():
        raise InvalidArgumentError(
            "this process is not the first of several (LOCAL_RANK, NODE_RANK or torch.distributed say so), "
            "but --devices and --nodes specify one: unset these variables, or give the number of processes"
        )


def check_devices(devices: int | str) -> None:
    """Refuse devices that Lightning would fail on, or more than this machine has.

    Raises:
        InvalidArgumentError: the devices are invalid or too many; says how many there are.
    """
    if devices in ("auto", 1, "1"):
        return
    from lightning.fabric import Fabric
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    cores = os.cpu_count() or 1
    available = cores if best_device().type == "cpu" else torch.accelerator.device_count()
    try:
        requested = Fabric(devices=devices).world_size
    except (TypeError, ValueError, MisconfigurationException):
        requested = 0
    if not 0 < requested <= available:
        raise InvalidArgumentError(
            f"devices = {devices}: this machine has {available}; give a number, or auto"
        )


ONE_DEVICE, ALL_DEVICES = Compute(), Compute("auto")
