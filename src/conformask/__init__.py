"""Masks with a promise for image-to-image networks: the names, in the order of the stream."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conformask.arrays import Score as Score
    from conformask.background import Compute as Compute
    from conformask.errors import ConformaskError as ConformaskError, ConformaskWarning as ConformaskWarning
    from conformask.extras.export.dask import masked as masked
    from conformask.extras.export.onnx import export as export
    from conformask.extras.make.probe import probe as probe
    from conformask.extras.measure.calibrate import measure as measure
    from conformask.extras.noise.clean import CleanLocal as CleanLocal, CleanMean as CleanMean
    from conformask.extras.noise.repeats import split_counts as split_counts
    from conformask.extras.objects.loss import Objects as Objects
    from conformask.extras.train import NetworkOptions as NetworkOptions, TrainingConfig as TrainingConfig
    from conformask.extras.train.fit import fit_scorer as fit_scorer
    from conformask.extras.view.display import plot as plot, show as show
    from conformask.extras.view.page import write_report as write_report
    from conformask.extras.view.share import share as share
    from conformask.extras.watch.monitor import monitor as monitor
    from conformask.extras.watch.online import OnlineMasker as OnlineMasker
    from conformask.extras.watch.stream import StreamMonitor as StreamMonitor
    from conformask.images.triplets import Splits as Splits, Triplets as Triplets
    from conformask.losses.distances import CustomErrorMap as CustomErrorMap
    from conformask.losses.masked_distance import CustomLoss as CustomLoss, MaskedDistance as MaskedDistance
    from conformask.losses.means import (
        FalseOmissionRate as FalseOmissionRate,
        Mean as Mean,
        MeanShown as MeanShown,
        MissRate as MissRate,
    )
    from conformask.losses.window import (
        Local as Local,
        LocalShare as LocalShare,
        MaskedWindow as MaskedWindow,
    )
    from conformask.masker.calibrate import calibrate as calibrate
    from conformask.masker.evaluate import evaluate as evaluate
    from conformask.masker.load import load as load
    from conformask.masker.masker import Masker as Masker
    from conformask.masker.release import release as release
    from conformask.masker.thresholds import threshold_choices as threshold_choices
    from conformask.masker.write import write_masks as write_masks
    from conformask.promises.promise import Promise as Promise
    from conformask.records.evaluation import Evaluation as Evaluation
    from conformask.records.reading import (
        NoiseModel as NoiseModel,
        Reading as Reading,
        Reference as Reference,
    )
    from conformask.scores.network_scorer import load_scorer as load_scorer
    from conformask.scores.scorer import Heuristic as Heuristic, Tiled as Tiled
    from conformask.scores.simple import (
        gradient as gradient,
        local_spread as local_spread,
        residual as residual,
    )
    from conformask.scores.untrained import Given as Given, packaged_scorer as packaged_scorer

    __version__: str

_NAMES = {
    "images.triplets": "Triplets Splits",
    "extras.measure.calibrate": "measure",
    "extras.noise.repeats": "split_counts",
    "extras.make.probe": "probe",
    "records.reading": "Reading NoiseModel Reference",
    "arrays": "Score",
    "scores.scorer": "Heuristic Tiled",
    "scores.simple": "local_spread residual gradient",
    "losses.means": "Mean MeanShown MissRate FalseOmissionRate",
    "losses.window": "Local LocalShare MaskedWindow",
    "extras.noise.clean": "CleanLocal CleanMean",
    "extras.objects.loss": "Objects",
    "losses.masked_distance": "MaskedDistance CustomLoss",
    "losses.distances": "CustomErrorMap",
    "promises.promise": "Promise",
    "extras.train": "TrainingConfig NetworkOptions",
    "background": "Compute",
    "extras.train.fit": "fit_scorer",
    "scores.untrained": "packaged_scorer Given",
    "scores.network_scorer": "load_scorer",
    "masker.thresholds": "threshold_choices",
    "masker.calibrate": "calibrate",
    "masker.masker": "Masker",
    "masker.load": "load",
    "extras.watch.online": "OnlineMasker",
    "masker.release": "release",
    "extras.view.display": "show plot",
    "masker.write": "write_masks",
    "extras.export.dask": "masked",
    "masker.evaluate": "evaluate",
    "records.evaluation": "Evaluation",
    "extras.view.page": "write_report",
    "extras.watch.monitor": "monitor",
    "extras.watch.stream": "StreamMonitor",
    "extras.export.onnx": "export",
    "errors": "ConformaskError ConformaskWarning",
    "extras.view.share": "share",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("conformask")
    if name not in _HOMES:
        raise AttributeError(f"module 'conformask' has no attribute {name!r}")
    try:
        return getattr(import_module(f"conformask.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("conformask."):
            raise
        raise AttributeError(
            f"conformask.{name} needs {error.name}, which is not there: install conformask again"
        ) from error


def __dir__() -> list[str]:
    return sorted(_HOMES)
