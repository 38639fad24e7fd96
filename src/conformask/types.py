"""The words of the stream: images, scores, masks, and the protocols that its stations fulfil.

Images are float32 tensors of shape (N, C, *space) in [0, 1]: a batch, channels, and any number of spatial
axes, such as (H, W). Nothing outside networks, tiles, files, viewer and pictures counts them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from conformask.records.curves import Selection
from conformask.records.geometry import Geometry
from conformask.records.loss import LossTerms
from conformask.records.network import Network
from conformask.records.size import Size
from conformask.storage.as_arrays import Array as Array
from conformask.storage.as_json import Json

Images = Float[Tensor, "n _ ..."]
PerImage = Float[Tensor, "n"]
Weigh = Callable[[Tensor, Tensor], Tensor]
"""(x, y_hat) -> (N,): likelihood ratios of the wanted population to that of the calibration images."""


@dataclass(frozen=True)
class Triplet:
    """One image's degraded input, the network's output and the truth, float32 (C, *space) in [0, 1].

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
    """Which pixels the promise is about, (1, *space) in [0, 1]; None is all."""
    geometry: Geometry | None = None
    """Where the pixels of y_hat lie, where its file says it."""
    patient: str | None = None
    """A hash of whose image y_hat is, where its file says it."""

    def truth(self) -> Float[np.ndarray, "_ ..."]:
        """y, or ValueError where it is unknown."""
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
    """Of each image; None where it was not asked for."""

    def to(self, device: torch.device) -> "Batch":
        """The same images on a device."""
        y, region = (None if image is None else image.to(device) for image in (self.y, self.region))
        return replace(self, x=self.x.to(device), y_hat=self.y_hat.to(device), y=y, region=region)

    def __len__(self) -> int:
        return len(self.names)

    def truth(self) -> Images:
        """y, or ValueError where it is unknown."""
        if self.y is None:
            raise ValueError(f"the truth y of {self.names[0]!r} is unknown")
        return self.y


@dataclass(frozen=True)
class Score:
    """The narrow waist: map >= 0, (N, 1 or C, *space), higher = less trusted; features (N, F) or none."""

    map: Images
    features: Float[Tensor, "n f"] | None = None


@runtime_checkable
class Task(Protocol):
    """Makes x from a true image, and y_hat from what a network returns."""

    @property
    def name(self) -> str:
        """Its name."""

    def truth(self, image: Images) -> Images:
        """The image that is to be recovered (grey for completion)."""

    def degrade(self, y: Images) -> Images:
        """The network's input x."""

    def enlarge(self, x: Images) -> Images:
        """The input x at the size of y, for a network that keeps the size."""

    def compose(self, x: Images, output: Images) -> Images:
        """y_hat from a network's output, in [0, 1]; what x already knows is copied from it."""


@runtime_checkable
class Predictor(Protocol):
    """Any image-to-image network: x (N, Cx, *space) -> y_hat (N, C, *space)."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def fingerprint(self) -> str | None:
        """A hash of its file, weights or code; None where its name says all."""

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Pixel hashes of the true images that it was trained on where known."""

    def __call__(self, x: Images) -> Images:
        """The network's output, in [0, 1]."""


@runtime_checkable
class Distance(Protocol):
    """A distance between images: one number per image, never a mean over the batch."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def monotone(self) -> bool:
        """Never grows when a nested mask shrinks."""

    @property
    def exponent(self) -> float | None:
        """p, where the distance is mean |a - b|^p."""

    @property
    def upper_bound(self) -> float | None:
        """The largest value on images in [0, 1], if there is one."""

    def __call__(self, a: Images, b: Images) -> PerImage:
        """d(a, b), shape (N,)."""


@runtime_checkable
class ErrorMap(Protocol):
    """How wrong each pixel is, computed once on the images as they are."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def exponent(self) -> float:
        """p, where the paper raises the mask to it: that of lp, else 1."""

    @property
    def upper_bound(self) -> float | None:
        """The largest error on images in [0, 1], if there is one."""

    def error_map(self, y: Images, y_hat: Images) -> Images:
        """Errors >= 0, (N, 1 or C, *space)."""


@runtime_checkable
class LossOfImages(Protocol):
    """A loss of given images, of whatever masks; what needs no mask is computed once."""

    def of(self, mask: Images) -> PerImage:
        """The loss of each image under its mask."""

    def take(self, places: Tensor) -> "LossOfImages":
        """That of the images at these places, some perhaps repeated."""


