"""Predictors without training: bicubic interpolation, and filling a hole smoothly."""

import numpy as np
import torch

from conformask.errors import InvalidArgumentError
from conformask.storage.as_arrays import Array
from conformask.tasks import Completion, SuperResolution
from conformask.types import Images, Task


class Bicubic:
    """Bicubic enlargement, clipped to [0, 1]: the simplest y_hat of super_resolution."""

    name = "bicubic"
    fingerprint = None
    trained_on: tuple[str, ...] = ()

    def __init__(self, task: Task) -> None:
        if not isinstance(task, SuperResolution):
            raise InvalidArgumentError(
                f"bicubic enlarges, which {task.name} does not need: use it with --task super_resolution"
            )
        self.task = task

    def __call__(self, x: Images) -> Images:
        """Enlarge x (N, C, H, W) to the size of y, (N, C, 4H, 4W)."""
        return self.task.enlarge(x)


class Biharmonic:
    """The smoothest filling of the hole of completion that fits its surroundings, image by image."""

    name = "biharmonic"
    fingerprint = None
    trained_on: tuple[str, ...] = ()

    def __init__(self, task: Task) -> None:
        if not isinstance(task, Completion):
            raise InvalidArgumentError(
                f"biharmonic fills holes, which {task.name} does not have: use it with --task completion"
            )
        self.task = task

    def __call__(self, x: Images) -> Images:
        """Fill the hole of x (N, 1, H, W), in [0, 1]."""
        hole = self.task.hole(*x.shape[-2:]).numpy()
        planes = x.detach().cpu().double().flatten(0, 1).numpy()
        filled = np.stack([_fill(plane, hole) for plane in planes])
        return self.task.compose(x, torch.from_numpy(filled).reshape(x.shape).to(x))


def _fill(plane: Array, hole: Array) -> Array:
    from skimage.restoration import inpaint_biharmonic

    filled: Array = inpaint_biharmonic(plane, hole)
    return filled


CLASSICAL = {predictor.name: predictor for predictor in (Bicubic, Biharmonic)}
