"""How often warnings about noisy references are missed or given without need.

    python research/repeats.py DATA

DATA has the folder fmd: acquisitions of twelve fields under a microscope, and the mean of 50 of each. Sets of
crops of one field, and of photographs with simulated noise, are spoilt in several ways. Prints how many sets
each warning of `conformask.extras.noise.checks` is about, by what was done to them; ten minutes.
"""

import argparse
import io
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import cycle
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.fft import dctn, idctn
from scipy.ndimage import gaussian_filter, shift as shifted
from skimage import restoration

from conformask.extras.make.demonstration import packaged_photographs
from conformask.extras.noise.checks import measure_reference, verdicts
from conformask.images.read import read_image
from conformask.records.record import Array

SIDES, CROPS = (64, 192), 8
Images = tuple[Array, Array, Array]
"""x and the repeats b and c."""
WARNINGS = {
    "input": "the network's input",
    "apart": "are apart",
    "in x": "x carries",
    "in y_hat": "y_hat carries noise",
    "all": "y_hat carries no more",
    "ends": "at an end of the range",
    "drift": "of the two repeats differs",
    "same": "are the same image",
    "far": "pixels more than",
    "refused": "",
}


def smoothed(image: Array, sigma: float) -> Array:
    """Return a Gaussian filter of an image (1, H, W)."""
    return np.asarray(gaussian_filter(image, (0, sigma, sigma)))


def noise_of(image: Array) -> float:
    """Return the standard deviation of second differences, divided by that of white noise."""
    return float(np.diff(np.diff(image, 2, 1), 2, 2).std()) / 6


def thresholded(image: Array) -> Array:
    """Denoise by thresholds on the frequencies of all blocks of 8 x 8 pixels, the first half of BM3D."""
    padded = np.pad(image[0], 8, mode="reflect")
    height, width = ((length - 8) // 8 * 8 for length in padded.shape)
    total = np.zeros_like(padded)
    for y, x in np.ndindex(8, 8):
        blocks = padded[y : y + height, x : x + width].reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2)
        waves = dctn(blocks, axes=(2, 3), norm="ortho")
        waves *= (np.abs(waves) > 2.7 * noise_of(image)) | (np.arange(64).reshape(8, 8) == 0)
        back = idctn(waves, axes=(2, 3), norm="ortho").swapaxes(1, 2).reshape(height, width)
        total[y : y + height, x : x + width] += back / 64
    return total[None, 8:-8, 8:-8].astype(np.float32)


def jpeg(image: Array, quality: int) -> Array:
    """Return an image as it is read from a JPEG."""
    file = io.BytesIO()
    Image.fromarray((255 * image[0]).round().astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), np.float32)[None] / 255


NETWORKS: dict[str, Callable[[Array], Array]] = {
    "identity": lambda x: x,
    "total variation": lambda x: restoration.denoise_tv_chambolle(x[0], weight=0.08)[None].astype(np.float32),
    "gaussian 0.7": lambda x: smoothed(x, 0.7),
    "gaussian 2": lambda x: smoothed(x, 2),
    "thresholds of 8 x 8": thresholded,
    "too dark": lambda x: 0.8 * smoothed(x, 1),
}


def spoilt(x: Array, b: Array, c: Array) -> Iterator[tuple[str, tuple[Array, ...], Array]]:
    """Yield what is done to an image, and x, b and c, or x and b, afterwards, and what y_hat is made of."""
    yield "nothing", (x, b, c), x
    yield "nothing, one repeat", (x, b), x
    yield "nothing, x and y_hat half as large", (x, b, c), halved(x)
    for share in (0.3, 1):
        moved = np.asarray(shifted(c, (0, share, 0), order=3, mode="nearest"), np.float32)
        yield f"c moved by {share:g} pixels", (x, b, moved), x
    full = (b + c) / 2
    yield "x and y_hat are of b and c", (full, b, c), full
    yield "y_hat is of b and c", (x, b, c), full
    yield "y_hat is of x, b and c", (x, b, c), (x + b + c) / 3
    yield "x and y_hat are of x, b and c", ((x + b + c) / 3, b, c), (x + b + c) / 3
    yield "y_hat is of b", (x, b, c), b
    yield "b is x, brightened", (x, 0.9 * x + 0.02, c), x
    yield "b is x, JPEG 90", (x, jpeg(x, 90), c), x
    yield "b is the mean of x and b", (x, (x + b) / 2, c), x
    yield "b is x, brightened, one repeat", (x, 0.9 * x + 0.02), x
    yield "b is x, JPEG 90, one repeat", (x, jpeg(x, 90)), x
    yield "c is 5 % darker", (x, b, 0.95 * c), x
    rows = np.random.default_rng(0).normal(0, 0.15 * (b - c).std(), (2, b.shape[1], 1))
    yield "rows share 4 % of the noise", (x, *((b, c) + rows[:, None]).astype(np.float32)), x


