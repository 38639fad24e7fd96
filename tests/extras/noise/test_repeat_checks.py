import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from functools import cache, reduce
from operator import add

import numpy as np
import pytest
from scipy import ndimage
from scipy.ndimage import gaussian_filter
from skimage import restoration

import conformask as cm
from conformask.errors import ImageError
from conformask.extras.noise.checks import (
    FARTHEST,
    SHARED,
    SIGNIFICANT,
    correlation,
    drift,
    ends,
    estimate_noise,
    gain_of,
    in_blocks,
    leaks,
    measure_reference,
    noise_blocks,
    photon_transfer_plot,
    shared_noise,
    shift,
    split,
    verdicts,
)
from conformask.losses.base import fitted_loss
from conformask.records.reading import NoiseModel
from real_images import clean, packaged_photographs, repeats

FIELDS = ["confocal_fish", "confocal_mice", "twophoton_bpae_r", "twophoton_mice"]


@cache
def truth(index=0):
    photograph = list(packaged_photographs().values())[index]
    return photograph[None, :256, :256, 1].astype(np.float32) / 255 * 0.8 + 0.1


def noisy(y, seed, sigma=0.03):
    noise = np.random.default_rng(seed).normal(0, sigma, y.shape)
    return (y + noise).clip(0, 1).astype(np.float32)


def smoothed(image, sigma=1.0):
    return gaussian_filter(image, (0, *[sigma] * (image.ndim - 1)))


def non_local(image):
    means = restoration.denoise_nl_means(image[0], 5, 4, h=0.024, sigma=0.03, fast_mode=True)
    return np.asarray(means, np.float32)[None]


NETWORKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda x: x,
    "weak": lambda x: smoothed(x, 0.7),
    "strong": lambda x: smoothed(x, 3),
    "non-local": non_local,
    "sharpening": lambda x: 2.5 * smoothed(x, 1) - 1.5 * smoothed(x, 2),
}


def test_ends():
    assert ends(np.array([[0.0, 0.0, 0.5, 1.0]]), np.full((1, 4), 0.6)) == (0.5, 0.25)
    assert ends(np.zeros((1, 4)), np.zeros((1, 4))) == (1, 0)


@pytest.mark.parametrize("peak", [2, 10, 50])
def test_zeros_of_counts_are_no_warning(peak):
    """Parts of photons of few counts; where a camera cuts its noise at black, there are more zeros."""
    generator = np.random.default_rng(0)
    dark = [truth(index) ** 3 for index in range(6)]
    counts = {
        f"{n}": generator.poisson(peak * y, (3, *y.shape)) / (2 * peak + 20) for n, y in enumerate(dark)
    }
    x, b, c = (dict(zip(counts, parts, strict=True)) for parts in zip(*counts.values(), strict=True))
    assert min((part == 0).mean() for part in b.values()) > 0.001
    said = [text for name in counts for text in warnings({name: (x[name], b[name], c[name])})]
    assert [text for text in said if "at an end of the range" in text] == []
    cut = {
        str(n): tuple(noisy(y - 0.1, 3 * n + k, 0.05).clip(0) for k in range(3)) for n, y in enumerate(dark)
    }
    levels = {name: tuple(np.rint(255 * part) / 255 for part in parts) for name, parts in cut.items()}
    assert any("6 of 6 images have values of the reference at an end" in text for text in warnings(levels))


@pytest.mark.parametrize("shape", [(1, 256, 256), (2, 40, 64, 48)])
def test_independent_pixels_have_range_one(shape):
    y = np.random.default_rng(9).uniform(0.2, 0.8, shape).astype(np.float32)
    found = correlation(noisy(y, 1), noisy(y, 2))
    assert (found.range, found.reach) == (1, 1)
    assert not found.beyond.any()


@pytest.mark.parametrize(("axis", "reach"), [(1, 1), (2, 2), (2, 3)])
def test_the_range_of_correlated_noise(axis, reach):
    """Noise is averaged over `reach` + 1 pixels along one axis, as bright parts have more of it."""
    y, generator = truth(), np.random.default_rng(0)

    def noise():
        white = generator.normal(0, 0.05, y.shape)
        return y * sum(np.roll(white, shift, axis) for shift in range(reach + 1))

    b, c = y + noise(), y + noise()
    assert correlation(b, c).range == reach + 1
    pooled = correlation(b, c) + correlation(y + noise(), y + noise())
    assert pooled.range == reach + 1
    assert pooled.coefficients.max() == pooled.coefficients[FARTHEST, FARTHEST] == 1


