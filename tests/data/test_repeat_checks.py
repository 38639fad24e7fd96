import io
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, median_filter
from skimage import restoration

from conformask.data.images import read_image
from conformask.data.noise import NoiseModel, estimate_noise
from conformask.data.repeat_checks import (
    FARTHEST,
    SIGNIFICANT,
    correlation,
    drift,
    ends,
    jpeg_share,
    noise_ratio,
    noise_share,
    shared_noise,
    unevenness,
)
from conformask.data.repeat_warnings import (
    LESS_NOISE,
    ROUNDED,
    SHARED_BY_ONE,
    SHARED_BY_TWO,
    SMOOTH,
    UNEVEN,
    measure_reference,
    reference_warnings,
)
from conformask.demo import packaged_photographs
from fmd import clean, repeats
from stacks import shared

FIELDS = ["confocal_fish", "confocal_mice", "twophoton_bpae_r", "twophoton_mice"]


@cache
def truth(index: int = 0) -> np.ndarray:
    photograph = list(packaged_photographs().values())[index]
    return photograph[None, :256, :256, 1].astype(np.float32) / 255 * 0.8 + 0.1


def noisy(y: np.ndarray, seed: int, sigma: float = 0.03) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, y.shape)
    return (y + noise).clip(0, 1).astype(np.float32)


def smoothed(image: np.ndarray, sigma: float = 1.0) -> np.ndarray:
    return gaussian_filter(image, (0, *[sigma] * (image.ndim - 1)))


def non_local(image: np.ndarray) -> np.ndarray:
    means = restoration.denoise_nl_means(image[0], 5, 4, h=0.024, sigma=0.03, fast_mode=True)
    return np.asarray(means, np.float32)[None]


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray((255 * image[0]).round().astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))[None].astype(np.float32) / 255


def test_ends() -> None:
    assert ends(np.array([[0.0, 0.0, 0.5, 1.0]])) == (0.5, 0.25)


@pytest.mark.parametrize("shape", [(1, 256, 256), (2, 40, 64, 48)])
def test_independent_pixels_have_range_one(shape: tuple[int, ...]) -> None:
    y = np.random.default_rng(9).uniform(0.2, 0.8, shape).astype(np.float32)
    found = correlation(noisy(y, 1), noisy(y, 2))
    assert found.range == 1
    assert found.fine_share == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("axis", "reach"), [(1, 1), (2, 2), (2, 3)])
def test_the_range_of_correlated_noise(axis: int, reach: int) -> None:
    """Noise is averaged over `reach` + 1 pixels along one axis, as bright parts have more of it."""
    y, generator = truth(), np.random.default_rng(0)

    def noise() -> np.ndarray:
        white = generator.normal(0, 0.05, y.shape)
        return y * sum(np.roll(white, shift, axis) for shift in range(reach + 1))

    b, c = y + noise(), y + noise()
    assert correlation(b, c).range == reach + 1
    pooled = correlation(b, c) + correlation(y + noise(), y + noise())
    assert pooled.range == reach + 1
    assert pooled.coefficients.max() == pooled.coefficients[FARTHEST, FARTHEST] == 1


@pytest.mark.parametrize("weight", [0.0, 0.05, 0.5])
def test_the_reach_is_how_much_correlation_adds_to_the_variance_of_a_sum(weight: float) -> None:
    """Of noise to which `weight` times that of the pixels before it, along both axes, is added."""
    generator, shape = np.random.default_rng(0), (1, 512, 512)

    def noise() -> np.ndarray:
        white = generator.normal(0, 0.05, shape)
        along = white + weight * np.roll(white, 1, axis=1)
        return 0.5 + along + weight * np.roll(along, 1, axis=2)

    found = correlation(noise(), noise()).reach
    assert found == pytest.approx((1 + weight) ** 2 / (1 + weight**2), abs=0.01)


def test_faint_correlation_is_ignored() -> None:
    generator = np.random.default_rng(0)
    b, c = (generator.normal(0.5, 0.05, (1, 800, 800)) for _ in range(2))
    b, c = (image + 0.012 * np.roll(image, 1, axis=1) for image in (b, c))
    found = correlation(b, c)
    z = found.products / np.sqrt(found.squares)
    assert z[FARTHEST + 1, FARTHEST] > SIGNIFICANT
    assert found.range == 1


def test_drift_is_not_noise() -> None:
    b, c = (noisy(truth(), seed, 0.01) for seed in range(2))
    assert correlation(b, 0.8 * c + 0.1).range == correlation(b, c).range == 1
    assert noise_ratio(b, 0.7 * c) == pytest.approx(1, abs=0.1)


def test_what_moved_has_no_range() -> None:
    y = smoothed(np.random.default_rng(0).uniform(0, 1, (1, 256, 256)), 5)
    y = (y - y.min()) / (y.max() - y.min())
    assert correlation(noisy(y, 1), np.roll(noisy(y, 2), 3, axis=1)).range == FARTHEST + 1


