"""conformask calibrate: find the lambda that keeps a promise, or help choose a threshold."""

import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from conformask import names
from conformask.cli.options import (
    AS_FILES_SAY,
    AsJson,
    Confidence,
    Delta,
    Devices,
    DistanceName,
    GuaranteeName,
    NetworkName,
    Nodes,
    OtherNetwork,
    OverName,
    Read,
    Share,
    Tolerance,
    UnitName,
    WeightsPath,
    WindowSide,
    Within,
    loss_of,
)
from conformask.cli.output import bad_usage, range_text, show, table
from conformask.progress import main_process
from conformask.storage.claims import places, refuse_unclaimed

if TYPE_CHECKING:
    from conformask.data.triplets import Triplets
    from conformask.masker.masker import Masker
    from conformask.scorers.scorer import Scorer
    from conformask.types import Loss

BAR = 30
"""Length of the bar of a mask of size 1, in characters."""
PARTS = "calibrating"
"""Subfolder of the run folder that keeps the finished parts of a calibration."""


def calibrate(
    run: Path,
    data: Path | None = None,
    /,
    *,
    scorer: Annotated[names.Untrained | None, Parameter(show_default=False)] = None,
    out: Path | None = None,
    threshold: Annotated[
        str | None,
        Parameter(
            help="The largest acceptable loss (the paper's alpha), or a quantile of the loss without a mask "
            "on the selection images, such as q0.1."
        ),
    ] = None,
    confidence: Confidence = None,
    family: names.Family | None = None,
    guarantee: GuaranteeName | None = None,
    delta: Delta = None,
    unit: UnitName = None,
    share: Share = None,
    within: Within = None,
    distance: DistanceName | None = None,
    over: OverName = None,
    window: WindowSide = None,
    tolerance: Tolerance = None,
    read: Read = AS_FILES_SAY,
    network: NetworkName = None,
    other_network: OtherNetwork = False,
    whole: Annotated[
        bool,
        Parameter(
            show_default=False,
            help="DATA holds whole images of any size: score them by overlapping tiles of 1024 pixels. The "
            "promise is then about whole images.",
        ),
    ] = False,
    weights_path: WeightsPath = None,
    devices: Devices = "1",
    nodes: Nodes = 1,
    json: AsJson = False,
) -> None:
    """Calibrate a scorer on triplets that it has not seen; without DATA, recalibrate from stored curves.

    If a calibration is killed, the same command resumes it.

    Parameters
    ----------
    run
        The run folder of conformask train; with --scorer, give DATA in its place.
    data
        A folder of triplets; its calibration part is used, or all of it if it is not split.
    scorer
        A score that needs no training: packaged (the score network that comes with conformask), residual
        (|x - y_hat|), gradient (of y_hat, between neighbours) or spread (of y_hat, in a window).
    out
        The new run folder; only with --scorer.
    family
        How a score becomes a mask; if not given, the family that suits the loss and the scorer.
    distance
        A distance or error map other than the one that the scorer was trained for.
    """
    from conformask.losses import where
    from conformask.masker.resolve import loss_for
    from conformask.masker.serialization import CALIBRATION
    from conformask.scorers.network_scorer import NetworkScorer
    from conformask.scorers.stored import load_scorer
    from conformask.scorers.untrained import Untrained, for_images

    if scorer is not None:
        if out is None or data is not None or threshold is None:
            bad_usage(f"with --scorer {scorer} give DATA, --threshold and --out, and no run folder")
        run, data = out, run
    elif out is not None:
        bad_usage("--out goes with --scorer; without it, the first argument is the run folder")
    levels = {"confidence": confidence, "guarantee": guarantee, "delta": delta}
    terms: dict[str, Any] = {**levels, "unit": unit, "share": share, "within": within}
    about: dict[str, Any] = {"distance": distance, "over": over, "window": window, "tolerance": tolerance}
    if (threshold is None or data is None) and any(value is not None for value in about.values()):
        bad_usage("another loss needs images and its own threshold: give DATA and --threshold as well")
    if threshold is None and (data is not None or not any(terms.values())):
        _choices(run, family, terms, as_json=json)
        return
    if whole and data is None:
        bad_usage("--whole calibrates images: give DATA as well")
    if data is None:
        masker = _recalibrated(run, threshold, family, terms, loss_of(run, weights_path))
    else:
        refuse_unclaimed(places(run, CALIBRATION))
        run_options = {"devices": devices, "nodes": nodes, "out": run / PARTS, "other_network": other_network}
        start: NetworkScorer | Untrained
        if scorer is None:
            start = load_scorer(run, distance=loss_of(run, weights_path, "scorer.json"))
            triplets = read.triplets(data, network, start.card)
        else:
            start, triplets = Untrained(scorer), read.triplets(data, network)
        about["window"] = triplets.window(window)
        used = where(loss_for(start, **about, weights_path=weights_path), triplets.has_regions)
        used_scorer = for_images(start, triplets, used)
        masker = _calibrated(
            used_scorer, triplets, str(threshold), family, terms, run_options, used, whole=whole
        )
    if main_process():
        masker = masker.save(run)
    _show(run, masker, as_json=json)


