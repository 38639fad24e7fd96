"""Tasks, one module each: how x is made from a true image, and y_hat from a network's output."""

from collections.abc import Callable, Mapping

from conformask.errors import chosen
from conformask.tasks.colorization import Colorization
from conformask.tasks.completion import Completion
from conformask.tasks.super_resolution import SuperResolution
from conformask.types import Task

TASKS: Mapping[str, Callable[[], Task]] = {
    "completion": Completion,
    "super_resolution": SuperResolution,
    "colorization": Colorization,
}


def task(name: str) -> Task:
    """Return the task with this name.

    Raises:
        InvalidArgumentError: an unknown name.
    """
    return chosen(TASKS, name, "task")()
