"""Whoever takes new images asks the same questions of them: a table of callers and questions.

Every caller says the same of images that a promise may not be about, or stands with its reason in NOT_ASKED.
"""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

import conformask as cm
from conformask.extras.export.onnx import load_predictor, metadata
from conformask.extras.view.session import Session
from conformask.extras.view.share import shared_case
from conformask.images.rows import Provenance
from conformask.masker.admission import outliers_text
from conformask.records.reading import Network
from conformask.records.words import clipped_text, measurement_text

SIDE = 24
LENGTH = {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}


def saved(folder, count, seed, stored=lambda image: image, step=1, side=SIDE, axes="YX"):
    """Smooth scenes of 8 bits with noise, and their mean over three rows, in pixels of `step` micrometres."""
    generator = np.random.default_rng(seed)
    waves = np.sin(np.arange(side) / 4 + generator.uniform(0, 6, (count, side, 1)))
    y = generator.lognormal(-1.5, 0.3, (count, 1, 1)) * (1 + 0.5 * waves)
    x = y + 0.08 * generator.standard_normal((count, side, side))
    y_hat = (x + np.roll(x, 1, axis=1) + np.roll(x, -1, axis=1)) / 3
    facts = {"axes": axes, "PhysicalSizeX": step, "PhysicalSizeY": step, **LENGTH}
    for role, images in (("x", x), ("y_hat", y_hat), ("y", y * np.ones_like(x))):
        (folder / role).mkdir(parents=True)
        for index, image in enumerate(images):
            pixels = stored(np.rint(255 * image.clip(0, 1)).astype(np.uint8))
            tifffile.imwrite(folder / role / f"{seed}-{index}.ome.tif", pixels, metadata=facts)
    return folder


@dataclass(frozen=True)
class Asked:
    """A masker, and new images in a folder that it may not be about."""

    masker: cm.Masker
    folder: Path
    network: str | None = "A"

    @property
    def images(self):
        return cm.Triplets.from_folder(self.folder, reading=self.masker.card.reading, network=self.network)

    @property
    def arrays(self):
        """x and y_hat of the first, as the files store them."""
        return [tifffile.imread(self.images.file(0, role)) for role in ("x", "y_hat")]


def calibrated(folder, promise="marginal", reading=None, groups=lambda images: images, **more):
    images = cm.Triplets.from_folder(saved(folder, 60, 0, **more), reading=reading, network="A")
    scorer = cm.Heuristic(cm.residual, channels=1)
    return cm.calibrate(scorer, groups(images), threshold=0.03, loss="l1", promise=promise)


@pytest.fixture(scope="module")
def masker(tmp_path_factory):
    return calibrated(tmp_path_factory.mktemp("masker") / "known")


def other_maps(masker, folder):
    asked = Asked(
        replace(masker, card=replace(masker.card, cues_made="samples,8")), saved(folder, 2, 1), None
    )
    Provenance(network=Network("A"), cues="samples,4").save(asked.folder)
    return asked


def other_channels(masker, folder):
    return Asked(masker, saved(folder, 2, 1, lambda image: np.stack([image] * 3, axis=-1), axes="YXS"))


def volumes(masker, folder):
    return Asked(masker, saved(folder, 2, 1, lambda image: np.stack([image] * 20), axes="ZYX"))


def clipped(masker, folder):
    """A sixth of the values of the new images lies above the stated range."""

    def bright(image):
        return np.where(np.arange(SIDE) < 4, 250, image).astype(np.uint8)

    reading = cm.Reading((0, 200), x_range=(0, 200), clip="all")
    return Asked(calibrated(folder / "known", reading=reading), saved(folder / "new", 2, 1, bright))


def without_groups(masker, folder):
    promise = cm.Promise(unit="group")
    of_groups = calibrated(folder / "known", promise, groups=lambda images: images.grouped(r"^\d-(\d+)"))
    return Asked(of_groups, saved(folder / "new", 2, 1))


def not_a_number(masker, folder):
    def holed(image):
        return np.where(np.eye(SIDE), np.nan, image / np.float32(255)).astype(np.float32)

    return Asked(masker, saved(folder, 2, 1, holed))


def seen_before(masker, folder):
    return Asked(masker, saved(folder, 60, 0))


