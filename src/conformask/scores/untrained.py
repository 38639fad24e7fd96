"""Scorers that need no training: the packaged network, and simple scores.

The packaged network was trained on many tasks to estimate where outputs are wrong; packaged.md beside this
file describes its training and its limits, and research/pretraining trains it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from conformask.errors import InvalidArgumentError
from conformask.images.scan import WINDOWS, PerceptualHashes
from conformask.images.triplets import Triplets
from conformask.losses import code_of, loss
from conformask.losses.base import Loss
from conformask.records.names import Untrained as Name
from conformask.records.reading import extra_channels
from conformask.records.record import read_arrays
from conformask.scores.given import Given
from conformask.scores.network_scorer import NetworkScorer, ScorerCard, head, read_weights, ready
from conformask.scores.networks import AnyChannels, SliceWise, settings_of
from conformask.scores.scorer import Scorer, as_scorer
from conformask.scores.simple import SIMPLE, SimpleNetwork

WEIGHTS = Path(__file__).with_name("packaged.safetensors")
"""File of the packaged weights, in half precision."""
LOOKS = Path(__file__).with_name("packaged_looks.npz")
"""File of perceptual hashes of the training images, without windows; from research/pretraining/looks.py."""


def packaged_network(
    x_channels: int, channels: int, dimensions: int, more: int = 0, *, shifts: bool = False
) -> AnyChannels | SliceWise:
    """Return the network with its weights; volumes are processed slice by slice, each by itself.

    Of `more` channels between x and y_hat, and of shifts, the weights know nothing until it is trained.
    """
    extra = extra_channels(x_channels, channels) + more
    network = AnyChannels(x_channels + more, channels, extra=extra, shifts=shifts)
    network.load_state_dict(network.state_dict() | _weights())
    return network if dimensions == 2 else SliceWise(network, neighbours=0)


def packaged_hashes() -> PerceptualHashes:
    """Return the perceptual hashes of the images that the network was trained on; see `perceptual_hashes`.

    They cover whole images only; the hashes of windows are zero.
    """
    whole = read_arrays(LOOKS)["looks"]
    perceptual_hashes = np.zeros((len(whole), WINDOWS, whole.shape[1]), np.uint8)
    perceptual_hashes[:, 0] = whole
    return perceptual_hashes


@cache
def _weights() -> dict[str, Tensor]:
    stored = read_weights(WEIGHTS)
    return {name: value.float() if value.is_floating_point() else value for name, value in stored.items()}


def _simple(name: str, x_channels: int, channels: int, dimensions: int, more: int = 0) -> nn.Module:
    return SimpleNetwork(name, channels)


NETWORKS: Mapping[str, Callable[..., nn.Module]] = {
    "packaged": packaged_network,
    **{name: partial(_simple, name) for name in SIMPLE},
}
"""Makers of networks by name, for channels of x, channels of y_hat and a number of spatial axes; the last
argument, if any, is the number of channels between x and y_hat."""


@dataclass(frozen=True)
class Untrained:
    """A scorer for any channels, spatial axes and losses; `of` makes a scorer for given triplets."""

    name: Name
    selection = None

    @property
    def loss(self) -> Loss:
        """The default loss: the mean error."""
        return loss("l1")

    def of(self, triplets: Triplets, used: Loss | None = None) -> NetworkScorer:
        """Return the scorer for images like these, and for a loss: l1 if None."""
        first, used = triplets[0], self.loss if used is None else used
        x_channels, channels = first.x.shape[0], first.y_hat.shape[0]
        network = NETWORKS[self.name](x_channels, channels, first.y_hat.ndim - 1)
        card = ScorerCard(
            scorer=self.name,
            loss=used,
            channels=channels,
            x_channels=x_channels,
            per_channel=False,
            sizes=(),
            reading=triplets.reading,
            unet=settings_of(network),
            trained_on=(),
            distance_code=code_of(used),
        )
        perceptual_hashes = packaged_hashes() if self.name == "packaged" else None
        return NetworkScorer(ready(network), head(self.name, used), card, perceptual_hashes=perceptual_hashes)


def check_scorer(scorer: object) -> None:
    """Refuse objects that are not scorers, such as a module, or a function without a Heuristic."""
    if isinstance(scorer, str):
        remedy = f"packaged_scorer() or fit_scorer(..., scorer={scorer!r})"
    elif isinstance(scorer, nn.Module) or not hasattr(scorer, "selection"):
        remedy = "Heuristic(FUNCTION, channels=...), FUNCTION a callable of (x, y_hat)"
    else:
        return
    raise InvalidArgumentError(f"scorer is a {type(scorer).__name__}; give {remedy}")


def packaged_scorer() -> Untrained:
    """Return the score network that comes with conformask; `calibrate` takes it for any images.

    For whole images, make it a scorer for them first: Tiled(packaged_scorer().of(triplets)).

    It estimates the error of each pixel from (x, y_hat), and was trained on many tasks and networks; see
    docs/packaged-scorer.md. fit_scorer starts from it.

    Examples:
        >>> import numpy as np
        >>> import conformask as cm
        >>> y = np.random.default_rng(0).random((30, 16, 16), dtype=np.float32)
        >>> images = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> cm.calibrate(cm.packaged_scorer(), images, threshold=0.05).formula
        'P(l1 <= 0.05) >= 0.90 for new images like the 30 calibration images (marginal)'
    """
    return Untrained("packaged")


def for_images(
    scorer: Scorer | Untrained | Given, triplets: Triplets, used: Loss, selection: Triplets | None = None
) -> Scorer:
    """Return the scorer itself, or the one that it makes for images like these and a loss."""
    if isinstance(scorer, Given):
        return scorer.of(triplets, selection, used)
    return scorer.of(triplets, used) if isinstance(scorer, Untrained) else as_scorer(scorer)
