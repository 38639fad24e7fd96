"""Tasks: one file each, which says where its triplets come from and makes them.

A file has TITLE, NETWORK, DEGRADATION (`real` or how x was made), LICENCE, VERSION (a new one for other
triplets) and `make(data, work)`: an iterator of (group, x, y_hat, y, cues), images (H, W) or (H, W, C) in
[0, 1] of one size, cues a dict of maps (H, W). DATA holds the folders of images; what a task trains or
downloads it keeps in WORK.
"""

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from maskbench.triplets import Floats, Triplets

Made = Iterator[tuple[Any, ...]]
"""Group, x, y_hat, y and maps."""
MOST = 600
"""Images of a task, at random, where it makes more."""


def names() -> list[str]:
    """Return the names of all tasks."""
    return sorted(each.name for each in pkgutil.iter_modules(__path__) if not each.name.startswith("_"))


def task(name: str) -> ModuleType:
    """Return the file of a task."""
    return import_module(f"{__name__}.{name}")


def triplets_of(name: str, data: Path, work: Path) -> Triplets:
    """Return the frozen triplets of a task: those in WORK, or made now."""
    module = task(name)
    path = work / "triplets" / f"{name}-{module.VERSION}.npz"
    if not path.exists():
        frozen(module.make(data, work)).save(path)
    return Triplets.load(path)


def frozen(made: Made) -> Triplets:
    """Stack what a task made, in an order that is drawn once; at most MOST images."""
    rows = list(made)
    places = np.random.default_rng(0).permutation(len(rows))[:MOST]
    groups, *roles, cues = zip(*(rows[place] for place in places), strict=True)
    x, y_hat, y = (np.stack([_with_channels(each) for each in images]) for images in roles)
    maps = {name: np.stack([each[name] for each in cues]).astype(np.float32) for name in cues[0]}
    return Triplets(x, y_hat, y, np.array(groups), maps)


def _with_channels(image: Floats) -> Floats:
    image = np.asarray(image, np.float32)
    return image[..., None] if image.ndim == 2 else image
