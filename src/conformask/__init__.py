"""Masks with a promise for image-to-image networks: the names, in the order of the stream."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conformask.blank_test import probe as probe
    from conformask.conformal.promise import Promise as Promise
    from conformask.data.counts import split_counts as split_counts
    from conformask.data.triplets import Splits as Splits
    from conformask.data.triplets import Triplets as Triplets
    from conformask.deployment.masks import write_masks as write_masks
    from conformask.display import plot as plot
    from conformask.display import show as show
    from conformask.errors import ConformaskError as ConformaskError
    from conformask.errors import ConformaskWarning as ConformaskWarning
    from conformask.evaluation.evaluate import evaluate as evaluate
    from conformask.losses.clean import CleanLocal as CleanLocal
    from conformask.losses.clean import CleanMean as CleanMean
    from conformask.losses.custom import CustomLoss as CustomLoss
    from conformask.losses.maps import CustomErrorMap as CustomErrorMap
    from conformask.losses.masked_distance import MaskedDistance as MaskedDistance
    from conformask.losses.means import Mean as Mean
    from conformask.losses.means import MeanShown as MeanShown
    from conformask.losses.objects import Objects as Objects
    from conformask.losses.window import Local as Local
    from conformask.losses.window import LocalShare as LocalShare
    from conformask.losses.window import MaskedWindow as MaskedWindow
    from conformask.losses.wrong_pixels import FalseOmissionRate as FalseOmissionRate
    from conformask.losses.wrong_pixels import MissRate as MissRate
    from conformask.masker.calibrate import calibrate as calibrate
    from conformask.masker.load import load as load
    from conformask.masker.masker import Masker as Masker
    from conformask.masker.online import OnlineMasker as OnlineMasker
    from conformask.masker.release import release as release
    from conformask.masker.thresholds import threshold_choices as threshold_choices
    from conformask.monitoring.batch import monitor as monitor
    from conformask.monitoring.stream import StreamMonitor as StreamMonitor
    from conformask.plugins.dask import masked as masked
    from conformask.plugins.onnx.export import export as export
    from conformask.records.evaluation import Evaluation as Evaluation
    from conformask.records.reading import Reading as Reading
    from conformask.records.reference import NoiseModel as NoiseModel
    from conformask.records.reference import Reference as Reference
    from conformask.report.page import write_report as write_report
    from conformask.scorers.fit import fit_scorer as fit_scorer
    from conformask.scorers.given import Given as Given
    from conformask.scorers.initial_network import NetworkOptions as NetworkOptions
    from conformask.scorers.scorer import Heuristic as Heuristic
    from conformask.scorers.simple import gradient as gradient
    from conformask.scorers.simple import local_spread as local_spread
    from conformask.scorers.simple import residual as residual
    from conformask.scorers.stored import load_scorer as load_scorer
    from conformask.scorers.tiled import Tiled as Tiled
    from conformask.scorers.untrained import packaged_scorer as packaged_scorer
    from conformask.training.fit import TrainingConfig as TrainingConfig
    from conformask.training.processes import Compute as Compute
    from conformask.types import Score as Score
    from conformask.viewer.share import share as share

    __version__: str

_HOMES = {
    "Triplets": "data.triplets",
    "Splits": "data.triplets",
    "split_counts": "data.counts",
    "probe": "blank_test",
    "Reading": "records.reading",
    "NoiseModel": "records.reference",
    "Reference": "records.reference",
    "Score": "types",
    "Heuristic": "scorers.scorer",
    "local_spread": "scorers.simple",
    "residual": "scorers.simple",
    "gradient": "scorers.simple",
    "Mean": "losses.means",
    "MeanShown": "losses.means",
    "Local": "losses.window",
    "LocalShare": "losses.window",
    "MaskedWindow": "losses.window",
    "MissRate": "losses.wrong_pixels",
    "CleanLocal": "losses.clean",
    "CleanMean": "losses.clean",
    "Objects": "losses.objects",
    "FalseOmissionRate": "losses.wrong_pixels",
    "MaskedDistance": "losses.masked_distance",
    "CustomLoss": "losses.custom",
    "CustomErrorMap": "losses.maps",
    "Promise": "conformal.promise",
    "TrainingConfig": "training.fit",
    "NetworkOptions": "scorers.initial_network",
    "Compute": "training.processes",
    "fit_scorer": "scorers.fit",
    "packaged_scorer": "scorers.untrained",
    "Given": "scorers.given",
    "load_scorer": "scorers.stored",
    "threshold_choices": "masker.thresholds",
    "calibrate": "masker.calibrate",
    "Masker": "masker.masker",
    "load": "masker.load",
    "OnlineMasker": "masker.online",
    "release": "masker.release",
    "show": "display",
    "plot": "display",
    "write_masks": "deployment.masks",
    "masked": "plugins.dask",
    "evaluate": "evaluation.evaluate",
    "Evaluation": "records.evaluation",
    "write_report": "report.page",
    "monitor": "monitoring.batch",
    "StreamMonitor": "monitoring.stream",
    "export": "plugins.onnx.export",
    "ConformaskError": "errors",
    "ConformaskWarning": "errors",
    "Tiled": "scorers.tiled",
    "share": "viewer.share",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("conformask")
    if name not in _HOMES:
        raise AttributeError(f"module 'conformask' has no attribute {name!r}")
    return getattr(import_module(f"conformask.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
