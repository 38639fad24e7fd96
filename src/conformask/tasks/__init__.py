"""Tasks, one file each: how x is made from a true image, and y_hat from a network's output."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches

from conformask.errors import InvalidArgumentError
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
    """The task of that name.

    Raises:
        InvalidArgumentError: an unknown name.
    """
    if name not in TASKS:
        near = get_close_matches(name, TASKS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InvalidArgumentError(f"task {name!r} is unknown, choose from {list(TASKS)}{hint}")
    return TASKS[name]()
