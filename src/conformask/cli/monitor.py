"""conformask monitor: do new images still look like those of the calibration?"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from conformask.cli.options import AsJson, DataRange, NetworkName, OtherNetwork, WeightsPath, distance_of
from conformask.cli.output import show, table

if TYPE_CHECKING:
    from conformask.data.triplets import Triplets
    from conformask.masker.masker import Masker
    from conformask.monitoring.batch import Monitoring
    from conformask.records.card import CalibrationCard

WRONG = 3
"""The exit status of --strict."""


def monitor(
    run: Path,
    data: Path,
    /,
    *,
    level: Annotated[
        float, Parameter(help="How often images that are like the calibration's may be called shifted.")
    ] = 0.01,
    strict: Annotated[
        bool,
        Parameter(
            show_default=False, help="Exit with status 3 where images are shifted or the promise is broken."
        ),
    ] = False,
    state: Annotated[
        Path | None,
        Parameter(
            help="Follow a stream: a file that remembers what came before, so that one may look at every "
            "batch without raising false alarms sooner or later."
        ),
    ] = None,
    data_range: DataRange = None,
    network: NetworkName = None,
    other_network: OtherNetwork = False,
    weights_path: WeightsPath = None,
    json: AsJson = False,
) -> None:
    """Compare scores and mask sizes of new images with those at calibration; needs no y.

    Parameters
    ----------
    run
        A calibrated run folder.
    data
        A folder of new images, x/ and y_hat/; with y/ the masks are measured too.
    """
    from dataclasses import asdict

    from conformask.data.triplets import Triplets
    from conformask.masker.load import load
    from conformask.monitoring.batch import monitor as watch
    from conformask.report.words import promised_here

    masker = load(run, distance=distance_of(run, weights_path))
    new = Triplets.from_folder(data, data_range or masker.card.data_range, network=network)
    if state is not None:
        _follow(run, state, masker, new, level, strict=strict, other_network=other_network, as_json=json)
        return
    monitoring = watch(masker, new, level=level, other_network=other_network)
    rows = [
        (each.measure, f"{each.calibration:.4g}", f"{each.new:.4g}", f"{each.p_value:.3g}")
        for each in monitoring.comparisons
    ]
    columns = ("", f"median of {monitoring.n_calibration} calibration", f"of {monitoring.n_new} new", "p")
    record = {
        "run": str(run),
        "shifted": monitoring.shifted,
        "failing": monitoring.failing,
        **asdict(monitoring),
    }
    verdicts = list(_verdicts(monitoring, masker.card))
    promise = promised_here(masker.promise, monitoring.caveat)
    show(record, promise, "", *verdicts, "", table(columns, rows), as_json=json)
    if strict and (monitoring.shifted or monitoring.failing):
        sys.exit(WRONG)


def _follow(
    run: Path,
    state: Path,
    masker: "Masker",
    new: "Triplets",
    level: float,
    *,
    strict: bool,
    other_network: bool,
    as_json: bool,
) -> None:
    from dataclasses import asdict

    from conformask.monitoring.stream import Watch
    from conformask.report.words import promised_here, stream_text

    watch = Watch.load(masker, state) if state.is_file() else Watch(masker, level)
    watched = watch.add(new, other_network=other_network)
    watch.save(state)
    record = {"run": str(run), "shifted": watched.shifted, "failing": watched.failing, **asdict(watched)}
    promise = promised_here(masker.promise, watched.caveat)
    show(record, promise, "", *stream_text(masker.card, watched), as_json=as_json)
    if strict and (watched.shifted or watched.failing):
        sys.exit(WRONG)


def _verdicts(monitoring: "Monitoring", card: "CalibrationCard") -> Iterator[str]:
    """What was measured with truth stands first: scores can look the same while the masks fail."""
    from conformask.report.words import measurement_text

    if monitoring.measurement is not None:
        yield measurement_text(card, monitoring.measurement, monitoring.caveat)
    p_value = f"p = {monitoring.p_value:.3g} of all comparisons combined, level {monitoring.level:g}"
    if monitoring.shifted:
        yield (
            f"SHIFTED: these images do not look like those of the calibration ({p_value}). The promise is "
            "not about them: calibrate on images like these."
        )
    else:
        yield f"No shift is seen in scores and mask sizes ({p_value})."
