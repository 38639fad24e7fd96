"""Maps that a network or a user gives, as scores: a confidence, a variance, the spread of samples."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conformask.arrays import Array, Images, Score
from conformask.background import tracked
from conformask.errors import InvalidArgumentError, warn
from conformask.images.triplets import Triplets
from conformask.losses import loss
from conformask.losses.base import Loss
from conformask.records.record import (
    BESIDE,
    Json,
    claim,
    from_dict,
    hash_of,
    read_json,
    refuse_unfinished,
    vars_but,
    write_json,
)
from conformask.records.selection import Selection
from conformask.scores.scorer import Scorer
from conformask.scores.simple import Higher

NAME = "given"
"""The name of the score."""
BY_VALUE: Mapping[str, Json] = {"name": "binary", "bounds": "largest", "kappa": 0.0}
"""The family of their masks: all values on one side of a boundary are shown, whatever their range."""
GREY: Mapping[str, Json] = {"name": "reciprocal", "epsilon": 2.0**-120}
"""The reciprocal family of their masks: its epsilon is below every value, whatever their range."""
SAMPLE = 4096
"""Number of pixels of a map that are looked at for values that recur."""
FEW, MOST = 2, 0.5
"""A number of values, and the share of pixels that hold them from which a warning is given."""
CERTAIN: Mapping[Higher, float] = {"distrusted": 0.0, "trusted": 1.0}
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
        if used is None or not used.of_objects:  # whose scores are means, which hardly ever tie
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
            f"{len(constant)} of {len(names)} maps hold one value alone, such as that of {constant[0]!r}: "
            "all of such an image is shown, or all is hidden"
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
    name = NAME
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
        claim(folder / "scorer.json", {"finished": False}, BESIDE["scorer.json"])
        if self.selection is not None:
            self.selection.save(folder)
        write_json(
            folder / "scorer.json", {"scorer": self.name, **self._record, "fingerprint": self.fingerprint}
        )


def load_given(folder: Path) -> GivenScorer | None:
    """Read a scorer of maps beside y_hat; None where the folder holds another one."""
    path = folder / "scorer.json"
    record = read_json(path) if path.is_file() else {}
    if record.get("scorer") != NAME:
        return None
    refuse_unfinished(path, record)
    return replace(from_dict(GivenScorer, record, path), selection=Selection.load(folder))
