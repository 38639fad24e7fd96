"""The demonstration: the whole workflow on the photographs that scikit-image packages."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path

import numpy as np

from conformask.conformal.promise import Promise
from conformask.data.decoding import decode
from conformask.data.manifest import MANIFEST
from conformask.data.provenance import FILE as PROVENANCE
from conformask.data.provenance import unfinished
from conformask.data.sources import Source, TrueImages
from conformask.data.triplets import Triplets
from conformask.deployment.folder import MaskFolder
from conformask.deployment.masks import write_masks
from conformask.evaluation.evaluate import evaluate
from conformask.evaluation.examples import picture_of
from conformask.masker.calibrate import calibrate
from conformask.masker.masker import Masker
from conformask.predictors.network_predictor import NetworkPredictor
from conformask.predictors.regressor import fit_predictor
from conformask.preparation import ROLES, write_triplets
from conformask.records.evaluation import FILE as EVALUATION
from conformask.records.evaluation import Evaluation, Example
from conformask.report.page import write_report
from conformask.scorers.fit import fit_scorer
from conformask.storage.as_arrays import Array
from conformask.storage.claims import places, refuse_unclaimed, refuse_unclaimed_in
from conformask.tasks import task
from conformask.training.fit import TrainingConfig
from conformask.types import Triplet

COLOUR = ("astronaut.png", "chelsea.png", "coffee.png", "ihc.png", "motorcycle_left.png", "rocket.jpg")
GREY = ("brick.png", "camera.png", "coins.png", "grass.png", "gravel.png", "moon.png")
"""Photographs that come with scikit-image's wheel, in colour and grey."""
TILE = 64
"""Side of a tile, in pixels."""
WIDTH = 16
EPOCHS, SCORER_EPOCHS = 60, 25
"""Numbers of epochs; limits in time would make masks depend on the speed of the machine."""
THRESHOLD = 0.02
CONFIDENCE = 0.9
WHOLE = ("astronaut", "coffee", "chelsea")
REPORT = "report.html"
MASKS = 12
"""Number of masks that are written."""
POPULATION = "new tiles of these photographs"
FRACTIONS = (0.3, 0.1, 0.2, 0.4)
"""Fractions of the parts: these networks learn from few tiles, and a large test has a narrow interval."""


def packaged_photographs() -> dict[str, Array]:
    """Return twelve real photographs by name, uint8 (H, W, 3), from 300 to 741 pixels per side.

    Six are in colour, six grey and repeated to three channels. Left out of scikit-image's images: drawings,
    text and masks, the right view of the motorcycle (nearly the left one), and the retina and the Hubble
    field, which are mostly black.
    """
    folder = Path(str(files("skimage"))) / "data"
    return {Path(name).stem: _three_channels(decode(folder / name)) for name in COLOUR + GREY}


def _three_channels(array: Array) -> Array:
    return array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=2)


@dataclass(frozen=True)
class Demonstration:
    """Results of the demonstration, and the seconds that each stage took."""

    evaluation: Evaluation
    seconds: dict[str, float]
    folder: Path