@pytest.mark.parametrize("gain", [0.8, 0.95, 1.0, 1.1])
def test_drift_and_its_inverse(gain: float) -> None:
    b, c = noisy(truth(), 1), noisy(gain * truth() + 0.01, 2)
    there, back = drift(b, c), drift(c, b)
    assert there.gain == pytest.approx(gain, abs=4 * there.gain_error)
    assert there.gain * back.gain == pytest.approx(1)
    assert there.level * back.level == pytest.approx(1)
    assert 0 < there.gain_error < 0.01


def test_errors_of_the_drift_are_those_of_repeated_draws() -> None:
    found = [drift(noisy(truth(), 2 * seed, 0.1), noisy(truth(), 2 * seed + 1, 0.1)) for seed in range(40)]
    spread = np.std([np.log(each.gain) for each in found])
    assert np.mean([each.gain_error for each in found]) == pytest.approx(spread, rel=0.35)


def test_flat_images_show_a_level_but_no_gain() -> None:
    flat = np.full((1, 128, 128), 0.5)
    found = drift(noisy(flat, 0), noisy(0.9 * flat, 1))
    assert (found.gain, found.gain_error) == (1, np.inf)
    assert found.level == pytest.approx(0.9, abs=4 * found.level_error)
    assert drift(flat[:, :16, :16], flat[:, :16, :16]).level_error == np.inf


@pytest.mark.parametrize("network", [lambda x: smoothed(x, 0.7), lambda x: smoothed(x, 3), lambda x: 0.7 * x])
def test_the_noise_of_the_input_by_two_repeats(network) -> None:
    x, b, c = (noisy(truth(), seed) for seed in range(3))
    y_hat = network(x)
    assert abs(shared_noise(b, x, y_hat, c).coefficient) < SHARED_BY_TWO / 2
    assert shared_noise(0.9 * x + 0.05, x, y_hat, c).coefficient > SHARED_BY_TWO
    assert shared_noise(b, x, y_hat, jpeg(x, 90)).coefficient < -SHARED_BY_TWO
    assert shared_noise((x + b) / 2, x, y_hat, c).z > 10
    assert shared_noise(b, x, y_hat, x) == shared_noise(x, x, y_hat) == (1, np.inf)


@pytest.mark.parametrize("network", [lambda x: smoothed(x, 0.7), lambda x: smoothed(x, 3), lambda x: 0.7 * x])
def test_the_noise_of_the_input_by_one_repeat(network) -> None:
    x, b = noisy(truth(), 0), noisy(truth(), 1)
    y_hat = network(x)
    assert shared_noise(b, x, y_hat).coefficient < SHARED_BY_ONE
    assert shared_noise(0.9 * x + 0.05, x, y_hat).coefficient > SHARED_BY_ONE


def test_detail_in_both_is_not_noise() -> None:
    x, b = noisy(truth(), 0, 0.005), noisy(truth(), 1, 0.005)
    assert shared_noise(b, x, 0 * x).coefficient > 0.7
    assert abs(shared_noise(b, x, truth()).coefficient) < 0.1


def test_detail_that_the_network_invents_is_not_noise() -> None:
    y = smoothed(truth(), 2)
    x, b, y_hat = noisy(y, 0, 0.02), noisy(y, 1, 0.02), noisy(y, 2, 0.1)
    assert abs(shared_noise(b, x, y_hat).coefficient) < 0.1
    assert noise_share(b, y_hat, NoiseModel(0, 0, 0.02)) == pytest.approx(1, abs=0.1)


def test_inputs_of_other_sizes() -> None:
    b, c = noisy(truth(), 0), noisy(truth(), 1)
    small = b.reshape(1, 128, 2, 128, 2).mean(axis=(2, 4))
    other = noisy(truth(), 3).reshape(1, 128, 2, 128, 2).mean(axis=(2, 4))
    y_hat = smoothed(truth(), 2)
    assert shared_noise(b, small, y_hat, c) == (1, np.inf)
    assert shared_noise(b, 0.9 * small, y_hat, c).coefficient > SHARED_BY_TWO
    assert abs(shared_noise(b, other, y_hat, c).coefficient) < SHARED_BY_TWO
    assert shared_noise(b, small[:, 1:], y_hat, c) is None
    assert shared_noise(b, np.concatenate([b, b]), y_hat, c) is None
    assert shared_noise(0 * b + 0.5, 0 * b + 0.25, 0 * b, 0 * b + 0.5) is None


