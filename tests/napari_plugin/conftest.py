"""Runs of planes and volumes, and the widget beside layers; Qt draws on no screen, so none is needed."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import conformask as cm
from conformask.masker.masker import Masker
from conformask.types import Array

PATIENCE = 60
"""Seconds for one computation."""


def pair(seed: int, shape: tuple[int, ...], channels: int = 1) -> tuple[Array, Array, Array]:
    """x, y_hat and y, uint8 (*space) or (*space, C): smooth fields, noisy where they are bright."""
    generator = np.random.default_rng(seed)
    whole = shape if channels == 1 else (*shape, channels)
    space = tuple(range(len(shape)))
    field = gaussian_filter(generator.standard_normal(whole), 2.0, axes=space)
    y = 0.5 + 0.4 * field / abs(field).max()
    x = y + 0.1 * generator.standard_normal(whole) * (y > 0.5)
    y_hat = gaussian_filter(x, 0.7, axes=space)
    x, y_hat, y = (np.rint(255 * image.clip(0, 1)).astype(np.uint8) for image in (x, y_hat, y))
    return x, y_hat, y


@dataclass(frozen=True)
class Run:
    """A masker in its folder."""

    folder: Path
    masker: Masker


def run_of(folder: Path, shape: tuple[int, ...], channels: int = 1, **asked: object) -> Run:
    columns = zip(*(pair(seed, shape, channels) for seed in range(24)), strict=True)
    axes = "ZYX"[-len(shape) :] + ("C" if channels > 1 else "")
    triplets = cm.Triplets.from_arrays(*columns, reading=cm.Reading(axes=axes))
    calibration, selection = triplets.select(range(14)), triplets.select(range(14, 24))
    settings = {"scorer": cm.packaged_scorer(), "threshold": 0.01, "confidence": 0.8} | asked
    cm.calibrate(calibration=calibration, selection=selection, **settings).save(folder)
    return Run(folder, cm.load(folder))


@pytest.fixture(scope="session")
def planes(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_of(tmp_path_factory.mktemp("planes"), (48, 40))


@pytest.fixture(scope="session")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_of(tmp_path_factory.mktemp("volumes"), (6, 32, 24))


@pytest.fixture(scope="session")
def colour(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_of(tmp_path_factory.mktemp("colour"), (48, 40), channels=3)


@pytest.fixture(scope="session")
def tiled(tmp_path_factory: pytest.TempPathFactory, planes: Run) -> Run:
    """Whole images by tiles of 128 pixels."""
    scorer = cm.Tiled(planes.masker.scorer, 128, 32)
    return run_of(tmp_path_factory.mktemp("tiled"), (160, 100), scorer=scorer)


@pytest.fixture(scope="session")
def qt() -> Callable[[], None]:
    """Lets Qt handle what has happened."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    pytest.importorskip("napari", reason="napari is not installed: pip install 'conformask[napari]'")
    from npe2 import PluginManager
    from qtpy.QtWidgets import QApplication

    application = QApplication.instance() or QApplication([])
    PluginManager.instance().discover()
    return application.processEvents


@pytest.fixture
def widget(qt, monkeypatch):
    """The widget beside the layers of a viewer without a canvas, which would need a screen."""
    from napari.components import ViewerModel
    from napari.utils.notifications import notification_manager

    from conformask.napari.widget import Masks

    notification_manager.records.clear()
    raised: list[BaseException] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: raised.append(error))
    made = Masks(ViewerModel())
    yield made
    made.close()
    assert raised == []


@pytest.fixture
def masked(widget, qt):
    """Computes the masks of two layers with a run; gives the mask layer."""

    def compute(run: Run, x, y_hat, data_range: str = ""):
        widget.reset_choices()
        widget.run.value, widget.x.value, widget.y_hat.value = run.folder, x, y_hat
        widget.data_range.value = data_range
        widget.compute.native.click()
        ends = monotonic() + PATIENCE
        while not widget.compute.enabled:
            qt()
            assert monotonic() < ends, "the masks take too long"
        return widget._viewer.layers[-1]

    return compute
