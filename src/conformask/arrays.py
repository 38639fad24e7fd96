"""Core types: images, scores, batches, and the protocols of exchangeable components.

Images are float32 tensors of shape (N, C, *space) in [0, 1]: a batch, channels, and any number of spatial
axes, such as (H, W). Only networks, tiles, files, viewer and pictures depend on their number.

At the end, devices, precision, seeds and layout for scores and distances: the same in calibration and in use.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import Lock
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from numpy.typing import NDArray
from torch import Tensor, nn

from conformask.records.reading import CLEAN, Geometry, Reference
from conformask.records.record import Array as Array

Images = Float[Tensor, "n _ ..."]
PerImage = Float[Tensor, "n"]
Masks = Float32[Tensor, "n _ ..."]
MaskArray = NDArray[np.float32]
NO_LAYERS: Mapping[str, Tensor] = MappingProxyType({})
"""Layers of images that have none."""
Weigh = Callable[[Tensor, Tensor], Tensor]
"""A callable (x, y_hat) -> (N,): likelihood ratios of the new population to the calibration's."""
ImageT = TypeVar("ImageT")
LayerT = TypeVar("LayerT")


@dataclass(frozen=True)
class TripletOf(Generic[ImageT, LayerT]):
    """A degraded input, the network's output and the truth of one image, and what is known beside them.

    They are unread files or arrays (`images.rows.TripletRow`), images in memory (`Triplet`), or open files of
    which windows are read (`images.rows.OpenedTriplet`).
    """

    name: str
    x: ImageT
    y_hat: ImageT
    y: ImageT | None = None
    """The truth; None where it is unknown."""
    layers: Mapping[str, LayerT] = field(default_factory=dict)
    """What lies beside these images, by its kind (`images.layers`): the `region` that the promise is about,
    (1, *space) in [0, 1]; `cues`, maps of y_hat, (K, *space) of any range; `labels` and `y_labels` of the
    objects of y_hat and y, (1, *space), 0 for the background; and those that leaves and packages add."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What is known of the image as a whole: `group`, `category` and `weight`."""


@dataclass(frozen=True)
class Triplet(TripletOf[Float[np.ndarray, "_ ..."], Float[np.ndarray, "_ ..."]]):
    """A degraded input, the network's output and the truth of one image, float32 (C, *space) in [0, 1].

    Where nobody has the truth, y is a noisy reference, as `reference` says.

    x may differ from y_hat in size and channels; y is None where the truth is unknown.
    """

    geometry: Geometry | None = None
    """The position of the pixels of y_hat, if its file states it."""
    patient: str | None = None
    """A hash of the patient that y_hat shows, if its file states it."""
    clipped: float = 0.0
    """The share of the values of x, y_hat or y, the largest, that were clipped to the range."""
    reference: Reference = CLEAN
    """What y is: the truth, or repeats with noise."""

    def truth(self) -> Float[np.ndarray, "_ ..."]:
        """Return y; raise ValueError where it is unknown."""
        if self.y is None:
            raise ValueError(f"the truth y of {self.name!r} is unknown")
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


@dataclass(frozen=True)
class Batch:
    """Triplets of one shape, stacked: x (N, Cx, *space), y_hat and y (N, C, *space), scored or not."""

    names: tuple[str, ...]
    x: Images
    y_hat: Images
    y: Images | None
    layers: Mapping[str, Float[Tensor, "n _ ..."]] = field(default_factory=dict)
    """The layers of the triplets, stacked, as their kinds batch them."""
    facts: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """The facts that are known of every image."""
    geometry: tuple[Geometry | None, ...] | None = None
    """Geometry of each image; None where it was not asked for."""
    clipped: tuple[float, ...] = ()
    """The clipped share of each image; empty where it was not asked for."""
    known_score: Score | None = None
    """The score of the images; None before they are scored."""
    known_loss: tuple[Any, Any] | None = None
    """A loss, and what it is of these images, where it is needed more than once (`critical.loss_on`)."""

    @property
    def score(self) -> Score:
        """The score of the images; raise ValueError where they are not scored."""
        if self.known_score is None:
            raise ValueError(f"{self.names[0]!r} is not scored")
        return self.known_score

    def with_score(self, score: Score) -> "Batch":
        """Return the same images with their score."""
        return replace(self, known_score=score)

    def to(self, device: torch.device) -> "Batch":
        """Return the same images on a device."""
        y = None if self.y is None else self.y.to(device)
        layers = {name: layer.to(device) for name, layer in self.layers.items()}
        return replace(self, x=self.x.to(device), y_hat=self.y_hat.to(device), y=y, layers=layers)

    def __len__(self) -> int:
        return len(self.names)

    def truth(self) -> Images:
        """Return y; raise ValueError where it is unknown."""
        if self.y is None:
            raise ValueError(f"the truth y of {self.names[0]!r} is unknown")
        return self.y


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


