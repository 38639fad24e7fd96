"""For your own tests: contracts that any distance or family must satisfy, and a small masker."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from conformask.arrays import Distance, image_means
from conformask.images.triplets import Triplets
from conformask.masker.calibrate import calibrate
from conformask.masker.masker import Masker
from conformask.masks.family import Family
from conformask.scores.scorer import Heuristic
from conformask.scores.simple import residual

ROUNDING = 1e-5


class DistanceContract:
    """Laws of a distance. `class TestMine(DistanceContract): distance = Mine()`.

    Calibration, training and the rules for lambda rely on these, and on what the distance declares:
    monotone, exponent and upper_bound must hold.
    """

    distance: Distance
    shapes: tuple[tuple[int, int, int], ...] = ((1, 16, 16), (3, 17, 24))
    """Shapes of images (C, H, W) that the distance must take."""

    def test_one_number_an_image(self) -> None:
        """Check that distances have shape (N,), are finite, and not below 0."""
        for a, b in self.pairs():
            value = self.distance(a, b)
            assert value.shape == (len(a),)
            assert value.isfinite().all()
            assert (value >= -ROUNDING).all()

    def test_images_do_not_mix(self) -> None:
        """Check that an image's distance does not depend on the rest of the batch."""
        for a, b in self.pairs():
            alone = [self.distance(a[k : k + 1], b[k : k + 1])[0] for k in range(len(a))]
            torch.testing.assert_close(self.distance(a, b), torch.stack(alone), rtol=1e-4, atol=ROUNDING)

    def test_zero_between_equal_images(self) -> None:
        """Check d(a, a) = 0, also for empty images: whatever is fully masked passes."""
        for a, _ in self.pairs():
            for image in (a, torch.zeros_like(a)):
                assert (self.distance(image, image).abs() <= ROUNDING).all()

    def test_not_blind(self) -> None:
        """Check that the distance between black and white is above 0."""
        for a, _ in self.pairs():
            assert (self.distance(torch.zeros_like(a), torch.ones_like(a)) > ROUNDING).all()

    def test_gradient_is_finite(self) -> None:
        """Check that the gradient by the mask is finite where it is 0, 0.5 or 1, also for equal images."""
        for y, y_hat in self.pairs():
            for opened in (0.0, 0.5, 1.0):
                for other in (y_hat, y):
                    mask = torch.full_like(y[:, :1], opened, requires_grad=True)
                    self.distance(mask * y, mask * other).sum().backward()  # type: ignore[no-untyped-call]
                    assert mask.grad is not None
                    assert mask.grad.isfinite().all(), f"gradient at mask = {opened}"

    def test_upper_bound(self) -> None:
        """Check that no two images in [0, 1] are further apart than upper_bound."""
        bound = self.distance.upper_bound
        for a, b in self.pairs():
            for left, right in ((a, b), (torch.zeros_like(a), torch.ones_like(a)), (a, 1 - a)):
                assert bound is None or (self.distance(left, right) <= bound + ROUNDING).all()

    def test_exponent(self) -> None:
        """Check that a distance with an exponent is mean |a - b|^exponent, and monotone."""
        if self.distance.exponent is None:
            return
        assert self.distance.monotone
        for a, b in self.pairs():
            expected = image_means((a.double() - b.double()).abs().pow(self.distance.exponent))
            torch.testing.assert_close(self.distance(a, b).double(), expected, rtol=1e-5, atol=1e-9)

    def test_monotone(self) -> None:
        """Check that a distance declared monotone never grows as a mask shrinks."""
        if not self.distance.monotone:
            return
        generator = torch.Generator().manual_seed(1)
        for y, y_hat in self.pairs():
            mask, before = torch.ones_like(y[:, :1]), self.distance(y, y_hat)
            for _ in range(10):
                mask = mask * torch.rand(mask.shape, generator=generator).pow(0.2)
                value = self.distance(mask * y, mask * y_hat)
                assert (value <= before * (1 + ROUNDING)).all()
                before = value

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """Return pairs of images, (N, C, H, W) in [0, 1]: alike, unlike, equal, one of them black."""
        generator = torch.Generator().manual_seed(0)
        pairs = []
        for shape in self.shapes:
            a, noise = torch.rand(2, 5, *shape, generator=generator)
            b = (a + 0.1 * (noise - 0.5)).clamp(0, 1)
            b[1], b[2], b[3] = noise[1], a[2], 0.0
            pairs.append((a, b))
        return pairs


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


SIDE = 16
"""Height and width of the images."""
DATE = "2026-01-01T00:00:00+00:00"
"""Date of the calibration, a part of the fingerprint."""


def small_masker() -> Masker:
    """Return a masker that was calibrated on 40 grey images of 16 x 16 pixels; always the same.

    It takes a fraction of a second, and neither files nor a network. Its masks hide a part of each image.

    Examples:
        >>> from conformask.testing import small_masker, small_triplets
        >>> masker, new = small_masker(), small_triplets(seed=1)
        >>> mask = masker(new[0])
        >>> mask.shape, bool(0 < mask.mean() < 1)
        ((16, 16), True)
    """
    masker = calibrate(Heuristic(residual, channels=1), small_triplets(), threshold=0.02, loss="l1")
    return replace(masker, card=replace(masker.card, calibrated=DATE))


def small_triplets(n: int = 40, seed: int = 0) -> Triplets:
    """Return n noisy scenes x, their mean over three rows y_hat, and the scenes y, of 16 x 16 pixels.

    Those of `small_masker` have the seed 0; those of any other seed are like them.

    Examples:
        >>> from conformask.testing import small_triplets
        >>> small_triplets(3, seed=1)[0].x.shape
        (1, 16, 16)
    """
    generator = np.random.default_rng(seed)
    waves = np.sin(np.arange(SIDE) / 4 + generator.uniform(0, 6, (n, 1, 1)))
    y = generator.uniform(0.3, 0.5, (n, 1, 1)) * (1 + 0.5 * np.repeat(waves, SIDE, axis=1))
    x = y + 0.08 * generator.standard_normal((n, SIDE, SIDE))
    y_hat = (x + np.roll(x, 1, axis=1) + np.roll(x, -1, axis=1)) / 3
    return Triplets.from_arrays(*(image.clip(0, 1).astype(np.float32) for image in (x, y_hat, y)))


__all__ = ["DistanceContract", "FamilyContract", "small_masker", "small_triplets"]