@pytest.mark.parametrize("weight", [0.0, 0.05, 0.5, -0.5])
def test_the_reach_is_how_much_correlation_adds_to_the_variance_of_a_sum(weight):
    """Of noise to which `weight` times that of the pixels before it, along both axes, is added.

    Below 0 it takes from the variance of a sum over all pixels, but a mask may show every other one.
    """
    generator, shape = np.random.default_rng(0), (1, 512, 512)

    def noise():
        white = generator.normal(0, 0.05, shape)
        along = white + weight * np.roll(white, 1, axis=1)
        return 0.5 + along + weight * np.roll(along, 1, axis=2)

    found = correlation(noise(), noise()).reach
    assert found == pytest.approx((1 + abs(weight)) ** 2 / (1 + weight**2), abs=0.01)


@pytest.mark.parametrize(("axis", "shape"), [(2, (1, 256, 256)), (1, (1, 256, 256)), (3, (1, 32, 64, 64))])
def test_noise_that_rows_share_is_seen_and_counts(axis, shape):
    """1.5 % of its variance, too little between any two pixels; the mean of a row has n times as much."""
    generator, share, n = np.random.default_rng(0), 0.015, shape[axis]

    def noise():
        white, rows = (
            generator.standard_normal(each) for each in (shape, (*shape[:axis], 1, *shape[axis + 1 :]))
        )
        return 0.5 + 0.04 * (math.sqrt(1 - share) * white + math.sqrt(share) * rows)

    found = reduce(add, (correlation(noise(), noise()) for _ in range(8)))
    assert found.range == FARTHEST + 1
    assert found.reach ** len(shape[1:]) == pytest.approx(1 + (n - 1) * share, rel=0.1)
    without = replace(found, parts=0 * found.parts)
    assert without.reach < 1.03


def test_faint_correlation_is_ignored():
    generator = np.random.default_rng(0)
    b, c = (generator.normal(0.5, 0.05, (1, 800, 800)) for _ in range(2))
    b, c = (image + 0.012 * np.roll(image, 1, axis=1) for image in (b, c))
    found = correlation(b, c)
    z = found.products / np.sqrt(found.squares)
    assert z[FARTHEST + 1, FARTHEST] > SIGNIFICANT
    assert found.range == 1


def test_drift_is_not_noise():
    b, c = (noisy(truth(), seed, 0.01) for seed in range(2))
    drifted = measure_reference(b, b, b, 0.7 * c + 0.1).two
    assert drifted.correlation.range == correlation(b, c).range == 1
    images = cm.Triplets.from_arrays(b, b, b, repeats=0.7 * c + 0.1)
    assert fitted_loss(cm.CleanMean("l2"), images, images.reference).reach == 1


def test_what_moved_has_no_range():
    y = smoothed(np.random.default_rng(0).uniform(0, 1, (1, 256, 256)), 5)
    y = (y - y.min()) / (y.max() - y.min())
    assert correlation(noisy(y, 1), np.roll(noisy(y, 2), 3, axis=1)).range == FARTHEST + 1


@pytest.mark.parametrize("gain", [0.8, 0.95, 1.0, 1.1])
def test_drift_and_its_inverse(gain):
    b, c = noisy(truth(), 1), noisy(gain * truth() + 0.01, 2)
    there, back = drift(b, c), drift(c, b)
    assert gain_of(b, c) == there.gain
    assert there.gain == pytest.approx(gain, abs=4 * there.gain_error)
    assert there.gain * back.gain == pytest.approx(1)
    assert there.level * back.level == pytest.approx(1)
    assert 0 < there.gain_error < 0.01


def test_errors_of_the_drift_are_those_of_repeated_draws():
    found = [drift(noisy(truth(), 2 * seed, 0.1), noisy(truth(), 2 * seed + 1, 0.1)) for seed in range(40)]
    spread = np.std([np.log(each.gain) for each in found])
    assert np.mean([each.gain_error for each in found]) == pytest.approx(spread, rel=0.35)


def test_flat_images_show_a_level_but_no_gain():
    flat = np.full((1, 128, 128), 0.5)
    found = drift(noisy(flat, 0), noisy(0.9 * flat, 1))
    assert (found.gain, found.gain_error) == (1, np.inf)
    assert gain_of(flat, 0.9 * flat) == gain_of(flat[:, :16, :16], flat[:, :16, :16]) == 1
    assert found.level == pytest.approx(0.9, abs=4 * found.level_error)
    assert drift(flat[:, :16, :16], flat[:, :16, :16]).level_error == np.inf


