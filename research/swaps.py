"""From which share of the images a swap of two folders should be asked about, `conformask.images.scan`.

    python research/swaps.py DATA

DATA has the folders fmd, polyu and oct, pairs of an image and a better one of the same field, and photos,
cells and nuclei, which are degraded here. Six simple predictors restore crops of 128 pixels; a seventh puts
other detail in the place of the true one. Prints how often each bound asks without need, and how many swaps
it finds; a minute.
"""

import argparse
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import filters, restoration, transform
from skimage.io import imread

from conformask.arrays import Triplet
from conformask.images.scan import RoleDistances, role_distances
from conformask.records.record import Array

SIDE, CROPS = 128, 40
HELPFUL = 0.8
"""Share of the images that a predictor brings nearer to the truth, from which it is counted."""
BOUNDS = (0.8, 0.85, 0.9, 0.95, 1.0)
INVENTS = "invents"
REAL = {
    "fmd": ("_noisy1.png", "_clean.png"),
    "polyu": ("_noisy.jpg", "_clean.jpg"),
    "oct": ("_near1.png", "_clean.png"),
}
TRUE = {"photos": 30, "cells": 1, "nuclei": 10}
"""Folders of true images, and the step at which files are taken."""
Pair = tuple[Array, Array]


@dataclass(frozen=True)
class Case:
    """A predictor on a set of images."""

    predictor: str
    helps: float
    shares: dict[str, tuple[float, float]]
    """By what was swapped, the shares of images that say x and y_hat, and y and y_hat."""


def grey(path: Path) -> Array:
    """Read an image as grey values in [0, 1]."""
    image = imread(path)
    unit = image[..., :3].mean(axis=-1) if image.ndim == 3 else image.astype(float)
    return np.asarray(unit / np.iinfo(image.dtype).max)


def crops(
    images: tuple[Array, ...], count: int, generator: np.random.Generator
) -> Iterator[tuple[Array, ...]]:
    """Yield the same crops of images of one size."""
    height, width = images[0].shape
    for _ in range(count if min(height, width) >= SIDE else 0):
        top, left = generator.integers(height - SIDE + 1), generator.integers(width - SIDE + 1)
        yield tuple(image[top : top + SIDE, left : left + SIDE] for image in images)


