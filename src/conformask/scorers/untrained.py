"""Scorers that need no training: the packaged network, and the local spread of y_hat."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import nn

from conformask.arithmetic import quick_layout
from conformask.data.triplets import Triplets
from conformask.losses import loss
from conformask.names import Untrained as Name
from conformask.scorers.heads import head
from conformask.scorers.network_scorer import NetworkScorer, ScorerCard
from conformask.scorers.packaged import packaged_network
from conformask.scorers.spread import SpreadNetwork
from conformask.scorers.tiled import Tiled
from conformask.types import Scorer

NETWORKS: Mapping[str, Callable[[int, int, int], nn.Module]] = {
    "packaged": packaged_network,
    "spread": lambda x_channels, channels, dimensions: SpreadNetwork(channels),
}
"""By their names, for channels of x, channels of y_hat and a number of spatial axes."""


@dataclass(frozen=True)
class Untrained:
    """A scorer for any channels and spatial axes, which becomes one for those of given triplets."""

    name: Name

    def of(self, triplets: Triplets) -> NetworkScorer:
        """The scorer for images like these."""
        first, l1 = triplets[0], loss("l1")
        x_channels, channels = first.x.shape[0], first.y_hat.shape[0]
        network = NETWORKS[self.name](x_channels, channels, first.y_hat.ndim - 1)
        card = ScorerCard(
            scorer=self.name,
            **vars(l1.terms),
            channels=channels,
            x_channels=x_channels,
            per_channel=False,
            sizes=(),
            **triplets.reading.kept,
            unet=getattr(network, "settings", None),
            trained_on=(),
        )
        return NetworkScorer(quick_layout(network).eval().requires_grad_(False), head(self.name, l1), card)


def packaged_scorer() -> Untrained:
    """The score network that comes with conformask: `calibrate` takes it as it is, for any images.

    It estimates the error of each pixel from (x, y_hat), and has learnt to on many tasks and networks; see
    docs/packaged-scorer.md. fit_scorer starts from it.
    """
    return Untrained("packaged")


def for_images(scorer: Scorer | Untrained, triplets: Triplets) -> Scorer:
    """The scorer itself, or the one for images like these."""
    if isinstance(scorer, Tiled):
        return replace(scorer, scorer=for_images(scorer.scorer, triplets))
    return scorer.of(triplets) if isinstance(scorer, Untrained) else scorer