@pytest.mark.parametrize("network", NETWORKS)
def test_independent_repeats_leak_nothing_and_standard_errors_are_right(network):
    """Over draws of the noise; the shares that detail adds to may be below 0."""
    z, own = [], []
    for seed in range(30):
        x, b, c = (noisy(truth()[:, :128, :128], 3 * seed + place) for place in range(3))
        in_x, in_y_hat = leaks(b, c, x, NETWORKS[network](x))
        z.append([in_x.z[0], in_y_hat.z[0], in_x.z[1], in_y_hat.z[1], in_x.z[2]])
        own.append(in_y_hat.z[2])  # it has noise of x
    assert np.max(z) < 4
    assert np.mean(own) > 1
    assert np.sqrt(np.mean(np.square(z), axis=0))[[0, 1, 4]] == pytest.approx(1, abs=0.45)


def test_a_shift_is_measured_and_its_standard_error_is_right():
    y, found = truth()[:, :128, :128], []
    for seed in range(30):
        moved = ndimage.shift(y, (0, 0, 0.4), order=3, mode="nearest")
        found.append(shift(noisy(y, 2 * seed), noisy(moved, 2 * seed + 1)))
    pixels, errors = np.transpose(found)
    assert pixels.mean() == pytest.approx(0.4, abs=0.08)
    assert errors.mean() == pytest.approx(pixels.std(), rel=0.4)
    assert shift(y, 0 * y + 0.5).error == np.inf
    still = [shift(noisy(y, 2 * seed), noisy(y, 2 * seed + 1)) for seed in range(30)]
    assert max(abs(each.pixels / each.error) for each in still) < 4


@pytest.mark.parametrize("network", [lambda x: smoothed(x, 0.7), lambda x: smoothed(x, 3), lambda x: 0.7 * x])
def test_the_noise_of_the_input_by_one_repeat(network):
    x, b = noisy(truth(), 0), noisy(truth(), 1)
    y_hat = network(x)
    assert shared_noise(b, x, y_hat).coefficient < SHARED
    assert shared_noise(0.9 * x + 0.05, x, y_hat).coefficient > SHARED


def test_detail_in_both_is_not_noise():
    x, b = noisy(truth(), 0, 0.005), noisy(truth(), 1, 0.005)
    assert shared_noise(b, x, 0 * x).coefficient > 0.7
    assert abs(shared_noise(b, x, truth()).coefficient) < 0.1


def test_detail_that_the_network_invents_is_not_noise():
    y = smoothed(truth(), 2)
    x, b, y_hat = noisy(y, 0, 0.02), noisy(y, 1, 0.02), noisy(y, 2, 0.1)
    assert abs(shared_noise(b, x, y_hat).coefficient) < 0.1


def test_inputs_of_other_sizes():
    """The input of an enlarger is compared with means of the pixels of the repeats."""
    b, c = noisy(truth(), 0), noisy(truth(), 1)
    small, other = (noisy(truth(), seed).reshape(1, 128, 2, 128, 2).mean(axis=(2, 4)) for seed in (0, 3))
    y_hat = np.repeat(np.repeat(other, 2, axis=1), 2, axis=2)
    in_x, in_y_hat = leaks(b, c, other, y_hat)
    assert max(*in_x.z, *in_y_hat.z[:2]) < 4
    assert leaks(b, c, 0.9 * small, y_hat)[0].shares[0] == pytest.approx(1, abs=0.1)
    assert shared_noise(b, small, y_hat).coefficient > shared_noise(b, other, y_hat).coefficient
    for x in (small[:, 1:], np.concatenate([b, b])):
        assert leaks(b, c, x, y_hat)[0] is None
        assert shared_noise(b, x, y_hat) is None
    assert shared_noise(0 * b + 0.5, 0 * b + 0.25, 0 * b) is None


Repeats = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
FAULTS: dict[str, tuple[Repeats, str | None]] = {
    "none": (lambda b, c: (b, c), None),
    "saturated": (lambda b, c: ((1.6 * b).clip(0, 1), (1.6 * c).clip(0, 1)), "at an end of the range"),
    "cut at black": (lambda b, c: ((b - 0.2).clip(0), (c - 0.2).clip(0)), "at an end of the range"),
    "drift": (lambda b, c: (b, 0.9 * c), "the gain of the two repeats differs in 6 of 6 images, by -1"),
    "offset": (lambda b, c: (b, c + 0.04), "the mean of the two repeats differs"),
    "moved": (lambda b, c: (b, np.roll(c, 1, axis=1)), "the repeats of 6 of 6 images are apart"),
    "the same": (lambda b, _: (b, b), "the two repeats of 6 of 6 images are the same image"),
    "the same, brightened": (lambda b, _: (b, 0.9 * b), "the two repeats of 6 of 6 images are the same"),
}


