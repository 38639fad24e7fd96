"""The verb measure."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from conformask.cli.options import ALIKE, MARGINAL, AsJson, New, Promised
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
    ends: Annotated[
        Literal["relative", "absolute"] | None,
        Parameter(
            help="Ends of an interval in percent of the number of the output (relative), or in its unit "
            "(absolute); if not given, relative for volume, area and sum."
        ),
    ] = None,
    symmetric: Annotated[
        bool,
        Parameter(help="Ends that are equally far from the number, for which half as many images suffice."),
    ] = False,
    out: Annotated[Path | None, Parameter(help="Write the intervals to a CSV file.")] = None,
    promise: Promised = MARGINAL,
    new: New = ALIKE,
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

    from conformask.extras.measure.interval import load_all, save
    from conformask.extras.measure.interval import measure as calibrated
    from conformask.records.files import check_output
    from conformask.records.record import write_csv

    if of is None and (label, ends, symmetric, promise) != (None, None, False, MARGINAL):
        bad_usage("the settings of a number go with --of, which calibrates it")
    if out is not None:
        check_output(out)
    masker, images = replace(new, read=replace(new.read, objects=objects)).opened(run, data)
    test = images.part("test") if of is None or images.has_split else images.select([])
    if of is None:
        numbers = load_all(masker, run)
    else:
        calibration, selection = images.set_aside()
        number = calibrated(
            masker, calibration, of, label=label, promise=promise, ends=ends, symmetric=symmetric,
            selection=selection, allow_network_mismatch=new.allow_network_mismatch,
        )  # fmt: skip
        numbers = [save(number, run)]
    found = {
        each.quantity.name: each.intervals(test, allow_network_mismatch=new.allow_network_mismatch)
        for each in (numbers if len(test) else ())
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
