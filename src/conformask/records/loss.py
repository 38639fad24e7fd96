"""Losses as records state them: names, numbers and words; and the list of all losses."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from conformask.errors import MismatchError
from conformask.extensions import OVER, Extensions
from conformask.records.extent import IMAGE, REGION, Extent, extent_of
from conformask.records.loss_words import LossWords, Texts
from conformask.records.names import DISTANCES
from conformask.records.reading import PhysicalWindow
from conformask.records.record import Json, from_dict, to_jsonable
from conformask.records.truth import TRUTH, Truth

PARTS = ("loss", "function", "monotone", "upper_bound")
"""Fields of an error map, a distance or a function, and what is declared of it: records have its name."""
BINARY: Mapping[str, Json] = {"name": "binary", "bounds": "total"}
"""Settings of the family of masks of most losses."""
LP = re.compile(r"l(\d+(?:\.\d+)?(?:e[+-]?\d+)?)")
"""Names of the distances lp, with the exponent."""


@dataclass(frozen=True)
class Traits:
    """Facts of a loss that choose how it is calibrated, and which scores are trained for it."""

    monotone: bool = False
    """True if the loss is never larger under a smaller mask: critical lambdas then need no grid."""
    relative: bool = False
    """True if the loss is divided by what the mask shows: few pixels decide where little is shown."""
    convex: bool = False
    """True if the loss is convex in the errors, so that noise of y makes that of lp larger on average."""
    is_share: bool = False
    """True if the loss is a share of pixels or objects, and so at most 1."""
    takes_regions: bool = True
    """True if the loss can be about the region of each image alone."""
    masks_images: bool = False
    """True if the loss compares the masked images."""
    truth: Truth = TRUTH
    """What y is taken for."""
    own_bounds: bool = False
    """True if y_hat alone determines the largest loss of an image under a mask."""
    suits_mask_network: bool = False
    """True if the paper's mask network can be trained with the loss: it is a mean over the image."""
    best_is_exact: bool = True
    """True if no mask that keeps the threshold hides less than the one called best."""
    upper_bound: float | None = None
    """The largest value on images in [0, 1], if there is one."""
    power: float | None = None
    """The exponent p where the error of a pixel is |y - y_hat|^p; None for other errors and distances."""
    exponent: float | None = None
    """The exponent p, where the loss is mean(mask^p * error) and the exact kernels apply."""
    block_exponent: float | None = None
    """The exponent p, where the loss can be summed over the blocks of a whole image."""
    wrong_above: float | None = None
    """The error above which a pixel is wrong, where score networks learn how probable that is; else None."""
    physical_window: PhysicalWindow | None = None
    """The window where it was given as a length: at another spacing it is another one."""
    score_window: int | tuple[int, ...] | None = None
    """The side of the window that scores are averaged over for the loss; None if they are not."""
    family: Mapping[str, Json] | None = field(default_factory=lambda: BINARY)
    """Settings of the family of masks for the loss; None for the scorer's own family of grey masks."""

    @property
    def target_power(self) -> float:
        """The power to which a score network raises what it learns."""
        return self.power or 1.0 if self.wrong_above is None else 1.0

    @property
    def learns_differences(self) -> bool:
        """True if a score network may learn how y lies around y_hat: its errors are |y - y_hat|^p, p >= 1."""
        learns_errors = self.wrong_above is None and not self.truth.subtracts_noise
        return learns_errors and (self.power or 0.0) >= 1