def warnings(triplets):
    """The warnings about x, b and c, or x and b, of a network that blurs."""
    measures = {
        name: measure_reference(b, x, smoothed(x), *second) for name, (x, b, *second) in triplets.items()
    }
    return [text for text, _ in verdicts(measures)]


def faults(measures):
    return [text for text, breaks in verdicts(measures) if breaks]


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named(fault):
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


LEAKS: dict[str, tuple[Callable[..., tuple[np.ndarray, ...]], str | None, str | None]] = {
    "none": (lambda x, b, c: (x, x), None, None),
    "all from b and c": (lambda x, b, c: ((b + c) / 2, (b + c) / 2), "x carries", "x carries"),
    "y_hat from b": (lambda x, b, c: (x, b), "y_hat carries no", None),
    "y_hat from b and c": (lambda x, b, c: (x, (b + c) / 2), "y_hat carries no", None),
    "y_hat from all": (lambda x, b, c: (x, (x + b + c) / 3), "y_hat carries no", None),
    "x from all": (lambda x, b, c: ((x + b + c) / 3, (x + b + c) / 3), "x carries", "x carries"),
    "x is b": (lambda x, b, c: (b, b), "network's input", "network's input"),
}
"""x and what y_hat is made of; what is said of it, and why it is refused whatever the network."""


@pytest.mark.quick(8)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("fault", LEAKS)
def test_each_leak_is_named(fault, network):
    leaky, said, refused = LEAKS[fault]
    measures = {}
    for place in range(6):
        x, b, c = (noisy(smoothed(truth(place), 1), 3 * place + each) for each in range(3))
        x, source = leaky(x, b, c)
        measures[str(place)] = measure_reference(b, x, NETWORKS[network](source), c)
    found = list(verdicts(measures))
    if said is None:
        assert found == []
    else:
        assert any(said in text for text, _ in found)
    if refused is not None:
        assert any(refused in text for text in faults(measures))


@pytest.mark.parametrize("shape", [(1, 12, 64, 48), (3, 96, 64), (1, 2, 64, 64), (1, 9, 9)])
def test_volumes_colours_and_small_images(shape):
    y = smoothed(np.random.default_rng(0).uniform(0, 1, shape), 2)
    y = 0.2 + 0.6 * (y - y.min()) / (y.max() - y.min())
    triplets = {str(place): tuple(noisy(y, 3 * place + each) for each in range(3)) for place in range(3)}
    assert warnings(triplets) == []
    same = {name: (x, 0.9 * x + 0.05, c) for name, (x, _, c) in triplets.items()}
    if y.size > 100:
        assert any("x carries" in warning for warning in warnings(same))


def test_few_noisy_pixels_show_no_drift():
    triplets = {}
    for place in range(20):
        y = 0.5 + 0.1 * truth()[:, 8 * place : 8 * place + 64, :64]
        triplets[str(place)] = tuple(noisy(y, 3 * place + each, 0.1) for each in range(3))
    assert warnings(triplets) == []


def test_the_input_as_the_reference_is_named():
    x, b, c = (noisy(truth(), seed) for seed in range(3))
    (same,) = (warning for warning in warnings({"one": (x, b, c), "two": (x, x, c)}) if "input" in warning)
    assert same.startswith("1 of 2 references is the network's input, as in two: ")
    assert any("x carries" in text for text in warnings({"one": (x, (x + b) / 2, c)}))
    (alike,) = warnings({"one": (x, 0.99 * x)})
    assert alike.startswith("1 of 1 references has the noise of the network's input")
    assert warnings({"one": (x, b)}) == []


@pytest.mark.quick(1)
@pytest.mark.parametrize("kind", FIELDS)
def test_real_repeats_and_what_was_made_of_them(kind):
    """Networks of all kinds raise no alarm; leaks do, whichever network it is."""
    x, b, c, _ = repeats(kind)
    for network in NETWORKS.values():
        found = measure_reference(b, x, network(x), c)
        assert not any("carries" in text for text in said_of(found))
        assert any("carries" in text for text in said_of(measure_reference(b, x, network(b), c)))
        full = (b + c) / 2
        assert faults({kind: measure_reference(b, full, network(full), c)})
    assert not found.two.same
    assert 1 < found.two.correlation.range <= 2  # the next pixel of the scan
    assert found.two.moved == (kind == "twophoton_bpae_r")  # by a quarter of a pixel, 19 standard errors
    moved = np.roll(c, 1, axis=2)
    assert any("apart" in text for text in faults({kind: measure_reference(b, x, x, moved)}))
    assert any("of the network's input" in warning for warning in warnings({kind: (x, 0.98 * x)}))


