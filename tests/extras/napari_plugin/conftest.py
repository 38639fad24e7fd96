"""Runs of planes and volumes, and the widget beside layers; Qt draws on no screen, so none is needed."""

import os
import sys
from time import monotonic

import pytest
from runs_of_fields import run_of

import conformask as cm

PATIENCE = 60
"""Seconds for one computation."""


@pytest.fixture(scope="session")
def planes(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("planes"), (48, 40))


@pytest.fixture(scope="session")
def volumes(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("volumes"), (6, 32, 24))


@pytest.fixture(scope="session")
def colour(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("colour"), (48, 40), channels=3)


@pytest.fixture(scope="session")
def tiled(tmp_path_factory, planes):
    """Whole images by tiles of 128 pixels."""
    scorer = cm.Tiled(planes.masker.scorer, 128, 32)
    return run_of(tmp_path_factory.mktemp("tiled"), (160, 100), scorer=scorer)


@pytest.fixture(scope="session")
def qt():
    """Lets Qt handle what has happened."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    pytest.importorskip("napari", reason="napari is not installed: pip install 'conformask[napari]'")
    widgets = pytest.importorskip(
        "qtpy.QtWidgets", reason="Qt lacks libraries: apt install libegl1 libgl1", exc_type=ImportError
    )
    from npe2 import PluginManager

    application = widgets.QApplication.instance() or widgets.QApplication([])
    PluginManager.instance().discover()
    return application.processEvents


@pytest.fixture
def widget(qt, monkeypatch):
    """The widget beside the layers of a viewer without a canvas, which would need a screen."""
    from napari.components import ViewerModel
    from napari.utils.notifications import notification_manager

    from conformask.extras.napari.widget import Masks

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

    def compute(run, x, y_hat, data_range=""):
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
