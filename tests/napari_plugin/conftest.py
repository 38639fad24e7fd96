"""Runs of planes and volumes, and the widget beside layers; Qt draws nothing, so that no screen is needed."""

import os
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import conformask as cm
from conformask.masker.masker import Masker
from conformask.types import Array

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("napari", reason="napari is not installed: pip install 'conformask[napari]'")

from magicgui import application  # noqa: E402
from napari.components import ViewerModel  # noqa: E402
from napari.utils.notifications import notification_manager  # noqa: E402
from qtpy.QtWidgets import QApplication  # noqa: E402

from conformask.napari.widget import Masks  # noqa: E402

PATIENCE = 60
"""Seconds for one computation."""


@dataclass(frozen=True)
class Run:
    """A saved masker."""

    folder: Path
    masker: Masker


def pair(seed: int, shape: tuple[int, ...], channels: int = 1) -> tuple[Array, Array, Array]:
    """x, y_hat and y, uint8 (*space) or (*space, C)."""
    generator = np.random.default_rng(seed)
    last = () if channels == 1 else (channels,)
    sigma = (2.0,) * len(shape) + (0.0,) * len(last)
    field = gaussian_filter(generator.standard_normal((*shape, *last)), sigma)
    y = 0.5 + 0.4 * field / abs(field).max()
    x = y + 0.05 * generator.standard_normal(y.shape) * (y > 0.55)
    images = (x, gaussian_filter(x, tuple(0.7 * (s > 0) for s in sigma)), y)
    return tuple(np.rint(255 * image.clip(0, 1)).astype(np.uint8) for image in images)


def run_of(folder: Path, shape: tuple[int, ...], channels: int = 1, **asked) -> Run:
    made = [pair(seed, shape, channels) for seed in range(24)]
    reading = cm.Reading(axes="ZYX"[-len(shape) :] + "C" * (channels > 1))
    triplets = cm.Triplets.from_arrays(*zip(*made, strict=True), reading=reading)
    scorer = asked.pop("scorer", cm.packaged_scorer())
    cm.calibrate(scorer, triplets, **{"threshold": 0.012, "confidence": 0.9, **asked}).save(folder)
    return Run(folder, cm.load(folder))


@pytest.fixture(scope="session")
def planes(tmp_path_factory) -> Run:
    return run_of(tmp_path_factory.mktemp("planes"), (48, 40))


@pytest.fixture
def widget():
    """The widget of a viewer without a canvas."""
    application.use_app("qt").get_obj  # noqa: B018
    QApplication.instance() or QApplication([])
    notification_manager.records.clear()
    viewer = ViewerModel()
    made = Masks(viewer)
    yield made
    made.close()
