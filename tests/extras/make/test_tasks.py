import pytest
import torch
import torch.nn.functional as F

from conformask.errors import ImageError, InvalidArgumentError
from conformask.extras.make.predictors import Bicubic, Biharmonic
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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: task("superresolution"), "did you mean 'super_resolution'"),
        (lambda: task("denoise"), "choose from"),
        (lambda: luma(images(2)), "2 channels"),
        (lambda: SuperResolution().truth(images(1, 30, 33)), r"30 x 33 pixels.*--size 28"),
        (lambda: SuperResolution().degrade(images(1, 30, 33)), r"30 x 33 pixels.*--size 28"),
        (lambda: task("colorization").truth(images(1)), "1 channels; colorization needs colour"),
        (lambda: task("colorization").degrade(images(1)), "1 channels; colorization needs colour"),
        (lambda: Biharmonic(task("colorization")), "biharmonic fills holes.*use it with --task completion"),
        (lambda: Bicubic(task("completion")), "bicubic enlarges.*use it with --task super_resolution"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises((ImageError, InvalidArgumentError), match=message):
        call()


def test_luma_is_itu_601():
    primaries = torch.eye(3)[:, :, None, None]
    assert luma(primaries).flatten().tolist() == pytest.approx([0.299, 0.587, 0.114])
    assert luma(torch.ones(1, 3, 2, 2)).max() <= 1


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


def test_colorization_takes_the_luma_away():
    assert torch.equal(task("colorization").degrade(images()), luma(images()))


def waves(height=32, width=32, channels=1):
    rows, columns = torch.arange(height)[:, None] / height, torch.arange(width)[None] / width
    plane = 0.5 + 0.2 * torch.sin(3 * rows) + 0.2 * torch.cos(4 * columns)
    return torch.stack([plane, 1 - plane])[:, None].repeat(1, channels, 1, 1)


def test_biharmonic_fills_smooth_images_well_and_only_the_hole():
    completion = task("completion")
    y = waves()
    x = completion.degrade(y)
    y_hat = Biharmonic(completion)(x)
    hole = completion.hole(32, 32)
    assert y_hat.dtype == torch.float32
    assert torch.equal(y_hat[..., ~hole], y[..., ~hole])
    assert (y_hat - y).abs().max() < 0.02
    assert torch.allclose(Biharmonic(completion)(x[1:]), y_hat[1:])


def test_bicubic_enlarges_smooth_images_well():
    super_resolution = task("super_resolution")
    y = waves(channels=3)
    y_hat = Bicubic(super_resolution)(super_resolution.degrade(y))
    assert y_hat.shape == y.shape
    assert (y_hat - y).abs()[..., 4:-4, 4:-4].max() < 0.02
    assert Bicubic(super_resolution)(torch.eye(8)[None, None]).min() >= 0


def test_names():
    assert Biharmonic(task("completion")).name == "biharmonic"
    assert Bicubic(task("super_resolution")).name == "bicubic"
