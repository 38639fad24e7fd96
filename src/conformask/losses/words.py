"""The words for a loss of an error map."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from conformask.records.extent import REGION
from conformask.records.loss_words import LossWords
from conformask.records.numbers import DIGITS, THE_RANGE, Values, rounded_up, written

if TYPE_CHECKING:
    from conformask.losses.base import MapLoss
    from conformask.records.card import CalibrationCard


@dataclass(frozen=True)
class MapWords(LossWords):
    """The words for a loss of an error map."""

    loss: "MapLoss"

    @property
    def symbols(self) -> dict[str, str]:
        """What stands for the parts of the loss in templates."""
        loss, symbols = self.loss, super().symbols
        p = "" if loss.power in (None, 1) else f"^{loss.of[1:]}"
        error = f"e = |y − ŷ|{p}" if loss.power else f"e = {self.distance} at the pixel"
        if loss.ratio is not None:
            error = f"e = {loss.ratio.formula}"
            symbols |= {"tolerance": loss.ratio.symbol(self.tolerance)}
        return symbols | {"p": p, "e": error, "of_image": loss.extent.where or " of the image"}

    @property
    def tolerance(self) -> float:
        """The error above which a pixel is wrong; 0 for losses that count no wrong pixels."""
        return float(vars(self.loss).get("tolerance", 0.0))

    def raised(self, error: str) -> str:
        """Return a mean of the errors of pixels, each to the exponent, in words; `error` is their root."""
        exponent = self.loss.power or 1.0
        return {1.0: error, 2.0: f"the square of {error}"}.get(exponent, f"{error} to the power {exponent:g}")

    def mean(self, mean: float, values: Values | None) -> str:
        """Return a mean over images in words, as its limit is in the sentence."""
        limit = self.limit(mean, values)
        return limit if self.loss.common.is_share else self.raised(limit)

    def error(self, error: float, values: Values | None, digits: int = DIGITS) -> str:
        """Return an error of pixels in words, in percent of the range where it is one of the images."""
        loss = self.loss
        if loss.ratio is not None:
            return loss.ratio.text(error, digits)
        if loss.power is None:
            label = self.distance.replace("−", "-")  # not all files can hold a minus sign
            name = f"the {label}" if label.endswith(" map") else f"the map {label}"
            return f"{written(rounded_up(error, digits))} in {name}"
        share = error ** (1 / loss.power)
        whole = THE_RANGE if values is None else values.whole
        text = f"{written(rounded_up(100 * share, digits))} % of {whole}"
        in_values = None if values is None else values.text(share, digits)
        return text if in_values is None else f"{text} ({in_values})"

    def error_of_share(self, share: float) -> float | None:
        """Return the error of a pixel that is off by this share of the range, or of the truth."""
        if self.loss.ratio is not None:
            return self.loss.ratio.error_of(share)
        return None if self.loss.power is None else float(share**self.loss.power)

    def in_sentences(self, card: "CalibrationCard") -> dict[str, str]:
        """Return what stands for the parts of the loss, the promise and its images in sentences."""
        p, limit = self.loss.power or 1.0, self.limit(card.threshold, card.values)
        truth, by_bound = self.loss.traits.truth.words(card.reference)
        root = {1.0: "", 2.0: "as a root mean square"}.get(p, f"as a power mean of exponent {p:g}")
        error = {1.0: "error", 2.0: "squared error"}.get(p, f"error to the power {p:g}")
        grey, hidden = "is multiplied by the mask: ", "hidden pixels count as no error"
        return self.named | {
            "threshold": limit,
            "wrong": f"off by more than {self.error(self.tolerance, card.values, self.texts.digits)}",
            "limit": self.raised(limit),
            "error": error,
            "average": f", {root}" if root else " on average",
            "averaged": root or "averaged",
            "off": f" from {truth}" if truth else "",
            "against": f" against {truth}" if truth else "",
            "by_bound": by_bound,
            "by_mask": ", weighted by the mask," * card.is_grey,
            "whole": "the region" if self.loss.extent == REGION else "the whole image",
            "as_grey": f"each {error} {grey}" * card.is_grey,
            "as_zero": f"({f'each error {grey}' * card.is_grey}{hidden})",
            "nothing": "(0 where none is shown)",
        }