BACKENDS: Any = torch.backends
SHORTENED = (
    BACKENDS.cudnn.conv,
    BACKENDS.cudnn.rnn,
    BACKENDS.cuda.matmul,
    BACKENDS.mkldnn.conv,
    BACKENDS.mkldnn.matmul,
    BACKENDS.mkldnn.rnn,
)
"""Operations that torch may compute with fewer bits than float32 has (TF32, bfloat16), cuDNN's first."""

LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Memory layouts of weights, by their number of axes."""


class _Full:
    """Precision settings shared by all threads: the first user sets them, the last restores them."""

    def __init__(self) -> None:
        self.lock, self.threads, self.before = Lock(), 0, [""]

    def __enter__(self) -> None:
        with self.lock:
            if self.threads == 0:
                self.before = [operation.fp32_precision for operation in SHORTENED]
                self._set(["ieee"] * len(SHORTENED))
            self.threads += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.threads -= 1
            if self.threads == 0:
                self._set(self.before)

    def _set(self, precisions: list[str]) -> None:
        # The older flag as well: where the two disagree, torch refuses exports in other threads.
        BACKENDS.cudnn.allow_tf32 = "tf32" in precisions[:2]
        for operation, precision in zip(SHORTENED, precisions, strict=True):
            operation.fp32_precision = precision


_FULL = _Full()


@contextmanager
def full_precision(images: Tensor) -> Iterator[None]:
    """Compute in IEEE float32 inside the context: no autocast on the images' device, no TF32 or bfloat16."""
    with torch.autocast(images.device.type, enabled=False), _FULL:
        yield


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch inside the context, and restore its state after."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def best_device() -> torch.device:
    """Return the accelerator if one is available (a CUDA build of torch alone is not one), else the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def image_means(values: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return the mean over channels and pixels of each image, (N, C, *space) -> (N,); summed in dtype."""
    return values.mean(dim=tuple(range(1, values.ndim)), dtype=dtype)


def resized(images: Tensor, like: Tensor) -> Tensor:
    """Resize images (N, C, *space) to the size of others, linearly along each axis."""
    size = like.shape[2:]
    if images.shape[2:] == size:
        return images
    mode = {2: "bilinear", 3: "trilinear"}[len(size)]
    return F.interpolate(images, size=size, mode=mode, antialias=False)


def to_channels_last(network: nn.Module) -> nn.Module:
    """Store the weights of a network channels last, which convolutions are faster with."""
    for weights in network.parameters():
        if weights.ndim in LAYOUTS:
            weights.data = weights.data.contiguous(memory_format=LAYOUTS[weights.ndim])
    return network


def window_index(places: tuple[slice, ...]) -> Any:
    """Return the index of a window along the last axes of a tensor or array."""
    return (..., *places)


def per_image(values: Tensor, images: Tensor) -> Tensor:
    """Reshape one value per image, (N,), to broadcast against the images, (N, 1, ..., 1)."""
    return values.reshape(-1, *[1] * (images.ndim - 1))


__all__ = [
    "Array", "Batch", "Distance", "ErrorMap", "Images", "PerImage",
    "Predictor", "Score", "Task", "Triplet", "Weigh",
]  # fmt: skip
