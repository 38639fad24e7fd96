"""The words for a loss: its name, its formula, and its part in the sentences of promises."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from conformask.records.extent import REGION
from conformask.records.names import DISTANCES
from conformask.records.numbers import DIGITS, Values, rounded_up, written

if TYPE_CHECKING:
    from conformask.records.card import CalibrationCard
    from conformask.records.loss import StatedLoss


class Texts(NamedTuple):
    """Templates of the words for a loss, of its `symbols` and its `name`; the defaults say its name."""

    name: str = "{over}({of})"
    """The loss as written in a formula, but for the region."""
    label: str = "{name}"
    """The loss as people write it, but for the region."""
    formula: tuple[str, ...] = ("{name} of the mask m and the errors e",)
    """The formula of the mask m and the error e of each pixel, and what each of its other letters means."""
    event: str = "the loss {name}{where} is at most {threshold}"
    """The event that an image meets the threshold, also of the words of a card."""
    limit: str = "the loss {name}{where} is at most {threshold}"
    """The limit of a mean over images, also of the words of a card."""
    averaged: str = ""
    """The pixels over which the loss averages errors; empty for other losses."""
    digits: int = DIGITS
    """The digits to which sentences round a tolerance up."""


@dataclass(frozen=True)
class LossWords:
    """The words for a loss of masked images, by its templates."""

    loss: "StatedLoss"

    @property
    def texts(self) -> Texts:
        """The templates."""
        return self.loss.texts

    @property
    def caveat(self) -> str | None:
        """A caveat on what the loss does not say."""
        return None

    @property
    def distance(self) -> str:
        """The distance or error map as people write it."""
        name = self.loss.of
        return DISTANCES[name].label if name in DISTANCES else name

    @property
    def averaged(self) -> str:
        """The pixels over which the loss averages errors, where the error map is a built-in one."""
        return self.texts.averaged * (self.loss.of in DISTANCES)

    @property
    def symbols(self) -> dict[str, str]:
        """What stands for the parts of the loss in templates; of numbers their names."""
        numbers = {
            name: f"{value:g}" if isinstance(value, float) else str(value)
            for name, value in self.loss.numbers.items()
        }
        names = {"over": str(self.loss.over), "of": self.loss.of, "label": self.distance}
        return {"e": "", **numbers, **names, "where": self.loss.extent.where}

    @property
    def named(self) -> dict[str, str]:
        """The symbols, and the name of the loss but for the region."""
        symbols = self.symbols
        return symbols | {"name": self.texts.name.format(**symbols)}

    def in_sentences(self, card: "CalibrationCard") -> dict[str, str]:
        """Return what stands for the parts of the loss, the promise and its images in sentences."""
        return self.named | {"threshold": self.limit(card.threshold, card.values)}

    @property
    def name(self) -> str:
        """The loss as written in a formula: l1, trusted(l1), local(l1, 9 px), missed(l1 > 0.1)."""
        return "{name}{where}".format(**self.named)

    @property
    def label(self) -> str:
        """The loss as people write it."""
        return f"{self.texts.label.format(**self.named)}{', in the region' * (self.loss.extent == REGION)}"

    @property
    def formula(self) -> str:
        """The loss as a formula of the mask m and the error e of each pixel, with what its letters mean."""
        named = self.named
        formula, *letters = (text.format(**named) for text in self.texts.formula)
        said = ", ".join(filter(None, (named["e"], *letters)))
        return f"{formula}, with {said}" if said else formula

    def phrases(self, card: "CalibrationCard") -> tuple[str, str]:
        """Return the event that an image meets the threshold, and the limit of a mean, in words."""
        words = self.in_sentences(card)
        return self.texts.event.format(**words), self.texts.limit.format(**words)

    def limit(self, threshold: float, values: Values | None) -> str:
        """Return the threshold in words: a share, or an error, in the values of the images too."""
        if self.loss.traits.is_share:
            return f"{written(rounded_up(100 * threshold))} %"
        return self.error(threshold, values)

    def mean(self, mean: float, values: Values | None) -> str:
        """Return a mean over images in words, as its limit is in the sentence."""
        return self.limit(mean, values)

    def error(self, error: float, values: Values | None, digits: int = DIGITS) -> str:
        """Return an error of pixels, or a distance, in words."""
        return written(rounded_up(error, digits))

    def error_of_share(self, share: float) -> float | None:
        """Return the error of a pixel that is off by this share of the range; None for other errors."""
        return None
