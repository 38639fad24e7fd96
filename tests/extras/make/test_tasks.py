import pytest
import torch
import torch.nn.functional as F

from conformask.errors import ImageError, InvalidArgumentError
from conformask.extras.make.tasks import TASKS, Completion, SuperResolution, luma, task


def images(channels=3, height=32, width=32, seed=0):
    return torch.rand((2, channels, height, width), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", TASKS)
def test_every_task_keeps_the_promises_of_its_protocol(name):
    made = task(name)
    assert made.name == name
    y = made.truth(images())
    x = made.degrade(y)
    before = x.clone()
    enlarged = made.enlarge(x)
    assert enlarged.shape[-2:] == y.shape[-2:]
    assert 0 <= enlarged.min() <= enlarged.max() <= 1
    y_hat = made.compose(x, 3 * torch.randn(y.shape, generator=torch.Generator().manual_seed(1)))
    assert y_hat.shape == y.shape
    assert 0 <= y_hat.min() <= y_hat.max() <= 1
    assert torch.equal(x, before)
    assert torch.equal(made.degrade(y[1:]), x[1:])


def test_unknown_task():
    with pytest.raises(InvalidArgumentError, match="did you mean 'super_resolution'"):
        task("superresolution")
    with pytest.raises(InvalidArgumentError, match="choose from"):
        task("denoise")


def test_luma_is_itu_601():
    primaries = torch.eye(3)[:, :, None, None]
    assert luma(primaries).flatten().tolist() == pytest.approx([0.299, 0.587, 0.114])
    assert luma(torch.ones(1, 3, 2, 2)).max() <= 1
    with pytest.raises(ImageError, match="2 channels"):
        luma(images(2))


def test_the_hole_of_the_paper():
    hole = Completion().hole(256, 256)
    assert hole[0].sum() == 32 == hole[:, 0].sum()
    assert hole[0, 112:144].all()
    assert hole[112:144, 0].all()
    assert hole.sum() == 2 * 32 * 256 - 32 * 32
    assert Completion().hole(64, 128)[0].sum() == 16
    assert Completion().hole(64, 128)[:, 0].sum() == 8


def test_completion_keeps_what_is_known():
    completion = Completion()
    y = completion.truth(images())
    assert y.shape == (2, 1, 32, 32)
    x = completion.degrade(y)
    hole = completion.hole(32, 32)
    assert (x[..., hole] == 0).all()
    assert torch.equal(x[..., ~hole], y[..., ~hole])
    output = images(1, seed=2)
    y_hat = completion.compose(x, output)
    assert torch.equal(y_hat[..., hole], output[..., hole])
    assert torch.equal(y_hat[..., ~hole], y[..., ~hole])


def test_super_resolution_averages_four_by_four():
    x = SuperResolution().degrade(images())
    y = images()
    assert x[1, 2, 3, 5].item() == pytest.approx(y[1, 2, 12:16, 20:24].mean().item(), abs=1e-6)
    assert torch.allclose(x, F.interpolate(y, scale_factor=0.25, mode="area"))
    assert SuperResolution().scale == 4


def test_super_resolution_needs_sides_that_divide_by_four():
    for act in (SuperResolution().truth, SuperResolution().degrade):
        with pytest.raises(ImageError, match=r"30 x 33 pixels.*--size 28"):
            act(images(1, 30, 33))


def test_colorization_needs_colour():
    for act in (task("colorization").truth, task("colorization").degrade):
        with pytest.raises(ImageError, match="1 channels; colorization needs colour"):
            act(images(1))
    assert torch.equal(task("colorization").degrade(images()), luma(images()))
