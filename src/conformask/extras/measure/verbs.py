"""The verb measure."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from conformask.cli.options import (
    AS_FILES_SAY,
    MARGINAL,
    AsJson,
    NetworkName,
    OtherNetwork,
    Promised,
    Read,
    WeightsPath,
    loss_of,
    opened,
)
from conformask.cli.output import bad_usage, show, table

if TYPE_CHECKING:
    from rich.table import Table

    from conformask.extras.measure.interval import Interval, Number

SHOWN = 10
"""Number of intervals that are printed."""


def measure(
    run: Path,
    data: Path,
    /,
    *,
    of: Annotated[
        Literal["volume", "area", "count", "mean", "sum"] | None,
        Parameter(
            help="Calibrate this number on DATA: the volume or area that labels have, their count, or the "
            "mean or sum of the values where they are (or the region). Without it, the numbers of the run "
            "are given for DATA."
        ),
    ] = None,
    objects: Annotated[
        str | None,
        Parameter(
            help="Labels of y_hat and y: the folder beside y_hat/ with y_hat/ and y/ in it, or components:T "
            "for the parts above T in [0, 1]."
        ),
    ] = None,
    label: Annotated[
        int | None, Parameter(help="The label that the number is about; all if not given.")
    ] = None,
    relative: Annotated[
        bool | None,
        Parameter(
            negative="--absolute",
            help="Intervals in percent of the number of the output, or --absolute; if not given, in percent "
            "for volume, area and sum.",
        ),
    ] = None,
    symmetric: Annotated[
        bool,
        Parameter(help="Ends that are equally far from the number, for which half as many images suffice."),
    ] = False,
    out: Annotated[Path | None, Parameter(help="Write the intervals to a CSV file.")] = None,
    promise: Promised = MARGINAL,
    read: Read = AS_FILES_SAY,
    network: NetworkName = None,
    allow_network_mismatch: OtherNetwork = False,
    weights_path: WeightsPath = None,
    json: AsJson = False,
) -> None:
    """Give a number of each output, such as a volume, and an interval that holds the true one.

    Parameters
    ----------
    run
        A calibrated run folder, which keeps the numbers.
    data
        A folder of triplets: with --of, its calibration part calibrates the number, and its test part, if
        there is one, measures the promise. Without --of, a folder of new images, with x/ and y_hat/.
    """
    from dataclasses import asdict, replace

    from conformask.extras.measure.interval import measure as calibrated
    from conformask.extras.measure.stored import load_all, save
    from conformask.masker.load import load
    from conformask.records.files import check_output
    from conformask.records.record import write_csv

    if of is None and (label, relative, symmetric, promise) != (None, None, False, MARGINAL):
        bad_usage("the settings of a number go with --of, which calibrates it")
    if out is not None:
        check_output(out)
    masker = load(run, loss=loss_of(run, weights_path))
    images = opened(data, replace(read, objects=objects), network, like=masker.card.reading)
    numbers, new = [], images.part("test")
    if of is None:
        numbers = load_all(masker, run)
    else:
        calibration, selection = images.set_aside()
        number = calibrated(
            masker, calibration, of, label=label, promise=promise, relative=relative, symmetric=symmetric,
            selection=selection,
        )  # fmt: skip
        numbers = [save(number, run)]
        new = new if images.has_split else new.select([])
    found = {
        each.quantity.name: each.intervals(new, allow_network_mismatch=allow_network_mismatch)
        for each in (numbers if len(new) else ())
    }
    rows = _rows(found)
    if out is not None and rows:
        write_csv(out, rows, list(rows[0]))
    text = [line for each in numbers for line in _text(each, found.get(each.quantity.name, []))]
    written = [] if out is None or not rows else [f"Written: {out}"]
    record = {
        "run": str(run),
        "numbers": [
            {
                "number": each.quantity.name,
                "sentence": each.sentence,
                "formula": each.formula,
                "unit": each.unit,
            }
            for each in numbers
        ],
        "intervals": {name: [asdict(interval) for interval in each] for name, each in found.items()},
    }
    show(record, *text, *written, as_json=json)


def _rows(found: "dict[str, list[Interval]]") -> list[dict[str, object]]:
    """Return a row for each image, with the columns of each number."""
    rows: dict[str, dict[str, object]] = {}
    for number, intervals in found.items():
        for each in intervals:
            row = rows.setdefault(each.name, {"name": each.name})
            row |= {number: each.value, f"{number}_low": each.low, f"{number}_high": each.high}
            if each.truth is not None:
                row |= {f"{number}_true": each.truth, f"{number}_within": each.within, "used": each.used}
    return list(rows.values())


def _text(number: "Number", intervals: "list[Interval]") -> "list[str | Table]":
    from conformask.extras.measure.interval import kept

    unit = f" ({number.unit})" if number.unit else ""
    rows = [
        (each.name, *(f"{value:.6g}" for value in (each.value, each.low, each.high))) for each in intervals
    ]
    lines: list[str | Table] = [] if (measured := kept(number, intervals)) is None else [measured, ""]
    if rows:
        columns = ("", f"{number.quantity.name}{unit}", "at least", "at most")
        lines += [table(columns, rows[:SHOWN]), ""]
    return [number.sentence, "", *lines, number.formula, ""]
