"""conformask calibrate: find the lambda that keeps a promise, or help to choose a threshold."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from conformask.cli.options import AsJson, DataRange
from conformask.cli.output import show, table


def calibrate(
    run: Path,
    data: Path | None = None,
    *,
    threshold: Annotated[
        str | None, Parameter(help="Largest masked distance (the paper's alpha), or q0.1.")
    ] = None,
    confidence: Annotated[
        float | None, Parameter(help="With which probability (the paper's beta). [0.9]")
    ] = None,
    family: Literal["reciprocal", "water_filling"] | None = None,
    guarantee: Literal["marginal"] = "marginal",
    data_range: DataRange = None,
    json: AsJson = False,
) -> None:
    """Calibrate a scorer on triplets that it has not seen; without DATA, recalibrate from stored curves.

    Without a threshold, show what each threshold would mean on the selection images, and stop.

    Parameters
    ----------
    run
        The run folder of `conformask train`.
    data
        A folder of triplets; its calibration part, or all of it where it is not split.
    family
        How a score becomes a mask; the one that suits the scorer if not given.
    guarantee
        Which promise.
    """
    if threshold is None and (data is not None or confidence is None):
        _choices(run, family, 0.9 if confidence is None else confidence, as_json=json)
        return
    masker = _recalibrated(run, threshold, confidence, family) if data is None else None
    if masker is None:
        from conformask.data.triplets import Triplets
        from conformask.masker import calibrate as calibrate_scorer
        from conformask.scorers.network_scorer import NetworkScorer

        masker = calibrate_scorer(
            NetworkScorer.load(run),
            Triplets.from_folder(data, data_range).part("calibration"),  # type: ignore[arg-type]
            threshold=str(threshold),
            confidence=0.9 if confidence is None else confidence,
            family=family,
            guarantee=guarantee,
        )
    masker.save(run)
    how = "exact" if masker.card.exact else "on a grid"
    show(
        {"run": str(run), "promise": masker.promise, **vars(masker.card), "lam": masker.card.rule["lam"]},
        masker.promise,
        f"lambda = {masker.card.rule['lam']:.6g} ({masker.family.name}, {how})",
        as_json=json,
    )


def _recalibrated(run: Path, threshold: str | None, confidence: float | None, family: str | None):  # type: ignore[no-untyped-def]
    from conformask.errors import InvalidArgumentError
    from conformask.masker import load, threshold_of

    masker = load(run)
    if family not in (None, masker.family.name):
        raise InvalidArgumentError(f"another family ({family}) needs the images: give DATA as well")
    level = None if threshold is None else threshold_of(threshold, masker.scorer.selection)
    return masker.recalibrate(threshold=level, confidence=confidence)


def _choices(run: Path, family: str | None, confidence: float, *, as_json: bool) -> None:
    from conformask.masker import threshold_choices
    from conformask.scorers.network_scorer import NetworkScorer

    scorer = NetworkScorer.load(run)
    choices = threshold_choices(scorer, confidence=confidence, family=family)
    rows = [
        (f"{c.threshold:.4g}", f"{c.pass_rate:.0%}", f"{c.mask_size:.3f}", "█" * round(30 * c.mask_size))
        for c in choices
    ]
    drawn = table(
        f"Choose a threshold ({scorer.card.distance}, confidence {confidence:g}; from the selection images)",
        ("threshold", "pass unmasked", "mask size", ""),
        rows,
    )
    drawn.columns[-1].justify = "left"
    show(
        {"choices": [vars(choice) for choice in choices]},
        drawn,
        "Nothing is calibrated yet. Next: conformask calibrate RUN DATA --threshold T",
        as_json=as_json,
    )
