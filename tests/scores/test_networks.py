"""Networks: U-Nets of planes and volumes, PatchGAN, and the packaged one for any channels."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, uniform_filter
from torch import nn

from conformask.scores.networks import (
    FAINT,
    LEAST,
    MOST,
    SURE,
    USUAL,
    AnyChannels,
    PatchGAN,
    SliceWise,
    UNet,
    averaged,
    channels_of,
    cues,
    finer,
    halvings_for,
    levels_for,
    stored_network,
)


@pytest.mark.parametrize("paper_form", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 3), (16, 16), (17, 30), (33, 31)])
def test_any_size(size, paper_form):
    network = UNet(3, 2, width=4, levels=3, paper_form=paper_form).eval()
    image = torch.rand(2, 3, *size)
    with torch.no_grad():
        output = network(image)
        alone = network(image[1:])
    assert output.shape == (2, 2, *size)
    assert output.isfinite().all()
    torch.testing.assert_close(output[1:], alone)


@pytest.mark.parametrize("levels", [1, 2, 5, 8])
def test_levels_halve_and_widen(levels):
    network = UNet(1, 1, width=2, levels=levels)
    widths = [block.convolution.out_channels for block in network.down]
    assert widths == [2, 4, 8, 16, 16, 16, 16, 16][:levels]
    assert network(torch.rand(1, 1, 2**levels, 2**levels)).shape == (1, 1, 2**levels, 2**levels)
    assert network.settings == {
        "in_channels": 1, "out_channels": 1, "width": 2, "levels": levels, "paper_form": False,
        "residual": False,
    }  # fmt: skip
    assert UNet(**network.settings).settings == network.settings


def test_levels_for_a_size():
    assert [levels_for(size) for size in (1, 2, 3, 16, 31, 32, 256, 4096)] == [1, 1, 1, 4, 4, 5, 8, 8]


@pytest.mark.parametrize("paper_form", [False, True])
def test_start_at(paper_form):
    network = UNet(2, 1, width=4, levels=2, paper_form=paper_form).start_at(-1.5)
    output = network(torch.rand(2, 2, 12, 12))
    assert (output == -1.5).all()
    output.sum().backward()
    assert network.out.weight.grad is not None
    assert (network.out.weight.grad != 0).any(), "an untrained network must be able to learn"


def test_batch_of_one_trains_at_the_smallest_size():
    for size in (2, 16):
        output = UNet(1, 1, width=4, levels=levels_for(size)).train()(torch.rand(1, 1, size, size))
        assert output.isfinite().all()


def test_only_the_paper_form_has_transposed_convolutions():
    kinds = [
        {type(module) for module in UNet(1, 1, width=4, levels=2, paper_form=form).modules()}
        for form in (False, True)
    ]
    assert nn.ConvTranspose2d not in kinds[0]
    assert nn.ConvTranspose2d in kinds[1]


def test_residual_blocks_follow_each_halving():
    plain, residual = (UNet(1, 1, width=4, levels=3, residual=residual) for residual in (False, True))
    added = set(residual.state_dict()) - set(plain.state_dict())
    assert {name.split(".")[2] for name in added} == {"refined"}
    assert {name.split(".")[1] for name in added} == {"0", "1", "2"}
    assert residual.eval()(torch.rand(2, 1, 9, 13)).shape == (2, 1, 9, 13)


def checkerboard(paper_form, seed):
    """Difference between even and odd pixels where the input is constant, relative to the output."""
    torch.manual_seed(seed)
    network = UNet(1, 1, width=8, levels=3, paper_form=paper_form).eval()
    with torch.no_grad():
        inner = network(torch.full((1, 1, 128, 128), 0.7))[..., 48:80, 48:80]
    phases = torch.stack([inner[..., i::2, j::2].mean() for i in (0, 1) for j in (0, 1)])
    return float((phases.max() - phases.min()) / inner.abs().mean())


def test_no_checkerboard():
    with torch.random.fork_rng():
        assert max(checkerboard(False, seed) for seed in range(4)) < 1e-5
        assert min(checkerboard(True, seed) for seed in range(4)) > 1e-3


@pytest.mark.parametrize(
    ("size", "spacing", "expected"),
    [
        ((16, 40, 48), None, [(2, 2, 2)] * 4),
        ((16, 40, 48), (1.0, 1.0, 1.0), [(2, 2, 2)] * 4),
        ((16, 64, 64), (2.0, 1.0, 1.0), [(2, 2, 2)] * 4),
        ((16, 64, 64), (4.0, 1.0, 1.0), [(1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)]),
        ((20, 64, 64), (45.0, 4.6, 4.6), [(1, 2, 2), (1, 2, 2), (1, 2, 2), (2, 2, 2)]),
        ((3, 64, 64), (1.0, 1.0, 1.0), [(2, 2, 2), (1, 2, 2), (1, 2, 2), (1, 2, 2)]),
        ((1, 16, 16), (1.0, 1.0, 1.0), [(1, 2, 2)] * 4),
    ],
)
def test_an_axis_is_halved_once_its_step_is_at_most_twice_the_finest(size, spacing, expected):
    assert halvings_for(size, spacing, 4) == expected


def test_no_halving_of_what_is_one_pixel():
    assert halvings_for((2, 2, 2), None, 4) == [(2, 2, 2)]


@pytest.mark.parametrize("size", [(1, 1, 1), (5, 9, 7), (3, 16, 17)])
@pytest.mark.parametrize("halvings", [[(2, 2, 2)] * 2, [(1, 2, 2), (2, 2, 2)]])
def test_a_volume_of_any_size(size, halvings):
    network = UNet(2, 3, width=4, halvings=halvings, residual=True).eval()
    volume = torch.rand(2, 2, *size)
    with torch.no_grad():
        output = network(volume)
        torch.testing.assert_close(output[1:], network(volume[1:]))
    assert output.shape == (2, 3, *size)
    assert output.isfinite().all()


def test_what_a_file_keeps_of_them(tmp_path):
    planes = UNet(channels_of(2), 1, width=4, levels=2, residual=True)
    for network in (UNet(2, 1, width=4, halvings=[(1, 2, 2), (2, 2, 2)]), SliceWise(planes)):
        again = stored_network(network.settings, tmp_path)
        again.load_state_dict(network.state_dict())
        volume = torch.rand(1, 2, 5, 12, 9)
        torch.testing.assert_close(again.eval()(volume), network.eval()(volume))


def test_a_slice_sees_its_neighbours_and_no_more():
    network = SliceWise(UNet(channels_of(1), 1, width=4, levels=2)).eval()
    volume = torch.rand(1, 1, 9, 8, 8, requires_grad=True)
    network(volume)[0, 0, 4].sum().backward()
    seen = volume.grad[0, 0].abs().sum(dim=(1, 2)) > 0
    assert seen.tolist() == [False] * 3 + [True] * 3 + [False] * 3


@pytest.mark.parametrize("depth", [1, 2, 40])
def test_slices_are_those_of_the_network_of_planes(depth):
    """At the ends a slice is its own neighbour; more slices than one pass takes make no difference."""
    planes = UNet(channels_of(1), 2, width=4, levels=2).eval()
    volume = torch.rand(1, 1, depth, 8, 9)
    padded = torch.cat([volume[:, :, :1], volume, volume[:, :, -1:]], dim=2)
    expected = [planes(padded[:, 0, place : place + 3]) for place in range(depth)]
    with torch.no_grad():
        output = SliceWise(planes)(volume)
    torch.testing.assert_close(output, torch.stack(expected, dim=2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "patches"), [((1, 1), (1, 1)), ((8, 9), (1, 2)), ((33, 64), (5, 8)), ((256, 256), (32, 32))]
)
def test_a_logit_for_each_patch_of_any_size(size, patches):
    logits = PatchGAN(4, width=4)(torch.rand(2, 4, *size))
    assert logits.shape == (2, 1, *patches)
    assert logits.isfinite().all()


def test_four_convolutions():
    convolutions = [module for module in PatchGAN(2, width=8).modules() if isinstance(module, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [8, 16, 32, 1]


def test_what_a_logit_sees():
    network = PatchGAN(1, width=2).eval()
    image = torch.rand(1, 1, 128, 128, requires_grad=True)
    network(image)[0, 0, 8, 8].backward()
    seen = image.grad[0, 0] != 0
    assert (int(seen.any(0).sum()), int(seen.any(1).sum())) == (38, 38)


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (16, 16), (17, 30)])
@pytest.mark.parametrize(("x_channels", "channels"), [(1, 1), (1, 3), (3, 1), (4, 2)])
def test_any_size_and_channels(size, x_channels, channels):
    network = AnyChannels(x_channels, channels, widths=(4, 6)).eval()
    inputs = 2 * torch.rand(2, x_channels + channels, *size) - 1
    with torch.no_grad():
        output = network(inputs)
        alone = network(inputs[1:])
    assert output.shape == (2, 1, *size)
    assert (output > 0).all()
    torch.testing.assert_close(output[1:], alone)


def test_the_same_weights_fit_any_channels():
    shapes = [
        {name: value.shape for name, value in AnyChannels(*channels).state_dict().items()}
        for channels in ((1, 1), (3, 3), (1, 5))
    ]
    assert shapes[0] == shapes[1] == shapes[2]


def test_the_order_of_channels_counts_for_nothing():
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


def test_a_grey_image_in_colour_has_the_score_of_the_grey_one():
    torch.manual_seed(0)
    grey, colour = AnyChannels(1, 1, widths=(4, 6)).eval(), AnyChannels(3, 3, widths=(4, 6)).eval()
    colour.load_state_dict(grey.state_dict())
    x, y_hat = (2 * torch.rand(1, 1, 12, 12) - 1 for _ in range(2))
    with torch.no_grad():
        one = grey(torch.cat([x, y_hat], 1))
        three = colour(torch.cat([x.expand(-1, 3, -1, -1), y_hat.expand(-1, 3, -1, -1)], 1))
    torch.testing.assert_close(one, three)


def test_cues_are_logarithms_of_differences_at_a_pixel_and_around_it():
    x, y_hat = (np.random.default_rng(seed).random((3, 21, 17)) for seed in range(2))
    steps, change = steps_of(y_hat), np.abs(x - y_hat).mean(axis=0)
    near = [uniform_filter(each, 5, mode="nearest") for each in (steps, change, steps_of(x))]
    wide = [uniform_filter(each, 13, mode="nearest") for each in near[:2]]
    blurred = np.stack([uniform_filter(channel, 3, mode="nearest") for channel in y_hat])
    detail = np.abs(y_hat - blurred).mean(axis=0)
    expected = np.log(np.stack([steps, change, *near, *wide, detail]) + FAINT) - USUAL
    centred = (torch.from_numpy(2 * each - 1)[None] for each in (x, y_hat))
    np.testing.assert_allclose(cues(*centred)[0].numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("side", [3, 7, 15])
def test_means_by_the_kernel_are_bit_for_bit_those_of_a_graph(side):
    """What is exported or differentiated adds shifted images, a processor rows of pixels."""
    for shape in ((2, 3, 30, 41), (1, 1, 5, 2)):
        images = (torch.rand(shape, generator=torch.Generator().manual_seed(side)) ** 6).mT
        in_graph = averaged(images.clone().requires_grad_(), side)
        assert in_graph.grad_fn is not None
        assert torch.equal(averaged(images, side), in_graph)


def steps_of(image):
    """How far each pixel is from its four neighbours, the edge repeated."""
    height, width = image.shape[1:]
    around = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")
    shifts = [
        around[:, 1 + a : height + 1 + a, 1 + b : width + 1 + b]
        for a, b in ((0, 1), (0, -1), (1, 0), (-1, 0))
    ]
    return sum(np.abs(shifted - image) for shifted in shifts).mean(axis=0)


def test_details_are_finer_by_their_strength_beside_those_of_a_few_pixels():
    images = [np.random.default_rng(seed).random((3, 21, 17)) for seed in range(2)]
    images[0] = gaussian_filter(images[0], (0, 0.35, 0.35))
    of_x, of_y_hat = map(fineness, images)
    expected = 1 / (1 + np.exp(-SURE * (of_y_hat - of_x)))
    assert 0.1 < expected.min() < expected.max() < 0.999
    centred = (torch.from_numpy(2 * each - 1)[None] for each in images)
    np.testing.assert_allclose(finer(*centred)[0, 0].numpy(), expected, rtol=1e-6)


def fineness(image):
    mean = image.mean(axis=0)
    smooth = uniform_filter(mean, 3, mode="nearest")
    coarse = uniform_filter(smooth, 7, mode="nearest")
    fine, few = (
        uniform_filter(np.abs(each), 13, mode="nearest") for each in (mean - smooth, smooth - coarse)
    )
    return np.log((fine + FAINT) / (few + FAINT))


def test_noise_taken_away_and_details_added_are_told_apart():
    scene = gaussian_filter(np.random.default_rng(0).random((64, 64)), 2)
    rough = scene + 0.05 * np.random.default_rng(1).standard_normal(scene.shape)
    smooth, noisy = (torch.from_numpy(2 * each - 1)[None, None] for each in (scene, rough))
    assert finer(noisy, smooth).max() < 0.01
    assert finer(smooth, noisy).min() > 0.99
    assert (finer(smooth, smooth) == 0.5).all()


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_it_can_be_a_power_of_a_cue_over_decades(power):
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


def test_settings_make_it_again():
    network = AnyChannels(2, 1, widths=(4, 6))
    assert AnyChannels(**network.settings).settings == network.settings
