import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, uniform_filter

from conformask.scores.networks import FAINT, LEAST, MOST, SURE, USUAL, AnyChannels, cues, finer


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (16, 16), (17, 30)])
@pytest.mark.parametrize(("x_channels", "channels"), [(1, 1), (1, 3), (3, 1), (4, 2)])
def test_any_size_and_channels(size: tuple[int, int], x_channels: int, channels: int) -> None:
    network = AnyChannels(x_channels, channels, widths=(4, 6)).eval()
    inputs = 2 * torch.rand(2, x_channels + channels, *size) - 1
    with torch.no_grad():
        output = network(inputs)
        alone = network(inputs[1:])
    assert output.shape == (2, 1, *size)
    assert (output > 0).all()
    torch.testing.assert_close(output[1:], alone)


def test_the_same_weights_fit_any_channels() -> None:
    shapes = [
        {name: value.shape for name, value in AnyChannels(*channels).state_dict().items()}
        for channels in ((1, 1), (3, 3), (1, 5))
    ]
    assert shapes[0] == shapes[1] == shapes[2]


def test_the_order_of_channels_counts_for_nothing() -> None:
    torch.manual_seed(0)
    network = AnyChannels(3, 3, widths=(4, 6)).eval()
    x, y_hat = (2 * torch.rand(1, 3, 12, 12) - 1 for _ in range(2))
    order = [2, 0, 1]
    with torch.no_grad():
        straight, turned = (
            network(torch.cat(both, 1)) for both in ((x, y_hat), (x[:, order], y_hat[:, order]))
        )
        crossed = network(torch.cat([x, y_hat[:, order]], 1))
    torch.testing.assert_close(straight, turned)
    assert not torch.allclose(straight, crossed, atol=1e-6), "each channel is seen beside its own of x"


def test_a_grey_image_in_colour_has_the_score_of_the_grey_one() -> None:
    torch.manual_seed(0)
    grey, colour = AnyChannels(1, 1, widths=(4, 6)).eval(), AnyChannels(3, 3, widths=(4, 6)).eval()
    colour.load_state_dict(grey.state_dict())
    x, y_hat = (2 * torch.rand(1, 1, 12, 12) - 1 for _ in range(2))
    with torch.no_grad():
        one = grey(torch.cat([x, y_hat], 1))
        three = colour(torch.cat([x.expand(-1, 3, -1, -1), y_hat.expand(-1, 3, -1, -1)], 1))
    torch.testing.assert_close(one, three)


def test_cues_are_logarithms_of_differences_at_a_pixel_and_around_it() -> None:
    x, y_hat = (np.random.default_rng(seed).random((3, 21, 17)) for seed in range(2))
    steps, change = steps_of(y_hat), np.abs(x - y_hat).mean(axis=0)
    near = [uniform_filter(each, 5, mode="nearest") for each in (steps, change, steps_of(x))]
    wide = [uniform_filter(each, 13, mode="nearest") for each in near[:2]]
    blurred = np.stack([uniform_filter(channel, 3, mode="nearest") for channel in y_hat])
    detail = np.abs(y_hat - blurred).mean(axis=0)
    expected = np.log(np.stack([steps, change, *near, *wide, detail]) + FAINT) - USUAL
    centred = (torch.from_numpy(2 * each - 1)[None] for each in (x, y_hat))
    np.testing.assert_allclose(cues(*centred)[0].numpy(), expected, rtol=1e-6)


def steps_of(image: np.ndarray) -> np.ndarray:
    """How far each pixel is from its four neighbours, the edge repeated."""
    height, width = image.shape[1:]
    around = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")
    shifts = [
        around[:, 1 + a : height + 1 + a, 1 + b : width + 1 + b]
        for a, b in ((0, 1), (0, -1), (1, 0), (-1, 0))
    ]
    return sum(np.abs(shifted - image) for shifted in shifts).mean(axis=0)


def test_details_are_finer_by_their_strength_beside_those_of_a_few_pixels() -> None:
    images = [np.random.default_rng(seed).random((3, 21, 17)) for seed in range(2)]
    images[0] = gaussian_filter(images[0], (0, 0.35, 0.35))
    of_x, of_y_hat = map(fineness, images)
    expected = 1 / (1 + np.exp(-SURE * (of_y_hat - of_x)))
    assert 0.1 < expected.min() < expected.max() < 0.999
    centred = (torch.from_numpy(2 * each - 1)[None] for each in images)
    np.testing.assert_allclose(finer(*centred)[0, 0].numpy(), expected, rtol=1e-6)


def fineness(image: np.ndarray) -> np.ndarray:
    mean = image.mean(axis=0)
    smooth = uniform_filter(mean, 3, mode="nearest")
    coarse = uniform_filter(smooth, 7, mode="nearest")
    fine, few = (
        uniform_filter(np.abs(each), 13, mode="nearest") for each in (mean - smooth, smooth - coarse)
    )
    return np.log((fine + FAINT) / (few + FAINT))


def test_noise_taken_away_and_details_added_are_told_apart() -> None:
    scene = gaussian_filter(np.random.default_rng(0).random((64, 64)), 2)
    rough = scene + 0.05 * np.random.default_rng(1).standard_normal(scene.shape)
    smooth, noisy = (torch.from_numpy(2 * each - 1)[None, None] for each in (scene, rough))
    assert finer(noisy, smooth).max() < 0.01
    assert finer(smooth, noisy).min() > 0.99
    assert (finer(smooth, smooth) == 0.5).all()


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_it_can_be_a_power_of_a_cue_over_decades(power: float) -> None:
    network = AnyChannels(1, 1, widths=(4, 6)).eval()
    with torch.no_grad():
        for layer in (network.out, network.powers):
            layer.weight.zero_()
            layer.bias.zero_()
        network.powers.weight[0, 1] = power
    x = torch.zeros(1, 1, 16, 16)
    changes = torch.logspace(-3, -0.7, 256).reshape(x.shape)
    expected = ((changes + FAINT) / math.exp(USUAL)) ** power
    output = network(2 * torch.cat([x, changes], dim=1) - 1).detach()
    np.testing.assert_allclose(output, expected.clamp(math.exp(LEAST), math.exp(MOST)), rtol=1e-4)


def test_settings_make_it_again() -> None:
    network = AnyChannels(2, 1, widths=(4, 6))
    assert AnyChannels(**network.settings).settings == network.settings