def halved(image: Array) -> Array:
    """Return the means of 2 x 2 pixels."""
    return np.asarray(image.reshape(1, image.shape[1] // 2, 2, -1, 2).mean(axis=(2, 4)))


def warned(triplets: list[tuple[tuple[Array, ...], Array]], network: Callable[[Array], Array]) -> set[str]:
    """Return the keys of the warnings about a set."""
    measures = {}
    for place, ((x, b, *second), source) in enumerate(triplets):
        y_hat = network(source)
        if source.shape != b.shape:  # an enlarger
            x, y_hat = source, np.repeat(np.repeat(y_hat, 2, axis=1), 2, axis=2)
        measures[str(place)] = measure_reference(b, x, y_hat, *second)
    said = list(verdicts(measures))
    keys = {key for key, words in WARNINGS.items() if words and any(words in text for text, _ in said)}
    return keys | {"refused" for _, breaks in said if breaks}


def fields(data: Path) -> Iterator[tuple[str, Images]]:
    """Yield x, b and c of each real field, and of photographs with simulated noise."""
    for first in sorted((data / "fmd").glob("*_noisy1.png")):
        kind = first.name.removesuffix("_noisy1.png")
        x, b, c = (read_image(path) for path in sorted(first.parent.glob(f"{kind}_noisy*.png"))[:3])
        yield "wide-field" if kind.startswith("widefield") else "scanned", (x, b, c)
    generator = np.random.default_rng(0)
    for pixels in list(packaged_photographs().values())[::2]:
        y = 0.1 + 0.7 * pixels[None, ..., 1] / 255
        for sigma in (0.01, 0.03, 0.1):
            x, b, c = (
                (y + generator.normal(0, sigma, y.shape)).clip(0, 1).astype(np.float32) for _ in range(3)
            )
            yield f"simulated {sigma}", (x, b, c)


def crops(images: Images, side: int, generator: np.random.Generator) -> Iterator[Images]:
    """Yield the same crops of all three."""
    for _ in range(CROPS):
        top, left = (int(generator.integers(length - side + 1)) for length in images[0].shape[1:])
        x, b, c = (image[:, top : top + side, left : left + side] for image in images)
        yield x, b, c


def table(counts: Mapping[tuple[str, str], list[set[str]]]) -> Iterator[str]:
    """Yield, for each kind of images and what was done to them, the shares of sets by warning."""
    for (kind, done), sets in counts.items():
        shares = (np.mean([key in warnings for warnings in sets]) for key in WARNINGS)
        yield f"{kind:15}{done:34}{len(sets):4}" + "".join(f"{share:11.0%}" for share in shares)


def main() -> None:
    """Measure all sets, and print a table for each size of crops."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    for side in SIDES:
        generator, counts = np.random.default_rng(0), defaultdict(list)
        for (kind, images), network in zip(fields(data), cycle(NETWORKS.values()), strict=False):
            by_fault = defaultdict(list)
            for crop in crops(images, side, generator):
                for done, *triplet in spoilt(*crop):
                    by_fault[done].append(triplet)
            for done, triplets in by_fault.items():
                counts[kind, done].append(warned(triplets, network))
        print(f"crops of {side} pixels")
        print(f"{'images':15}{'what was done':34}sets" + "".join(f"{key:>11}" for key in WARNINGS))
        print("\n".join(table(dict(sorted(counts.items())))), flush=True)


if __name__ == "__main__":
    main()
