"""A first look: from three folders to a tested promise."""

import math
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from conformask.extras.view.page import write_report
from conformask.images.check import SOURCE, CheckReport, check_triplets, refuse_too_few, suggested_groups
from conformask.images.manifest import write_manifest
from conformask.images.rows import UNKNOWN, Provenance, rows_of_folders, with_layers
from conformask.images.triplets import Triplets
from conformask.losses import AnyLoss
from conformask.losses.means import Mean
from conformask.losses.window import Local
from conformask.masker.calibrate import fulfil
from conformask.masker.evaluate import evaluate
from conformask.masker.masker import Masker
from conformask.masker.request import Request
from conformask.promises.promise import Promise
from conformask.records.evaluation import FILE as EVALUATION, Evaluation
from conformask.records.names import HALF
from conformask.records.numbers import rounded_share
from conformask.records.reading import Reading
from conformask.records.record import CALIBRATION, places, refuse_unclaimed
from conformask.scores.untrained import Given, Untrained

TEST, SELECTION = 0.35, 0.2
"""Share of the groups that are tested, and of the others the share on which the threshold is chosen."""
PACKAGED = Untrained("packaged")
SIDE = 9
"""The window, in pixels, of the promise about each place that is compared with that about the mean."""
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Alternative:
    """Another promise about the same images, at the same threshold."""

    options: str
    """The options of the command line that choose it."""
    what: str
    """What it bounds, in words."""
    hidden: float
    """Mean mask size of the calibration images."""
    instead_of: float
    """That of the promise which was made."""

    @property
    def text(self) -> str:
        """What it would hide, in a sentence."""
        hidden, instead = map(rounded_share, (self.hidden, self.instead_of))
        return (
            f"The same threshold {self.what} ({self.options}) would hide {hidden} of the calibration images, "
            f"of which this promise hides {instead}"
        )


@dataclass(frozen=True)
class Look:
    """What a first look found."""

    findings: CheckReport
    masker: Masker
    evaluation: Evaluation
    test: Triplets
    parts: Mapping[str, int]
    """Number of images in each part."""
    alternative: Alternative | None
    """The other promise that people choose; None where this is neither about means nor about places."""


def look(
    folders: Mapping[str, Path],
    out: Path,
    *,
    are_groups: Callable[[int, str], bool],
    reading: Reading,
    scorer: Untrained | Given = PACKAGED,
    loss_of: Callable[[Triplets], AnyLoss | None] = lambda _: None,
    threshold: float | str = HALF,
    confidence: float = 0.9,
    pinned: Mapping[str, str] = NOTHING,
) -> Look:
    """Check three folders, split them, calibrate a score on a part and test it on another.

    Args:
        folders: the folders of x, y_hat and y, whose files have the same names.
        out: receives data/manifest.csv, which lists the files where they are, run/ and report.html.
        are_groups: asked whether images are of groups, as their names suggest, by the number of groups and
            the name of one of them.
        reading: how files are read, and where the groups are found; see `Triplets.grouped`. The folders of
            maps and labels that it names lie beside that of y_hat.
        scorer: a score that needs no training, or maps beside y_hat.
        loss_of: returns the loss of these triplets; None for the mean error.
        threshold: the threshold, or a quantile such as "q0.5" of the selection images' losses.
        confidence: the promised share of new images, or of images of new groups.
        pinned: images that are tested whatever is drawn, and what each shows, which the report says.
    """
    asked = Request(scorer, threshold)
    run, data, report = out / "run", out / "data", out / "report.html"
    refuse_unclaimed([report, run / EVALUATION, *places(run, CALIBRATION)])
    beside = folders["y_hat"].parent
    provenance = Provenance.load(beside) if folders["y_hat"].name == "y_hat" else UNKNOWN
    maps = {} if reading.cues is None else {"cues": beside / reading.cues}
    rows = with_layers(rows_of_folders({**folders, **maps}, reading), beside, reading)
    triplets = Triplets(rows, reading, provenance)
    triplets = _grouped(triplets, are_groups)
    by_group = len(set(triplets.groups)) < len(triplets)
    promise = Promise(confidence=confidence, unit="image_of_new_group" if by_group else None)
    needed = promise.smallest_calibration_set(None, None)
    fewest = math.ceil(needed / ((1 - TEST) * (1 - SELECTION)))
    refuse_too_few(triplets, folders, needed, fewest, by_group=by_group)
    rest, _ = _without(triplets, pinned).holdout(TEST)
    test = _without(triplets, rest.names)
    calibration, selection = rest.holdout(SELECTION)
    findings = check_triplets(triplets, needed, by_group=by_group)
    parts = {"calibration": calibration, "selection": selection, "test": test}
    write_manifest(data, parts, provenance)
    request = replace(asked, loss=loss_of(triplets), promise=promise, selection=selection)
    masker = fulfil(request, calibration).save(run)
    alternative = _alternative(masker, request, calibration)
    evaluation = evaluate(masker, test, out=run)
    images = " and ".join(f"{name} ({shown})" for name, shown in pinned.items())
    why = (
        "because of what they show, chosen before their losses were measured; the others are drawn at random."
    )
    write_report(evaluation, report, caveats=[f"{images} are test images {why}"] if pinned else [])
    counts = {part: len(images) for part, images in parts.items()}
    return Look(findings, masker, evaluation, test, counts, alternative)


def _alternative(masker: Masker, request: Request, calibration: Triplets) -> Alternative | None:
    """Return what a promise about each place would hide beside one about the mean, and the reverse."""
    loss, options, what = masker.loss, "", ""
    other: AnyLoss | None = None
    if type(loss) is Mean:
        other, options = Local(loss.error_map, SIDE), f"--over local --window {SIDE}"
        what = "around every pixel that is shown"
    elif type(loss) is Local:
        other, options, what = Mean(loss.error_map), "--over image", "on average over the image"
    if other is None or masker.card.hidden is None:
        return None
    with warnings.catch_warnings(action="ignore"):  # they are about a promise that is not made
        of_other = replace(request, threshold=masker.card.threshold, loss=other)
        hidden = fulfil(of_other, calibration).card.hidden
    return None if hidden is None else Alternative(options, what, hidden, masker.card.hidden)


def _grouped(triplets: Triplets, are_groups: Callable[[int, str], bool]) -> Triplets:
    """Return the triplets in the groups that are stated, or that their names suggest if these are ones."""
    if triplets.reading.group_from is not None:
        return triplets.grouped(triplets.reading.group_from)
    if len(set(triplets.groups)) < len(triplets):
        return triplets
    groups = suggested_groups(triplets.names)
    if groups is None or not are_groups(len(set(groups)), groups[0]):
        return triplets
    return triplets.grouped(SOURCE)


def _without(triplets: Triplets, names: Collection[str]) -> Triplets:
    return triplets.select(index for index, name in enumerate(triplets.names) if name not in names)
