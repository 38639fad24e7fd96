import pytest
import torch
from torch import nn

from conformask.scores.networks import UNet, levels_for


@pytest.mark.parametrize("paper_form", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 3), (16, 16), (17, 30), (33, 31)])
def test_any_size(size: tuple[int, int], paper_form: bool) -> None:
    network = UNet(3, 2, width=4, levels=3, paper_form=paper_form).eval()
    image = torch.rand(2, 3, *size)
    with torch.no_grad():
        output = network(image)
        alone = network(image[1:])
    assert output.shape == (2, 2, *size)
    assert output.isfinite().all()
    torch.testing.assert_close(output[1:], alone)


@pytest.mark.parametrize("levels", [1, 2, 5, 8])
def test_levels_halve_and_widen(levels: int) -> None:
    network = UNet(1, 1, width=2, levels=levels)
    widths = [block.convolution.out_channels for block in network.down]
    assert widths == [2, 4, 8, 16, 16, 16, 16, 16][:levels]
    assert network(torch.rand(1, 1, 2**levels, 2**levels)).shape == (1, 1, 2**levels, 2**levels)
    assert network.settings == {
        "in_channels": 1, "out_channels": 1, "width": 2, "levels": levels, "paper_form": False,
        "residual": False,
    }  # fmt: skip
    assert UNet(**network.settings).settings == network.settings


def test_levels_for_a_size() -> None:
    assert [levels_for(size) for size in (1, 2, 3, 16, 31, 32, 256, 4096)] == [1, 1, 1, 4, 4, 5, 8, 8]


@pytest.mark.parametrize("paper_form", [False, True])
def test_start_at(paper_form: bool) -> None:
    network = UNet(2, 1, width=4, levels=2, paper_form=paper_form).start_at(-1.5)
    output = network(torch.rand(2, 2, 12, 12))
    assert (output == -1.5).all()
    output.sum().backward()
    assert network.out.weight.grad is not None
    assert (network.out.weight.grad != 0).any(), "an untrained network must be able to learn"


def test_batch_of_one_trains_at_the_smallest_size() -> None:
    for size in (2, 16):
        output = UNet(1, 1, width=4, levels=levels_for(size)).train()(torch.rand(1, 1, size, size))
        assert output.isfinite().all()


def test_only_the_paper_form_has_transposed_convolutions() -> None:
    kinds = [
        {type(module) for module in UNet(1, 1, width=4, levels=2, paper_form=form).modules()}
        for form in (False, True)
    ]
    assert nn.ConvTranspose2d not in kinds[0]
    assert nn.ConvTranspose2d in kinds[1]


def test_residual_blocks_follow_each_halving() -> None:
    plain, residual = (UNet(1, 1, width=4, levels=3, residual=residual) for residual in (False, True))
    added = set(residual.state_dict()) - set(plain.state_dict())
    assert {name.split(".")[2] for name in added} == {"refined"}
    assert {name.split(".")[1] for name in added} == {"0", "1", "2"}
    assert residual.eval()(torch.rand(2, 1, 9, 13)).shape == (2, 1, 9, 13)


def checkerboard(paper_form: bool, seed: int) -> float:
    """Difference between even and odd pixels where the input is constant, relative to the output."""
    torch.manual_seed(seed)
    network = UNet(1, 1, width=8, levels=3, paper_form=paper_form).eval()
    with torch.no_grad():
        inner = network(torch.full((1, 1, 128, 128), 0.7))[..., 48:80, 48:80]
    phases = torch.stack([inner[..., i::2, j::2].mean() for i in (0, 1) for j in (0, 1)])
    return float((phases.max() - phases.min()) / inner.abs().mean())


def test_no_checkerboard() -> None:
    with torch.random.fork_rng():
        assert max(checkerboard(False, seed) for seed in range(4)) < 1e-5
        assert min(checkerboard(True, seed) for seed in range(4)) > 1e-3
