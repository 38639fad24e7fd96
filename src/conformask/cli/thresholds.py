"""conformask thresholds: what each threshold would mean, on the selection images."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.bar import Bar

from conformask.cli.options import MARGINAL, AsJson, FamilyName, Grey, Promised, family_option
from conformask.cli.output import show, table

if TYPE_CHECKING:
    from conformask.conformal.promise import Promise
    from conformask.masker.thresholds import ThresholdChoice
    from conformask.records.loss import LossTerms

BAR = 30
"""Length of the bar of a mask of size 1, in characters; less on a terminal that is too narrow for it."""


def thresholds(
    run: Path,
    /,
    *,
    promise: Promised = MARGINAL,
    family: FamilyName = None,
    grey: Grey = False,
    json: AsJson = False,
) -> None:
    """Show what each threshold would mean on the selection images, before a calibration.

    Parameters
    ----------
    run
        The run folder of conformask train.
    """
    from conformask.masker.thresholds import threshold_choices
    from conformask.records.card import CALIBRATION
    from conformask.scorers.stored import load_scorer

    scorer, stated = load_scorer(run), promise.promise()
    choices = threshold_choices(scorer, promise=stated, family=family_option(family, grey=grey))
    first = "" if (run / CALIBRATION).is_file() else "Nothing is calibrated yet. "
    step = f"{first}Next: conformask calibrate {run} DATA --threshold T"
    show_choices(choices, scorer.card.loss, stated, step, as_json=json)


def show_choices(
    choices: "list[ThresholdChoice]", loss: "LossTerms", stated: "Promise", step: str, *, as_json: bool
) -> None:
    """Print a table of thresholds with their masks, and the next step."""
    from conformask.records.sentence import rounded_share

    at = (
        stated.guarantee
        if stated.confidence is None
        else f"{stated.guarantee}, confidence {stated.confidence:g}"
    )
    rows = [
        (f"{c.threshold:.4g}", f"{c.pass_rate:.0%}", rounded_share(c.mask_size), Bar(1, 0, c.mask_size))
        for c in choices
    ]
    drawn = table(("threshold", "pass unmasked", "hidden", ""), rows)
    drawn.columns[-1].max_width = BAR
    record = {
        "loss": loss, "confidence": stated.confidence,
        "choices": [vars(choice) for choice in choices],
    }  # fmt: skip
    show(
        record,
        f"What a threshold on {loss.name} would mean ({at}), on the selection images:",
        "",
        drawn,
        "",
        step,
        as_json=as_json,
    )
