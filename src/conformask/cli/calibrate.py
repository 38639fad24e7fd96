"""conformask calibrate: find the lambda that keeps a promise."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from conformask import names
from conformask.cli.options import (
    AS_FILES_SAY,
    DEFAULT_DEVICES,
    MARGINAL,
    SAME_LOSS,
    AboutLoss,
    AsJson,
    Devices,
    FamilyName,
    NetworkName,
    OtherNetwork,
    Promised,
    Read,
    Threshold,
    loss_of,
)
from conformask.cli.output import bad_usage, range_text, show
from conformask.progress import main_process

if TYPE_CHECKING:
    from conformask.masker.masker import Masker
    from conformask.records.card import CalibrationCard

PARTS = "calibrating"
"""Subfolder of the run folder that keeps the finished parts of a calibration."""


def calibrate(
    run: Path,
    data: Path | None = None,
    /,
    *,
    scorer: Annotated[
        names.Untrained | None,
        Parameter(
            show_default=False,
            help="A score that needs no training: packaged (the score network that comes with conformask), "
            "residual (|x - y_hat|), gradient (of y_hat, between neighbours) or spread (of y_hat, in a "
            "window).",
        ),
    ] = None,
    out: Annotated[Path | None, Parameter(help="The new run folder; only with --scorer.")] = None,
    threshold: Threshold = None,
    promise: Promised = MARGINAL,
    family: FamilyName = None,
    about: AboutLoss = SAME_LOSS,
    read: Read = AS_FILES_SAY,
    network: NetworkName = None,
    allow_network_mismatch: OtherNetwork = False,
    tiled: Annotated[
        bool,
        Parameter(
            show_default=False,
            help="DATA holds whole images of any size: score them by overlapping tiles of 1024 pixels. The "
            "promise is then about whole images.",
        ),
    ] = False,
    devices: Devices = DEFAULT_DEVICES,
    json: AsJson = False,
) -> None:
    """Calibrate a scorer on triplets that it has not seen.

    If a calibration is killed, the same command resumes it.

    Parameters
    ----------
    run
        The run folder of conformask train; with --scorer, give DATA in its place.
    data
        A folder of triplets; its calibration part is used, or all of it if it is not split.
    """
    from conformask.masker.calibrate import calibrate as calibrate_scorer
    from conformask.masker.resolve import family_for, loss_for
    from conformask.records.card import CALIBRATION
    from conformask.scorers.network_scorer import NetworkScorer
    from conformask.scorers.stored import load_scorer
    from conformask.scorers.tiled import tiled as tiled_scorer
    from conformask.scorers.untrained import Untrained, for_images
    from conformask.storage.claims import places, refuse_unclaimed

    if scorer is not None:
        if out is None or data is not None or threshold is None:
            bad_usage(f"with --scorer {scorer} give DATA, --threshold and --out, and no run folder")
        run, data = out, run
    elif out is not None:
        bad_usage("--out goes with --scorer; without it, the first argument is the run folder")
    if data is None:
        verb = "recalibrate" if threshold is not None or promise != MARGINAL else "thresholds"
        bad_usage(f"no DATA is given: for what needs no images, use conformask {verb} {run}")
    if threshold is None:
        bad_usage(f"give --threshold; conformask thresholds {run} shows what thresholds would mean")
    refuse_unclaimed(places(run, CALIBRATION))
    start: NetworkScorer | Untrained
    if scorer is None:
        start = load_scorer(run, loss=loss_of(run, about.weights_path, "scorer.json"))
        triplets = read.triplets(data, network, start.card)
    else:
        start, triplets = Untrained(scorer), read.triplets(data, network)
    chosen = about.loss(loss_for(start, None).terms) if about.is_given else None
    loss = loss_for(start, chosen, triplets)
    used_scorer, selection = for_images(start, triplets, loss), start.selection
    name = family_for(used_scorer, loss, family).name
    has_curves = selection is not None and selection.of == loss.terms and name in selection.curves
    masker = calibrate_scorer(
        tiled_scorer(used_scorer, triplets.dimensions) if tiled else used_scorer,
        triplets.part("calibration"),
        threshold=threshold,
        loss=loss,
        promise=promise.promise(),
        family=family,
        selection=None if has_curves or not triplets.has_split else triplets.part("selection"),
        compute=devices.compute(run / PARTS),
        allow_network_mismatch=allow_network_mismatch,
    )
    if main_process():
        masker = masker.save(run)
    show_calibration(run, masker, as_json=json)


def show_calibration(run: Path, masker: "Masker", *, as_json: bool) -> None:
    """Print the promise, how much its masks hide, and what it rests on."""
    from conformask.wording.scores import comparison_text

    card = {key: value for key, value in masker.card.to_json().items() if key != "calibrated_on"}
    lam = masker.card.rule.get("lam")
    coverage = masker.coverage_range
    exactness = "exact" if masker.card.exact else "on a grid, slightly conservative"
    rule = (
        f"lambda = {lam:.6g}" if isinstance(lam, float) else f"lambda by image ({masker.card.rule['kind']})"
    )
    hidden = _hidden_text(masker.card)
    lines = [masker.sentence, *([hidden] if hidden else []), f"{rule} ({masker.family.name}, {exactness})"]
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
    record = {"run": str(run), "sentence": masker.sentence, **card, "lam": lam, "coverage_range": coverage}
    record["comparison"] = comparison and asdict(comparison)
    show(record, *lines, as_json=as_json)


def _hidden_text(card: "CalibrationCard") -> str | None:
    """Return how much the masks of the calibration images hide; None where it is not known."""
    from conformask.wording.numbers import rounded_share

    if card.hidden is None:
        return None
    if card.rule.get("lam") == math.inf:
        return "Nothing needs hiding: enough calibration images are within the threshold as they are."
    return f"On the calibration images the masks hide {rounded_share(card.hidden)} of an image on average."
