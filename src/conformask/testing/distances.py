"""The contract of a distance: subclass it in a test module, and pytest runs every law on your distance."""

import torch
from torch import Tensor

from conformask.arithmetic import image_means
from conformask.types import Distance

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