class StatedLoss(ABC):
    """A loss as records state it: its name, its numbers, and the words for them.

    A loss that overrides none of the words is described by its name.
    """

    common: ClassVar[Traits] = Traits()
    """The traits that all losses of the class have."""
    texts: ClassVar[Texts] = Texts(
        "{of}",
        "{label}",
        ("{label} of m y and m ŷ, the masked truth and the masked output",),
        "the loss {label}{where} is at most {threshold}",
        "the loss {label}{where} is at most {threshold}",
    )
    """Templates of its words."""
    over: str | None = None
    """How the errors of pixels, or objects, become one number; None for a loss of masked images."""

    @property
    @abstractmethod
    def of(self) -> str:
        """The name of the error map or distance that the loss is made of, or its own."""

    @property
    def numbers(self) -> dict[str, Json]:
        """The numbers of the loss by the names of its fields: all but what `of` names."""
        numbers = {name: value for name, value in vars(self).items() if name not in PARTS}
        return numbers | {"regional": self.extent == REGION}

    def to_json(self) -> dict[str, Json]:
        """Return the loss as records keep it."""
        return {"loss": self.of, "over": self.over, **self.numbers}

    @property
    def extent(self) -> Extent:
        """What the loss counts."""
        return IMAGE

    @property
    def traits(self) -> Traits:
        """The traits of the loss."""
        return replace(self.common, masks_images=self.over is None)

    @property
    def words(self) -> LossWords:
        """The words for the loss."""
        return LossWords(self)

    @property
    def name(self) -> str:
        """The loss as written in a formula: l1, trusted(l1), local(l1, 9 px), missed(l1 > 0.1)."""
        return self.words.name


def is_same(loss: StatedLoss, other: StatedLoss) -> bool:
    """Return whether records state both losses alike."""
    return bool(to_jsonable(loss.to_json()) == to_jsonable(other.to_json()))


@dataclass(frozen=True)
class OwnLoss(StatedLoss):
    """A loss, distance or error map of a user's own, of which only the record is known."""

    stated: Mapping[str, Json]

    @property
    def of(self) -> str:
        """The name."""
        return str(self.stated["loss"])

    @property
    def extent(self) -> Extent:
        """The whole image, or its region."""
        return extent_of(regional=bool(self.stated.get("regional")))

    def to_json(self) -> dict[str, Json]:
        """Return the loss as records keep it."""
        return dict(self.stated)


def is_built_in(name: str) -> bool:
    """Return whether a built-in distance or error map has this name."""
    return name in DISTANCES or LP.fullmatch(name) is not None


class LossClasses(Extensions[Any]):
    """The classes of losses by name, each imported when it is looked up."""

    def __getitem__(self, name: str) -> type[StatedLoss]:
        """Return a class, of which a built-in one is stated as MODULE:CLASS."""
        kind = super().__getitem__(name)
        if isinstance(kind, str):
            module, _, attribute = kind.partition(":")
            kind = vars(import_module(module))[attribute]
        if isinstance(kind, type) and issubclass(kind, StatedLoss):
            return kind
        raise MismatchError(
            f"over {name!r} is {kind!r}, which is not a class of losses: update the package that adds it, or "
            "uninstall it"
        )


LOSSES = LossClasses(
    OVER,
    object,
    {
        "image": "conformask.losses.means:Mean",
        "local": "conformask.losses.window:Local",
        "local_share": "conformask.losses.window:LocalShare",
        "trusted": "conformask.losses.means:MeanShown",
        "missed": "conformask.losses.means:MissRate",
        "wrong": "conformask.losses.means:FalseOmissionRate",
        "masked_window": "conformask.losses.window:MaskedWindow",
        "distance": "conformask.losses.masked_distance:MaskedDistance",
    },
)
"""The classes of all losses: those of error maps by their `over`, others by the name that records have."""


def read_loss(stored: Mapping[str, Json], path: Path) -> StatedLoss:
    """Return the loss in a record; a user's own is known by its name, until it is given again."""
    of, over = str(stored["loss"]), stored.get("over")
    if over is None and not is_built_in(of):
        return OwnLoss({name: value for name, value in stored.items() if value is not None or name == "over"})
    kind = of if of in LOSSES else over or "distance"
    if kind not in LOSSES:
        raise MismatchError(
            f"{path} contains the unknown loss {of!r} over {over!r}: install the package that adds it, or "
            "conformask again; without one, the file is damaged"
        )
    part = of if is_built_in(of) else OwnLoss({"loss": of})
    return from_dict(LOSSES[kind], {**stored, "loss": part}, path)
