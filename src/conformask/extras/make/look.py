"""A first look: from three folders to a tested promise; and the packaged demonstration of it.

The network of the demonstration is Real-ESRGAN (Wang et al. 2021, x4plus), which enlarges photographs four
times. Its outputs were made once, by research/demo_outputs.py, and lie in demo_outputs/ as WebP; inputs and
truths are computed.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image as PillowImage

from conformask.errors import CalibrationError
from conformask.extensions import required
from conformask.extras.make.triplets import ROLES
from conformask.extras.view.page import write_report
from conformask.images.check import SOURCE, CheckReport, check_triplets, suggested_groups
from conformask.images.read import decode, write_image
from conformask.images.rows import MANIFEST, UNKNOWN, Provenance, n_set_aside, rows_of_folders, with_layers
from conformask.images.triplets import SET_ASIDE, Triplets
from conformask.losses import AnyLoss
from conformask.masker.calibrate import calibrate
from conformask.masker.evaluate import evaluate
from conformask.masker.masker import Masker
from conformask.promises.promise import Promise
from conformask.records.card import CALIBRATION
from conformask.records.evaluation import FILE as EVALUATION
from conformask.records.evaluation import Evaluation
from conformask.records.reading import Network, Reading
from conformask.records.record import Array, places, refuse_unclaimed, refuse_unclaimed_in, write_csv
from conformask.records.selection import is_quantile
from conformask.scores.untrained import Given, Untrained

COLOUR = ("astronaut.png", "chelsea.png", "coffee.png", "ihc.png", "motorcycle_left.png", "rocket.jpg")
GREY = ("brick.png", "camera.png", "coins.png", "grass.png", "gravel.png", "moon.png")
"""Photographs that come with scikit-image's wheel, in colour and grey."""
ENLARGED = (
    *COLOUR,
    "brick.png",
    "camera.png",
    "cell.png",
    "coins.png",
    "hubble_deep_field.jpg",
    "moon.png",
    "retina.jpg",
)
"""The photographs that the network enlarged."""
SIDE, MOST, SCALE = 256, 512, 4
"""Side of a crop, largest side of the middle that is cut into crops, and factor of the network."""
POPULATION = "new crops of these photographs"
PINNED = MappingProxyType({"astronaut-1": "a face", "chelsea-1": "the eyes of a cat"})
"""Crops that are tested whatever is drawn, and what they show, for which they were chosen: anybody can judge
a face. That the network errs in faces was known; masks and losses of these crops were not looked at.
"""


def packaged_photographs(names: tuple[str, ...] = COLOUR + GREY) -> dict[str, Array]:
    """Return real photographs by name, uint8 (H, W, 3); of the default, twelve of 300 to 741 pixels per side.

    Grey ones are repeated to three channels. Left out by default: drawings, text and masks of scikit-image,
    the right view of the motorcycle (nearly the left one), and photographs that are mostly black.
    """
    folder = Path(str(files(required("skimage", "the demonstration", "skimage")))) / "data"
    arrays = {Path(name).stem: decode(folder / name) for name in names}
    return {
        name: array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=2)
        for name, array in arrays.items()
    }


