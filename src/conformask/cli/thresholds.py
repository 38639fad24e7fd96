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
    """Show what each threshold would mean on the selection images, or after a calibration on its images.

    Parameters
    ----------
    run
        The run folder of conformask train, calibrate or look.
    """
    from conformask.masker.load import load
    from conformask.masker.thresholds import threshold_choices
    from conformask.records.card import CALIBRATION
    from conformask.scorers.stored import load_scorer

    chosen, stated = family_option(family, grey=grey), promise.promise()
    if (run / CALIBRATION).is_file() and chosen is None:
        masker = load(run)
        stated = masker.card.promise if promise == MARGINAL else stated
        choices, terms = threshold_choices(masker, promise=stated), masker.card.loss
        step = f"Next: conformask recalibrate {run} --threshold T"
    else:
        scorer = load_scorer(run)
        choices, terms = threshold_choices(scorer, promise=stated, family=chosen), scorer.card.loss
        step = f"Nothing is calibrated yet. Next: conformask calibrate {run} DATA --threshold T"
    show_choices(choices, terms, stated, step, as_json=json)


def show_choices(
    choices: "list[ThresholdChoice]", loss: "LossTerms", stated: "Promise", step: str, *, as_json: bool
) -> None:
    """Print a table of thresholds with their masks, and the next step."""
    from conformask.records.sentence import rounded_share
    from conformask.wording.promises import CHOSEN_ON_CALIBRATION

    exploratory = any(choice.exploratory for choice in choices)
    images = f"{'calibration' if exploratory else 'selection'} images"
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
        f"What a threshold on {loss.name} would mean ({at}), on the {images}:",
        "",
        drawn,
        "",
        *([CHOSEN_ON_CALIBRATION] if exploratory else []),
        step,
        as_json=as_json,
    )
