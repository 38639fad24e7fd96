"""Losses in words: a distance between masked images, or an error map under a mask."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from conformask.names import DISTANCES, Allowance, Over
from conformask.storage.as_json import Json

LP = re.compile(r"l(\d+(?:\.\d+)?)")
"""Names of the distances lp, with the exponent."""


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

    def limit(self, threshold: str, tolerance: str, *, on_average: bool = False) -> str:
        """Return the condition that the loss, or its mean, is at most the threshold, in words.

        Both numbers are as written.
        """
        label, where = self.distance_label, " in the region" if self.region else ""
        wrong = f"{label} above {tolerance}"
        if self.of_objects:
            objects = f", where an object is wrong if {self._wrong_object}"
            if self.over == "any" and on_average:
                return f"the share of images in which a wrong object is shown is at most {threshold}{objects}"
            if self.over == "any":
                return f"no wrong object is shown{objects}"
            which = "wrong objects is shown" if self.over == "missed" else "objects that are shown is wrong"
            return f"at most a share of {threshold} of the {which}{objects}"
        local, as_zero = f"mean {label} over {self._window_label}", "what is hidden counted as 0"
        if not self._error[0]:
            return f"masked output and masked truth differ by at most {threshold} in {label}"
        limits = {
            "local": f"around every pixel{where} that is shown, the {local} is at most {threshold}",
            "local_share": f"around at most a share of {threshold} of the pixels{where} that are shown, the "
            f"{local} is above {tolerance}",
            "trusted": f"the mean {label} of what is shown{where} is at most {threshold}",
            "window": f"the mean {label}{where} over any {self._window_label} is at most {threshold}, "
            + as_zero,
            "missed": f"at most a share of {threshold} of the pixels{where} with {wrong} is shown",
            "wrong": f"at most a share of {threshold} of what is shown{where} has {wrong}",
            "clean": f"the mean {label} to the noisy reference{where}, less its noise and plus an allowance, "
            f"is at most {threshold}, {as_zero}",
            "clean_local": f"around every pixel{where} that is shown, the {local} to the noisy reference, "
            f"less its noise and plus an allowance, is at most {threshold}",
        }
        return limits.get(self.over or "", f"the mean {label}{where} is at most {threshold}, {as_zero}")

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
