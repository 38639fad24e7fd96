"""A first look: from three folders to a tested promise."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from conformask.extras.view.page import write_report
from conformask.images.check import SOURCE, CheckReport, check_triplets, refuse_too_few, suggested_groups
from conformask.images.rows import MANIFEST, ROLES, UNKNOWN, Provenance, rows_of_folders, with_layers
from conformask.images.triplets import Triplets
from conformask.losses import AnyLoss
from conformask.masker.calibrate import calibrate
from conformask.masker.evaluate import evaluate
from conformask.masker.masker import Masker
from conformask.promises.promise import Promise
from conformask.records.evaluation import FILE as EVALUATION, Evaluation
from conformask.records.names import Higher
from conformask.records.reading import Reading
from conformask.records.record import CALIBRATION, places, refuse_unclaimed, write_csv
from conformask.records.selection import is_quantile
from conformask.scores.untrained import Given, Untrained

TEST, SELECTION = 0.35, 0.2
"""Share of the groups that are tested, and of the others the share on which the threshold is chosen."""
HALF = "q0.5"
"""The threshold where none is given: half of the selection images keep it without a mask."""
PACKAGED = Untrained("packaged")
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Look:
    """What a first look found."""

    findings: CheckReport
    masker: Masker
    evaluation: Evaluation
    test: Triplets
    parts: Mapping[str, int]
    """Number of images in each part."""


def look(
    folders: Mapping[str, Path],
    out: Path,
    *,
    are_groups: Callable[[int, str], bool],
    reading: Reading,
    higher: Higher | None = None,
    loss_of: Callable[[Triplets], AnyLoss | None] = lambda _: None,
    threshold: float | str = HALF,
    confidence: float = 0.9,
    pinned: Mapping[str, str] = NOTHING,
) -> Look:
    """Check three folders, split them, calibrate the packaged score on a part and test it on another.

    Args:
        folders: the folders of x, y_hat and y, whose files have the same names.
        out: receives data/manifest.csv, which lists the files where they are, run/ and report.html.
        are_groups: asked whether images are of groups, as their names suggest, by the number of groups and
            the name of one of them.
        reading: how files are read, and where the groups are found; see `Triplets.grouped`. The folders of
            maps and labels that it names lie beside that of y_hat.
        higher: what higher values of the maps mean that are the score; None for the packaged score.
        loss_of: returns the loss of these triplets; None for the mean error.
        threshold: the threshold, or a quantile such as "q0.5" of the selection images' losses.
        confidence: the promised share of new images, or of images of new groups.
        pinned: images that are tested whatever is drawn, and what each shows, which the report says.
    """
    is_quantile(threshold)
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
    _write_manifest(data, parts, provenance)
    scorer = PACKAGED if higher is None else Given(higher)
    masker = calibrate(
        scorer, calibration, threshold=threshold, loss=loss_of(triplets), promise=promise, selection=selection
    ).save(run)
    evaluation = evaluate(masker, test, out=run)
    images = " and ".join(f"{name} ({shown})" for name, shown in pinned.items())
    why = (
        "because of what they show, chosen before their losses were measured; the others are drawn at random."
    )
    write_report(evaluation, report, caveats=[f"{images} are test images {why}"] if pinned else [])
    return Look(findings, masker, evaluation, test, {part: len(images) for part, images in parts.items()})


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


def _write_manifest(folder: Path, parts: Mapping[str, Triplets], provenance: Provenance) -> None:
    """List the files of all parts, where they are; those in the folder move with it."""
    provenance.claim(folder, [MANIFEST])
    lines = []
    for part, images in parts.items():
        columns = {role: role for role in ROLES} | images.layer_columns
        for index, (name, group) in enumerate(zip(images.names, images.groups, strict=True)):
            paths = {column: images.file(index, role) for column, role in columns.items()}
            placed = {column: path and _from(folder.absolute(), path) for column, path in paths.items()}
            lines.append({"name": name, **placed, "group": group, "split": part})
    write_csv(folder / MANIFEST, lines, list(lines[0]))


def _from(folder: Path, path: Path) -> Path:
    path = path.absolute()
    return path.relative_to(folder) if path.is_relative_to(folder) else path
