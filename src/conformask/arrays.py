"""Core types: images, scores, batches, and the protocols of exchangeable components.

Images are float32 tensors of shape (N, C, *space) in [0, 1]: a batch, channels, and any number of spatial
axes, such as (H, W). Only networks, tiles, files, viewer and pictures depend on their number.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32
from numpy.typing import NDArray
from torch import Tensor

from conformask.records.geometry import Geometry
from conformask.records.reading import CLEAN, Reference
from conformask.records.record import Array as Array

Images = Float[Tensor, "n _ ..."]
PerImage = Float[Tensor, "n"]
Masks = Float32[Tensor, "n _ ..."]
MaskArray = NDArray[np.float32]
Weigh = Callable[[Tensor, Tensor], Tensor]
"""A callable (x, y_hat) -> (N,): likelihood ratios of the new population to the calibration's."""


@dataclass(frozen=True)
class Triplet:
    """A degraded input, the network's output and the truth of one image, float32 (C, *space) in [0, 1].

    Where nobody has the truth, y is a noisy reference, as `reference` says.

    x may differ from y_hat in size and channels; y is None where the truth is unknown.
    """

    name: str
    x: Float[np.ndarray, "_ ..."]
    y_hat: Float[np.ndarray, "_ ..."]
    y: Float[np.ndarray, "_ ..."] | None = None
    group: str | None = None
    category: str | None = None
    weight: float | None = None
    region: Float[np.ndarray, "_ ..."] | None = None
    """The pixels that the promise is about, (1, *space) in [0, 1]; None is all."""
    geometry: Geometry | None = None
    """The position of the pixels of y_hat, if its file states it."""
    patient: str | None = None
    """A hash of the patient that y_hat shows, if its file states it."""
    clipped: float = 0.0
    """The share of the values of x, y_hat or y, the largest, that were clipped to the range."""
    cues: Float[np.ndarray, "_ ..."] | None = None
    """Maps beside y_hat that say where it may be wrong, (K, *space) of any range; None without."""
    half_difference: Float[np.ndarray, "_ ..."] | None = None
    """(b - c) / 2 of the two repeats b and c whose mean is y, (C, *space); None where y is not theirs."""
    reference: Reference = CLEAN
    """What y is: the truth, or repeats with noise."""

    y_labels: Float[np.ndarray, "_ ..."] | None = None
    """The labels of the objects of y, (1, *space), 0 for the background; None without. Those of y_hat are the
    last of the cues."""

    @property
    def noise(self) -> Float[np.ndarray, "_ ..."] | None:
        """An estimate of the variance of the noise of y, (C, *space); its mean over draws is that variance.

        It is the square of half the difference of two repeats, or what a model says of one, which may be
        negative. None where y is the truth, or its noise is not known.
        """
        if self.half_difference is not None:
            squares: Array = np.square(self.half_difference)
            return squares
        model = self.reference.model
        return None if model is None or self.y is None else model.variance(self.y)

    def truth(self) -> Float[np.ndarray, "_ ..."]:
        """Return y; raise ValueError where it is unknown."""
        if self.y is None:
            raise ValueError(f"the truth y of {self.name!r} is unknown")
        return self.y


@dataclass(frozen=True)
class Batch:
    """Triplets of one shape, stacked: x (N, Cx, *space), y_hat and y (N, C, *space)."""

    names: tuple[str, ...]
    x: Images
    y_hat: Images
    y: Images | None
    category: tuple[str, ...] | None = None
    weight: tuple[float, ...] | None = None
    region: Images | None = None
    geometry: tuple[Geometry | None, ...] | None = None
    """Geometry of each image; None where it was not asked for."""
    clipped: tuple[float, ...] = ()
    """The clipped share of each image; empty where it was not asked for."""
    cues: Float[Tensor, "n _ ..."] | None = None
    """Maps beside y_hat, (N, K, *space) of any range; None without."""
    noise: Images | None = None
    """The noise of y, (N, C, *space), as in a `Triplet`; None where y is the truth, or it is not known."""
    y_labels: Images | None = None
    """The labels of the objects of y, (N, 1, *space), as in a `Triplet`; None without."""

    def to(self, device: torch.device) -> "Batch":
        """Return the same images on a device."""
        y, region, cues, noise, y_labels = (
            None if image is None else image.to(device)
            for image in (self.y, self.region, self.cues, self.noise, self.y_labels)
        )
        x, y_hat = self.x.to(device), self.y_hat.to(device)
        return replace(self, x=x, y_hat=y_hat, y=y, region=region, cues=cues, noise=noise, y_labels=y_labels)

    def __len__(self) -> int:
        return len(self.names)

    def truth(self) -> Images:
        """Return y; raise ValueError where it is unknown."""
        if self.y is None:
            raise ValueError(f"the truth y of {self.names[0]!r} is unknown")
        return self.y


@dataclass(frozen=True)
class Score:
    """A score map >= 0, (N, 1 or C, *space), higher = less trusted; and features (N, F) or none.

    Examples:
        >>> import torch
        >>> import conformask as cm
        >>> cm.Score(torch.rand(2, 1, 8, 8)).map.shape
        torch.Size([2, 1, 8, 8])
    """

    map: Images
    features: Float[Tensor, "n f"] | None = None


@runtime_checkable
class Task(Protocol):
    """Makes x from a true image, and y_hat from a network's raw output."""

    @property
    def name(self) -> str:
        """The task's name."""

    def truth(self, image: Images) -> Images:
        """Return the image that is to be recovered (grey for completion)."""

    def degrade(self, y: Images) -> Images:
        """Make the network's input x."""

    def enlarge(self, x: Images) -> Images:
        """Resize the input x to the size of y, for a network that keeps the size."""

    def compose(self, x: Images, output: Images) -> Images:
        """Make y_hat, in [0, 1], from a network's output; values that x already holds are copied from it."""


@runtime_checkable
class Predictor(Protocol):
    """Any image-to-image network: x (N, Cx, *space) -> y_hat (N, C, *space)."""

    @property
    def name(self) -> str:
        """The predictor's name."""

    @property
    def fingerprint(self) -> str | None:
        """A hash of its file, weights or code; None where the name identifies it."""

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Pixel hashes of the true images that it was trained on, where known."""

    def __call__(self, x: Images) -> Images:
        """Compute the network's output, in [0, 1]."""


@runtime_checkable
class Distance(Protocol):
    """A distance between images: one number per image, never a mean over the batch."""

    @property
    def name(self) -> str:
        """The distance's name."""

    @property
    def monotone(self) -> bool:
        """True if the distance never grows when a nested mask shrinks."""

    @property
    def exponent(self) -> float | None:
        """The exponent p, where the distance is mean |a - b|^p."""

    @property
    def upper_bound(self) -> float | None:
        """The largest value on images in [0, 1], if there is one."""

    def __call__(self, a: Images, b: Images) -> PerImage:
        """Compute d(a, b), shape (N,)."""


@runtime_checkable
class ErrorMap(Protocol):
    """A map of the error at each pixel, computed once on the unmasked images."""

    @property
    def name(self) -> str:
        """The error map's name."""

    @property
    def exponent(self) -> float:
        """The power of the mask in the loss: p for lp, else 1."""

    @property
    def upper_bound(self) -> float | None:
        """The largest error on images in [0, 1], if there is one."""

    def error_map(self, y: Images, y_hat: Images) -> Images:
        """Compute errors >= 0, (N, 1 or C, *space)."""


__all__ = [
    "Array", "Batch", "Distance", "ErrorMap", "Images", "PerImage",
    "Predictor", "Score", "Task", "Triplet", "Weigh",
]  # fmt: skip
