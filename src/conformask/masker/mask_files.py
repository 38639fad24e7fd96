"""The files of masks: their types and places, overlays, joined time series, segmentations."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from conformask.arrays import Array, Batch
from conformask.background import tracked
from conformask.errors import InvalidArgumentError, MismatchError
from conformask.images.formats import Blocks, Header, SourceImage, at_time
from conformask.images.layers import LAYERS
from conformask.images.npy_png import write_jpeg
from conformask.images.pictures import as_bytes, in_colors, overlay, planes_of
from conformask.images.read import (
    decode,
    format_of,
    grid,
    mask_suffix,
    name_and_suffix,
    open_raster,
    times_of,
    write_blocks,
)
from conformask.images.rows import Role
from conformask.images.triplets import Triplets
from conformask.masker.folder import MASKS, OVERLAYS, SEGMENTATIONS
from conformask.masker.masker import Masker
from conformask.records.reading import Geometry, Reading
from conformask.records.record import atomic_write, remove


class MaskFiles:
    """The files of the masks of images in a folder, with the type and the place of those of one role."""

    def __init__(self, folder: Path, masker: Masker, triplets: Triplets, mask_geometry: Role) -> None:
        self._folder, self._masker = folder, masker
        self._triplets, self._mask_geometry = triplets, mask_geometry
        self._indices = {name: index for index, name in enumerate(triplets.names)}
        volumes = triplets.dimensions == 3
        self.masks = {
            name: folder / MASKS / f"{name}{mask_suffix(triplets.suffix(index, mask_geometry), volumes)}"
            for name, index in self._indices.items()
        }
        about = (folder, self.masks, triplets.dimensions)
        of_layers = (LAYERS[name].files_beside(*about) for name in masker.loss.extent.layers)
        self._of_layers = [files for files in of_layers if files is not None]
        self._films = time_series_of(triplets, self.masks, mask_geometry)
        self._joined = {name: film.path for film in self._films for name in film.names}

    @property
    def segmentations(self) -> dict[str, Path]:
        """Path of the DICOM SEG of each image, by name."""
        return {name: self._folder / SEGMENTATIONS / f"{name}.dcm" for name in self.masks}

    @property
    def of_all(self) -> list[Path]:
        """All masks, overlays and files beside them, but segmentations, that may exist at some time."""
        of_layers = [path for files in self._of_layers for path in files.of_all]
        of_images = [path for name in self.masks for path in self._beside(name)]
        return [*self.masks.values(), *(film.path for film in self._films), *of_images, *of_layers]

    def _beside(self, name: str) -> list[Path]:
        return [self._overlay(name), *(path for files in self._of_layers for path in files.of(name))]

    def _overlay(self, name: str) -> Path:
        return self._folder / OVERLAYS / f"{name}.jpg"

    def are_there(self, name: str) -> bool:
        """Return whether the mask of an image, alone or in a time series, and all files beside it exist."""
        joined = self._joined.get(name)
        is_there = self.masks[name].exists() or (joined is not None and joined.exists())
        return is_there and all(path.exists() for path in self._beside(name))

    def remove_outdated(self, is_done: Callable[[str], bool]) -> None:
        """Remove joined masks with a time point that has to be masked again, so that the others are whole."""
        for film in self._films:
            if not all(map(is_done, film.names)):
                remove(film.path)

    def under(self, name: str, geometry: Geometry | None) -> SourceImage:
        """Return the image whose type and place the mask of an image has."""
        file = self._triplets.file(self._indices[name], self._mask_geometry)
        return SourceImage(file, geometry, self._triplets.reading)

    def write(self, batch: Batch, index: int, mask: Array, score: Array) -> None:
        """Write the mask of an image of a batch, its overlay, and what layers write beside it.

        Mask and score are (C, *space).
        """
        name, y_hat = batch.names[index], batch.y_hat[index].numpy()
        geometry = None if batch.geometry is None else batch.geometry[index]
        under = self.under(name, geometry)
        blocks = ((window, mask[:, *window]) for window in grid(mask.shape[1:]))
        write_blocks(self.masks[name], mask.shape, blocks, under)
        group = self._triplets.groups[self._indices[name]]
        for files in self._of_layers:
            of_map = self._masker.scorer.in_map(score[0])
            files.write(batch, index, group, of_map, mask[0], under)
        self.write_overlay(name, y_hat, mask, geometry)

    def write_overlay(self, name: str, y_hat: Array, mask: Array, geometry: Geometry | None) -> None:
        """Write a picture of y_hat under its mask; of a volume, of its selected slices side by side."""
        pictures = [
            overlay(in_colors(plane), as_bytes(mask_plane))
            for (mask_plane, plane), _ in planes_of(mask, y_hat, geometry=geometry)
        ]
        with atomic_write(self._overlay(name)) as temporary:
            write_jpeg(temporary, np.concatenate(pictures, axis=1))

    def join(self) -> None:
        """Write what is made of the masks of several images, once all are there."""
        for files in self._of_layers:
            files.join()
        for film in tracked(self._films, "films", len(self._films)):
            film.join(self._triplets.reading)

    def write_segmentations(self, promise: str) -> None:
        """Write segmentations/NAME.dcm of every image: where its mask is below 1, and what that promises."""
        for name, path in tracked(self.segmentations.items(), "segmentations", len(self.masks)):
            mask = decode(self.masks[name]).astype(np.float32)
            write = self._triplets.segmentation_writer(self._indices[name], self._mask_geometry)
            assert write is not None
            with atomic_write(path) as temporary:
                write(temporary, mask, self.under(name, None), promise)


@dataclass(frozen=True)
class TimeSeries:
    """A file whose time points are all masked, its joined mask and the masks of its time points."""

    file: Path
    """File of the image."""
    path: Path
    """Path of the joined mask, which appears only after all of `parts`; these are then removed."""
    names: tuple[str, ...]
    """Names of the time points, in their order."""
    parts: tuple[Path, ...]
    """Paths of the masks of the time points."""

    def join(self, reading: Reading) -> None:
        """Write the joined mask from its parts, wholly or not at all, unless it exists; remove the parts."""
        if not self.path.exists():
            header = open_raster(self.parts[0]).header
            under = SourceImage(self.file, header.geometry, reading, is_film=True)
            shape = (header.channels, len(self.parts), *header.space)
            write_blocks(self.path, shape, self._blocks(), under)
        for part in self.parts:
            remove(part)

    def _blocks(self) -> Blocks:
        for time, part in enumerate(self.parts):
            raster = open_raster(part)
            for places in grid(raster.size):
                yield (slice(time, time + 1), *places), raster.read(places)[:, None]


def time_series_of(triplets: Triplets, places: Mapping[str, Path], mask_geometry: Role) -> list[TimeSeries]:
    """Return the files whose time points are all among the images, with the names that the file gives them.

    Time points of other files, and of types whose masks have no axis of time, keep their own masks.

    Args:
        triplets: the images.
        places: the path of the mask of each image, by name.
        mask_geometry: the role whose file type and place the masks have.
    """
    files: dict[Path, dict[int, str]] = defaultdict(dict)
    for index, name in enumerate(triplets.names):
        path = triplets.file(index, mask_geometry)
        if path is not None and name == name_and_suffix(path)[0]:
            file, time = at_time(path)
            if time is not None:
                files[file][time] = name
    films = []
    for file, of_times in files.items():
        name, suffix = name_and_suffix(file)
        joined = f"{name}{mask_suffix(suffix, volume=True)}"
        kind, names = format_of(Path(joined)), [of_times[time] for time in sorted(of_times)]
        joinable = kind is not None and kind.films and name not in triplets.names
        if joinable and times_of(file, triplets.reading) == len(names):
            parts = tuple(places[name] for name in names)
            films.append(TimeSeries(file, parts[0].with_name(joined), tuple(names), parts))
    return films


def refuse_other_places(triplets: Triplets) -> None:
    """Refuse masks over x where files do not say that x lies where y_hat does."""
    for index, name in enumerate(triplets.names):
        reason = _placement_difference(triplets.header(index, "x"), triplets.header(index, "y_hat"))
        if reason:
            raise MismatchError(
                f"the mask of {name!r} cannot be placed over x: {reason}; leave out "
                "mask_geometry='x' (--mask-geometry x)"
            )


def _placement_difference(x: Header, y_hat: Header) -> str | None:
    """Return why two images may not lie in the same place; None where they do."""
    one, other = x.geometry, y_hat.geometry
    if one is None or other is None or one.affine is None or other.affine is None:
        return "the files of x and y_hat do not both state their position, as DICOM and NIfTI can"
    if x.space != y_hat.space:
        return f"x has {x.space} pixels, but y_hat has {y_hat.space}"
    difference = one.differs(other)
    return difference and f"x and y_hat have {difference}"


def refuse_segmentations(triplets: Triplets, mask_geometry: Role) -> None:
    """Refuse segmentations over files, of this role, that have none."""
    for index, name in enumerate(triplets.names):
        if triplets.segmentation_writer(index, mask_geometry) is None:
            raise InvalidArgumentError(
                f"dicom_seg writes a DICOM SEG beside the mask of a DICOM series, but {name!r} is not one: "
                "leave out dicom_seg (--dicom-seg)"
            )
