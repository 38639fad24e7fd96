import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from conformask.errors import ImageError
from conformask.extras.noise.checks import (
    estimate_noise,
    in_blocks,
    noise_blocks,
    photon_transfer_plot,
    split,
)
from conformask.records.reading import NoiseModel
from fmd import clean, repeats
from photographs import packaged_photographs


def taken(y: np.ndarray, model: NoiseModel, generator: np.random.Generator) -> np.ndarray:
    """An acquisition: photons, offset and read noise, clipped to the range."""
    photons = generator.poisson(y / model.gain) * model.gain
    return (photons + model.offset + generator.normal(0, model.read, y.shape)).clip(0, 1).astype(np.float32)


def pairs(model: NoiseModel) -> list[tuple[np.ndarray, np.ndarray]]:
    generator = np.random.default_rng(0)
    truths = [pixels[:256, :256, 0][None] / 255 * 0.8 for pixels in packaged_photographs().values()]
    return [(taken(y, model, generator), taken(y, model, generator)) for y in truths]


def estimated(pairs):
    return estimate_noise(noise_blocks(b, c) for b, c in pairs)


MODELS = [NoiseModel(0.01, 0.05, 0.02), NoiseModel(0.002, 0.1, 0.01), NoiseModel(0.005, 0.15, 0.03)]


@pytest.mark.parametrize("model", MODELS)
def test_simulated_noise_is_found(model):
    found, means = estimated(pairs(model)).model, np.linspace(0.15, 0.9, 9)
    assert min(found.offset, found.read) == 0
    assert found.gain == pytest.approx(model.gain, rel=0.03)
    assert found.variance(means) == pytest.approx(model.variance(means), rel=0.03)


def test_what_moved_drifted_or_was_saturated_is_left_out() -> None:
    model = MODELS[0]
    spoilt = []
    for b, c in pairs(model):
        c = 0.95 * c
        c[:, 40:64, 40:64] = b[:, 80:104, 40:64]
        spoilt.append(((1.4 * b).clip(0, 1), (1.4 * c).clip(0, 1)))
    found = estimated(spoilt).model
    assert found.gain == pytest.approx(1.4 * model.gain, rel=0.06)
    assert found.variance(np.array(0.7)) == pytest.approx(1.4 * model.gain * (0.7 - 0.07), rel=0.08)


def test_volumes() -> None:
    generator = np.random.default_rng(0)
    y = np.broadcast_to(np.linspace(0.1, 0.8, 96), (1, 16, 64, 96))
    model = NoiseModel(0.01, 0.0, 0.0)
    found = estimated([(taken(y, model, generator), taken(y, model, generator))]).model
    assert found.gain == pytest.approx(0.01, rel=0.05)


def test_images_without_noise_or_brightness_are_refused() -> None:
    flat = np.full((1, 64, 64), 0.5, np.float32)
    with pytest.raises(ImageError, match="too few parts"):
        estimated([(flat, flat)])
    (b, _), *_ = pairs(MODELS[0])
    with pytest.raises(ImageError, match="the same image"):
        estimated([(b, b)])


@pytest.mark.parametrize("values", [(-1, 0, 0), (1, 0, -1), (float("nan"), 0, 0)])
def test_models_that_no_camera_has(values: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        NoiseModel(*values)


def test_blocks() -> None:
    image = np.arange(2 * 5 * 7).reshape(2, 5, 7)
    rows = in_blocks(image, 2)
    assert rows.shape == (2 * 2 * 3, 4)
    assert rows[1].tolist() == image[0, :2, 2:4].ravel().tolist()
    assert in_blocks(image[:, :1], 2).shape == (2 * 3, 2)
    assert split(image, 2)[1] == (2, 4)


@pytest.mark.parametrize("kind", ["confocal_mice", "confocal_fish", "confocal_bpae_g", "twophoton_bpae_g"])
def test_real_noise_is_that_around_the_mean_of_fifty(kind: str) -> None:
    """Measured in another way: the variance of pixels that are equally bright in the mean of 50."""
    images, truth = repeats(kind), clean(kind)
    found = estimated([(images[0], images[1]), (images[2], images[3])]).model
    for value in (0.06, 0.08, 0.1):
        residuals = np.concatenate([image[np.abs(truth - value) < 0.002] for image in images]) - value
        assert found.variance(np.array(value)) == pytest.approx(residuals.var(), rel=0.12), value


def test_plot() -> None:
    transfer = estimated(pairs(MODELS[0]))
    drawn = ElementTree.fromstring(photon_transfer_plot(transfer))
    circles = drawn.findall(".//{*}circle")
    assert len(circles) == len(transfer.mean) == len(transfer.count)
    assert transfer.model.text in drawn.attrib["aria-label"]
    heights = [-float(circle.attrib["cy"]) for circle in circles]
    assert np.corrcoef(heights, transfer.variance)[0, 1] == pytest.approx(1, abs=1e-6)
