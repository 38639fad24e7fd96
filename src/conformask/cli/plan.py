"""conformask plan: show how many calibration images a promise needs."""

from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from conformask import names
from conformask.cli.options import LOSS, MARGINAL, PROMISE, AsJson, Promised
from conformask.cli.output import bad_usage, range_text, show, table
from conformask.errors import chosen
from conformask.names import BOUNDED, SHARES

FEW_HIDE_MORE = (
    "Not in the table: few images hide more, and how much is chance. On fields of nuclei, 12 hid 30 % (19 to "
    "44 %), 25 hid 27 % (20 to 38 %), 100 hid 23 % (20 to 25 %)."
)
"""What no law says, measured by research/few_images.py."""


def plan(
    *,
    threshold: Annotated[
        str | None,
        Parameter(group=PROMISE, help="For promises about a mean: the threshold, such as 0.05 or 5%."),
    ] = None,
    promised: Promised = MARGINAL,
    n: Annotated[int | None, Parameter(help="Show only this number of calibration images.")] = None,
    distance: Annotated[
        str, Parameter(group=LOSS, help=f"For promises about a mean: the distance, {', '.join(BOUNDED)}.")
    ] = "l1",
    over: Annotated[
        names.Over | None,
        Parameter(group=LOSS, help="For promises about a mean: how an error map becomes one number."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Show how many calibration images a promise needs, and the range in which coverage will lie."""
    from conformask.conformal.guarantee import plan as plan_for
    from conformask.records.loss import LossTerms
    from conformask.records.threshold import threshold_in_loss, threshold_of

    if n is not None and n < 1:
        bad_usage(f"--n {n}: give at least 1 calibration image")
    promise = promised.promise().resolve()
    bounded = chosen(BOUNDED, distance, "bounded distance")
    own = promise.own_bounds and bounded.by_image and over in (None, "image")
    bound = 1.0 if over in SHARES else bounded.upper_bound
    about = LossTerms(distance=distance, over=over)
    level = None if threshold is None else threshold_of(threshold_in_loss(threshold, about, None), None)
    planned = plan_for(promise, level, None if own else bound, n)
    record = {
        "guarantee": promise.name,
        "confidence": promise.confidence,
        "delta": promise.delta,
        "n_calibration": planned.n_calibration,
        "unit": planned.unit,
        "prospects": [vars(prospect) for prospect in planned.prospects],
    }
    levels = {"confidence": promise.confidence, "delta": promise.delta}
    terms = [promise.name, *(f"{key} {value:g}" for key, value in levels.items() if value is not None)]
    needed = f"{planned.unit} needed to calibrate: at least {planned.n_calibration}"
    text: list[str | Table] = [f"{', '.join(terms)}: {needed}"]
    if own:
        text.append("This minimum yields very large masks: add images, and the bound per image matters less.")
    laws = [p for p in planned.prospects if p.coverage is not None]
    if laws:
        rows = [(f"{p.n}", range_text(p.coverage)) for p in laws]
        text += ["", table((planned.unit, "coverage, for 90 % of calibration sets"), rows), "", FEW_HIDE_MORE]
    elif n is not None:
        too_few = n < planned.n_calibration
        text.append(f"{n} are too few." if too_few else "The range of coverage is not known.")
    show(record, *text, as_json=json)