@pytest.mark.parametrize("filtered", [lambda a: smoothed(a, 0.6), lambda a: median_filter(a, (1, 3, 3))])
def test_denoised_repeats(filtered) -> None:
    b, c = noisy(truth(), 0), noisy(truth(), 1)
    assert noise_ratio(b, c) == pytest.approx(1, abs=0.1)
    assert noise_ratio(filtered(b), c) < LESS_NOISE
    assert noise_ratio(c, filtered(b)) == pytest.approx(noise_ratio(filtered(b), c), abs=1e-4)
    assert correlation(filtered(b), filtered(c)).fine_share < SMOOTH
    assert noise_ratio(b, b) == noise_ratio(b, 0.9 * b) == 0


def test_noise_that_a_model_says() -> None:
    b, y_hat = noisy(truth(), 0), smoothed(noisy(truth(), 1))
    model = NoiseModel(0, 0, 0.03)
    assert noise_share(b, y_hat, model) == pytest.approx(1, abs=0.15)
    assert noise_share(b, y_hat, NoiseModel(0, 0, 0.06)) == pytest.approx(0.25, abs=0.05)
    assert noise_share(noisy(truth(), 0, 0.005), truth(), NoiseModel(0, 0, 0.005)) == pytest.approx(
        1, abs=0.1
    )
    for image, words in ((b, []), (smoothed(b, 0.6), ["in 1 of 1 images the reference has less noise"])):
        said = list(reference_warnings({"one": measure_reference(image, b[:, 1:], y_hat, model=model)}))
        assert [warning[: len("in 1 of 1 images the reference has less noise")] for warning in said] == words


@pytest.mark.parametrize("kind", FIELDS)
def test_noise_of_one_real_repeat(kind: str) -> None:
    """The model is estimated from two other acquisitions."""
    x, b, *others = repeats(kind)
    model = estimate_noise([(others[0], others[1])]).model
    assert 0.7 < noise_share(b, smoothed(x), model) < 1.3
    for filtered in (smoothed(b, 0.6), median_filter(b, (1, 3, 3))):
        assert noise_share(filtered, smoothed(x), model) < LESS_NOISE


@pytest.mark.parametrize("quality", [75, 90])
def test_jpeg(quality: int) -> None:
    b = (255 * noisy(truth(), 0)).round() / 255
    stored = jpeg(b, quality)
    assert jpeg_share(b) < ROUNDED / 2
    assert jpeg_share(stored) > ROUNDED
    assert jpeg_share(stored[:, 3:, 5:]) > ROUNDED
    assert jpeg_share(0.5 * stored + 0.2) > ROUNDED
    assert jpeg_share(np.repeat(stored[:, None], 3, axis=1)) > ROUNDED
    assert jpeg_share(b[:, :20, :20]) == jpeg_share(0 * b) == 0


Repeats = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
FAULTS: dict[str, tuple[Repeats, str | None]] = {
    "none": (lambda b, c: (b, c), None),
    "saturated": (lambda b, c: ((1.6 * b).clip(0, 1), (1.6 * c).clip(0, 1)), "at an end of the range"),
    "cut at black": (lambda b, c: ((b - 0.2).clip(0), (c - 0.2).clip(0)), "at an end of the range"),
    "drift": (lambda b, c: (b, 0.9 * c), "the gain of the two repeats differs in 6 of 6 images, by -1"),
    "offset": (lambda b, c: (b, c + 0.04), "the mean of the two repeats differs"),
    "one is a JPEG": (lambda b, c: (b, jpeg(c, 90)), "have a reference that was a JPEG"),
    "both are JPEG": (lambda b, c: (jpeg(b, 75), jpeg(c, 75)), "have a reference that was a JPEG"),
    "one denoised": (lambda b, c: (smoothed(b, 0.6), c), "one repeat has less noise"),
    "one is a mean": (lambda b, c: (b, (b + c) / 2), "one repeat has less noise"),
    "both denoised": (lambda b, c: (smoothed(b, 0.6), smoothed(c, 0.6)), "differ by smooth noise"),
    "non-local means": (lambda b, c: (non_local(b), non_local(c)), "strong here and weak there"),
    "moved": (lambda b, c: (b, np.roll(c, 2, axis=1)), "over more than 8 pixels"),
    "the same": (lambda b, _: (b, b), "one repeat has less noise"),
}


def warnings(triplets: dict[str, tuple[np.ndarray, ...]]) -> list[str]:
    """The warnings about x, b and c, or x and b, of a network that blurs."""
    measures = {
        name: measure_reference(b, x, smoothed(x), *second) for name, (x, b, *second) in triplets.items()
    }
    return list(reference_warnings(measures))


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named(fault: str) -> None:
    spoil, words = FAULTS[fault]
    triplets = {
        f"photograph {index}": (
            noisy(truth(index), 3 * index),
            *spoil(noisy(truth(index), 3 * index + 1), noisy(truth(index), 3 * index + 2)),
        )
        for index in range(6)
    }
    said = warnings(triplets)
    if words is None:
        assert said == []
    else:
        assert any(words in warning for warning in said), said


