"""Scores that need no training: maps that a user or a network gives, the packaged network, and simple scores.

Maps are, for example, a confidence, a variance, or the spread of samples.

The packaged network was trained on many tasks to estimate where outputs are wrong; packaged.md beside this
file describes its training and its limits, and research/pretraining trains it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from conformask.arrays import Array, Images, Score
from conformask.background import tracked
from conformask.errors import InvalidArgumentError, chosen, verb, warn
from conformask.images.scan import WINDOWS, PerceptualHashes
from conformask.images.triplets import Triplets
from conformask.losses import loss
from conformask.losses.base import Loss
from conformask.losses.masked_distance import code_of
from conformask.records.names import GIVEN, Higher, Untrained as Name
from conformask.records.reading import extra_channels
from conformask.records.record import (
    Json,
    from_dict,
    hash_of,
    read_arrays,
    read_json,
    refuse_unfinished,
    vars_but,
)
from conformask.records.selection import Selection
from conformask.scores.network_scorer import NetworkScorer, ScorerCard, head, read_weights, ready
from conformask.scores.networks import AnyChannels, SliceWise, settings_of
from conformask.scores.scorer import Scorer, write_record
from conformask.scores.simple import SIMPLE, SimpleNetwork

BY_VALUE: Mapping[str, Json] = {"name": "binary", "bounds": "largest", "kappa": 0.0}
"""The family of their masks: all values on one side of a boundary are shown, whatever their range."""
GREY: Mapping[str, Json] = {"name": "reciprocal", "epsilon": 2.0**-120}
"""The reciprocal family of their masks: its epsilon is below every value, whatever their range."""
SAMPLE = 4096
"""Number of pixels of a map that are looked at for values that recur."""
FEW, MOST = 2, 0.5
"""A number of values, and the share of pixels that hold them from which a warning is given."""
CERTAIN: Mapping[str, float] = {"distrusted": 0.0, "trusted": 1.0}
"""The most trusted value of a variance, and of a probability: the zero of scores without selection images."""
BEYOND = 2.0**-40
"""The score of a value this far from zero; smaller scores are those of values beyond."""


@dataclass(frozen=True)
class Given:
    """Maps beside y_hat as a score, for any images; `of` makes the scorer for given triplets.

    The values may have any range: with binary masks only their order counts, over all images. Grey masks,
    local losses and objects take a value's distance from the most trusted value of a typical selection image
    or, without selection images, from 0 ("distrusted") or 1 ("trusted"); beyond it, only the order counts.

    Args:
        higher: what higher values mean: "distrusted", as for a variance or a spread, or "trusted", as for a
            confidence or a probability.

    Examples:
        >>> import numpy as np
        >>> import conformask as cm
        >>> generator = np.random.default_rng(0)
        >>> y = generator.random((30, 16, 16), dtype=np.float32)
        >>> spread = generator.random(y.shape, dtype=np.float32)
        >>> y_hat = y + 0.2 * spread * generator.uniform(-1, 1, y.shape).astype(np.float32)
        >>> images = cm.Triplets.from_arrays(y, y_hat.clip(0, 1), y, cues=spread)
        >>> cm.calibrate(cm.Given(), images, threshold=0.04, loss="l1").formula
        'P(l1 <= 0.04) >= 0.90 for new images like the 30 calibration images (marginal)'
    """

    higher: Higher = "distrusted"
    selection = None

    def __post_init__(self) -> None:
        chosen(CERTAIN, self.higher, "higher")

    @property
    def loss(self) -> Loss:
        """The default loss: the mean error."""
        return loss("l1")

    def of(
        self, triplets: Triplets, selection: Triplets | None = None, used: Loss | None = None
    ) -> "GivenScorer":
        """Return the scorer for triplets with one map each, or one for each channel of y_hat.

        Where the score is 0 depends on the selection images alone: a score is fixed before a calibration.

        Raises:
            InvalidArgumentError: triplets without maps, or with another number of them.
        """
        if not all(images.has_cues for images in (triplets, selection or triplets)):
            raise InvalidArgumentError(
                "the score is to be read from maps, but these triplets have none: give cues= (Python), or "
                "the folder of the maps with --score-from (command line)"
            )
        channels = triplets.header(0, "y_hat").channels
        counts, lows, highs, samples = _facts(triplets)
        if len(set(counts)) > 1 or counts[0] not in (1, channels):
            raise InvalidArgumentError(
                f"the maps have {' or '.join(map(str, sorted(set(counts))))} channels: a score is one map, "
                f"or one for each of the {channels} channels of y_hat"
            )
        zero = CERTAIN[self.higher]
        if selection is not None:
            _, least, largest, _ = _facts(selection)
            zero = median_low(largest) if self.higher == "trusted" else min(zero, median_low(least))
        if used is None or not used.extent.counts_objects:  # whose scores are means, which hardly ever tie
            # rounded as by the score
            values = (np.concatenate(samples) - np.float32(zero)) + np.float32(zero)
            _warn_of_ties(triplets.names, lows, highs, values)
        return GivenScorer(self.higher, zero, channels, counts[0], triplets.header(0, "x").channels)


def _facts(triplets: Triplets) -> Iterator[tuple[Any, ...]]:
    """Return numbers of channels, least and largest values, and some of the values of the maps."""
    facts = []
    for cues in tracked(
        map(partial(triplets.layer, "cues"), range(len(triplets))), "reading maps", len(triplets)
    ):
        some = cues.ravel()[:: max(1, cues.size // SAMPLE)]
        facts.append((len(cues), float(cues.min()), float(cues.max()), some))
    return zip(*facts, strict=True)


def _warn_of_ties(names: Sequence[str], lows: Sequence[float], highs: Sequence[float], values: Array) -> None:
    """Warn of constant maps, and of values that most pixels share: these are shown or hidden together."""
    constant = [name for name, low, high in zip(names, lows, highs, strict=True) if low == high]
    if constant:
        warn(
            f"{len(constant)} of {len(names)} maps {verb(len(constant), 'holds')} one value alone, such as "
            f"that of {constant[0]!r}: all of such an image is shown, or all is hidden"
        )
    distinct, counts = np.unique(values, return_counts=True)
    most = np.argsort(-counts)[:FEW]
    share = float(counts[most].sum() / counts.sum())
    if len(constant) < len(names) and share > MOST:
        held = " or ".join(f"{value:.4g}" for value in sorted(distinct[most].tolist()))
        warn(
            f"{share:.0%} of the pixels of the maps hold {held}: pixels with one value are shown or hidden "
            "together. If the maps were rounded, saved in 8 bits or cut off, give them as they were before; "
            "if not, give their logarithms"
        )


@dataclass(frozen=True)
class GivenScorer(Scorer):
    """A scorer that reads its map: value - zero, or zero - value where higher is trusted.

    Values beyond zero have scores below `BEYOND`, in their order.
    """

    higher: Higher
    zero: float
    """The most trusted value of a typical image."""
    channels: int
    cue_channels: int
    x_channels: int = 1
    selection: Selection | None = None
    name = GIVEN
    by_value = True

    @property
    def per_channel(self) -> bool:  # type: ignore[override]
        """True if there is a map for each channel of y_hat."""
        return self.cue_channels > 1

    @property
    def fingerprint(self) -> str:
        """A hash of what the score is made of."""
        return hash_of(self._record)

    @property
    def _record(self) -> dict[str, Json]:
        return vars_but(self, "selection")

    def __call__(self, x: Images, y_hat: Images, *layers: Tensor) -> Score:
        """Return the maps as a score."""
        (cues,) = layers
        distance = (self.zero - cues) if self.higher == "trusted" else (cues - self.zero)
        # the identity, continued along a hyperbola that touches it, as a score is never negative
        return Score(torch.maximum(distance, BEYOND**2 / (2 * BEYOND - distance.clamp(max=BEYOND))))

    def shown_text(self, lam: float) -> str | None:
        """Return which values are shown at this lambda, where masks show the scores below it; None for 0."""
        if lam == 0:
            return None
        side = "above" if self.higher == "trusted" else "below"
        return f"Shown are the pixels whose map is {side} {float(self.in_map(np.asarray(lam))):.6g}."

    def in_map(self, scores: Array) -> Array:
        """Return scores as values of the map."""
        beyond = 2 * BEYOND - BEYOND**2 / np.where(scores > 0, scores, BEYOND)
        distances = np.where(scores < BEYOND, beyond, scores)
        return np.asarray(self.zero - distances if self.higher == "trusted" else self.zero + distances)

    def save(self, folder: Path) -> None:
        """Write scorer.json to a run folder."""
        write_record(self, folder, self._record)


def load_given(folder: Path) -> GivenScorer | None:
    """Read a scorer of maps beside y_hat; None where the folder holds another one."""
    path = folder / "scorer.json"
    record = read_json(path) if path.is_file() else {}
    if record.get("scorer") != GIVEN:
        return None
    refuse_unfinished(path, record)
    return replace(from_dict(GivenScorer, record, path), selection=Selection.load(folder))


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
    packaged.md beside this module. fit_scorer starts from it.

    Examples:
        >>> import numpy as np
        >>> import conformask as cm
        >>> y = np.random.default_rng(0).random((30, 16, 16), dtype=np.float32)
        >>> images = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> cm.calibrate(cm.packaged_scorer(), images, threshold=0.05).formula
        'P(l1 <= 0.05) >= 0.90 for new images like the 30 calibration images (marginal)'
    """
    return Untrained("packaged")
