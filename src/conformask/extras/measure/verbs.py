"""The verb measure."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from conformask.cli.options import ALIKE, MARGINAL, AsJson, New, NewImages, Promised, reading_of
from conformask.cli.output import bad_usage, show, table
from conformask.cli.verb import Verb

if TYPE_CHECKING:
    from rich.table import Table

    from conformask.extras.measure.interval import Interval, Number
    from conformask.images.triplets import Triplets
    from conformask.masker.masker import Masker
    from conformask.scores.scorer import Scorer

SHOWN = 10
"""Number of intervals that are printed."""
DIGITS = 6
"""Digits of numbers that are printed."""


def measure(
    run: Path,
    data: Path | None = None,
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
            "for the parts above T in [0, 1]. New images are read as those of the calibration."
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
    out: Annotated[
        Path | None,
        Parameter(
            help="With RUN: write the intervals to this CSV file. Without: the new run folder, which keeps "
            "the number, and no masks."
        ),
    ] = None,
    promise: Promised = MARGINAL,
    new: New = ALIKE,
    json: AsJson = False,
) -> None:
    """Give a number of each output, such as a volume, and an interval that holds the true one.

    The interval is calibrated: it holds the number of the truth for a promised share of new images.

    Parameters
    ----------
    run
        A run folder, which keeps the numbers; without one, give DATA in its place, and --of.
    data
        A folder of triplets: with --of, its calibration part calibrates the number, and its test part, if
        there is one, measures the promise. Without --of, a folder of new images, with x/ and y_hat/.
    """
    from dataclasses import asdict

    from conformask.extras.measure.calibrate import measure as calibrated
    from conformask.extras.measure.files import load_all, save
    from conformask.records.record import check_output, write_csv

    if of is None and (label, ends, symmetric, promise) != (None, None, False, MARGINAL):
        bad_usage("the settings of a number go with --of, which calibrates it")
    if of is None and data is None:
        bad_usage("give RUN and DATA; or DATA alone with --of, the number to calibrate on it")
    folder, keeps, csv = (run, out, None) if data is None else (data, run, out)
    if csv is not None:
        check_output(csv)
    new = replace(new, read=replace(new.read, objects=objects))
    if of is None:
        numbers = load_all(run)
        opened_like = (new.images(folder, each.domain.reading) for each in numbers)
        tests = [images.part("test") for images in opened_like]
    else:
        scorer, images = _packaged(folder, new, out) if data is None else _of_run(run, folder, new)
        calibration, selection = images.set_aside()
        number = calibrated(
            scorer, calibration, of, label=label, promise=promise, ends=ends, symmetric=symmetric,
            selection=selection,
        )  # fmt: skip
        numbers = [number if keeps is None else save(number, keeps)]
        tests = [images.part("test") if images.has_split else images.select([])]
    found = {
        each.quantity.name: each.intervals(test)
        for each, test in zip(numbers, tests, strict=True)
        if len(test)
    }
    rows = _rows(found)
    if csv is not None and rows:
        write_csv(csv, rows, list(rows[0]))
    pairs = zip(numbers, tests, strict=True)
    text = [line for each, test in pairs for line in _text(each, found.get(each.quantity.name, []), test)]
    record = {
        "run": keeps and str(keeps),
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
    show(record, *text, *_ending(keeps, csv if rows else None, is_new=data is None), as_json=json)


MEASURE = Verb(
    measure,
    group="Use",
    order=0,
    example="measure runs/first images --of volume --objects labels",
    common=("--of", "--objects", "--label", "--ends", "--out", "--confidence", "--unit"),
)


def _of_run(run: Path, data: Path, new: NewImages) -> "tuple[Masker | Scorer, Triplets]":
    """Return the masker or the score of a run, and triplets that are read as its own."""
    from conformask.extras.measure.files import scorer_of
    from conformask.records.record import CALIBRATION

    if (run / CALIBRATION).is_file():
        return new.opened(run, data)
    scorer = scorer_of(run)
    return scorer, new.images(data, reading_of(scorer))


def _packaged(data: Path, new: NewImages, out: Path | None) -> "tuple[Scorer, Triplets]":
    """Return the packaged score, which a new run may keep, and triplets."""
    from conformask.records.record import places, refuse_unclaimed
    from conformask.scores.network_scorer import holds_scorer
    from conformask.scores.untrained import packaged_scorer

    images = new.images(data)
    scorer = packaged_scorer().of(images.in_training())  # masks of it need no labels
    if out is not None:
        refuse_unclaimed(places(out, "scorer.json"))
        holds_scorer(out, scorer)  # refuses the folder of another one before the work
    return scorer, images


def _ending(keeps: Path | None, csv: Path | None, *, is_new: bool) -> list[str]:
    """Return what was written, or what to do next."""
    if csv is not None:
        return [f"Written: {csv}"]
    if keeps is None:
        return ["It was not kept: with --out RUN, a run folder keeps it for the intervals of new images."]
    return [f"Next: conformask measure {keeps} NEW --out numbers.csv"] if is_new else []


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


def _text(number: "Number", intervals: "list[Interval]", images: "Triplets") -> "list[str | Table]":
    from conformask.extras.measure.interval import kept

    unit = f" ({number.unit})" if number.unit else ""
    rows = [
        (each.name, *(f"{value:.{DIGITS}g}" for value in (each.value, *each.rounded(DIGITS))))
        for each in intervals
    ]
    lines: list[str | Table] = [] if (measured := kept(number, intervals, images)) is None else [measured, ""]
    if rows:
        columns = ("", f"{number.quantity.name}{unit}", "at least", "at most")
        lines += [table(columns, rows[:SHOWN]), ""]
    return [number.sentence, "", *lines, number.formula, ""]