def middles() -> dict[str, Array]:
    """Return the middles of the enlarged photographs by name, uint8 (H, W, 3), in whole crops."""
    found = {}
    for name, photograph in packaged_photographs(ENLARGED).items():
        height, width = (min(side // SIDE * SIDE, MOST) for side in photograph.shape[:2])
        top, left = (photograph.shape[0] - height) // 2, (photograph.shape[1] - width) // 2
        found[name] = photograph[top : top + height, left : left + width]
    return found


def quarter(y: Array) -> Array:
    """Return what the network was given: means of 4x4 pixels, uint8 (H / 4, W / 4, 3)."""
    height, width = y.shape[0] // SCALE, y.shape[1] // SCALE
    small: Array = np.round(y.reshape(height, SCALE, width, SCALE, 3).mean(axis=(1, 3))).astype(np.uint8)
    return small


def output_file(name: str) -> Path:
    """Return the file of the network's output for the middle of a photograph."""
    return Path(__file__).with_name("demo_outputs") / f"{name}.webp"


def write_crops(folder: Path) -> dict[str, Path]:
    """Write x/, y_hat/ and y/ of all crops into a folder, and return the three folders by role."""
    for role in ROLES:
        refuse_unclaimed_in(folder / role)
    crops = [crop for name, y in middles().items() for crop in _crops(name, y)]
    names = [f"{role}/{name}.png" for name, _ in crops for role in ROLES]
    network = Network("Real-ESRGAN x4plus")
    Provenance(network=network, population=POPULATION).claim(folder, names)
    for name, images in crops:
        for role in ROLES:
            unit = np.moveaxis(images[role], -1, 0) / np.float32(255)
            write_image(folder / role / f"{name}.png", unit)
    return {role: folder / role for role in ROLES}


def _crops(name: str, y: Array) -> Iterator[tuple[str, dict[str, Array]]]:
    """Yield each crop of a photograph with its name, such as astronaut-1."""
    whole = {"x": quarter(y), "y_hat": np.asarray(PillowImage.open(output_file(name))), "y": y}
    places = np.ndindex(y.shape[0] // SIDE, y.shape[1] // SIDE)
    for number, (row, column) in enumerate(places, start=1):
        crop = {}
        for role, image in whole.items():
            side = SIDE * len(image) // len(y)
            crop[role] = image[row * side : (row + 1) * side, column * side : (column + 1) * side]
        yield f"{name}-{number}", crop


TEST, SELECTION = 0.35, 0.2
"""Share of the groups that are tested, and of the others the share on which the threshold is chosen."""
HALF = "q0.5"
"""The threshold where none is given: half of the selection images keep it without a mask."""
PACKAGED = Untrained("packaged")
NOTHING: Mapping[str, str] = MappingProxyType({})
SINGLE = "; where images of a group are not alike, --group-from '(.+)' makes each a group of its own"


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
    scorer: Untrained | Given = PACKAGED,
    loss_of: Callable[[Triplets], AnyLoss | None] = lambda _: None,
    threshold: float | str = HALF,
    confidence: float = 0.9,
    provenance: Provenance = UNKNOWN,
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
        scorer: the score.
        loss_of: returns the loss of these triplets; None for the mean error.
        threshold: the threshold, or a quantile such as "q0.5" of the selection images' losses.
        confidence: the promised share of new images, or of images of new groups.
        provenance: what is known of the origin of the images.
        pinned: images that are tested whatever is drawn, and what each shows, which the report says.
    """
    is_quantile(threshold)
    run, data, report = out / "run", out / "data", out / "report.html"
    refuse_unclaimed([report, run / EVALUATION, *places(run, CALIBRATION)])
    beside = folders["y_hat"].parent
    maps = {} if reading.cues is None else {"cues": beside / reading.cues}
    rows = with_layers(rows_of_folders({**folders, **maps}, reading), beside, reading)
    triplets = Triplets(rows, reading, provenance)
    triplets = _grouped(triplets, are_groups)
    by_group = len(set(triplets.groups)) < len(triplets)
    promise = Promise(confidence=confidence, unit="image_of_new_group" if by_group else None)
    needed = promise.smallest_calibration_set(None, None)
    _check_count(triplets, folders, needed, by_group=by_group)
    rest, _ = _without(triplets, pinned).holdout(TEST)
    test = _without(triplets, rest.names)
    calibration, selection = rest.holdout(SELECTION)
    findings = check_triplets(triplets, needed, by_group=by_group)
    parts = {"calibration": calibration, "selection": selection, "test": test}
    _write_manifest(data, parts, provenance)
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


def _check_count(triplets: Triplets, folders: Mapping[str, Path], needed: int, *, by_group: bool) -> None:
    units, found = "groups" if by_group else "images", len(set(triplets.groups))
    fewest = math.ceil(needed / ((1 - TEST) * (1 - SELECTION)))
    if found >= fewest:
        return
    instead = ""
    if found - n_set_aside(found, SET_ASIDE) >= needed:
        parent = folders["y_hat"].parent
        is_data = all(path.absolute() == (parent / role).absolute() for role, path in folders.items())
        layout = "" if is_data else ", with these folders as x/, y_hat/ and y/ of DATA"
        grouped = f" --unit image_of_new_group --group-from '{triplets.reading.group_from}'" * by_group
        instead = (
            f". Without a test, {found} are enough{layout}:\nconformask calibrate "
            f"{parent if is_data else 'DATA'} --scorer packaged --threshold 5%{grouped} --out RUN"
        )
    raise CalibrationError(
        f"{found} {units} are too few to calibrate and to test at this confidence: give at least "
        f"{fewest}, or a lower --confidence{SINGLE if by_group else ''}{instead}"
    )


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
