"""The base class of scorers, your own function as a scorer, and wrappers of other scorers and objects."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from conformask.arrays import Array, Images, Score
from conformask.losses.base import Loss
from conformask.records.fingerprints import fingerprint_of, name_of
from conformask.records.reading import Network, Size
from conformask.records.record import BESIDE, claim, write_json
from conformask.records.selection import Selection


class Scorer(ABC):
    """Scores the distrust in each pixel of y_hat from (x, y_hat), in float32, without seeing y.

    A scorer of your own needs a name, channels and `__call__`.
    """

    channels: int
    """Number of channels of the y_hat that it takes."""
    cue_channels: int = 0
    """Number of maps beside y_hat that it takes, as `__call__(x, y_hat, cues)`; 0 for none."""
    by_value: bool = False
    """True if only the order of its values counts, over all images: they are no estimates of errors."""
    network: nn.Module | None = None
    """The network behind `score_map`, whose weights an exported graph holds; None where there is none."""
    loss: Loss | None = None
    """The loss that the scorer was fitted for; None if it was fitted for none."""
    per_channel: bool = False
    """True if the score has the channels of y_hat."""
    family: str = "reciprocal"
    """The name of the family of grey masks that suits the scorer."""
    sizes: tuple[Size, ...] | None = None
    """Sizes of the images that it was trained on; None if it was trained on none."""
    tiles: tuple[int | Size, int | Size] | None = None
    """Tile and overlap by which it scores large images; None where it scores each image in one pass."""
    patches: int | None = None
    """The least number of pixels of a connected part of its masks; None where parts have any size."""
    trained_on: frozenset[str] = frozenset()
    """Hashes of pixels and groups of the images that it, or the predictor, was trained or selected on."""
    perceptual_hashes: Array | None = None
    """Perceptual hashes of the images that it was trained on, (n, w, b) uint8; None if on none."""
    about: Network | None = None
    """The network that made the y_hat of its training images; None where unknown, or without training."""
    selection: Selection | None = None
    """The record of the selection images."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The scorer's name."""

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers that `__call__` takes after x and y_hat: cues, where it takes any."""
        return ("cues",) if self.cue_channels else ()

    @property
    def x_channels(self) -> int:
        """Number of channels of the x that it takes; those of y_hat unless stated."""
        return self.channels

    @property
    def without_level(self) -> "Scorer":
        """The scorer whose score a level divides; the scorer itself where all images have one lambda."""
        return self

    @property
    def fingerprint(self) -> str:
        """A hash that changes whenever the scores do; of the class and its attributes unless stated."""
        return fingerprint_of(self)

    @abstractmethod
    def __call__(self, x: Images, y_hat: Images) -> Score:
        """Compute the score of each image."""

    def score_map(self, x: Images, y_hat: Images, *layers: Tensor) -> Images:
        """Compute the score map alone, in operations that an exporter can trace."""
        return called(self, x, y_hat, *layers).map

    def shown_text(self, lam: float) -> str | None:
        """Return which values of a map masks show at this lambda; None where the score is no map."""
        return None

    def in_map(self, scores: Array) -> Array:
        """Return scores as values of the map that they are read from; as they are where there is none."""
        return scores

    def save(self, folder: Path) -> None:
        """Write scorer.json to a run folder; the scorer itself must be passed again: load(..., scorer=)."""
        claim(folder / "scorer.json", {"finished": False}, BESIDE["scorer.json"])
        if self.selection is not None:
            self.selection.save(folder)
        write_json(
            folder / "scorer.json", {"scorer": self.name, "heuristic": True, "fingerprint": self.fingerprint}
        )


def of(path: str) -> Any:
    """Make a property that returns an attribute of a field, such as `card.channels`."""
    return property(attrgetter(path), doc=f"The attribute `{path}`.")


@dataclass(frozen=True)
class WrappedScorer(Scorer):
    """A scorer that passes on what an object with the members of a scorer states about itself."""

    scorer: Scorer
    name = of("scorer.name")
    loss = of("scorer.loss")
    channels = of("scorer.channels")
    per_channel = of("scorer.per_channel")
    family = of("scorer.family")
    sizes = of("scorer.sizes")
    trained_on = of("scorer.trained_on")
    perceptual_hashes = of("scorer.perceptual_hashes")
    about = of("scorer.about")
    selection = of("scorer.selection")
    fingerprint = of("scorer.fingerprint")

    def __call__(self, x: Images, y_hat: Images, *layers: Tensor) -> Score:
        """Return the score that the scorer computes."""
        return called(self.scorer, x, y_hat, *layers)

    def save(self, folder: Path) -> None:
        """Write the scorer itself to a run folder."""
        self.scorer.save(folder)


@dataclass(frozen=True)
class Step(WrappedScorer):
    """A step on the score of a scorer: what it does not change is the scorer's."""

    layers = of("scorer.layers")
    cue_channels = of("scorer.cue_channels")
    by_value = of("scorer.by_value")
    network = of("scorer.network")
    x_channels = of("scorer.x_channels")
    tiles = of("scorer.tiles")
    patches = of("scorer.patches")


def called(scorer: Callable[..., Score], x: Images, y_hat: Images, *layers: Tensor) -> Score:
    """Call a scorer with the layers that it takes; one of a user's own need not be made to take any."""
    return scorer(x, y_hat, *layers)


def as_scorer(scorer: Scorer) -> Scorer:
    """Return the scorer, wrapped if its class does not inherit from Scorer but only has the members.

    A level, which was fitted for one calibration, is left out.
    """
    return scorer.without_level if isinstance(scorer, Scorer) else WrappedScorer(scorer)


@dataclass(frozen=True)
class Heuristic(Scorer):
    """A scorer from a callable (x, y_hat) -> map >= 0 of shape (N, 1 or C, *space); fitted for no loss.

    Examples:
        >>> import conformask as cm
        >>> cm.Heuristic(lambda x, y_hat: (x - y_hat).abs(), channels=1).family
        'reciprocal'
    """

    function: Callable[[Tensor, Tensor], Tensor]
    channels: int
    per_channel: bool = False
    family: str = "reciprocal"
    selection: Selection | None = None
    trained_on: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The callable's own name."""
        return name_of(self.function)

    @property
    def fingerprint(self) -> str:
        """A hash of the callable's code."""
        return fingerprint_of(self.function)

    def __call__(self, x: Images, y_hat: Images) -> Score:
        """Return the callable's map as a score."""
        return Score(self.function(x, y_hat))
