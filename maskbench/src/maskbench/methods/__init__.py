"""Methods: one file each, which learns a score from triplets.

A file has TITLE, PAPER (where the method is from, or "") and `fit(learn, aim, work)`, which returns a
function (x, y_hat, cues) -> score: images (n, h, w, C) and maps (n, H, W) as in `Triplets`, the score
(n, H, W), higher where the output is trusted less. IMAGES is the number of images with a truth that it learns
from, and CUE the name of a map that it needs, if it needs one; tasks without it are left out. The benchmark
finds the lambda.

A file whose method finds its masks itself has `masks(learn, calibration, aim, work)` in the place of `fit`:
it returns a function (x, y_hat, cues) -> masks, (n, H, W) in [0, 1].
"""

import pkgutil
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

from maskbench.triplets import Floats, Maps

Score = Callable[[Floats, Floats, Maps], Floats]


def names() -> list[str]:
    """Return the names of all methods."""
    return sorted(each.name for each in pkgutil.iter_modules(__path__) if not each.name.startswith("_"))


def method(name: str) -> ModuleType:
    """Return the file of a method."""
    return import_module(f"{__name__}.{name}")
