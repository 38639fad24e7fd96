"""What is shown: a masker, its images, and what has been computed of them."""

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Lock

import numpy as np
import torch

from conformask.calibration import Scored, loss_under, mask_size, unmasked_loss
from conformask.conformal.crossing import passes
from conformask.data.formats.opened import Header
from conformask.data.limits import FLOAT32
from conformask.data.triplets import Triplets
from conformask.errors import ConformaskError, ImageError, InvalidArgumentError, MissingFileError
from conformask.masker.agreement import measured
from conformask.masker.masker import Masker
from conformask.records.evaluation import Measurement
from conformask.records.reading import Reading
from conformask.report.meaning import Standing, broken, of_another_network
from conformask.report.words import figure, measurement_text, percent
from conformask.scorers.scoring import scored_batches
from conformask.viewer.cache import Cache
from conformask.viewer.pictures import thumbnail

OPENED_BYTES = 512 * 2**20
"""Of scored images that are kept."""
THUMBNAIL_BYTES = 64 * 2**20
"""Of thumbnails that are kept."""
MOST_UPLOADS = 32
"""Of a user, before the viewer asks to be restarted."""
MOST_SIDE = 4096
"""An image has at most so many pixels squared: the page holds its score."""
MOST_DECODED = 3 * 3 * FLOAT32 * MOST_SIDE**2
"""Bytes of x, y_hat and y as float32: three colour images of that size."""


@dataclass(frozen=True)
class Entry:
    """An image of the gallery."""

    name: str
    truth: bool
    uploaded: bool
    size: float | None
    """Mask size as calibrated; None before it is computed."""
    error: str | None
    """Why it cannot be shown."""


@dataclass(frozen=True)
class Opening:
    """What a lambda opens of an image."""

    lam: float
    level: tuple[float, ...]
    """What the family's apply takes."""
    size: float
    """Mask size, mean(1 - m)."""


@dataclass(frozen=True)
class Measured:
    """How an image with a truth stands to the threshold."""

    distance: float
    """Masked."""
    unmasked: float
    met: bool


class Session:
    """One viewer's images; several threads may ask, one at a time runs the network."""

    def __init__(self, masker: Masker, triplets: Triplets, *, other_network: bool = False) -> None:
        """Show triplets; outputs of another network than the calibration's with `other_network` only.

        Raises:
            MismatchError: they are another network's.
        """
        self.masker = masker
        self.network_caveat = masker.card.check_network(triplets.network, other_network=other_network)
        self._triplets = triplets
        self._distances: dict[str, float] = {}
        self._measured: tuple[int, Measurement | None] = 0, None
        """Of how many images with truth, and what."""
        self._places = {name: (triplets, index) for index, name in enumerate(triplets.names)}
        self._uploaded: list[str] = []
        self._sizes: dict[str, float] = {}
        self._errors: dict[str, str] = {}
        self._opened: Cache[Scored] = Cache(OPENED_BYTES, _bytes_of)
        self._thumbnails: Cache[bytes] = Cache(THUMBNAIL_BYTES, len)
        self._network = Lock()

    @property
    def reading(self) -> Reading:
        """How images are read, for uploads too."""
        return next(iter(self._places.values()))[0].reading

    def entries(self) -> list[Entry]:
        """The gallery, uploads first."""
        names = [*reversed(self._uploaded), *(name for name in self._places if name not in self._uploaded)]
        return [self._entry(name) for name in names]

    def _entry(self, name: str) -> Entry:
        triplets, index = self._place(name)
        truth = triplets.select([index]).has_truth
        uploaded = name in self._uploaded
        return Entry(name, truth, uploaded, self._sizes.get(name), self._errors.get(name))

    def look_through(self) -> Iterator[str]:
        """Compute mask size and thumbnail of every image, as calibrated; yields the names when done."""
        for name in list(self._places):
            if name not in self._sizes:
                with suppress(ConformaskError):  # kept for the gallery, which tells it
                    self._look_at(name)
            yield name

    def _look_at(self, name: str) -> bytes:
        try:
            item = self._opened.get(name) or self._scored(*self._place(name))
            mask = self.masker.open(item)
        except ConformaskError as error:
            self._errors[name] = str(error)
            raise
        self._sizes[name] = float(mask_size(mask)[0])
        if item.batch.y is not None and name not in self._uploaded:
            distance = loss_under(self.masker.loss, mask, item.batch)
            self._distances[name] = float(distance[0])
        return self._thumbnails.put(name, thumbnail(item.batch.y_hat, mask))

    def measured(self) -> Measurement | None:
        """How the masks of images with truth agree with the promise, where known; no uploads.

        Measured again only after further images were looked at: every move of a slider asks for it.
        """
        count_before = len(self._distances)
        if count_before != self._measured[0]:
            self._measured = count_before, self._measurement()
        return self._measured[1]

    def _measurement(self) -> Measurement:
        places = [index for index, name in enumerate(self._triplets.names) if name in self._distances]
        shown = self._triplets.select(places)
        distances = np.array([self._distances[name] for name in shown.names])
        return measured(self.masker, distances, np.array(shown.groups), np.array(shown.categories))

    @property
    def doubt(self) -> Standing | None:
        """What the images say against every promise; None where they do not."""
        if self.network_caveat is not None and self.network_caveat.other:
            return of_another_network(self.network_caveat.text)
        measured = self.measured()
        return broken(measurement_text(self.masker.card, measured)) if measured and measured.broken else None

    def caveat(self, name: str) -> str | None:
        """What to say beside an image that another network than the promised may have made."""
        if name in self._uploaded and self.masker.card.network is not None:
            return (
                f"The promise is about outputs of {self.masker.card.network.name}; who made this is unknown."
            )
        return None if self.network_caveat is None else self.network_caveat.text

    def thumbnail(self, name: str) -> bytes:
        """A small JPEG of the veiled output.

        Raises:
            ConformaskError: as opened does.
        """
        return self._thumbnails.get(name) or self._look_at(name)

    def opened(self, name: str) -> Scored:
        """An image and its score, each tensor with a batch axis of one.

        Raises:
            MissingFileError: there is no such image.
            ImageError: it cannot be used.
            MismatchError: it has other channels than those that the masker takes.
        """
        return self._opened.get(name) or self._opened.put(name, self._scored(*self._place(name)))

    def _scored(self, triplets: Triplets, index: int) -> Scored:
        check_size(triplets.names[index], _headers(triplets, index))
        with self._network:
            item = next(scored_batches(self.masker.scorer, triplets.select([index]), 1))
        self.masker.card.check_channels(item.batch.y_hat.shape[1])
        unjudged = self.masker.card.region and item.batch.region is None
        return replace(item, batch=replace(item.batch, y=None)) if unjudged else item

    def _place(self, name: str) -> tuple[Triplets, int]:
        if name not in self._places:
            raise MissingFileError(f"there is no image {name!r} here")
        return self._places[name]

    def add(self, pair: Triplets) -> str:
        """Show one more image; returns the name that it goes by, which is new.

        Raises:
            ImageError: it cannot be used.
            MismatchError: it has other channels than those that the masker takes.
            InvalidArgumentError: the promise needs a fact that is missing, or there are too many already.
        """
        if len(self._uploaded) >= MOST_UPLOADS:
            raise InvalidArgumentError(f"{MOST_UPLOADS} uploads are kept already: restart the viewer")
        wanted, count = pair.names[0], 1
        item = self._scored(pair, 0)
        self.masker.lambdas(item)
        name = wanted
        while name in self._places:
            name, count = f"{wanted}-{count + 1}", count + 1
        self._places[name] = (pair, 0)
        self._uploaded.append(name)
        self._opened.put(name, item)
        self._look_at(name)
        return name