@runtime_checkable
class Loss(Protocol):
    """What a promise is about: one number per image and mask, 0 for the closed mask."""

    @property
    def terms(self) -> LossTerms:
        """Its words."""

    @property
    def monotone(self) -> bool:
        """Never larger under a smaller mask: critical lambdas are solved without a grid."""

    @property
    def relative(self) -> bool:
        """Divided by what the mask shows, so that few pixels decide where little is shown."""

    @property
    def exponent(self) -> float | None:
        """p, where the loss is mean(mask^p * error) and the exact kernels serve it."""

    @property
    def upper_bound(self) -> float | None:
        """The largest value on images in [0, 1], if there is one."""

    def on(self, y: Images, y_hat: Images, region: Images | None, channels: int) -> LossOfImages:
        """The loss of these images, for masks with this many channels; region (N, 1, *space) in [0, 1]."""

    @property
    def errors(self) -> ErrorMap | None:
        """The error map that it is made of, if it is."""

    @property
    def family(self) -> Mapping[str, Json] | None:
        """Settings of the family that suits it, whatever the score; None where that of the score does."""

    @property
    def own_bounds(self) -> bool:
        """Whether y_hat alone says the largest value of an image under a mask."""


@runtime_checkable
class Family(Protocol):
    """A nested family of masks F(score; lam): 0 at lam = 0, 1 at lam = inf, never shrinking in between.

    lam has shape (N,) or (N, G); the level holds a few numbers for each image and lambda.
    """

    @property
    def name(self) -> str:
        """Its name."""

    def level(self, score: Images, lam: Float[Tensor, "n *g"]) -> Float[Tensor, "n *g l"]:
        """What apply needs to know of a whole image: (N, L), or (N, G, L)."""

    def apply(self, score: Images, level: Float[Tensor, "n l"]) -> Images:
        """The mask, pixel by pixel, with the shape of the score; in [0, 1]."""

    def critical_lambda(
        self, score: Images, error: Images, exponent: float, threshold: float
    ) -> Float[Tensor, "n"]:
        """sup{lam : mean(F(score; l)^p * error) <= threshold for all l <= lam}, float64, exact.

        error is |y - y_hat|^p with the shape of the score (averaged over channels for a one-channel score).
        +inf where the image passes unmasked, 0 where it fails for every lam > 0.
        """

    def curve(
        self, score: Images, error: Images, exponent: float, lam: Float[np.ndarray, "g"]
    ) -> tuple[Float[np.ndarray, "n g"], Float[np.ndarray, "n g"]]:
        """mean(F(score; lam)^p * error) and mask size at ascending lambdas from 0 to inf, float64."""

    def settings(self) -> dict[str, Json]:
        """Its parameters as JSON, the name among them."""


@runtime_checkable
class Scorer(Protocol):
    """Gives each pixel of y_hat a score of distrust from (x, y_hat), in float32, without seeing y."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def loss(self) -> Loss | None:
        """The loss that it was fitted for; None if for none."""

    @property
    def channels(self) -> int:
        """Channels of the y_hat that it takes."""

    @property
    def per_channel(self) -> bool:
        """Whether the score has the channels of y_hat."""

    @property
    def family(self) -> str:
        """The name of the family that suits it."""

    @property
    def sizes(self) -> tuple[Size, ...] | None:
        """Sizes of the images that it was trained on; None if on none."""

    @property
    def trained_on(self) -> frozenset[str]:
        """Pixel hashes of the images that it, or the predictor, has learnt or been chosen from."""

    @property
    def looks(self) -> Array | None:
        """Perceptual hashes of the images that it was trained on, (n, w, b) uint8; None if it was on none."""

    @property
    def about(self) -> Network | None:
        """Who made the y_hat that it was trained on; None where nobody said, or it was trained on none."""

    @property
    def selection(self) -> Selection | None:
        """What it keeps of the selection images."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever its scores do."""

    def __call__(self, x: Images, y_hat: Images) -> Score:
        """The score of each image."""

    def save(self, folder: Path) -> None:
        """Write it to a run folder."""


__all__ = [
    "Array", "Batch", "Distance", "ErrorMap", "Family", "Images", "Loss", "LossOfImages", "PerImage",
    "Predictor", "Score", "Scorer", "Task", "Triplet", "Weigh",
]  # fmt: skip