def said_of(measures):
    return [text for text, _ in verdicts({"one": measures})]


def test_real_faults():
    """What the acquisitions of FMD have: drift, saturation, and wide-field noise that pixels share."""
    said = warnings({kind: tuple(repeats(kind)[:3]) for kind in ("twophoton_bpae_b", "twophoton_mice")})
    assert any(w.startswith("the gain of the two repeats differs in 2 of 2 images, by +46 %") for w in said)
    assert any(w.startswith("2 of 2 images have values of the reference at an end") for w in said)
    assert warnings({"mice": tuple(repeats("confocal_mice")[:3])}) == []
    b, c = repeats("widefield_bpae_r")[:2]
    assert correlation(b, c).reach > 3


def test_the_gain_is_that_against_the_mean_of_fifty():
    y = clean("twophoton_bpae_b").ravel()
    b, c = repeats("twophoton_bpae_b")[:2]
    to_b, to_c = (np.polyfit(y, image.ravel(), 1)[0] for image in (b, c))
    found = drift(b, c)
    assert found.gain == pytest.approx(to_c / to_b, abs=4 * found.gain_error)


def taken(y, model, generator):
    """An acquisition: photons, offset and read noise, clipped to the range."""
    photons = generator.poisson(y / model.gain) * model.gain
    return (photons + model.offset + generator.normal(0, model.read, y.shape)).clip(0, 1).astype(np.float32)


def pairs(model):
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


def test_what_moved_drifted_or_was_saturated_is_left_out():
    model = MODELS[0]
    spoilt = []
    for b, c in pairs(model):
        c = 0.95 * c
        c[:, 40:64, 40:64] = b[:, 80:104, 40:64]
        spoilt.append(((1.4 * b).clip(0, 1), (1.4 * c).clip(0, 1)))
    found = estimated(spoilt).model
    assert found.gain == pytest.approx(1.4 * model.gain, rel=0.06)
    assert found.variance(np.array(0.7)) == pytest.approx(1.4 * model.gain * (0.7 - 0.07), rel=0.08)


def test_volumes():
    generator = np.random.default_rng(0)
    y = np.broadcast_to(np.linspace(0.1, 0.8, 96), (1, 16, 64, 96))
    model = NoiseModel(0.01, 0.0, 0.0)
    found = estimated([(taken(y, model, generator), taken(y, model, generator))]).model
    assert found.gain == pytest.approx(0.01, rel=0.05)


def test_images_without_noise_or_brightness_are_refused():
    flat = np.full((1, 64, 64), 0.5, np.float32)
    with pytest.raises(ImageError, match="too few parts"):
        estimated([(flat, flat)])
    (b, _), *_ = pairs(MODELS[0])
    with pytest.raises(ImageError, match="the same image"):
        estimated([(b, b)])


@pytest.mark.parametrize("values", [(-1, 0, 0), (1, 0, -1), (float("nan"), 0, 0)])
def test_models_that_no_camera_has(values):
    with pytest.raises(ValueError, match="at least 0"):
        NoiseModel(*values)


def test_blocks():
    image = np.arange(2 * 5 * 7).reshape(2, 5, 7)
    rows = in_blocks(image, 2)
    assert rows.shape == (2 * 2 * 3, 4)
    assert rows[1].tolist() == image[0, :2, 2:4].ravel().tolist()
    assert in_blocks(image[:, :1], 2).shape == (2 * 3, 2)
    assert split(image, 2)[1] == (2, 4)


@pytest.mark.parametrize("kind", ["confocal_mice", "confocal_fish", "confocal_bpae_g", "twophoton_bpae_g"])
def test_real_noise_is_that_around_the_mean_of_fifty(kind):
    """Measured in another way: the variance of pixels that are equally bright in the mean of 50."""
    images, truth = repeats(kind), clean(kind)
    found = estimated([(images[0], images[1]), (images[2], images[3])]).model
    for value in (0.06, 0.08, 0.1):
        residuals = np.concatenate([image[np.abs(truth - value) < 0.002] for image in images]) - value
        assert found.variance(np.array(value)) == pytest.approx(residuals.var(), rel=0.12), value


def test_plot():
    transfer = estimated(pairs(MODELS[0]))
    drawn = ElementTree.fromstring(photon_transfer_plot(transfer))
    circles = drawn.findall(".//{*}circle")
    assert len(circles) == len(transfer.mean) == len(transfer.count)
    assert transfer.model.text in drawn.attrib["aria-label"]
    heights = [-float(circle.attrib["cy"]) for circle in circles]
    assert np.corrcoef(heights, transfer.variance)[0, 1] == pytest.approx(1, abs=1e-6)