QUESTIONS: dict[str, tuple[Callable[[cm.Masker, Path], Asked], str]] = {
    "maps": (
        other_maps,
        "the promise is about maps made by --cues samples,8, but these were made by samples,4",
    ),
    "network": (lambda m, at: Asked(m, saved(at, 2, 1), "B"), "about outputs of A, but these were made by B"),
    "unknown network": (
        lambda m, at: Asked(m, saved(at, 2, 1), None),
        "about outputs of A.* which network made",
    ),
    "spacing": (
        lambda m, at: Asked(m, saved(at, 2, 1, step=5)),
        "a spacing of 5 x 5 µm: the promise was calibrated on 1 x 1 µm",
    ),
    "size": (
        lambda m, at: Asked(m, saved(at, 2, 1, side=40)),
        "40 x 40( pixels: the promise covers only|, is not among those of the calibration)",
    ),
    "channels": (other_channels, "this masker takes y_hat with 1 channel, not 3"),
    "volumes": (volumes, "the promise is about planes"),
    "stored range": (
        lambda m, at: Asked(m, saved(at, 2, 1, lambda image: 257 * image.astype(np.uint16))),
        "y_hat with values from 0 to 65535: the promise was calibrated on 0 to 255|contains uint16, but",
    ),
    "outlier": (
        lambda m, at: Asked(m, saved(at, 2, 1, lambda image: image // 40)),
        "far outside of the calibration images|unlike the calibration images",
    ),
    "clipped": (clipped, r"16\.7.% of the values lay outside the range and were clipped"),
    "groups": (without_groups, "each of the 2 images is one by itself"),
    "NaN": (not_a_number, "NaN"),
    "seen": (seen_before, "used for training, selection or calibration|or calibration has seen them"),
}


def call(asked):
    return asked.masker(*asked.arrays)


def tensors(asked):
    """x and y_hat of the first, (C, *space), in [0, 1] or in the range that was stated."""
    highest = {"uint8": 255, "uint16": 65535}
    for image in asked.arrays:
        scale = 1 if asked.masker.card.read.data_range else highest.get(image.dtype.name, 1)
        channels = np.moveaxis(image, -1, 0) if image.shape[-1] == 3 else image[None]
        yield torch.from_numpy(channels / np.float32(scale))


def call_with_tensors(asked):
    return asked.masker(*(image[None] for image in tensors(asked)))


def call_with_a_triplet(asked):
    return asked.masker(asked.images[0])


def show(asked):
    return cm.show(asked.masker, asked.images[0])


def mask(asked):
    """What the command line prints beside the warnings."""
    card, out = asked.masker.card, asked.folder.parent / "masks"
    written = cm.write_masks(asked.masker, asked.images, out)
    measured = measurement_text(card, written.measurement, written.caveat, written.n_used)
    outliers = outliers_text(written.outliers, len(written.sizes)) if written.outliers else None
    return [measured, outliers, clipped_text(written.clipped, card.clipped)]


def release(asked):
    images = cm.release(asked.masker, asked.images, share=0.1).images
    return [reason for image in images for reason in image.reasons]


def evaluate(asked):
    return cm.evaluate(asked.masker, asked.images).coverage


def monitor(asked):
    found = cm.monitor(asked.masker, asked.images)
    return measurement_text(asked.masker.card, found.measurement, found.caveat, found.n_used)


def stream(asked):
    return cm.StreamMonitor(asked.masker).add(asked.images).n_new


def online(asked):
    return cm.OnlineMasker(asked.masker).mask("a", *asked.arrays)


def viewer(asked):
    session = Session(asked.masker, asked.images)
    assert list(session.look_through())
    errors = [entry.error for entry in session.entries() if entry.error is not None]
    return errors or session.notes(asked.images.names[0])


def share(asked):
    return [note for image in shared_case(asked.masker, asked.images, 2).images for note in image.notes]


def spacing(asked):
    geometry = asked.images.geometry(0)
    return (1.0,) * (asked.arrays[0].ndim) if geometry is None else geometry.spacing


def masked(asked):
    dask = pytest.importorskip("dask.array")
    return cm.masked(asked.masker, *map(dask.from_array, asked.arrays)).compute()


def napari(asked):
    """Layers as napari opens them; what the widget shows is in the tests of the widget."""
    layer = pytest.importorskip("napari.layers").Image
    from conformask.extras.napari.layers import images_of, score_images

    where = {"scale": spacing(asked), "units": ("µm", "µm")}
    colours = {"rgb": asked.arrays[0].shape[-1] == 3}
    x, y_hat = (layer(image, **(where if image.ndim == 2 else colours)) for image in asked.arrays)
    scoring = score_images(asked.masker, images_of(asked.masker, x, y_hat, None))
    while True:
        try:
            next(scoring)
        except StopIteration as done:
            image, *_ = done.value
            return [*image.admission.notes, image.admission.caveat]


def monai(asked):
    data = pytest.importorskip("monai.data")
    from conformask.extras.make.monai_transform import ConformalMaskd

    affine = torch.diag(torch.tensor([*spacing(asked), 1.0]))
    meta = {"original_affine": affine}
    x, y_hat = tensors(asked)
    images = {"x": x, "y_hat": data.MetaTensor(y_hat, affine=affine, meta=meta)}
    return ConformalMaskd(asked.masker, reversed_axes=False)(images)


def exported(asked):
    """The text beside an exported graph whose predictor is called as the images say."""
    from onnx_predictors import blurring

    file = blurring(asked.folder.parent / "predictor.onnx", channels=1, gain=1)
    _, caveat = load_predictor(asked.masker, file, asked.network, any_network=False)
    return metadata(asked.masker, caveat)


CALLERS: dict[str, Callable[[Asked], object]] = {
    each.__name__: each
    for each in (
        call, call_with_tensors, call_with_a_triplet, show, mask, release, evaluate, monitor, stream, online,
        viewer, share, masked, napari, monai, exported,
    )
}  # fmt: skip
SINGLE = ("call", "call_with_tensors", "call_with_a_triplet", "show", "online", "masked", "monai")
ARRAYS = ("call", "call_with_tensors", "online", "masked")
NO_HEADER = "an array states nothing but its pixels"
ONE = "one image has no groups"
MEASURED = "the truth of these images is measured, or their shift is: each counts as it is"
NOT_ASKED = {
    **dict.fromkeys(
        product((*ARRAYS, "call_with_a_triplet", "show", "monai", "napari"), ("maps", "network")), NO_HEADER
    ),
    **dict.fromkeys(
        product((*ARRAYS, "call_with_a_triplet", "show", "monai"), ("unknown network",)),
        "a call that is repeated for each image would repeat it, too",
    ),
    **dict.fromkeys(product(ARRAYS, ("spacing",)), NO_HEADER),
    **dict.fromkeys(product((*SINGLE, "napari"), ("groups", "seen")), ONE),
    **dict.fromkeys(
        product(("call_with_tensors", "call_with_a_triplet", "show", "monai"), ("stored range",)),
        "their values were scaled before they came here",
    ),
    **dict.fromkeys(product(("evaluate", "monitor", "stream"), ("outlier",)), MEASURED),
    ("napari", "volumes"): "a layer with more axes is a stack of planes",
    ("stream", "seen"): "they enter as any other, and are not judged",
    **dict.fromkeys(product(("masked",), ("outlier", "clipped")), "its pixels are read later, by workers"),
    **dict.fromkeys(
        product(("exported",), QUESTIONS.keys() - {"network"}),
        "images come later: the graph refuses their channels and values, and the file tells limits of means",
    ),
}


def said(caller, asked):
    """All that a caller says: warnings, its error, and what it shows or prints."""
    with warnings.catch_warnings(record=True, action="always") as caught:
        try:
            answer = caller(asked)
        except cm.ConformaskError as error:
            answer = error
    texts = answer if isinstance(answer, list) else [answer]
    return " ".join(map(str, [*texts, *(warning.message for warning in caught)]))


@pytest.fixture(scope="module")
def asked(masker, tmp_path_factory):
    """The images of a question, made once for all callers."""

    @cache
    def made(question):
        make, _ = QUESTIONS[question]
        return make(masker, tmp_path_factory.mktemp("asked") / "data")

    return made


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("caller", CALLERS)
def test_each_caller_asks_each_question(caller, question, asked):
    words = QUESTIONS[question][1]
    answer = said(CALLERS[caller], asked(question))
    assert (re.search(words, answer) is None) == ((caller, question) in NOT_ASKED), answer


@pytest.mark.parametrize("caller", CALLERS)
def test_of_images_like_those_of_the_calibration_nothing_is_said(caller, masker, tmp_path):
    answer = said(CALLERS[caller], Asked(masker, saved(tmp_path / "new", 2, 1)))
    alike = [question for question, (_, words) in QUESTIONS.items() if re.search(words, answer)]
    assert alike in ([], ["unknown network"]), answer  # which nobody states beside a layer of napari


def test_nobody_but_the_admission_asks_the_card():
    """Where arrays are read, their axes say whether they are volumes."""
    home = Path(cm.__file__).parent
    asked = re.compile(r"\.(check_(shape|cues|network)|not_covered|other_(spacing|range)|unknown_network)\b")
    texts = {str(path.relative_to(home)): path.read_text("utf-8") for path in home.rglob("*.py")}
    files = {name for name, text in texts.items() if asked.search(text)}
    assert files == {f"masker/{name}.py" for name in ("admission", "arguments")}
