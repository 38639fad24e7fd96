"""conformask monitor: check whether new images still look like the calibration images."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from conformask.cli.options import (
    AS_FILES_SAY,
    DEFAULT_DEVICES,
    AsJson,
    Devices,
    NetworkName,
    OtherNetwork,
    Read,
    WeightsPath,
    loss_of,
)
from conformask.cli.output import show, table
from conformask.progress import main_process
from conformask.storage.claims import check_output
from conformask.storage.exclusive import exclusive_folder

if TYPE_CHECKING:
    from conformask.monitoring.batch import Monitoring
    from conformask.records.card import CalibrationCard

PARTS = "monitoring"
"""Subfolder of the run folder for the finished parts of several processes."""
WRONG = 3
"""Exit status with --strict, if images are shifted or the promise is broken."""


def monitor(
    run: Path,
    data: Path,
    /,
    *,
    level: Annotated[
        float, Parameter(help="False-alarm rate: how often images like the calibration's are called shifted.")
    ] = 0.01,
    strict: Annotated[
        bool,
        Parameter(
            show_default=False, help="Exit with status 3 if images are shifted or the promise is broken."
        ),
    ] = False,
    state: Annotated[
        Path | None,
        Parameter(
            help="Follow a stream: a file that remembers earlier batches, so that checking every batch does "
            "not lead to more false alarms."
        ),
    ] = None,
    read: Read = AS_FILES_SAY,
    network: NetworkName = None,
    allow_network_mismatch: OtherNetwork = False,
    weights_path: WeightsPath = None,
    devices: Devices = DEFAULT_DEVICES,
    json: AsJson = False,
) -> None:
    """Compare the scores and mask sizes of new images with the calibration; needs no y.

    Parameters
    ----------
    run
        A calibrated run folder.
    data
        A folder of new images, with x/ and y_hat/; with y/, the masks are measured too.
    """
    from dataclasses import asdict

    from conformask.masker.load import load
    from conformask.monitoring.batch import Monitoring
    from conformask.monitoring.batch import monitor as monitor_batch
    from conformask.monitoring.stream import StreamMonitor
    from conformask.records.stream_status import StreamStatus
    from conformask.wording.measurements import stream_text
    from conformask.wording.promises import formula_here, promised_here

    masker = load(run, loss=loss_of(run, weights_path))
    new = read.triplets(data, network, masker.card)
    found: Monitoring | StreamStatus
    compute = devices.compute(None if devices == DEFAULT_DEVICES else run / PARTS)
    if state is None:
        found = monitor_batch(
            masker,
            new,
            level=level,
            allow_network_mismatch=allow_network_mismatch,
            compute=compute,
        )
        text: list[str | Table] = [*_verdicts(found, masker.card), "", _comparisons(found)]
    else:
        check_output(state)
        with exclusive_folder(state.parent, state.name):
            watch = StreamMonitor.load(masker, state) if state.is_file() else StreamMonitor(masker, level)
            found = watch.add(new, allow_network_mismatch=allow_network_mismatch, compute=compute)
            if main_process():
                watch.save(state)
        text = [*stream_text(masker.card, found)]
    promise = {"sentence": masker.sentence, "formula": masker.formula}
    record = {"run": str(run), **promise, "shifted": found.shifted, "failing": found.failing, **asdict(found)}
    if found.changes is not None:
        record["changes"] = [{**asdict(change), "text": change.text} for change in found.changes]
    sentence = promised_here(masker.sentence, found.caveat)
    formula = formula_here(masker.formula, found.caveat)
    show(record, sentence, "", *text, "", *formula, as_json=json)
    if strict and (found.shifted or found.failing):
        sys.exit(WRONG)


def _comparisons(monitoring: "Monitoring") -> Table:
    rows = [
        (each.measure, f"{each.calibration:.4g}", f"{each.new:.4g}", f"{each.p_value:.3g}")
        for each in monitoring.comparisons
    ]
    columns = ("", f"median of {monitoring.n_calibration} calibration", f"of {monitoring.n_new} new", "p")
    return table(columns, rows)


def _verdicts(monitoring: "Monitoring", card: "CalibrationCard") -> Iterator[str]:
    """Yield measurements with truth first, because scores can look the same while the masks fail."""
    from conformask.wording.measurements import changes_text, measurement_text, shift_text

    if measured := measurement_text(card, monitoring.measurement, monitoring.caveat, monitoring.n_used):
        yield measured
    yield shift_text(monitoring.p_value, monitoring.level, shifted=monitoring.shifted)
    if monitoring.changes is not None:
        yield changes_text(monitoring.changes)