def _calibrated(
    scorer: "Scorer",
    collection: "Triplets",
    threshold: str,
    family: str | None,
    terms: dict[str, Any],
    run_options: dict[str, Any],
    loss: "Loss",
    *,
    whole: bool,
) -> "Masker":
    from conformask.masker.calibrate import calibrate as calibrate_scorer
    from conformask.masker.resolve import family_for
    from conformask.scorers.tiled import tiled

    kept = scorer.selection
    name = family_for(scorer, loss, family).name
    has_curves = kept is not None and kept.of == loss.terms and name in kept.curves
    return calibrate_scorer(
        tiled(scorer, collection.dimensions) if whole else scorer,
        collection.part("calibration"),
        threshold=threshold,
        family=family,
        distance=loss,
        selection=None if has_curves or not collection.has_split else collection.part("selection"),
        **_complete(terms),
        **run_options,
    )


def _complete(terms: dict[str, Any]) -> dict[str, Any]:
    """Return the terms of a new promise, with defaults for those that were not given."""
    return {**terms, "guarantee": terms["guarantee"] or "marginal", "within": bool(terms["within"])}


def _recalibrated(
    run: Path,
    threshold: str | None,
    family: str | None,
    terms: dict[str, Any],
    distance: "Loss | None",
) -> "Masker":
    from conformask.errors import InvalidArgumentError, MissingFileError
    from conformask.masker.load import load
    from conformask.masker.serialization import CALIBRATION
    from conformask.records.threshold import threshold_of

    if not (run / CALIBRATION).is_file():
        raise MissingFileError(f"{run} has no calibration to change yet: give DATA as well")
    masker = load(run, distance=distance)
    if family not in (None, masker.family.name):
        raise InvalidArgumentError(f"another family ({family}) needs the images: give DATA as well")
    level = None if threshold is None else threshold_of(threshold, masker.scorer.selection)
    recalibrated = masker.recalibrate(threshold=level, **terms)
    if level is not None and recalibrated.card.threshold < level:
        warnings.warn(
            f"{level:g} was lowered to the declared threshold {recalibrated.card.threshold:g}", stacklevel=1
        )
    return recalibrated


def _show(run: Path, masker: "Masker", *, as_json: bool) -> None:
    from conformask.report.benchmark import comparison_text
    from conformask.report.words import hidden_share_text

    card = {key: value for key, value in vars(masker.card).items() if key != "calibrated_on"}
    lam = masker.card.rule.get("lam")
    coverage = masker.coverage_range
    exactness = "exact" if masker.card.exact else "on a grid, slightly conservative"
    rule = (
        f"lambda = {lam:.6g}" if isinstance(lam, float) else f"lambda by image ({masker.card.rule['kind']})"
    )
    hidden = hidden_share_text(masker.card)
    lines = [masker.promise, *([hidden] if hidden else []), f"{rule} ({masker.family.name}, {exactness})"]
    if masker.card.n_effective is not None:
        lines.append(f"effective calibration images: {masker.card.n_effective:.1f}")
    if coverage is not None:
        units = f"{masker.guarantee.unit.singular}s"
        lines.append(
            f"For 90 % of such calibration sets, the coverage of new {units} is {range_text(coverage)}."
        )
    selection = masker.scorer.selection
    untrained = masker.scorer.name in names.UNTRAINED
    comparison = selection.comparison if untrained and selection is not None else None
    lines += [] if comparison is None else [comparison_text(comparison)]
    record = {"run": str(run), "promise": masker.promise, **card, "lam": lam, "coverage_range": coverage}
    record["comparison"] = comparison and asdict(comparison)
    show(record, *lines, as_json=as_json)


def _choices(run: Path, family: str | None, terms: dict[str, Any], *, as_json: bool) -> None:
    from conformask.conformal.presets import guarantee as guarantee_by_name
    from conformask.masker.thresholds import threshold_choices
    from conformask.scorers.stored import load_scorer

    scorer = load_scorer(run)
    asked = _complete(terms)
    choices = threshold_choices(scorer, family=family, **asked)
    promise = guarantee_by_name(asked.pop("guarantee"), **asked)
    at = promise.name if promise.confidence is None else f"{promise.name}, confidence {promise.confidence:g}"
    rows = [
        (f"{c.threshold:.4g}", f"{c.pass_rate:.0%}", f"{c.mask_size:.3f}", "█" * round(BAR * c.mask_size))
        for c in choices
    ]
    loss = scorer.card.loss_name
    show(
        {
            **vars(scorer.card.loss_terms),
            "confidence": promise.confidence,
            "choices": [vars(choice) for choice in choices],
        },
        f"What a threshold on {loss} would mean ({at}), on the selection images:",
        "",
        table(("threshold", "pass unmasked", "mask size", ""), rows),
        "",
        f"Nothing is calibrated yet. Next: conformask calibrate {run} DATA --threshold T",
        as_json=as_json,
    )
