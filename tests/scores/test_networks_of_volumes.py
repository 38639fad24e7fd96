"""Networks of volumes: which sides are halved, and slice by slice."""

import pytest
import torch

from conformask.scores.networks import SliceWise, UNet, channels_of, halvings_for, stored_network


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
def test_an_axis_is_halved_once_its_step_is_at_most_twice_the_finest(size, spacing, expected) -> None:
    assert halvings_for(size, spacing, 4) == expected


def test_no_halving_of_what_is_one_pixel() -> None:
    assert halvings_for((2, 2, 2), None, 4) == [(2, 2, 2)]


@pytest.mark.parametrize("size", [(1, 1, 1), (5, 9, 7), (3, 16, 17)])
@pytest.mark.parametrize("halvings", [[(2, 2, 2)] * 2, [(1, 2, 2), (2, 2, 2)]])
def test_a_volume_of_any_size(size, halvings) -> None:
    network = UNet(2, 3, width=4, halvings=halvings, residual=True).eval()
    volume = torch.rand(2, 2, *size)
    with torch.no_grad():
        output = network(volume)
        torch.testing.assert_close(output[1:], network(volume[1:]))
    assert output.shape == (2, 3, *size)
    assert output.isfinite().all()


def test_what_a_file_keeps_of_them(tmp_path) -> None:
    planes = UNet(channels_of(2), 1, width=4, levels=2, residual=True)
    for network in (UNet(2, 1, width=4, halvings=[(1, 2, 2), (2, 2, 2)]), SliceWise(planes)):
        again = stored_network(network.settings, tmp_path)
        again.load_state_dict(network.state_dict())
        volume = torch.rand(1, 2, 5, 12, 9)
        torch.testing.assert_close(again.eval()(volume), network.eval()(volume))


def test_a_slice_sees_its_neighbours_and_no_more() -> None:
    network = SliceWise(UNet(channels_of(1), 1, width=4, levels=2)).eval()
    volume = torch.rand(1, 1, 9, 8, 8, requires_grad=True)
    network(volume)[0, 0, 4].sum().backward()
    seen = volume.grad[0, 0].abs().sum(dim=(1, 2)) > 0
    assert seen.tolist() == [False] * 3 + [True] * 3 + [False] * 3


@pytest.mark.parametrize("depth", [1, 2, 40])
def test_slices_are_those_of_the_network_of_planes(depth) -> None:
    """At the ends a slice is its own neighbour; more slices than one pass takes make no difference."""
    planes = UNet(channels_of(1), 2, width=4, levels=2).eval()
    volume = torch.rand(1, 1, depth, 8, 9)
    padded = torch.cat([volume[:, :, :1], volume, volume[:, :, -1:]], dim=2)
    expected = [planes(padded[:, 0, place : place + 3]) for place in range(depth)]
    with torch.no_grad():
        output = SliceWise(planes)(volume)
    torch.testing.assert_close(output, torch.stack(expected, dim=2), rtol=1e-5, atol=1e-6)
