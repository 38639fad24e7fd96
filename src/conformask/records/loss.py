"""Losses in words: a distance between masked images, or an error map under a mask."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from conformask.records.geometry import parsed
from conformask.records.names import DISTANCES, Allowance, Over
from conformask.records.reading import Reference
from conformask.records.record import Json

LP = re.compile(r"l(\d+(?:\.\d+)?)")
"""Names of the distances lp, with the exponent."""
MINUS = "1 − "
"""Beginning of the labels of distances that are 1 minus a similarity."""


def whole_of(*, in_region: bool, of_objects: bool) -> str:
    """Return what hidden shares are shares of."""
    if of_objects:
        return "the objects of an image"
    return "the region of an image" if in_region else "an image"


@dataclass(frozen=True, kw_only=True)
class LossTerms:
    """The names and numbers of a loss in command line, JSON and Python."""

    distance: str
    """The name of a distance or of an error map."""
    over: Over | None = None
    """The aggregate; None compares the masked images, as in the paper; for lp the mean over the image."""
    window: int | tuple[int, ...] | None = None
    """Side of the window in pixels, or its side along each axis."""
    length: str | None = None
    """Its side, or its sides, where it was given as a length: 5 mm, or 7.5 x 5 x 5 mm."""
    tolerance: float | None = None
    """The error above which a pixel is wrong."""
    region: bool = False
    """True if only the region of each image counts."""
    allowance: Allowance | None = None
    """How the allowance for noise is computed: exact, or clt for the central limit theorem."""
    eta: float | None = None
    """The share of images for which that allowance may be too small."""
    reach: float | None = None
    """The number of pixels along each axis from which on noise is independent, see `CleanMean`."""
    iou: float | None = None
    """For objects: the IoU with an object of y below which an object of y_hat is wrong."""

    @property
    def of_objects(self) -> bool:
        """True if objects are counted, not pixels."""
        return self.iou is not None

    @property
    def subtracts_noise(self) -> bool:
        """True if the noise of the reference is subtracted and allowed for."""
        return self.allowance is not None

    @property
    def whole(self) -> str:
        """What hidden shares are shares of."""
        return whole_of(in_region=self.region, of_objects=self.of_objects)

    @property
    def name(self) -> str:
        """The loss as written in a formula: l1, trusted(l1), window(l1, 9 px), missed(l1 > 0.1)."""
        if self.of_objects:
            return f"{self.over}(objects, IoU < {self.iou:g})"
        tolerated = f" > {self.tolerance or 0:g}"
        windowed = f", {self.length or f'{self._sides} px'}"
        numbers = {
            "local": windowed,
            "local_share": windowed + tolerated,
            "window": windowed,
            "missed": tolerated,
            "wrong": tolerated,
            "clean": f", {self.allowance}",
            "clean_local": f"{windowed}, {self.allowance}",
        }
        inside = self.distance + numbers.get(self.over or "", "")
        name = inside if self.over in (None, "image") else f"{self.over}({inside})"
        return f"{name} in the region" if self.region else name

    @property
    def _sides(self) -> str:
        return " x ".join(map(str, self.window)) if isinstance(self.window, tuple) else str(self.window)

    @property
    def _window_label(self) -> str:
        """The window in words, such as 9 x 9 pixels, or 7.5 x 5 x 5 mm (3 x 5 x 5 pixels)."""
        sides = self._sides if isinstance(self.window, tuple) else f"{self.window} x {self.window}"
        return f"{sides} pixels" if self.length is None else f"{self.length} ({sides} pixels)"

    @property
    def distance_label(self) -> str:
        """The distance or error map as people write it."""
        return DISTANCES[self.distance].label if self.distance in DISTANCES else self.distance

    @property
    def label(self) -> str:
        """The loss as people write it."""
        label = self.distance_label
        wrong = f"{label} above {self.tolerance or 0:g}"
        if self.of_objects:
            return {
                "any": f"whether a wrong object ({self._wrong_object}) is shown",
                "missed": f"share of the wrong objects ({self._wrong_object}) that are shown",
            }.get(self.over or "", f"share of the objects shown that are wrong ({self._wrong_object})")
        around = f"mean {label} over {self._window_label} around"
        with_noise = "with an allowance for the noise of the reference"
        labels = {
            "local": f"largest {around} a pixel that is shown",
            "local_share": f"share of the shown pixels with a {around} them above {self.tolerance or 0:g}",
            "trusted": f"mean {label} of what is shown",
            "window": f"mean {label} in any {self._window_label}, what is hidden counted as right",
            "missed": f"share of the wrong pixels ({wrong}) that are shown",
            "wrong": f"share of what is shown that is wrong ({wrong})",
            "clean": f"mean {label} to the clean image, {with_noise}",
            "clean_local": f"largest {around} a pixel that is shown, to the clean image, {with_noise}",
        }
        said = labels.get(self.over or "", label)
        return f"{said}, in the region" if self.region else said

    @property
    def _wrong_object(self) -> str:
        return f"no object of the reference meets it with an IoU of {self.iou:g} or more"

    @property
    def formula(self) -> str:
        """The loss as a formula of the mask m and the error e of each pixel, with what its letters mean."""
        if self.of_objects:
            of_all, of_wrong = "#{j : m_j > 0}", "#{j : m_j > 0, j wrong}"
            formula = {"any": f"[{of_wrong} > 0]", "missed": f"{of_wrong} / #{{j : j wrong}}"}.get(
                self.over or "", f"{of_wrong} / {of_all}"
            )
            return f"{formula}, with j the objects of ŷ, j wrong where {self._wrong_object}; 0 / 0 is 0"
        error, power = self._error
        if not error:
            return f"{self.distance_label} of m y and m ŷ, the masked truth and the masked output"
        where = " in the region" if self.region else ""
        inside = " that lie in the region" if self.region else ""
        wrong = f"e > {self.tolerance or 0:g}"
        is_wrong = f"[{wrong}] 1 where {wrong}, else 0"
        noise = "y the reference and v an estimate of the variance of its noise"
        around = f"ē_j the mean of e over the {self._window_label} around j{inside}"
        formula, *letters = {
            "local": ("max {ē_j : m_j > 0}", around, f"j the pixels{where}; 0 if nothing is shown"),
            "local_share": (
                f"#{{j : m_j > 0, ē_j > {self.tolerance or 0:g}}} / #{{j : m_j > 0}}",
                around,
                f"j the pixels{where}; 0 if nothing is shown",
            ),
            "trusted": ("Σ m e / Σ m", f"sums over all pixels{where}; 0 if nothing is shown"),
            "window": (
                "max Σ m e / n",
                f"sums over the n pixels of each window of {self._window_label}",
                *(["e = 0 outside the region"] if self.region else []),
            ),
            "missed": (f"Σ m [{wrong}] / Σ [{wrong}]", is_wrong, f"sums over all pixels{where}"),
            "wrong": (
                f"Σ m [{wrong}] / Σ m",
                is_wrong,
                f"sums over all pixels{where}; 0 if nothing is shown",
            ),
            "clean": (
                "(Σ m^2 (e − v) + N t) / n",
                noise,
                f"sums over the n pixels{where or ' of the image'}, of which N are shown",
                f"t {self._allowed('m^2 (e − v)')}",
            ),
            "clean_local": (
                "max {p_j + t_j : m_j > 0}",
                noise,
                f"p_j the mean of e − v over the N pixels of the {self._window_label} around j{inside}",
                f"t_j {self._allowed('e − v')}",
                f"j the pixels{where}; 0 if nothing is shown",
            ),
        }.get(self.over or "", (f"Σ m{power} e / n", f"sums over the n pixels{where or ' of the image'}"))
        return f"{formula}, with {', '.join((error, *letters))}"

    def _allowed(self, value: str) -> str:
        """Return the allowance for the noise of the mean of N values as a formula."""
        reach = f"{self.reach or 1:g}"
        axes, freedom = ("", "N") if reach == "1" else (f" {reach}^d", f"N / {reach}^d")
        eta, variance = f"{self.eta or 0:g}", f"V the variance of {value}"
        if self.allowance == "clt":
            return (
                f"= z sqrt(V{axes} / N), z the quantile at 1 − {eta} of Student's law with {freedom} − 1 "
                f"degrees of freedom, {variance}, or that by the noise of the pixels around if it is larger"
            )
        span = "R = max_j max(ŷ_j, 1 − ŷ_j)² + max_j ŷ_j (1 − ŷ_j)"
        if self.reach == 1:
            return f"= sqrt(2 V l / N) + 7 R l / (3 N − 3), {variance}, l = ln(2 / {eta}), {span}"
        return (
            f"the mean over the k = {reach}^d grids of pixels {reach} apart of sqrt(2 V l / N) + "
            f"7 R l / (3 N − 3), N the pixels of a grid, {variance}, l = ln(2 k / {eta}), {span}"
        )

    @property
    def _error(self) -> tuple[str, str]:
        """The error of a pixel as a formula, and the power of the mask; empty where images are compared."""
        if power := LP.fullmatch(self.distance):
            p = "" if power[1] == "1" else f"^{power[1]}"
            return f"e = |y − ŷ|{p}", p
        if self.over is None:
            return "", ""
        return f"e = {self.distance_label} at the pixel", ""

    @property
    def exponent(self) -> float | None:
        """The exponent p where the error of a pixel is |y - y_hat|^p; None for other errors and distances."""
        power = LP.fullmatch(self.distance)
        return None if power is None else float(power[1])

    @property
    def similarity(self) -> str | None:
        """The similarity of masked images of which the loss is 1 minus, such as SSIM; None without."""
        known = DISTANCES.get(self.distance)
        is_similarity = known is not None and not known.is_map and known.label.startswith(MINUS)
        return self.distance_label.removeprefix(MINUS) if is_similarity else None

    def raised(self, error: str) -> str:
        """Return a mean of the errors of pixels, each to the exponent, in words; `error` is their root."""
        exponent = self.exponent or 1.0
        return {1.0: error, 2.0: f"the square of {error}"}.get(exponent, f"{error} to the power {exponent:g}")

    def phrases(
        self, threshold: str, tolerance: str, *, axes: int, is_grey: bool, reference: Reference
    ) -> tuple[str, str]:
        """Return the event that an image meets the threshold, and the limit of a mean over images, in words.

        Args:
            threshold: the threshold as written; for a `similarity` its name and 1 minus the threshold.
            tolerance: the tolerance as written.
            axes: the number of spatial axes of an image.
            is_grey: True if masks may have values between 0 and 1.
            reference: what y is.
        """
        if self.of_objects:
            return self._phrases_of_objects(threshold)
        if self.exponent is None and self.over is None:
            return self._phrases_of_distance(threshold, is_grey=is_grey)
        p, where = self.exponent or 1.0, " in the region" if self.region else ""
        error = {1.0: "error", 2.0: "squared error"}.get(p, f"error to the power {p:g}")
        limit = self.raised(threshold)
        root = {1.0: "", 2.0: "as a root mean square"}.get(p, f"as a power mean of exponent {p:g}")
        average, averaged = (f", {root}", root) if root else (" on average", "averaged")
        whole, window = "the region" if self.region else "the whole image", self._window_in_words(axes)
        truth, by_bound = self._clean_in_words(reference)
        off, against = (f" from {truth}", f" against {truth}") if truth else ("", "")
        multiplied = error if self.over == "window" else "error"
        as_grey = f"each {multiplied} is multiplied by the mask: " * is_grey
        by_mask = ", weighted by the mask," * is_grey
        outside = "pixels hidden or outside it" if where and self.over == "window" else "hidden pixels"
        as_zero = f"({as_grey}{outside} count as no error)"
        wrong, nothing = f"off by more than {tolerance}", "(0 where none is shown)"
        of_image = (
            f"what stays visible is off by at most {threshold}{off}, {averaged} over {whole} {as_zero}"
            f"{by_bound}",
            f"the {error} of what stays visible{against}, averaged over {whole} {as_zero}, is at most "
            f"{limit}",
        )
        local = (
            f"around every pixel shown{where} the output is off by at most {threshold}{off}, {averaged} over "
            f"{window}{by_bound}",
            f"the largest {error} around a pixel shown{where}, averaged over {window} {nothing}, is at most "
            f"{limit}",
        )
        return {
            "local": local,
            "clean_local": local,
            "local_share": (
                f"around at most {threshold} of the pixels shown{where} the output is {wrong}, {averaged} "
                f"over {window}",
                f"the share of the pixels shown{where} around which the output is {wrong}, {averaged} over "
                f"{window}, is at most {threshold}",
            ),
            "trusted": (
                f"the pixels shown{where}{by_mask} are off by at most {threshold}{off}{average}",
                f"the mean {error} of the pixels shown{where}{by_mask}{against} {nothing} is at most {limit}",
            ),
            "window": (
                f"in any {window} what stays visible{where} is off by at most {threshold}{off}{average} "
                f"{as_zero}",
                f"the largest {error} of what stays visible{where}{against} in any {window}, averaged over "
                f"them {as_zero}, is at most {limit}",
            ),
            "missed": (
                f"at most {threshold} of the pixels{where} that are {wrong}{by_mask} are shown",
                f"of the pixels{where} that are {wrong}, the share{by_mask} that is shown is at most "
                f"{threshold}",
            ),
            "wrong": (
                f"at most {threshold} of the pixels shown{where}{by_mask} are {wrong}",
                f"the share of the pixels shown{where}{by_mask} that are {wrong} is at most {threshold}",
            ),
        }.get(self.over or "", of_image)

    def _phrases_of_objects(self, threshold: str) -> tuple[str, str]:
        if_wrong = f"(IoU below {self.iou:g})"
        are = "is" if threshold.startswith("a ") else "are"
        return {
            "any": (
                f"no wrong object is shown {if_wrong}",
                f"the chance that a wrong object is shown {if_wrong} is at most {threshold}",
            ),
            "missed": (
                f"at most {threshold} of the wrong objects {are} shown {if_wrong}",
                f"of the wrong objects {if_wrong}, the share that is shown is at most {threshold}",
            ),
        }.get(
            self.over or "",
            (
                f"at most {threshold} of the objects shown {are} wrong {if_wrong}",
                f"the share of the objects shown that are wrong {if_wrong} is at most {threshold}",
            ),
        )

    def _phrases_of_distance(self, threshold: str, *, is_grey: bool) -> tuple[str, str]:
        equal = "both are multiplied by the mask" if is_grey else "hidden pixels are equal"
        loss = f"the loss {self.distance_label}{' in the region' * self.region} is at most {threshold}"
        if self.similarity:
            scale = f"(1 is equal; {equal})"
            return (
                f"what stays visible is at least as similar to the truth as {threshold} {scale}",
                f"the similarity of what stays visible to the truth {scale} is at least {threshold}",
            )
        if self.distance in DISTANCES:
            differs = f"what stays visible differs from the truth by at most {threshold}"
            return f"{differs} in {self.distance_label} ({equal})", loss
        return loss, loss

    def _window_in_words(self, axes: int) -> str:
        """Return the pixels of a window, such as 9 x 9 pixels (5 x 5 mm)."""
        sides = self.window if isinstance(self.window, tuple) else (self.window,) * axes
        length = ""
        if self.length is not None:
            length = f" ({self.length})"
            if " x " not in self.length:
                number, unit = parsed(self.length)
                length = f" ({' x '.join([f'{number:g}'] * axes)} {unit})"
        pixels = f"{' x '.join(map(str, sides))} pixels{length}"
        return (
            f"those of {pixels} that lie in the region" if self.region and self.over != "window" else pixels
        )

    def _clean_in_words(self, reference: Reference) -> tuple[str, str]:
        """Return what a noisy reference is taken for, and by which theorem; both are empty for a truth."""
        if not reference.is_noisy:
            return "", ""
        if not self.subtracts_noise:
            return "the noisy reference", ""
        bound = "the central limit theorem for about" if self.allowance == "clt" else "an exact bound for"
        share = f"{100 * (self.eta or 0):.4g} %"
        return "the clean image behind the noise", f", by {bound} all but {share} of images"

    @property
    def caveat(self) -> str | None:
        """A caveat on what the loss does not say: of distances of masked images, and of noisy references."""
        if self.of_objects:
            return "Nothing is promised about objects of the reference that the network lacks."
        if self.subtracts_noise:
            eta = f"{100 * (self.eta or 0):.4g}\N{NO-BREAK SPACE}%"
            how = f"by an exact bound, for all but {eta} of images"
            if self.allowance == "clt":
                how = f"by the central limit theorem, for about all but {eta} of images"
            reach = self.reach or 1
            apart = "" if reach == 1 else f" {reach:g} or more apart"
            if reach != int(reach):
                apart = f", or correlated by {reach:g}^d at most, summed over a pixel and those around"
            return (
                f"The clean image, which is not known, is within the threshold too, {how}; this share comes "
                "off the confidence. It holds where the noise of the reference has mean 0 and is independent "
                f"of the input and between pixels{apart}."
            )
        if self.over is not None or not (self.distance in DISTANCES and not DISTANCES[self.distance].is_map):
            return None
        instead = f"{self.distance}_map" if f"{self.distance}_map" in DISTANCES else "ssim_map"
        return (
            f"{self.distance_label} compares the masked images, in which hidden pixels are identical: a few "
            "hidden dots can make them similar, so the mask need not cover what is wrong. A promise about "
            f"{instead} requires that."
        )


def with_loss(record: Mapping[str, Json]) -> dict[str, Json]:
    """Return a record that holds a loss; up to conformask 0.2 the terms lay in the record itself."""
    terms = {field.name: record[field.name] for field in fields(LossTerms) if field.name in record}
    return {"loss": terms, **record} if terms else dict(record)