def check_size(name: str, headers: Mapping[str, Header]) -> None:
    """Refuse a triplet, by the header of each role, that is too large for the page or for memory.

    Raises:
        ImageError: it is.
    """
    for role, header in headers.items():
        if math.prod(header.space) > MOST_SIDE**2:
            raise ImageError(
                f"{role} of {name} has {' x '.join(map(str, header.space))} pixels; the viewer takes up to "
                f"{MOST_SIDE} x {MOST_SIDE}: cut it, or use conformask mask"
            )
    decoded = FLOAT32 * sum(header.values for header in headers.values())
    if decoded > MOST_DECODED:
        raise ImageError(
            f"{', '.join(headers)} of {name} take {decoded // 2**20} MiB as float32; the viewer takes up to "
            f"{MOST_DECODED // 2**20} MiB: cut them, or use conformask mask"
        )


def _headers(triplets: Triplets, index: int) -> dict[str, Header]:
    """By role, without decoding; y has the shape of y_hat, or is refused for that."""
    x, y_hat = triplets.raster(index, "x").header, triplets.raster(index, "y_hat").header
    return {"x": x, "y_hat": y_hat} | ({"y": y_hat} if triplets.select([index]).has_truth else {})


def opening(masker: Masker, item: Scored) -> Opening:
    """What the masker opens of an image.

    Raises:
        InvalidArgumentError: its promise needs a weight or category that the image does not have.
    """
    lam = torch.as_tensor(masker.lambdas(item), device=item.score.map.device)
    level = masker.family.level(item.score.map, lam)
    size = mask_size(masker.family.apply(item.score.map, level))
    return Opening(float(lam[0]), tuple(level[0].tolist()), float(size[0]))


def bound_text(masker: Masker, item: Scored) -> str | None:
    """By how much the output differs from the truth at most, and for how many images that holds."""
    bounds, rule = masker.bounds_of(item), masker.image_bound
    if bounds is None or rule is None:
        return None
    return f"at most {figure(float(bounds[0]))}, for {percent(rule.confidence)} of images"


def distances_of(masker: Masker, item: Scored, threshold: float) -> Measured:
    """Its distance from the truth, masked and unmasked."""
    distance = loss_under(masker.loss, masker.open(item), item.batch)
    return Measured(
        distance=float(distance[0]),
        unmasked=float(unmasked_loss(masker.loss, item.batch)[0]),
        met=bool(passes(distance.cpu().numpy(), threshold)[0]),
    )


def _bytes_of(item: Scored) -> int:
    tensors = (item.batch.x, item.batch.y_hat, item.batch.y, item.score.map)
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)
