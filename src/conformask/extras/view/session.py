"""A session of the viewer: a masker, its images, those uploaded, and what has been computed for them."""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from conformask.errors import ConformaskError, InvalidArgumentError, MissingFileError
from conformask.extras.view.sliders import (
    PromiseStatus,
    is_measurable,
    loss_of,
    mask_size_by_planes,
    trusted_shares,
)
from conformask.extras.view.viewed_image import (
    ByteCache,
    CollectionImage,
    Part,
    ViewedImage,
    open_image,
    plane,
    reduction,
    thumbnail,
)
from conformask.images.pictures import Point, View, select_slices
from conformask.images.read import image_ids
from conformask.images.triplets import Triplets
from conformask.masker.masker import Masker
from conformask.masker.remarks import Remark, SaysOfImages, no_remarks
from conformask.masker.validation import measurement_of_unused
from conformask.masker.whole import IN_MEMORY, level_of
from conformask.masks.family import Family
from conformask.records.evaluation import Measurement, Release
from conformask.records.record import Array, Json
from conformask.records.words import measurement_text

OPENED_BYTES = 512 * 2**20
"""Most bytes of scored images that are kept."""
THUMBNAIL_BYTES = 64 * 2**20
"""Most bytes of thumbnails that are kept."""
REDUCED_BYTES = 256 * 2**20
"""Most bytes of reduced planes that are kept."""
USED = "used"
"""Part of images that a step before the test has seen, recognised by their pixels or their group."""
USES = {
    "train": "trained the score network",
    "selection": "was used for choices before the calibration",
    "calibration": "is one of those that the promise was made with",
    USED: "was used for training, selection or calibration",
}
"""What images of the parts other than the test were used for."""
MOST_UPLOADS = 32
"""Most uploads before the viewer asks to be restarted."""


@dataclass(frozen=True)
class GalleryEntry:
    """An image of the gallery."""

    name: str
    truth: bool
    uploaded: bool
    size: float | None
    """Mask size as calibrated, in the region that the promise is about; None before it is computed."""
    loss: float | None
    """Loss as calibrated; None before it is computed, or if it cannot be computed."""
    met: bool | None
    """True if the loss is within the threshold; None if the loss is not known."""
    error: str | None
    """Reason why the image cannot be shown; None if it can."""
    part: str | None
    """Part that was used before the test: train, selection or calibration; None for all others."""
    released: bool | None
    """True if the image is released, False if it is held back; None if that is not known."""
    contrast: str
    """How the contrast of its picture is stretched; empty if it is not."""


@dataclass(frozen=True)
class Progress:
    """Number of tiles of an image that are scored."""

    name: str
    done: int
    total: int


