"""conformask plan: how many calibration images a promise needs."""

from typing import Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from conformask.cli.options import AsJson, Confidence, Delta, GuaranteeName
from conformask.cli.output import bad_usage, show, table, told_range

BOUNDS = {"l1": 1.0, "l2": 1.0, "ssim": 2.0, "ms_ssim": 1.0}
OWN = ("l1", "l2")
"""Distances under which every image has a bound of its own."""


def plan(
    *,
    confidence: Confidence = None,
    guarantee: GuaranteeName = "marginal",
    delta: Delta = None,
    n: Annotated[int | None, Parameter(help="Tell of so many calibration images only.")] = None,
    threshold: Annotated[float | None, Parameter(help="For promises about a mean: the threshold.")] = None,
    distance: Annotated[
        Literal["l1", "l2", "ssim", "ms_ssim"],
        Parameter(help="For promises about a mean: the distance, which must be bounded."),
    ] = "l1",
    json: AsJson = False,
) -> None:
    """Say how many calibration images a promise needs, and between what coverage will fluctuate.

    Parameters
    ----------
    confidence
        With which probability (the paper's beta).
    """
    from conformask.conformal.planning import plan as plan_for
    from conformask.conformal.presets import guarantee as guarantee_by_name

    if n is not None and n < 1:
        bad_usage(f"--n {n}: there is at least 1 calibration image")
    wanted = guarantee_by_name(guarantee, confidence, delta)
    own = wanted.own_bounds and distance in OWN
    found = plan_for(wanted, threshold, None if own else BOUNDS[distance], n)
    record = {
        "guarantee": wanted.name,
        "confidence": wanted.confidence,
        "delta": wanted.delta,
        "n_calibration": found.n_calibration,
        "unit": found.unit,
        "prospects": [vars(prospect) for prospect in found.prospects],
    }
    levels = {"confidence": wanted.confidence, "delta": wanted.delta}
    told = [wanted.name, *(f"{key} {value:g}" for key, value in levels.items() if value is not None)]
    needed = f"{found.unit} needed to calibrate: at least {found.n_calibration}"
    text: list[str | Table] = [f"{', '.join(told)}: {needed}"]
    if own:
        text.append(
            "So few would hardly open a mask: with every further image the bound of each matters less."
        )
    laws = [p for p in found.prospects if p.coverage is not None]
    if laws:
        rows = [(f"{p.n}", told_range(p.coverage)) for p in laws]
        text += ["", table((found.unit, "coverage, for nine calibration sets of ten"), rows)]
    elif n is not None:
        few = n < found.n_calibration
        text.append(f"{n} are too few." if few else "How far coverage would fluctuate is not known.")
    show(record, *text, as_json=json)
