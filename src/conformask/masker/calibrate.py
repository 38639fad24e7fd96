"""Calibration: making a masker from a scorer and triplets that the scorer has not seen."""

from functools import partial

import numpy as np
from jaxtyping import Float

from conformask.arrays import Array, Batch
from conformask.background import DEFAULT_DEVICES, Compute
from conformask.images.scan import scan
from conformask.images.triplets import Triplets
from conformask.losses import AnyLoss
from conformask.masker import guards
from conformask.masker.case import Case, Issued, Measured, Scanned
from conformask.masker.checks import closed_masks_pass
from conformask.masker.masker import Masker
from conformask.masker.request import AnyFamily, AnyScorer, Request
from conformask.masker.resolve import resolve
from conformask.masker.terms import card_of
from conformask.masks.critical import calibration_data, lambda_grid
from conformask.promises.order import Curves
from conformask.promises.promise import AnyPromise
from conformask.records.names import Level
from conformask.scores.scoring import check_parts, gathered, parts_folder, scored

GRID_FROM = 8
"""Number of calibration images that a grid is made from if there are no selection images."""


def calibrate(
    scorer: AnyScorer,
    images: Triplets,
    *,
    threshold: float | str,
    loss: AnyLoss | None = None,
    promise: AnyPromise = "marginal",
    family: AnyFamily = None,
    patches: int | str | None = None,
    level: Level | None = None,
    selection: Triplets | None = None,
    compute: Compute = DEFAULT_DEVICES,
) -> Masker:
    """Find the lambda with which masks keep the promise.

    Args:
        scorer: from fit_scorer, packaged_scorer(), Given() for maps of yours, or any Scorer; Tiled(scorer)
            for whole images of any size.
        images: triplets that neither the scorer nor the predictor has seen; they are streamed.
        threshold: the largest loss wanted (the paper's alpha): a number; "5%" of the range (for a share of
            pixels or objects, of them), or "0.5m" where `Reading` has these units, both as in the sentence,
            which gives the root mean square for l2; or "q0.1": the 0.1-quantile of the unmasked loss on the
            selection images.
        loss: what the promise is about: a loss such as `Local("l1", 9)`, or what `conformask.losses.loss`
            takes ("l1", "ssim", a callable); the scorer's if None. Any score keeps any promise; masks are
            smallest with one that was fitted for the loss.
        promise: a `Promise`, or the name of a guarantee.
        family: a name, settings such as {"name": NAME, "epsilon": 1e-2}, or an object; "grey" for masks with
            values between 0 and 1, as up to conformask 0.2. If None, masks are 0 and 1, but for distances
            between masked images and `MaskedWindow`.
        patches: the least size of a connected part of a mask, shown or hidden: a number of pixels or, if
            images have a spacing, an area such as "25mm2" (for volumes "8mm3"). Specks are removed from the
            score, so that the promise is about these masks. If None, parts have any size.
        level: "one" lambda for all images, or for each "image" its own, in proportion to a level that is
            predicted from the image and its score by a fit on the selection images, 20 or more. If None,
            each image has its own where that predicts better, but for Given.
        selection: triplets for the grid and other choices, instead of those that the scorer keeps. For a
            scorer that keeps none, `images.set_aside()` returns images and selection as the command line
            takes them; without any, thresholds such as "q0.1" and some promises are refused, and nothing is
            said of other scores.
        compute: the devices, and a folder for finished parts, from which a killed calibration resumes.

    Raises:
        InvalidArgumentError: an argument outside what is allowed, or something that the guarantee needs and
            that is not there.
        CalibrationError: too few images for the promise; says how many it needs. Where there are enough, but
            too many of them fail under any open mask, all masks are closed, with a warning.
        MismatchError: images that the scorer was not fitted for.
        ImageError: an image that cannot be used, or a region that is empty.

    Examples:
        >>> import numpy as np
        >>> import conformask as cm
        >>> y = np.random.default_rng(0).random((30, 16, 16), dtype=np.float32)
        >>> images = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> scorer = cm.Heuristic(cm.residual, channels=1)
        >>> masker = cm.calibrate(scorer, images, threshold=0.05, loss="l1")
        >>> print(masker.sentence)
        In at least 9 of 10 new images, what stays visible is off by at most 5 % of the range, averaged over \
the whole image (hidden pixels count as no error).
    """
    request = Request(scorer, threshold, loss, promise, family, patches, level, selection, compute=compute)
    return fulfil(request, images)


def fulfil(request: Request, images: Triplets) -> Masker:
    """Carry out a request: resolve it, scan the images, measure them, make the rule, and write the card."""
    check_parts(request.compute)
    case = resolve(request, images)
    with parts_folder(request.compute):
        scanned = scanned_of(case)
        guards.at(guards.SCANNED, scanned)
        measured = measured_of(scanned, request.compute)
    guards.at(guards.MEASURED, measured)
    rule = measured.case.promise.rule(measured.losses)
    card = card_of(measured, rule)
    guards.at(guards.ISSUED, Issued(measured, card))
    return Masker(
        case.scorer, case.loss, case.family, rule, card, measured.losses.critical_lambdas, measured.curves,
        case.promise.weight, scanned.seen.perceptual_hashes, measured.probe,
    )  # fmt: skip


def scanned_of(case: Case) -> Scanned:
    """Read the images of a case once."""
    seen = scan(case.images, "reading calibration images")
    selection = case.selection
    return Scanned(case, seen, None if selection is None else scan(selection, "reading selection images"))


def measured_of(scanned: Scanned, compute: Compute) -> Measured:
    """Score and measure the calibration images of a case."""
    case, first = scanned.case, scanned.case.images[0]
    probe, fingerprints = case.code.probe(first.x.shape, first.y_hat.shape), case.code.fingerprints()
    grid = case.grid
    if grid is None:
        # it does not determine lambda here: for a monotone loss and a promise that deploys an order
        # statistic, any lambda below the exact one keeps the promise, such as a grid point later
        some = case.images.select(range(min(len(case.images), GRID_FROM)))
        grid = lambda_grid(case.family, case.loss, list(scored(case.scorer, some, "grid")))
    curves, critical = curves_of(case, grid, (fingerprints, scanned.seen.contents), compute)
    losses = calibration_data(curves, case.threshold, case.loss, critical, case.start)
    return Measured(scanned, curves, losses, case.grid is None, fingerprints, probe)


def curves_of(
    case: Case, grid: Array, made_of: object, compute: Compute
) -> tuple[Curves, Float[np.ndarray, "n"] | None]:
    """Return the curves of the calibration images and, where the loss gives them, exact critical lambdas.

    `made_of` is what parts of a killed calibration must have been made of to be taken up.
    """
    key = (
        case.family.settings(),
        case.loss.to_json(),
        grid.tolist(),
        case.threshold,
        case.promise.own_bounds,
        "appearance",  # missing in parts written by earlier versions
        made_of,
    )
    measure = partial(_measures, case, grid)
    columns = gathered(case.scorer, case.images, measure, "calibrating", key, compute)
    critical = columns.pop("critical_lambda", None)
    curves = Curves.from_arrays(columns | {"grid": grid})
    return curves.labelled(case.images.columns), critical


def _measures(case: Case, grid: Array, item: Batch) -> dict[str, Array]:
    """Measure scored images, of which the first already show whether closed masks pass."""
    columns = case.measures(item, grid)
    closed_masks_pass(columns["distance"][:, 0], case.threshold, case.loss.name)
    return columns
