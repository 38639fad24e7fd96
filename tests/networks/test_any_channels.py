import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter

from conformask.networks.any_channels import FLAT, AnyChannels


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


def test_the_geometric_mean_of_what_is_expected_and_the_steepness_of_y_hat() -> None:
    network = AnyChannels(2, 3, widths=(4, 6)).eval()
    x, y_hat = torch.rand(1, 2, 9, 11), torch.rand(1, 3, 9, 11)
    inputs = 2 * torch.cat([x, y_hat], dim=1) - 1
    around = np.pad(y_hat[0].numpy(), ((0, 0), (1, 1), (1, 1)), mode="edge")
    shifts = (around[:, 1 + a : 10 + a, 1 + b : 12 + b] for a, b in ((0, 1), (0, -1), (1, 0), (-1, 0)))
    steps = sum(np.abs(shifted - around[:, 1:-1, 1:-1]) for shifted in shifts).mean(axis=0)
    steep = uniform_filter(steps, 5, mode="nearest")
    expected = np.sqrt(network.expected(inputs)[0, 0].detach().numpy() * (steep + FLAT))
    np.testing.assert_allclose(network(inputs)[0, 0].detach().numpy(), expected, rtol=1e-4)


def test_settings_make_it_again() -> None:
    network = AnyChannels(2, 1, widths=(4, 6))
    assert AnyChannels(**network.settings).settings == network.settings
