"""conformask calibrate: find the lambda that keeps a promise, or help to choose a threshold."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from conformask.cli.options import AsJson, DataRange
from conformask.cli.output import show, table

if TYPE_CHECKING:
    from conformask.masker.masker import Masker

CONFIDENCE = 0.9
BAR = 30


def calibrate(
    run: Path,
    data: Path | None = None,
    /,
    *,
    threshold: Annotated[
        str | None,
        Parameter(
            help="The largest masked distance (the paper's alpha), or a quantile of the unmasked distance on "
            "the selection images, such as q0.1."
        ),
    ] = None,
    confidence: float | None = None,
    family: Literal["reciprocal", "water_filling"] | None = None,
    guarantee: Literal["marginal"] = "marginal",
    data_range: DataRange = None,
    json: AsJson = False,
) -> None:
    """Calibrate a scorer on triplets that it has not seen; without DATA, recalibrate from stored curves.

    Parameters
    ----------
    run
        The run folder of conformask train.
    data
        A folder of triplets; its calibration part, or all of it where it is not split.
    confidence
        With which probability (the paper's beta); 0.9, or when recalibrating as before.
    family
        How a score becomes a mask; the one that suits the scorer if not given.
    guarantee
        marginal: over new images and calibration sets together.
    """
    if threshold is None and (data is not None or confidence is None):
        _choices(run, family, CONFIDENCE if confidence is None else confidence, guarantee, as_json=json)
        return
    if data is None:
        masker = _recalibrated(run, threshold, confidence, family, guarantee)
    else:
        masker = _calibrated(run, data, str(threshold), confidence, family, guarantee, data_range)
    masker.save(run)
    _tell(run, masker, as_json=json)


def _calibrated(
    run: Path,
    data: Path,
    threshold: str,
    confidence: float | None,
    family: str | None,
    guarantee: str,
    data_range: tuple[float, float] | None,
) -> "Masker":
    from conformask.data.triplets import Triplets
    from conformask.masker.calibrate import calibrate as calibrate_scorer
    from conformask.scorers.network_scorer import NetworkScorer

    scorer = NetworkScorer.load(run)
    return calibrate_scorer(
        scorer,
        Triplets.from_folder(data, data_range or scorer.card.data_range).part("calibration"),
        threshold=threshold,
        confidence=CONFIDENCE if confidence is None else confidence,
        family=family,
        guarantee=guarantee,
    )


def _recalibrated(
    run: Path, threshold: str | None, confidence: float | None, family: str | None, guarantee: str
) -> "Masker":
    from conformask.errors import InvalidArgumentError
    from conformask.masker.masker import load
    from conformask.masker.thresholds import threshold_of

    masker = load(run)
    if family not in (None, masker.family.name):
        raise InvalidArgumentError(f"another family ({family}) needs the images: give DATA as well")
    level = None if threshold is None else threshold_of(threshold, masker.scorer.selection)
    return masker.recalibrate(threshold=level, confidence=confidence, guarantee=guarantee)


def _tell(run: Path, masker: "Masker", *, as_json: bool) -> None:
    card = {key: value for key, value in vars(masker.card).items() if key != "calibrated_on"}
    lam = masker.card.rule["lam"]
    how = "exact" if masker.card.exact else "on a grid, slightly conservative"
    show(
        {"run": str(run), "promise": masker.promise, **card, "lam": lam},
        masker.promise,
        f"lambda = {lam:.6g} ({masker.family.name}, {how})",
        as_json=as_json,
    )


def _choices(run: Path, family: str | None, confidence: float, guarantee: str, *, as_json: bool) -> None:
    from conformask.masker.thresholds import threshold_choices
    from conformask.scorers.network_scorer import NetworkScorer

    scorer = NetworkScorer.load(run)
    choices = threshold_choices(scorer, confidence=confidence, family=family, guarantee=guarantee)
    rows = [
        (f"{c.threshold:.4g}", f"{c.pass_rate:.0%}", f"{c.mask_size:.3f}", "█" * round(BAR * c.mask_size))
        for c in choices
    ]
    distance = scorer.card.distance
    show(
        {"distance": distance, "confidence": confidence, "choices": [vars(choice) for choice in choices]},
        f"What a threshold on {distance} would mean at confidence {confidence:g}, on the selection images:",
        "",
        table(("threshold", "pass unmasked", "mask size", ""), rows),
        "",
        f"Nothing is calibrated yet. Next: conformask calibrate {run} DATA --threshold T",
        as_json=as_json,
    )
