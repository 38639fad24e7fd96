"""Repeats: acquisitions with noise in the place of the truth, as a layer of images."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import add, length_hint
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from conformask.arrays import Array, Triplet
from conformask.background import tracked
from conformask.errors import ImageError, InvalidArgumentError, MissingFileError
from conformask.extras.noise import checks
from conformask.extras.noise.clean import Allowance
from conformask.images.layers import SHOWN, Findings, LayerKind, OpenedLayer, check_places, with_layer
from conformask.images.read import Image, by_stem, image_and_header, read_header, times_of
from conformask.records.numbers import plural
from conformask.records.reading import Reading, Reference

if TYPE_CHECKING:
    from conformask.images.rows import TripletRow

HALVES = ("_even", "_EVN", "_half1", "_odd", "_ODD", "_half2")
"""Endings of halves of electron micrographs, which stand for _1 and _2, the first before the second."""
PAIRS = 32
"""Number of pairs of repeats from which the noise is estimated."""


@dataclass(frozen=True)
class Repeats(LayerKind):
    """Second acquisitions of y, whose noise is independent of that of y and x.

    A triplet has their mean for y and half their difference as a layer, and a batch the noise of y.
    """

    name: str = "repeat"
    found_by_stem = False
    plural = "repeats"
    may_be_empty = True
    makes_y = True

    def attach(self, rows: "list[TripletRow]", beside: Path, reading: Reading) -> "list[TripletRow]":
        """Return the rows with the repeats of each: in a folder NAME_1 and NAME_2, or NAME_1 alone for all.

        Halves may keep the names that programs give them, such as NAME_even and NAME_odd; see HALVES. A file
        NAME with two time points, or twice the channels of y_hat, holds both. Where there is a y they are
        left out.
        """
        folder = beside / self.plural
        if not folder.is_dir() or any(row.y is not None for row in rows):
            return rows
        files = by_stem(folder)
        for row in rows:
            if (path := files.pop(row.name, None)) is not None:
                files |= _repeats_in(path, row, reading)
            if f"{row.name}_1" not in files:
                halves = [files.pop(f"{row.name}{end}") for end in HALVES if f"{row.name}{end}" in files]
                files |= {f"{row.name}_{place}": path for place, path in enumerate(halves, start=1)}
        two = any(f"{row.name}_2" in files for row in rows)
        needed = [f"{row.name}_{place}" for row in rows for place in (1, 2)[: 1 + two]]
        missing, others = set(needed) - set(files), set(files) - set(needed)
        if missing or others:
            listed = ", ".join(sorted(missing or others)[:SHOWN])
            what = "no file of the name" if missing else "files of no image:"
            raise MissingFileError(
                f"{folder} has {what} {listed}; give NAME_1 and NAME_2 of each image, NAME_1 alone of each, "
                "halves NAME_even and NAME_odd, or files NAME with two time points or twice the channels"
            )
        last = 2 if two else 1
        return [
            self.complete(
                replace(
                    row,
                    y=files[f"{row.name}_1"] if two else None,
                    layers={**row.layers, self.name: files[f"{row.name}_{last}"]},
                )
            )
            for row in rows
        ]

    def complete(self, row: "TripletRow") -> "TripletRow":
        """Return the row with noisy y; a repeat alone is y."""
        if self.name not in row.layers:
            return row
        if row.y is not None:
            return replace(row, repeats=2)
        layers = dict(row.layers)
        return replace(row, y=layers.pop(self.name), layers=layers, repeats=1)

    def add(self, row: "TripletRow", triplet: Triplet, reading: Reading) -> Triplet:
        """Return the triplet with the mean of y and its repeat, and half their difference.

        Two of one file are its first and its second half of the channels.
        """
        source, y = row.layers[self.name], triplet.truth()
        repeat, header = image_and_header(source, reading.of("y"), row.text(self.name))
        if isinstance(row.y, Path) and row.y == source:
            y, repeat = np.array_split(y, 2)
        if repeat.shape != y.shape:
            raise ImageError(
                f"triplet {row.name!r}: its repeats have shapes {y.shape} and {repeat.shape}; they must be "
                "the same"
            )
        if np.array_equal(y, repeat):
            raise ImageError(
                f"triplet {row.name!r}: its two repeats are the same image; give two acquisitions"
            )
        check_places(row.name, {self.name: header}, triplet.y_hat.shape[1:], triplet.geometry)
        triplet = replace(triplet, y=(y + repeat) / 2)
        return with_layer(triplet, self.name, (y - repeat) / 2)

    def opened(self, row: "TripletRow", reading: Reading) -> OpenedLayer | None:
        """Return None: no loss of noisy references is computed window by window."""
        return None

    def batched(self, triplet: Triplet) -> dict[str, Image]:
        """Return the noise of y, where it is known."""
        noise = noise_of(triplet)
        return {} if noise is None else {"noise": noise}

    def measure(self, triplet: Triplet, place: int) -> checks.ReferenceMeasures | None:
        """Measure the reference of a triplet, if it has noise."""
        if triplet.y is None or not triplet.reference.is_noisy:
            return None
        b, c = repeats_of(triplet) or (triplet.y, None)
        return checks.measure_reference(b, triplet.x, triplet.y_hat, c, with_blocks=place < PAIRS)

    def verdicts(self, measures: Mapping[str, checks.ReferenceMeasures]) -> Iterable[tuple[str, bool]]:
        """Return what spoils a promise about noisy references, and whether beyond doubt."""
        return checks.verdicts(measures)

    def findings(self, measures: Mapping[str, checks.ReferenceMeasures]) -> Findings:
        """Return what is known of the noise by two repeats of each image, of PAIRS of them."""
        pooled = checks.pooled_correlation(measures.values())
        if pooled is None:
            return Findings({"transfer": None, "reach": None, "clt_reach": None})
        blocks = (each.two.blocks for each in measures.values() if each.two is not None)
        transfer = checks.estimate_noise(filter(None, blocks))
        model, reach, clt_reach = transfer.model, pooled.range, pooled.rounded_reach
        independent = f"independent from {plural(reach, 'pixel')} on (--allowance exact --reach {reach})"
        if reach > checks.FARTHEST:
            independent = f"shared by pixels more than {checks.FARTHEST} apart (--allowance exact is refused)"
        text = (
            f"variance gain * (value - offset) + read^2, {model.text}, values from 0 to 1 (--noise-model "
            f"{model.option} for one repeat); {independent}, by the central limit theorem --reach "
            f"{clt_reach:g}"
        )
        fields = {"transfer": transfer, "reach": reach, "clt_reach": clt_reach}
        return Findings(fields, (("noise", text),), partial(checks.photon_transfer_plot, transfer))


REPEATS = Repeats()


def repeats_of(triplet: Triplet) -> tuple[Array, Array] | None:
    """Return the two repeats b and c of a triplet; None if it has none."""
    if REPEATS.name not in triplet.layers:
        return None
    half = triplet.layers[REPEATS.name]
    return triplet.truth() + half, triplet.truth() - half


def noise_of(triplet: Triplet) -> Array | None:
    """Return an estimate of the variance of the noise of y, (C, *space), whose mean over draws it is.

    It is the square of half the difference of two repeats, or what a model says of one, which may be
    negative. None where y is the truth, or its noise is not known.
    """
    if REPEATS.name in triplet.layers:
        return np.asarray(np.square(triplet.layers[REPEATS.name]))
    model = triplet.reference.model
    return None if model is None or triplet.y is None else model.variance(triplet.y)


def reach_of(images: Iterable[Triplet], reference: Reference, allowance: Allowance) -> float:
    """Return the reach that an allowance needs for the noise that the repeats of images show."""
    if reference.repeats == 1:
        raise InvalidArgumentError(
            "one repeat does not show from which distance on its noise is independent: give reach= "
            "(--reach), 1 if that of neighbouring pixels is, or what `conformask check` measures on a few "
            "images taken twice"
        )
    pairs = map(repeats_of, tracked(images, "measuring noise", length_hint(images)))
    alike = ((b, checks.without_drift(b, c, checks.gain_of(b, c))) for b, c in filter(None, pairs))
    return checks.reach_shown(reduce(add, (checks.correlation(*pair) for pair in alike)), allowance)


def _repeats_in(path: Path, row: "TripletRow", reading: Reading) -> dict[str, Path]:
    """Return the file of NAME_1 and NAME_2: two time points of one, or one of which both are channels."""
    count, names = times_of(path, reading), [f"{row.name}_{place}" for place in (1, 2)]
    if count == 2:
        return {name: path.with_name(f"{path.name}#t={time}") for time, name in enumerate(names)}
    if count is None and read_header(path, reading).channels == 2 * row.header("y_hat", reading).channels:
        return dict.fromkeys(names, path)
    raise ImageError(
        f"{path} has {count or 'no'} time points, and not twice the channels of y_hat: give a file with two, "
        f"the repeats, or one repeat in a file named {names[0]}"
    )