def sets(data: Path) -> Iterator[list[Pair]]:
    """Yield sets of x and y."""
    generator = np.random.default_rng(0)
    for folder, (ending, better) in REAL.items():
        files = sorted((data / folder).glob(f"*{ending}"))[:20]
        each = max(2, 48 // len(files))
        fields = [(grey(file), grey(file.with_name(file.name.replace(ending, better)))) for file in files]
        yield [crop for field in fields for crop in crops(field, each, generator)]
    for folder, step in TRUE.items():
        files = sorted((data / folder).iterdir())[::step]
        truths = [crop for file in files for (crop,) in crops((grey(file),), 2, generator)]
        truths = [truth for truth in truths if truth.std() > 0.01][:CROPS]
        for sigma in (0.02, 0.05, 0.1, 0.2):
            yield [((y + sigma * generator.standard_normal(y.shape)).clip(0, 1), y) for y in truths]
        yield [(filters.gaussian(y, 1.5), y) for y in truths]
        yield [(compressed(y), y) for y in truths]
        yield [(enlarged(y), y) for y in truths]


def compressed(y: Array) -> Array:
    """Return the image as a JPEG of low quality shows it."""
    file = io.BytesIO()
    Image.fromarray(np.rint(255 * y).astype(np.uint8)).save(file, "JPEG", quality=20)
    return np.asarray(Image.open(file)) / 255


def enlarged(y: Array) -> Array:
    """Return the image with a quarter of the resolution, at its own size."""
    small = transform.resize(y, (SIDE // 4, SIDE // 4), anti_aliasing=True)
    return np.asarray(transform.resize(small, y.shape, order=0))


def denoised(x: Array) -> Array:
    """Return non-local means, as strong as the differences of neighbours suggest."""
    noise = float(np.median(np.abs(np.diff(x)))) / 0.95
    return np.asarray(restoration.denoise_nl_means(x, 5, 6, h=0.8 * max(noise, 0.005), fast_mode=True))


PREDICTORS: dict[str, Callable[[Array, Array], Array]] = {
    "gaussian 1": lambda x, y: filters.gaussian(x, 1),
    "gaussian 2": lambda x, y: filters.gaussian(x, 2),
    "total variation": lambda x, y: restoration.denoise_tv_chambolle(x, 0.05),
    "non-local means": lambda x, y: denoised(x),
    "unsharp mask": lambda x, y: filters.unsharp_mask(x, 1.5, 1.5, preserve_range=True).clip(0, 1),
    "a good network": lambda x, y: y + 0.15 * (x - y) + 0.5 * (filters.gaussian(y, 1) - y),
    INVENTS: lambda x, y: filters.gaussian(y, 2) + np.roll(y - filters.gaussian(y, 2), (7, 7), (0, 1)),
}
ORDERS = {"nothing": (0, 1, 2), "x and y_hat": (1, 0, 2), "y and y_hat": (0, 2, 1)}
"""By what was swapped, which of x, y_hat and y stand in the places of these."""


def case(name: str, pairs: list[Pair]) -> Case:
    """Measure a predictor on a set."""
    predict = PREDICTORS[name]
    triples = [(x, np.asarray(predict(x, y)), y) for x, y in pairs]
    measured = {
        swapped: np.array([distances(*(triple[place] for place in order)) for triple in triples])
        for swapped, order in ORDERS.items()
    }
    shares = {
        swapped: (float(np.mean(to_y < error)), float(np.mean(to_y < to_y_hat)))
        for swapped, (to_y_hat, to_y, error) in ((key, values.T) for key, values in measured.items())
    }
    return Case(name, float(np.mean(measured["nothing"][:, 2] < measured["nothing"][:, 1])), shares)


def distances(x: Array, y_hat: Array, y: Array) -> RoleDistances:
    """Return what conformask measures of a triplet."""
    measured = role_distances(Triplet("", *(image[None].astype(np.float32) for image in (x, y_hat, y))))
    assert measured is not None
    return measured


def asked(case: Case, swapped: str, bound: float) -> str:
    """Return which swap is asked about at a bound."""
    of_x, of_y = case.shares[swapped]
    return "x and y_hat" if of_x >= bound else "y and y_hat" if of_y >= bound else "nothing"


def table(cases: list[Case]) -> Iterator[str]:
    """Yield, for each bound, the shares of cases with needless questions and with swaps that are found."""
    for bound in BOUNDS:
        needless = [asked(each, "nothing", bound) for each in cases]
        shares = [
            np.mean([answer == swap for answer in needless]) for swap in ("x and y_hat", "y and y_hat")
        ] + [
            np.mean([asked(each, swap, bound) == swap for each in cases])
            for swap in ("x and y_hat", "y and y_hat")
        ]
        yield f"{bound:5.2f}" + "".join(f"{share:12.1%}" for share in shares)


def main() -> None:
    """Measure all cases, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    of_sets = list(sets(parser.parse_args().data))
    cases = [case(name, pairs) for pairs in of_sets for name in PREDICTORS]
    helpful = [each for each in cases if each.helps >= HELPFUL]
    honest = [each for each in helpful if each.predictor != INVENTS]
    sizes = [len(pairs) for pairs in of_sets]
    print(f"{len(of_sets)} sets of {min(sizes)} to {max(sizes)} crops")
    for title, chosen in (("restores", honest), (INVENTS, [each for each in helpful if each not in honest])):
        print(f"{len(chosen)} cases of a predictor that {title} and helps in {HELPFUL:.0%} of the images")
        print("bound  needless: x,y_hat  y,y_hat   found: x,y_hat  y,y_hat")
        print("\n".join(table(chosen)))


if __name__ == "__main__":
    main()
