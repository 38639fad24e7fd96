"""Distances of volumes: SSIM in three dimensions, perceptual ones over slices."""

import torch
from torchmetrics.functional.image import (
    structural_similarity_index_measure,
)

from conformask.losses.distances import MapOf, distance
from conformask.losses.perceptual import Lpips, Ssim


def pair(*size: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    y = torch.rand(2, 1, *size, generator=generator)
    return y, (y + 0.2 * torch.rand(2, 1, *size, generator=generator)).clamp(0, 1)


def test_ssim_is_that_of_torchmetrics() -> None:
    y, y_hat = pair(12, 17, 14)
    expected = [
        1 - structural_similarity_index_measure(a[None], b[None], sigma=1.5, data_range=1.0)
        for a, b in zip(y, y_hat, strict=True)
    ]
    torch.testing.assert_close(distance("ssim")(y, y_hat), torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_the_map_of_ssim_has_the_volume_s_shape() -> None:
    y, y_hat = pair(12, 17, 14)
    errors = MapOf(Ssim()).error_map(y, y_hat)
    assert errors.shape == y.shape
    torch.testing.assert_close(errors.mean(dim=(1, 2, 3, 4)), Ssim()(y, y_hat), rtol=1e-4, atol=1e-5)


class OneSlice(torch.nn.Module):
    """A network that gives each slice its own mean difference."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> list[torch.Tensor]:
        assert a.ndim == 4
        return [(a - b).abs().mean(dim=1, keepdim=True)]


def test_lpips_is_the_mean_over_slices(monkeypatch) -> None:
    monkeypatch.setattr("conformask.losses.perceptual._network", lambda *_: OneSlice())
    monkeypatch.setattr("conformask.losses.perceptual.weights_file", lambda *_: None)
    y, y_hat = pair(3, 20, 24)
    whole = Lpips("squeeze")
    slices = torch.stack([whole(y[:, :, at], y_hat[:, :, at]) for at in range(3)]).mean(dim=0)
    torch.testing.assert_close(whole(y, y_hat), slices)
    errors = whole.error_map(y, y_hat)
    assert errors.shape == y.shape
    torch.testing.assert_close(errors[:, :, 1], whole.error_map(y[:, :, 1], y_hat[:, :, 1]))