def test_detail_that_a_denoised_repeat_lacks_is_not_the_noise_of_the_input() -> None:
    x, b, c = (noisy(truth(), seed, 0.005) for seed in range(3))
    assert abs(shared_noise(smoothed(b), x, smoothed(x), c).coefficient) > SHARED_BY_TWO
    assert not any("input" in warning for warning in warnings({"one": (x, smoothed(b), c)}))


@pytest.mark.parametrize("shape", [(1, 12, 64, 48), (3, 96, 64), (1, 2, 64, 64), (1, 9, 9)])
def test_volumes_colours_and_small_images(shape: tuple[int, ...]) -> None:
    y = smoothed(np.random.default_rng(0).uniform(0, 1, shape), 2)
    y = 0.2 + 0.6 * (y - y.min()) / (y.max() - y.min())
    triplets = {str(place): tuple(noisy(y, 3 * place + each) for each in range(3)) for place in range(3)}
    assert warnings(triplets) == []
    same = {name: (x, 0.9 * x + 0.05, c) for name, (x, _, c) in triplets.items()}
    if y.size > 100:
        assert any("noise of the network's input" in warning for warning in warnings(same))


def test_few_noisy_pixels_show_no_drift() -> None:
    triplets = {}
    for place in range(20):
        y = 0.5 + 0.1 * truth()[:, 8 * place : 8 * place + 64, :64]
        triplets[str(place)] = tuple(noisy(y, 3 * place + each, 0.1) for each in range(3))
    assert warnings(triplets) == []


def test_the_input_as_the_reference_is_named() -> None:
    x, b, c = (noisy(truth(), seed) for seed in range(3))
    (same,) = (warning for warning in warnings({"one": (x, b, c), "two": (x, x, c)}) if "input" in warning)
    assert same.startswith("1 of 2 references are the network's input, as in two: ")
    changed = 0.99 * x
    for triplet in ((x, changed, c), (x, b, changed), (x, (x + b) / 2, c), (x, changed)):
        assert any(
            "1 of 1 references have the noise of the network's input" in w for w in warnings({"one": triplet})
        )
    assert warnings({"one": (x, b)}) == []


@pytest.mark.parametrize("kind", FIELDS)
def test_real_repeats_and_what_was_made_of_them(kind: str) -> None:
    x, b, c, _ = repeats(kind)
    found = measure_reference(b, x, smoothed(x), c)
    assert not found.has_noise_of_input
    assert found.jpeg < ROUNDED / 4
    assert found.two.ratio > 1.5 * LESS_NOISE
    assert 1 < found.two.correlation.range <= 2  # the next pixel of the scan
    assert found.two.correlation.fine_share > 1.5 * SMOOTH
    for quality in (75, 90):
        assert jpeg_share(jpeg(b, quality)) > 2 * ROUNDED
    for filtered in (smoothed(b, 0.6), smoothed(b), median_filter(b, (1, 3, 3))):
        assert noise_ratio(filtered, c) < LESS_NOISE / 2
    assert found.two.unevenness < 0.8 * UNEVEN
    inner = (image[:, :192, :192] for image in (b, c))
    assert unevenness(*map(non_local, inner)) > UNEVEN
    for wrong in ((x, jpeg(x, 90), c), (x, b, jpeg(x, 90)), (x, 0.98 * x)):
        assert any("of the network's input" in warning for warning in warnings({kind: wrong}))


def test_real_faults() -> None:
    """What the acquisitions of FMD have: drift, saturation, and wide-field noise that pixels share."""
    said = warnings({kind: tuple(repeats(kind)[:3]) for kind in ("twophoton_bpae_b", "twophoton_mice")})
    assert any(w.startswith("the gain of the two repeats differs in 2 of 2 images, by +46 %") for w in said)
    assert any(w.startswith("2 of 2 images have values of the reference at an end") for w in said)
    assert warnings({"mice": tuple(repeats("confocal_mice")[:3])}) == []
    said = warnings({"wide-field": tuple(repeats("widefield_bpae_r")[:3])})
    assert any("the repeats differ by smooth noise" in warning for warning in said)


def test_the_gain_is_that_against_the_mean_of_fifty() -> None:
    y = clean("twophoton_bpae_b").ravel()
    b, c = repeats("twophoton_bpae_b")[:2]
    to_b, to_c = (np.polyfit(y, image.ravel(), 1)[0] for image in (b, c))
    found = drift(b, c)
    assert found.gain == pytest.approx(to_c / to_b, abs=4 * found.gain_error)


def test_jpeg_of_a_camera() -> None:
    paths = sorted(shared("polyu").glob("*_noisy.jpg"))[::25]
    assert all(jpeg_share(read_image(path)) > 2 * ROUNDED for path in paths)
