"""The contract of a family: subclass it in a test module, and pytest runs every law on your family."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from conformask.masks.mask_family import Family


class FamilyContract:
    """Laws of a nested family. `class TestMine(FamilyContract): family = Mine()`.

    The guarantee relies on these: 0 at lam = 0, 1 at lam = inf, never shrinking and left-continuous in
    between, and a critical lambda that is the last to pass.
    """

    family: Family
    exponents: tuple[float, ...] = (1.0, 2.0)
    """Exponents p of the distances with which critical_lambda is tested."""
    smallest: float = 1e-30
    """A lambda that must open something; larger for a family whose masks float32 rounds to 0 there."""

    def test_range_and_shape(self) -> None:
        """Check that masks have the score's shape and lie in [0, 1]."""
        for score, _ in cases():
            for lam in ladder(score):
                mask = self.mask(score, lam)
                assert mask.shape == score.shape
                assert ((mask >= 0) & (mask <= 1)).all(), f"outside [0, 1] at lam = {lam}"

    def test_nested(self) -> None:
        """Check that no pixel closes as lam grows."""
        for score, _ in cases():
            masks = torch.stack([self.mask(score, lam) for lam in ladder(score)])
            assert (masks.diff(dim=0) >= 0).all()

    def test_zero_masks_everything(self) -> None:
        """Check F(score; 0) = 0, also where the score is 0."""
        assert all((self.mask(score, 0.0) == 0).all() for score, _ in cases())

    def test_infinity_masks_nothing(self) -> None:
        """Check F(score; inf) = 1."""
        assert all((self.mask(score, math.inf) == 1).all() for score, _ in cases())

    def test_left_continuous(self) -> None:
        """Check F(score; l) -> F(score; lam) as l rises to lam, also at scores and critical lambdas."""
        for score, error in cases():
            threshold = 0.3 * float(error.double().mean())
            critical = self.family.critical_lambda(score, error, 1.0, threshold)
            for lam in [*ladder(score), *score.flatten()[:5].tolist(), float(critical[0])]:
                if 0 < lam < math.inf:
                    gap = self.mask(score, lam) - self.mask(score, lam * (1 - 1e-7))
                    assert gap.abs().mean() < 1e-3, f"jumps from the left at lam = {lam}"

    def test_grid_of_lambdas(self) -> None:
        """Check that each column of lam (N, G) gets the level that it has alone."""
        for score, _ in cases():
            grid = torch.tensor(ladder(score), dtype=torch.float64).repeat(len(score), 1)
            levels = self.family.level(score, grid)
            for column in range(grid.shape[1]):
                alone = self.family.apply(score, self.family.level(score, grid[:, column]))
                together = self.family.apply(score, levels[:, column])
                torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)

    def test_images_do_not_mix(self) -> None:
        """Check that an image's mask does not depend on the rest of the batch."""
        score = torch.cat([score for score, _ in cases() if score.shape[1:] == (3, 8, 9)])
        lam = torch.linspace(0.001, 0.2, len(score), dtype=torch.float64)
        batch = self.family.apply(score, self.family.level(score, lam))
        for index in range(len(score)):
            torch.testing.assert_close(
                batch[index], self.mask(score[index : index + 1], float(lam[index]))[0]
            )

    def test_critical_lambda_is_the_last_to_pass(self) -> None:
        """Check lambdas: a finite one passes, and fails 1e-4 further; inf passes; 0 fails at `smallest`."""
        for score, error in cases():
            for exponent in self.exponents:
                for share in (0.0, 1e-3, 0.2, 0.7, 0.999, 1.0, 2.0):
                    self._check_critical(score, error, exponent, share * float(error.double().mean()))

    def _check_critical(self, score: Tensor, error: Tensor, exponent: float, threshold: float) -> None:
        lambdas = self.family.critical_lambda(score, error, exponent, threshold)
        assert lambdas.shape == (len(score),)
        assert lambdas.dtype == torch.float64
        lam = float(lambdas[0])
        allowed = threshold * (1 + 1e-6)
        assert self.distance(score, error, exponent, lam) <= allowed, f"critical lambda {lam} fails"
        if math.isfinite(lam):
            beyond = max(lam * (1 + 1e-4), self.smallest)
            assert self.distance(score, error, exponent, beyond) > threshold, f"more than {lam} passes"

    def test_curve_is_that_of_the_masks(self) -> None:
        """Check that distance and size at a grid of lambdas are those of the masks themselves."""
        for score, error in cases():
            grid = np.array(ladder(score))
            for exponent in self.exponents:
                distance, size = self.family.curve(score, error, exponent, grid)
                masks = [self.mask(score, lam) for lam in grid]
                sizes = [1 - float(mask.double().mean()) for mask in masks]
                distances = [self.distance(score, error, exponent, lam) for lam in grid]
                np.testing.assert_allclose(size[0], sizes, atol=1e-5)
                np.testing.assert_allclose(distance[0], distances, rtol=1e-4, atol=1e-9)

    def mask(self, score: Tensor, lam: float) -> Tensor:
        """Return F(score; lam)."""
        level = self.family.level(score, torch.full((len(score),), lam, dtype=torch.float64))
        return self.family.apply(score, level)

    def distance(self, score: Tensor, error: Tensor, exponent: float, lam: float) -> float:
        """Return mean(F(score; lam)^p * error) for a single image."""
        return float((self.mask(score, lam).double() ** exponent * error.double()).mean())


def ladder(score: Tensor) -> list[float]:
    """Return lambdas from 0 through the score's scale to inf."""
    scale = float(score.double().mean()) or 1.0
    return [0.0, *(scale * 10.0 ** (k / 2) for k in range(-12, 9)), math.inf]


def cases() -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pairs of score and error, (1, C, H, W): ordinary, tied, constant, zero, one pixel, huge range."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(6, 3, 8, 9, generator=generator)
    score, error = (noise[:1] - 3).exp(), (noise[1:2] - 3).exp()
    steps, sparse = (noise[2:3].abs() * 3).floor() / 16, (noise[3:4] - 1).clamp(min=0)
    zero, half = torch.zeros_like(score), torch.full_like(score, 0.5)
    yield from ((score, error), (score, score * error), (score, score), (score, zero), (score, half))
    yield from ((steps, error), (steps, sparse), (sparse, error), (sparse, sparse), (half, error))
    yield from ((zero, error), (zero, zero), (half, half), ((noise[4:5] * 12).exp(), error))
    yield from ((score[:, :1, :1, :1], error[:, :1, :1, :1]), (zero[:, :1, :1, :1], half[:, :1, :1, :1]))