@dataclass
class Clock:
    """Stopwatch of the stages."""

    say: Callable[[str], None]
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the body of the with statement."""
        self.say(name)
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 1)


def demonstrate(out: Path, seed: int = 0, say: Callable[[str], None] = print) -> Demonstration:
    """Run predictor, scorer, calibration, evaluation and masks for x4 super-resolution of 64-pixel tiles.

    out receives the triplets in data/, report.html, evaluation.json, masks/ and overlays/, and the runs
    predictor/ and masker/; stages that are done already are not repeated.

    Raises:
        OutputError: out cannot be written to, or something of the user's is in the way.
    """
    _refuse_unclaimed(out)
    clock = Clock(say)
    images = tiles_of_photographs(seed)
    with clock.stage("train the network"):
        predictor = fit_predictor(
            images.part("train"),
            images.part("selection"),
            task=task("super_resolution"),
            size=TILE,
            out=out / "predictor",
            training=TrainingConfig(epochs=EPOCHS, seed=seed, resume=True),
            width=WIDTH,
        )
    with clock.stage("run the network"):
        triplets = _triplets(images, predictor, out / "data")
        split = triplets.split()
    with clock.stage("train the scorer"):
        scorer = fit_scorer(
            split.train,
            selection=split.selection,
            out=out / "masker",
            threshold=THRESHOLD,
            training=TrainingConfig(epochs=SCORER_EPOCHS, seed=seed, resume=True),
        )
    with clock.stage("calibrate"):
        masker = calibrate(
            scorer, split.calibration, threshold=THRESHOLD, promise=Promise(confidence=CONFIDENCE)
        )
        masker.save(out / "masker")
    with clock.stage("evaluate"):
        evaluation = evaluate(masker, split.test)
        evaluation = replace(
            evaluation, examples=evaluation.examples + _whole_examples(masker, images, triplets)
        )
        evaluation.save(out)
    with clock.stage("write masks and report"):
        write_masks(masker, split.test.select(range(MASKS)), out, overwrite=True)
        write_report(evaluation, out / REPORT)
    return Demonstration(evaluation, clock.seconds, out)


def _refuse_unclaimed(out: Path) -> None:
    """Raise if something is in the way, before minutes of work."""
    refuse_unclaimed([out / REPORT, out / EVALUATION])
    refuse_unclaimed(places(out / "predictor", "training.json", "predictor.json"))
    refuse_unclaimed(places(out / "masker", "training.json", "scorer.json", "calibration.json"))
    MaskFolder(out).refuse_unclaimed()
    if not (out / "data" / PROVENANCE).exists():
        refuse_unclaimed([out / "data" / MANIFEST])
        for role in ROLES:
            refuse_unclaimed_in(out / "data" / role)
    refuse_unclaimed([out / "data" / PROVENANCE])


def tiles_of_photographs(seed: int = 0) -> TrueImages:
    """Return all tiles, each with its part."""
    tiles = TrueImages.from_arrays(packaged_photographs(), TILE, TILE, split="tile")
    return tiles.reassigned(FRACTIONS, seed)


def _triplets(images: TrueImages, predictor: NetworkPredictor, data: Path) -> Triplets:
    """Return triplets of all tiles and the network's outputs, kept in a folder."""
    if unfinished(data) or not (data / MANIFEST).exists():
        write_triplets(images, data, task=predictor.task, predictor=predictor, population=POPULATION)
    return Triplets.from_folder(data)


def _whole_examples(masker: Masker, images: TrueImages, triplets: Triplets) -> tuple[Example, ...]:
    tiles = list(zip(images.sources, triplets, strict=True))
    return tuple(
        _photograph_example(masker, name, [(source, t) for source, t in tiles if source.file == name])
        for name in WHOLE
    )


def _photograph_example(masker: Masker, name: str, tiles: list[tuple[Source, Triplet]]) -> Example:
    """Join all tiles of a photograph, and their masks, side by side; the promise is about the tiles."""
    masks = [masker(tile)[None] for _, tile in tiles]
    boxes = [source.box or (0, 0) for source, _ in tiles]
    x, y_hat, y = (_join([getattr(tile, role) for _, tile in tiles], boxes) for role in ("x", "y_hat", "y"))
    mask = _join(masks, boxes)
    loss = float(np.abs(mask * (y - y_hat)).mean())
    size = float(1 - mask.mean())
    return picture_of(Triplet(name, x, y_hat, y), mask, kind="whole", size=size, loss=loss, oracle_size=None)


def _join(tiles: list[np.ndarray], boxes: list[tuple[int, int]]) -> np.ndarray:
    """Join tiles (C, s, s) at their places, which are multiples of TILE."""
    scale = TILE // tiles[0].shape[-1]
    side = TILE // scale
    height, width = (max(box[axis] for box in boxes) // scale + side for axis in (0, 1))
    whole = np.zeros((len(tiles[0]), height, width), dtype=np.float32)
    for tile, (top, left) in zip(tiles, boxes, strict=True):
        whole[:, top // scale : top // scale + side, left // scale : left // scale + side] = tile
    return whole
