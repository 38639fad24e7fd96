"""The base class of scorers, your own function as a scorer, and a wrapper of other scorers and objects."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from conformask.arrays import Images, Score
from conformask.losses.base import Loss
from conformask.records.files import BESIDE
from conformask.records.fingerprints import fingerprint_of, name_of
from conformask.records.geometry import Size
from conformask.records.reading import Network
from conformask.records.record import Array, claim, write_json
from conformask.records.selection import Selection


class Scorer(ABC):
    """Scores the distrust in each pixel of y_hat from (x, y_hat), in float32, without seeing y.

    A scorer of your own needs a name, channels and `__call__`.
    """

    # No properties: dataclasses would take them for defaults of their fields.
    channels: int
    """Number of channels of the y_hat that it takes."""
    cue_channels: int = 0
    """Number of maps beside y_hat that it takes, as `__call__(x, y_hat, cues)`; 0 for none."""
    by_value: bool = False
    """True if only the order of its values counts, over all images: they are no estimates of errors."""
    network: nn.Module | None = None
    """The network behind `score_map`, whose weights an exported graph holds; None where there is none."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The scorer's name."""

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers that `__call__` takes after x and y_hat: cues, where it takes any."""
        return ("cues",) if self.cue_channels else ()

    @property
    def loss(self) -> Loss | None:
        """The loss that the scorer was fitted for; None if it was fitted for none."""
        return None

    @property
    def x_channels(self) -> int:
        """Number of channels of the x that it takes; those of y_hat unless stated."""
        return self.channels

    @property
    def per_channel(self) -> bool:
        """True if the score has the channels of y_hat."""
        return False

    @property
    def family(self) -> str:
        """The name of the family of grey masks that suits the scorer."""
        return "reciprocal"

    @property
    def sizes(self) -> tuple[Size, ...] | None:
        """Sizes of the images that it was trained on; None if it was trained on none."""
        return None

    @property
    def tiles(self) -> tuple[int | Size, int | Size] | None:
        """Tile and overlap by which it scores large images; None where it scores each image in one pass."""
        return None

    @property
    def patches(self) -> int | None:
        """The least number of pixels of a connected part of its masks; None where parts have any size."""
        return None

    @property
    def level_arrays(self) -> Mapping[str, Array] | None:
        """The model of the level that divides its score, as arrays; None where all images have one lambda."""
        return None

    @property
    def without_level(self) -> "Scorer":
        """The scorer whose score a level divides; the scorer itself where all images have one lambda."""
        return self

    @property
    def trained_on(self) -> frozenset[str]:
        """Hashes of pixels and groups of the images that it, or the predictor, was trained or selected on."""
        return frozenset()

    @property
    def perceptual_hashes(self) -> Array | None:
        """Perceptual hashes of the images that it was trained on, (n, w, b) uint8; None if on none."""
        return None

    @property
    def about(self) -> Network | None:
        """The network that made the y_hat of its training images; None where unknown, or without training."""
        return None

    @property
    def selection(self) -> Selection | None:
        """The record of the selection images."""
        return None

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


def of_scorer(name: str) -> Any:
    """Make a property that returns an attribute of the wrapped scorer."""
    return property(attrgetter(f"scorer.{name}"), doc=f"The scorer's {name}.")


@dataclass(frozen=True)
class WrappedScorer(Scorer):
    """A scorer that passes on what another one, or an object with its members, states about itself."""

    scorer: Scorer
    name = of_scorer("name")
    loss = of_scorer("loss")
    channels = of_scorer("channels")
    per_channel = of_scorer("per_channel")
    family = of_scorer("family")
    sizes = of_scorer("sizes")
    trained_on = of_scorer("trained_on")
    perceptual_hashes = of_scorer("perceptual_hashes")
    about = of_scorer("about")
    selection = of_scorer("selection")
    fingerprint = of_scorer("fingerprint")

    @property
    def by_value(self) -> bool:  # type: ignore[override]
        """True if only the order of the scorer's values counts."""
        return getattr(self.scorer, "by_value", False)

    @property
    def cue_channels(self) -> int:  # type: ignore[override]
        """Number of maps beside y_hat that the scorer takes."""
        return getattr(self.scorer, "cue_channels", 0)

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers that the scorer takes."""
        return layers_of(self.scorer)

    def __call__(self, x: Images, y_hat: Images, *layers: Tensor) -> Score:
        """Return the score that the scorer computes."""
        return called(self.scorer, x, y_hat, *layers)

    def save(self, folder: Path) -> None:
        """Write the scorer itself to a run folder."""
        self.scorer.save(folder)


def called(scorer: Callable[..., Score], x: Images, y_hat: Images, *layers: Tensor) -> Score:
    """Call a scorer with the layers that it takes; one of a user's own need not be made to take any."""
    return scorer(x, y_hat, *layers)


def layers_of(scorer: Callable[..., Score]) -> tuple[str, ...]:
    """Return the names of the layers that a scorer takes, or an object with the members of one."""
    if isinstance(scorer, Scorer):
        return scorer.layers
    return ("cues",) if getattr(scorer, "cue_channels", 0) else ()


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
