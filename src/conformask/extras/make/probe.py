"""A blank test of a network: what it makes of flat fields, noise, its own output and shifted inputs.

No truth is needed: a flat field has no structure, noise no blotches, and a picture moved by a pixel is the
same picture. What the network adds there it may add anywhere. The test is cheap, and promises nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, label
from torch import Tensor
from torch.nn.functional import avg_pool2d

from conformask.arrays import Array, Predictor
from conformask.background import tracked
from conformask.errors import ConformaskError, ImageError, InvalidArgumentError, one_line
from conformask.extras.make.predictors import CustomPredictor, custom_predictor
from conformask.extras.make.triplets import check_output, outputs_of
from conformask.extras.view.page import Strip, StripRow
from conformask.images.pictures import in_colors
from conformask.images.read import list_images, name_and_suffix, read_image
from conformask.records.fingerprints import name_of
from conformask.records.reading import PLAIN, Reading, size_text
from conformask.records.record import Json

LEVELS = (0.25, 0.5, 0.75)
"""Values of the flat fields."""
NOISE, SPARE = 0.1, 3
"""Standard deviation of the white noise around one half, and how many more of its draws than channels."""
SHIFTS = 4
"""Largest shift, in pixels of x along both axes."""
SIDE, GRAIN, MOST_IMAGES = 128, 32, 3
"""Largest side of an input, of which all are multiples of GRAIN, and the number of images that are used."""
VISIBLE = 0.02
"""Difference from the mean, as a share of the range, from which on a structure is visible: 5 of 255."""
NEGLIGIBLE = 1e-4
"""Standard deviation of an output below which it is not asked of what it consists."""
COARSE = 8
"""Period in pixels from which on a structure is coarse."""
CONTRAST = 10
"""Factor by which differences are enlarged in pictures."""
FACTS = {
    "deviation": ("standard deviation", "{:.4f}"),
    "offset": ("mean minus that of the input", "{:+.4f}"),
    "patch": ("largest visible patch, pixels", "{:.0f}"),
    "deviation_of_input": ("standard deviation of the input", "{:.4f}"),
    "unexplained": ("share of variance that no filter of the input makes", "{:.3f}"),
    "coarse": (f"share of variance coarser than {COARSE} pixels", "{:.3f}"),
    "coarse_of_input": ("the same of the input", "{:.3f}"),
    "change": ("mean change", "{:.4f}"),
    "consistency": ("mean difference from the input", "{:.4f}"),
    **{f"shift_{step}": (f"mean difference at {step} px", "{:.4f}") for step in range(1, SHIFTS + 1)},
}
"""Labels and formats of the numbers: of values as shares of their range, and shares of the variance."""


@dataclass(frozen=True)
class ProbeRow:
    """One test: its numbers and its pictures."""

    test: str
    numbers: Mapping[str, float]
    """Numbers by the names of FACTS."""
    pictures: Mapping[str, Array]
    """Pictures by label, uint8 (H, W) or (H, W, 3)."""

    @property
    def facts(self) -> list[tuple[str, str]]:
        """The labels and values of the numbers."""
        return [(FACTS[name][0], FACTS[name][1].format(value)) for name, value in self.numbers.items()]


@dataclass(frozen=True)
class Probe:
    """The result of probe(): a notebook displays it, save() writes it."""

    network: str
    fingerprint: str | None
    rows: tuple[ProbeRow, ...]

    @property
    def sentence(self) -> str:
        """What the numbers are, and that they promise nothing."""
        return (
            f"Blank test of {self.network}: what it adds of its own, as shares of the range of values. No "
            "truth is used, and nothing is promised for any image."
        )

    @property
    def strip(self) -> Strip:
        """The pictures with their numbers."""
        facts = [(row.test, *map(": ".join, row.facts)) for row in self.rows]
        rows = [StripRow(row.pictures, texts, None) for row, texts in zip(self.rows, facts, strict=True)]
        return Strip(self.sentence, tuple(rows))

    def _repr_html_(self) -> str:
        return self.strip._repr_html_()

    def save(self, path: Path | str) -> Path:
        """Write a .png or a self-contained .html, and return its path.

        Raises:
            InvalidArgumentError: another suffix.
            OutputError: the file is not conformask's, or cannot be written.
        """
        return self.strip.save(path)

    def to_json(self) -> dict[str, Json]:
        """Return everything but the pictures."""
        tests = {row.test: dict(row.numbers) for row in self.rows}
        return {"network": self.network, "fingerprint": self.fingerprint, "tests": tests}


def probe(
    predictor: str | Predictor | Callable[[Tensor], Tensor],
    images: Path | str | None = None,
    *,
    reading: Reading = PLAIN,
) -> Probe:
    """Run a network on flat fields and noise, and on its own outputs and shifted copies of images.

    Structure in the outermost eighth of an output, along each side, is not counted.

    Args:
        predictor: what `conformask triplets --predictor` takes, or a callable of tensors (N, C, H, W) in
            [0, 1] that returns (N, C', sH, sW) in [0, 1], s a whole number.
        images: a folder of inputs, or of x/ with them, of which the middles of the first three are used; a
            smooth texture if None.
        reading: how they are read.

    Raises:
        ImageError: the network failed, or returned NaN, values far outside [0, 1] or another size.
        MissingFileError: there is no such network or image.
        InvalidArgumentError: it takes neither 3 nor 1 channels where no images are given; or images that are
            volumes, or smaller than 36 pixels.

    Examples:
        >>> import conformask as cm
        >>> cm.probe(lambda x: x).rows[0].numbers["deviation"]
        0.0
    """
    if isinstance(predictor, str):
        network: Predictor = custom_predictor(predictor)
    elif isinstance(predictor, Predictor):
        network = predictor
    else:
        run = predictor.eval() if isinstance(predictor, torch.nn.Module) else predictor
        network = CustomPredictor(run, name_of(run), "")
    inputs = {} if images is None else _middles(Path(images), reading)
    channels = len(next(iter(inputs.values()))) if inputs else _channels(network)
    if not inputs:  # smoothed white noise, the same in all channels
        smooth = gaussian_filter(np.random.default_rng(0).normal(size=(SIDE + SHIFTS, SIDE + SHIFTS)), 3)
        texture = (0.5 + 0.15 * smooth / smooth.std()).clip(0, 1).astype(np.float32)
        inputs = {"a smooth texture": np.broadcast_to(texture, (channels, *texture.shape))}
    side = next(iter(inputs.values())).shape[-1] - SHIFTS
    tests: list[Callable[[], ProbeRow | None]] = [
        *(partial(_flat, network, channels, side, level) for level in LEVELS),
        partial(_noise, network, channels, side),
        *(partial(test, network, *named) for named in inputs.items() for test in (_own_output, _shifted)),
    ]
    rows = [test() for test in tracked(tests, "blank test", len(tests))]
    return Probe(network.name, network.fingerprint or None, tuple(row for row in rows if row is not None))


def _middles(folder: Path, reading: Reading) -> dict[str, Array]:
    """Return squares (C, side + SHIFTS, side + SHIFTS) from the middle of the first images, of one side."""
    folder = folder / "x" if (folder / "x").is_dir() else folder
    paths = list_images(folder)[:MOST_IMAGES]
    images = {name_and_suffix(path)[0]: read_image(path, reading.of("x")) for path in paths}
    shortest = min(min(image.shape[1:]) for image in images.values())
    side = min(SIDE, (shortest - SHIFTS) // GRAIN * GRAIN)
    if side <= 0 or any(image.ndim != 3 for image in images.values()):
        raise InvalidArgumentError(
            f"{folder}: the blank test takes planes with sides of at least {GRAIN + SHIFTS} pixels, but "
            f"these have {', '.join(size_text(image.shape[1:]) for image in images.values())}"
        )
    return {name: _middle(image, side + SHIFTS) for name, image in images.items()}


def _middle(image: Array, side: int) -> Array:
    top, left = ((length - side) // 2 for length in image.shape[-2:])
    return image[..., top : top + side, left : left + side]


def _channels(network: Predictor) -> int:
    """Return 3, or 1 where the network fails on 3 channels."""
    failures = {}
    for channels in (3, 1):
        try:
            _run(network, np.full((channels, GRAIN, GRAIN), 0.5, np.float32), "a flat field")
            return channels
        except ConformaskError as error:
            failures[channels] = one_line(error)
    raise InvalidArgumentError(
        f"{network.name} takes neither squares of {GRAIN} pixels with 3 channels ({failures[3]}) nor with 1 "
        f"({failures[1]}): give a folder of its inputs, --images (images=)"
    )


def _run(network: Predictor, x: Array, name: str) -> Array:
    """Return the output (C', sH, sW) of one input (C, H, W)."""
    (((output,), _),) = outputs_of(network, {name: torch.from_numpy(np.ascontiguousarray(x))[None]})
    size, side = tuple(output.shape[1:]), x.shape[-1]
    if size != (size[0], size[0]) or size[0] % side:
        raise ImageError(
            f"{name}: the predictor made {size_text(size)} of {side} x {side} pixels, but the blank test "
            "needs the same size, or a whole number of times as many along each side"
        )
    check_output(name, output, output.shape)
    return output.numpy()


def _inside(image: Array) -> Array:
    """Return an image without the outermost eighth along each side."""
    return _middle(image, image.shape[-1] - 2 * (image.shape[-1] // 8))


def _reduced(output: Array, side: int) -> Array:
    """Return block means of an output with the side of the input."""
    means: Array = avg_pool2d(torch.from_numpy(output)[None], output.shape[-1] // side)[0].numpy()
    return means


def _flat(network: Predictor, channels: int, side: int, level: float) -> ProbeRow:
    name = f"flat field {level:g}"
    x = np.full((channels, side, side), level, np.float32)
    output = _run(network, x, name)
    inside = _inside(output)
    structure = _without_mean(inside)
    parts, _ = label(abs(structure.mean(axis=0)) > VISIBLE)
    numbers = {
        "deviation": float(structure.std()),
        "offset": float(inside.mean()) - level,
        "patch": float(np.bincount(parts.ravel())[1:].max(initial=0)),
    }
    return ProbeRow(name, numbers, _pictures(x, output, "structure", _without_mean(output)))


def _without_mean(image: Array) -> Array:
    """Return an image minus the mean of each channel."""
    return np.asarray(image - image.mean(axis=(1, 2), keepdims=True))


def _pictures(
    x: Array, output: Array, what: str, difference: Array, again: Array | None = None
) -> dict[str, Array]:
    """Return pictures by label; differences are enlarged around grey."""
    images = {"input": x, "output": output} | ({} if again is None else {"output of the output": again})
    images[f"{what} x {CONTRAST}"] = 0.5 + CONTRAST * difference
    return {name: in_colors(image.clip(0, 1)) for name, image in images.items()}


def _noise(network: Predictor, channels: int, side: int) -> ProbeRow:
    """Compare outputs of white noise with the best linear filters of its channels.

    White noise has equal parts of all periods; what no filters of the input make, and what is coarser than
    the input, the network adds.
    """
    name = f"white noise of {NOISE:g}"
    noise = np.random.default_rng(0).normal(0.5, NOISE, (channels + SPARE, channels, side, side)).clip(0, 1)
    inputs = noise.astype(np.float32)
    outputs = [_run(network, x, name) for x in inputs]
    of_inputs = np.stack([_spectrum(x) for x in inputs])
    of_outputs = np.stack([_spectrum(_reduced(output, side)) for output in outputs])
    named = ("deviation", outputs), ("deviation_of_input", inputs)
    numbers = {what: float(np.mean([_inside(image).std() for image in images])) for what, images in named}
    if numbers["deviation"] > NEGLIGIBLE:
        numbers |= {
            "unexplained": _unexplained_share(of_inputs, of_outputs),
            "coarse": _coarse_share(of_outputs),
            "coarse_of_input": _coarse_share(of_inputs),
        }
    pictures = _pictures(inputs[0], outputs[0], "structure", _without_mean(outputs[0]))
    return ProbeRow(name, numbers, pictures)


def _spectrum(image: Array) -> Array:
    """Return the Fourier transforms of the channels of an image, of its inside, faded out at the borders."""
    inside = _without_mean(_inside(image))
    window = np.hanning(inside.shape[-1] + 2)[1:-1]
    return np.fft.fft2(inside * np.outer(window, window))


def _unexplained_share(of_inputs: Array, of_outputs: Array) -> float:
    """Return the share of the power of outputs (n, C', k, k) that no filters of all input channels make."""
    draws, channels = of_inputs.shape[:2]
    inputs, outputs = (
        np.moveaxis(each.reshape(*each.shape[:2], -1), 2, 0) for each in (of_inputs, of_outputs)
    )
    basis, _ = np.linalg.qr(inputs)  # of each frequency by itself
    left = outputs - basis @ (basis.conj().swapaxes(1, 2) @ outputs)
    # the filters fit as many draws exactly as there are channels
    share = (abs(left) ** 2).sum() / (abs(outputs) ** 2).sum() * draws / (draws - channels)
    return min(float(share), 1.0)


def _coarse_share(spectra: Array) -> float:
    """Return the share of the power with periods above COARSE pixels."""
    frequencies = np.fft.fftfreq(spectra.shape[-1])
    is_coarse = np.hypot(*np.meshgrid(frequencies, frequencies)) < 1 / COARSE
    power = abs(spectra) ** 2
    return float(power[..., is_coarse].sum() / power.sum())


def _own_output(network: Predictor, name: str, image: Array) -> ProbeRow | None:
    """Run the network on its own output, made as small as its input; None if it has other channels."""
    x = image[:, :-SHIFTS, :-SHIFTS]
    output = _run(network, x, name)
    if len(output) != len(x):
        return None
    reduced = _reduced(output, x.shape[-1])
    again = _run(network, reduced, f"the output of {name}")
    numbers = {
        "change": float(abs(_inside(again - output)).mean()),
        "consistency": float(abs(_inside(reduced - x)).mean()),
    }
    pictures = _pictures(x, output, "change", again - output, again)
    return ProbeRow(f"own output of {name}", numbers, pictures)


def _shifted(network: Predictor, name: str, image: Array) -> ProbeRow:
    """Compare the output of a shifted input with the shifted output."""
    side = image.shape[-1] - SHIFTS

    def moved(step: int) -> Array:
        return _run(network, image[:, step : step + side, step : step + side], f"{name} shifted by {step}")

    output, differences = moved(0), {}
    factor = output.shape[-1] // side
    for step in range(1, SHIFTS + 1):
        by = step * factor
        differences[f"shift_{step}"] = moved(step)[:, :-by, :-by] - output[:, by:, by:]
    numbers = {key: float(abs(_inside(difference)).mean()) for key, difference in differences.items()}
    worst = differences[max(numbers, key=lambda key: numbers[key])]
    pictures = _pictures(image[:, :side, :side], output, "difference", worst)
    return ProbeRow(f"shifts of {name}", numbers, pictures)
