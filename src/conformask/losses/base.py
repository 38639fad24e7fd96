"""What a loss owes: one number per image and mask, and how its curves and critical lambdas are found."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from conformask.arithmetic import image_means
from conformask.arrays import Array, Batch, Distance, ErrorMap, Images, PerImage
from conformask.errors import MismatchError
from conformask.masks.family import Family, largest_lambda
from conformask.records.geometry import PhysicalWindow
from conformask.records.loss import LossTerms
from conformask.records.record import Json

VALUES_A_CALL = 2**16
"""Number of values of masked images that a loss is given at once, to fit into a CPU cache."""
ON_ACCELERATOR = 2**7
"""Factor on VALUES_A_CALL on an accelerator."""


class LossOfImages(ABC):
    """A loss on given images, for any masks; parts that need no mask are computed once.

    A loss that knows its curve, its critical lambda or its best masks exactly overrides these methods.
    """

    @property
    @abstractmethod
    def images(self) -> Images:
        """What the masks are compared on, (N, C, *space): as many masks fit into memory as it has values."""

    @abstractmethod
    def of(self, mask: Images) -> PerImage:
        """Compute the loss of each image under its mask."""

    @abstractmethod
    def take(self, places: Tensor) -> "LossOfImages":
        """Return the loss on the images at these places, which may repeat."""

    def curve(
        self, score: Images, family: Family, grid: Float[Array, "g"]
    ) -> tuple[Float[Array, "n g"], Float[Array, "n g"]]:
        """Compute (loss, mask size) of each image at every lambda of the grid, float64.

        They are measured mask by mask, as many lambdas at once as is efficient.
        """
        levels = family.level(score, torch.as_tensor(grid, device=score.device).expand(len(score), -1))
        values = VALUES_A_CALL * (1 if score.device.type == "cpu" else ON_ACCELERATOR)
        points = []
        for level_chunk in torch.split(levels, max(1, values // self.images.numel()), dim=1):
            lambdas = level_chunk.shape[1]
            mask = family.apply(score.repeat_interleave(lambdas, dim=0), level_chunk.flatten(0, 1))
            indices = torch.arange(len(score), device=score.device).repeat_interleave(lambdas)
            sizes = 1 - image_means(mask, torch.float64)
            points.append(torch.stack((_losses(self, mask, indices), sizes)).reshape(2, len(score), -1))
        losses, sizes = torch.cat(points, dim=2).cpu().numpy()
        return losses, sizes

    def critical_lambda(self, score: Images, family: Family, threshold: float) -> Float[Tensor, "n"]:
        """Return the largest lambda up to which each image is within the threshold, for a monotone loss.

        It is found by bisection, float64; see `largest_lambda`.
        """

        def is_within(lambdas: Tensor) -> Tensor:
            mask = family.apply(score, family.level(score, lambdas))
            return self.of(mask).detach().double() <= threshold

        return largest_lambda(is_within, len(score), score.device)

    def oracle(self, threshold: float) -> Images | None:
        """Return the smallest mask of each image within the threshold; None where none is known."""
        return None


def _losses(loss: LossOfImages, masks: Tensor, indices: Tensor) -> Tensor:
    """Compute the loss of each mask on the image at its place; open masks only once per image."""
    # many lambdas open a mask wholly; its loss is measured once, as a perceptual distance is slow
    is_open = masks.flatten(1).amin(dim=1) == 1
    losses = torch.empty(len(masks), dtype=torch.float64, device=masks.device)
    if not bool(is_open.all()):
        losses[~is_open] = loss.take(indices[~is_open]).of(masks[~is_open]).double()
    if bool(is_open.any()):
        image_indices, inverse = torch.unique(indices[is_open], return_inverse=True)
        first_mask = torch.zeros_like(image_indices).scatter_(
            0, inverse, torch.arange(len(inverse), device=inverse.device)
        )
        losses[is_open] = loss.take(image_indices).of(masks[is_open][first_mask]).double()[inverse]
    return losses


class Loss(ABC):
    """The quantity a promise is about: one number per image and mask, 0 for the closed mask."""

    @property
    @abstractmethod
    def terms(self) -> LossTerms:
        """The terms of the loss, as records keep them."""

    @abstractmethod
    def on(self, y: Images, y_hat: Images, region: Images | None, channels: int) -> LossOfImages:
        """Return the loss on images, for masks with this many channels; region (N, 1, *space) in [0, 1]."""

    def of_batch(self, batch: Batch, channels: int) -> LossOfImages:
        """Return the loss on the images of a batch, for masks with this many channels.

        Raises:
            MismatchError: the loss is about regions or objects, and the images have none.
        """
        return self.on(batch.truth(), batch.y_hat, self.region_of(batch), channels)

    def region_of(self, batch: Batch) -> Images | None:
        """Return the region that the loss is about, (N, 1, *space) in [0, 1]; None for whole images.

        Raises:
            MismatchError: the loss is about regions or objects, and the images have none.
        """
        if not self.terms.region:
            return None
        if batch.region is None:
            raise MismatchError(
                f"the promise is about the region of each image, and {batch.names[0]!r} has none: add a "
                "folder region/ or a column region"
            )
        return batch.region

    @abstractmethod
    def in_regions(self, regions: bool) -> "Loss":
        """Return the loss over the region of each image, or over whole images.

        Raises:
            InvalidArgumentError: `regions` is true, and the loss compares whole masked images.
        """

    def with_pixels(self, window: Callable[[str], PhysicalWindow]) -> "Loss":
        """Return the loss with each length, such as 5 mm, converted to pixels by this function."""
        return self

    @property
    def monotone(self) -> bool:
        """True if the loss is never larger under a smaller mask: critical lambdas then need no grid."""
        return False

    @property
    def relative(self) -> bool:
        """True if the loss is divided by what the mask shows: few pixels decide where little is shown."""
        return False

    @property
    def score_window(self) -> int | tuple[int, ...] | None:
        """The side of the window that scores are averaged over for this loss; None if they are not."""
        return None

    @property
    def exponent(self) -> float | None:
        """The exponent p, where the loss is mean(mask^p * error) and the exact kernels apply."""
        return None

    @property
    def upper_bound(self) -> float | None:
        """The largest value on images in [0, 1], if there is one."""
        return None

    @property
    def part(self) -> "Distance | ErrorMap | Loss":
        """The distance or error map that the loss is made of, or the loss itself."""
        return self

    def furthest(self, y_hat: Images) -> Images | None:
        """Return the largest error of each pixel that any truth could give, where `own_bounds`."""
        return None

    errors: ErrorMap | None = None
    """The error map that the loss is made of, if any."""

    @property
    def family(self) -> Mapping[str, Json] | None:
        """Settings of the family of masks for the loss; None for the scorer's own family of grey masks."""
        return {"name": "binary", "bounds": "total"}

    @property
    def own_bounds(self) -> bool:
        """True if y_hat alone determines the largest loss of an image under a mask."""
        return False