class Session:
    """Images of one viewer; any thread may ask for them, and one at a time runs the network."""

    def __init__(
        self,
        masker: Masker,
        triplets: Triplets,
        *,
        released: Release | None = None,
        remarks: SaysOfImages = no_remarks,
    ) -> None:
        """Show triplets.

        `released` is what release() returned for those of them that are one batch; `remarks` say something of
        images beside their masks.
        """
        self.masker = masker
        # each image is asked when it is opened: one that cannot be read must not keep others from being shown
        self._admission = masker.admit(triplets, headers=False).warn()
        self.triplets = triplets
        self._released, self._remarks = released, remarks
        self._judged = {} if released is None else {image.name: image for image in released.images}
        self._losses: dict[str, float] = {}
        self._cached_measurement: tuple[int, Measurement | None] = 0, None
        """Cached (number of images looked at, measurement)."""
        self._images = {name: CollectionImage(triplets, index) for index, name in enumerate(triplets.names)}
        self._parts = {
            name: part for name, part in zip(triplets.names, triplets.parts, strict=True) if part in USES
        }
        """Part of each image that was used before the test, by a split or, once looked at, by its pixels."""
        self._uploads: list[str] = []
        self._sizes: dict[str, float] = {}
        self._contrasts: dict[str, str] = {}
        self._errors: dict[str, str] = {}
        self._most_hidden_points: dict[str, Point] = {}
        self._viewed_images: ByteCache[ViewedImage] = ByteCache(OPENED_BYTES, lambda image: image.bytes)
        self._reduced: ByteCache[Array] = ByteCache(REDUCED_BYTES, lambda values: values.nbytes)
        self._thumbnails: ByteCache[bytes] = ByteCache(THUMBNAIL_BYTES, len)
        self._network = Lock()
        self.progress: Progress | None = None
        """Progress of the image that is being scored by tiles."""

    def entries(self) -> list[GalleryEntry]:
        """Return the entries of the gallery, uploads first."""
        names = [*reversed(self._uploads), *(name for name in self._images if name not in self._uploads)]
        judged = {} if self.released is None else self._judged
        entries = []
        for name in names:
            image, loss = self._images[name], self._losses.get(name)
            entries.append(
                GalleryEntry(
                    name=name,
                    truth=image.triplets.select([image.index]).has_truth,
                    uploaded=name in self._uploads,
                    size=self._sizes.get(name),
                    loss=loss,
                    met=None if loss is None else bool(self.masker.within(np.array(loss))),
                    error=self._errors.get(name),
                    part=self._parts.get(name),
                    released=judged[name].released if name in judged else None,
                    contrast=self._contrasts.get(name, ""),
                )
            )
        return entries

    def look_through(self) -> Iterator[str]:
        """Compute mask size and thumbnail of every image, as calibrated; yield each name when it is done.

        Images that are measured come first.
        """
        for name in sorted(self._images, key=self._parts.__contains__):
            if name not in self._sizes:
                with suppress(ConformaskError):  # kept for the gallery, which shows it
                    self._look_at(name)
            yield name

    def _look_at(self, name: str) -> bytes:
        try:
            image = self._viewed_images.get(name) or self._read(self.collection_image(name))
            level = level_of(self.masker, image.item)[1]
        except ConformaskError as error:
            self._errors[name] = str(error)
            raise
        shares = trusted_shares(self.masker.family, image, level)
        self._most_hidden_points[name] = _most_hidden(shares)
        collection_image = self.collection_image(name)
        if is_measurable(self.masker, image):
            self._losses[name] = loss_of(self.masker, image)
            self._recognise(name, image)
        view = next(view for view in collection_image.views if view.axis == 0)
        index, contrast = self._most_hidden_points[name][0], collection_image.contrast(image)
        self._contrasts[name] = contrast.text
        jpeg = thumbnail(image, self.masker.family, level, view, index, collection_image.steps, contrast)
        self._thumbnails.put(name, jpeg)
        self._sizes[name] = mask_size_by_planes(image, shares[0])  # last: the gallery then shows all at once
        return jpeg

    def _recognise(self, name: str, image: ViewedImage) -> None:
        """Note whether an image with truth was used before the test, by its pixels or its group."""
        collection_image = self.collection_image(name)
        one = collection_image.triplets.select([collection_image.index])
        if "truth" in image.sources and one.used(self.masker.seen, [_truth_id(image)])[0]:
            self._parts.setdefault(name, USED)

    def most_hidden(self, name: str) -> Point:
        """Return the most hidden plane along each axis, as calibrated."""
        if name not in self._most_hidden_points:
            image = self.viewed_image(name)
            level = level_of(self.masker, image.item)[1]
            self._most_hidden_points[name] = _most_hidden(trusted_shares(self.masker.family, image, level))
        return self._most_hidden_points[name]

    def hidden_run(self, name: str) -> float | None:
        """Return the mean length, in pixels, of runs of hidden pixels in the rows of the most hidden plane.

        Marks that repeat at a larger period are not seen in them. None where nothing is hidden.
        """
        level, step = (
            level_of(self.masker, self.viewed_image(name).item)[1],
            self.most_hidden_plane(name)[2].step,
        )
        (hidden,) = self.hidden_pixels(name, [(self.masker.family, level)])
        starts = hidden[:, 0].sum() + (hidden[:, 1:] & ~hidden[:, :-1]).sum()
        return float(step * hidden.sum() / starts) if starts else None

    def most_hidden_plane(self, name: str) -> tuple[View, int, Part]:
        """Return view, index and part of the most hidden plane of the first view, as `plane` takes them."""
        image, collection_image = self.viewed_image(name), self.collection_image(name)
        view = next(view for view in collection_image.views if view.axis == 0)
        (rows, columns), step = view.sides(image.deep), reduction(view, image.deep)
        return view, self.most_hidden(name)[0], Part(0, rows, 0, columns, step)

    def hidden_pixels(self, name: str, masks: Sequence[tuple[Family, Tensor]]) -> list[Array]:
        """Return where each mask, a family at a level, hides the most hidden plane at least in part, bool."""
        plane = self.plane(name, "score", *self.most_hidden_plane(name))
        scores = torch.from_numpy(np.ascontiguousarray(plane))[None]
        return [(family.apply(scores, level)[0].mean(dim=0) < 1).numpy() for family, level in masks]

    def measurement(self) -> Measurement | None:
        """Return how the masks of images with truth agree with the promise, where known.

        Neither uploads are measured nor images that an earlier step has seen, by a split or by their pixels.
        It is updated only after further images were looked at, since every move of a slider asks for it.
        Whether the promise is broken is tested once, on all images: tested after each, chance would sooner or
        later say that it is.
        """
        viewed_names = self._sizes.keys() | self._errors.keys()
        if len(viewed_names) != self._cached_measurement[0]:
            measurement = self._measure()
            if measurement is not None and not viewed_names | self._parts.keys() >= self._images.keys():
                measurement = replace(measurement, broken=False)
            self._cached_measurement = len(viewed_names), measurement
        return self._cached_measurement[1]

    def _measure(self) -> Measurement | None:
        indices = [index for index, name in enumerate(self.triplets.names) if name in self._losses]
        with_loss = self.triplets.select(indices)
        losses = np.array([self._losses[name] for name in with_loss.names])
        used = np.array([name in self._parts for name in with_loss.names], dtype=bool)
        return measurement_of_unused(self.masker, with_loss, losses, used)

    def use(self, name: str) -> str | None:
        """Return what an image of another part than the test was used for; None for all others."""
        if name not in self._parts:
            return None
        return f"This image {USES[self._parts[name]]}: what is measured on it says nothing about new ones."

    @property
    def measurement_text(self) -> str | None:
        """Measurement as calibrated, in words; None before an image with truth was looked at."""
        measurement, n_used = self.measurement(), list(self._parts.values()).count(USED)
        return measurement_text(self.masker.card, measurement, self._admission.caveat, n_used) or None

    @property
    def doubt(self) -> PromiseStatus | None:
        """Standing of every promise if the images contradict all of them, such as broken; else None."""
        caveat = self._admission.caveat
        if caveat is not None and caveat.other:
            nothing = f"{caveat.text}. Nothing is promised for them."
            return PromiseStatus("broken", "Not about these images", nothing)
        measurement = self.measurement()
        if measurement is None or not measurement.broken:
            return None
        return PromiseStatus("broken", "Broken here", measurement_text(self.masker.card, measurement))

    @property
    def released(self) -> Release | None:
        """The release of the batch; None if there is none, or the images contradict every promise."""
        measurement = self.measurement()
        return None if measurement is not None and measurement.broken else self._released

    def release_of(self, name: str) -> dict[str, Json] | None:
        """Return what is promised of a release, and what was judged of an image in it; else None."""
        released = self.released
        if released is None or name not in self._judged:
            return None
        return {"sentence": released.sentence, "formula": released.formula, "image": self._judged[name]}

    def notes(self, name: str) -> list[str]:
        """Return what is to be said beside an image: what it was used for, and why it may not be admitted."""
        image = self.viewed_image(name)
        if name not in self._sizes:
            self._recognise(name, image)
        collection = image.admission if name in self._uploads else self._admission
        caveat = None if collection.caveat is None else collection.caveat.text
        return list(filter(None, (self.use(name), *image.admission.notes, collection.groups, caveat)))

    def remarks(self, name: str) -> list[Remark]:
        """Return what is said of an image beside its mask; nothing of one that is too large for memory."""
        image, known = self.collection_image(name), self.viewed_image(name)
        if not known.in_memory:
            return []
        with self._network:  # numbers may be scored
            said = self._remarks(image.triplets.select([image.index]))
        return list(said.get(image.triplets.names[image.index], ()))

    def thumbnail(self, name: str) -> bytes:
        """Return a small JPEG of the output, hatched where hidden."""
        return self._thumbnails.get(name) or self._look_at(name)

    def plane(self, name: str, source: str, view: View, index: int, part: Part) -> Array:
        """Return a part of a plane of a source as shown, (C, rows, columns); reduced ones are cached."""
        image = self.viewed_image(name)
        if part.step == 1:
            return plane(image.sources[source], image.deep, view, index, part)
        key = f"{name} {source} {view.axis} {index} {part}"
        cached = self._reduced.get(key)
        if cached is not None:
            return cached
        return self._reduced.put(key, plane(image.sources[source], image.deep, view, index, part))

    def viewed_image(self, name: str) -> ViewedImage:
        """Return an image and its score; threads that ask at the same time wait for one computation."""
        image = self.collection_image(name)
        return self._viewed_images.get(name) or self._read(image, name)

    def _read(self, image: CollectionImage, name: str | None = None) -> ViewedImage:
        """Score an image, and keep it under this name if there is one."""
        # one lock for network and lookup: a second thread finds the image that the first has scored
        with self._network:
            if name is None:
                return self._score(image)
            cached = self._viewed_images.get(name)
            return cached or self._viewed_images.put(name, self._score(image))

    def _score(self, image: CollectionImage) -> ViewedImage:
        name = image.triplets.names[image.index]

        def update_progress(done: int, total: int) -> None:
            self.progress = Progress(name, done, total)

        try:
            return open_image(self.masker, image, update_progress)
        finally:
            self.progress = None

    def collection_image(self, name: str) -> CollectionImage:
        """Return the image with this name."""
        if name not in self._images:
            raise MissingFileError(f"there is no image {name!r} here")
        return self._images[name]

    def add(self, pair: CollectionImage) -> str:
        """Show one more image; return the new name under which it is shown."""
        if len(self._uploads) >= MOST_UPLOADS:
            raise InvalidArgumentError(f"{MOST_UPLOADS} uploads are kept already: restart the viewer")
        stem, count = pair.triplets.names[pair.index], 1
        image = self._read(pair)
        self.masker.lambdas(image.item)
        name = stem
        while name in self._images:
            name, count = f"{stem}-{count + 1}", count + 1
        self._images[name] = pair
        self._uploads.append(name)
        self._viewed_images.put(name, image)
        self._look_at(name)
        return name


def _truth_id(image: ViewedImage) -> str:
    """Return the hash by which the truth of an image is recognised; "" if it is too large for one pass."""
    if math.prod(image.size) > IN_MEMORY:
        return ""
    y = image.sources["truth"].read(tuple(map(slice, image.deep)))
    return str(image_ids([y.reshape(len(y), *image.size)])[0])


def _most_hidden(shares: tuple[Array, Array, Array]) -> Point:
    """Return the planes across z, y and x with the smallest mean of the mask; the middle if all are alike."""
    z, y, x = (
        len(share) // 2 if np.ptp(share) == 0 else next(iter(select_slices(share[None, :, None, None])))
        for share in shares
    )
    return z, y, x
