import pytest
import torch

from conformask.errors import InvalidArgumentError
from conformask.extras.make.predictors import Bicubic, Biharmonic
from conformask.extras.make.tasks import task


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


@pytest.mark.parametrize(
    ("predictor", "wrong", "message"),
    [
        (Biharmonic, "colorization", "biharmonic fills holes.*use it with --task completion"),
        (Bicubic, "completion", "bicubic enlarges.*use it with --task super_resolution"),
    ],
)
def test_the_wrong_task(predictor, wrong, message):
    with pytest.raises(InvalidArgumentError, match=message):
        predictor(task(wrong))


def test_names():
    assert Biharmonic(task("completion")).name == "biharmonic"
    assert Bicubic(task("super_resolution")).name == "bicubic"
