"""Masks of a whole folder, resumed image by image, never mixed with masks of another promise."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from conformask.arithmetic import best_device
from conformask.arrays import Array, Batch
from conformask.background import DEFAULT_DEVICES, Compute, launch, prefetch, tracked
from conformask.errors import MissingFileError, OutputError, expect, warn
from conformask.images.formats import Blocks, SourceImage, at_time
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
from conformask.images.triplets import BATCH_SIZE, Triplets
from conformask.losses import exponent_by_blocks
from conformask.masker.data_leakage import truth_ids, used_images
from conformask.masker.folder import MASKS, OVERLAYS, SEGMENTATIONS, SIZES, MaskFolder, MaskRow
from conformask.masker.guards import has_theorem, refuse_other_places, refuse_segmentations
from conformask.masker.masker import Masker
from conformask.masker.validation import measurement_of_unused
from conformask.masker.whole import WholeImage, whole_images
from conformask.masks.critical import features_of
from conformask.records.evaluation import Measurement
from conformask.records.files import atomic_write, exclusive_folder, remove
from conformask.records.geometry import Geometry
from conformask.records.reading import Caveat, Reading
from conformask.records.release import Release
from conformask.records.words import promised_here


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


@dataclass(frozen=True)
class WrittenMasks:
    """Summary of the masks that write_masks wrote."""

    sizes: dict[str, float]
    """Mask size of each image, mean(1 - m), by name."""
    measurement: Measurement | None
    """Agreement of the masks of unused images with the promise; None without their truth."""
    n_used: int = 0
    """Number of images with truth that are not measured, because an earlier step has seen them."""
    caveat: Caveat | None = None
    """Caveat if the promise may not be about these images; else None."""
    features: Mapping[str, Array] = field(default_factory=dict, repr=False)
    """Features of the scores by name, of the images that this process scored in one pass."""
    outliers: Mapping[str, str] = field(default_factory=dict)
    """How images among these lie far outside of all calibration images, by name."""
    clipped: Mapping[str, float] = field(default_factory=dict)
    """Share of the values of each of these images that were clipped to the range, by name."""


def write_masks(
    masker: Masker,
    triplets: Triplets,
    out: str | Path,
    *,
    allow_network_mismatch: bool = False,
    overwrite: bool = False,
    dicom_seg: bool = False,
    mask_geometry: Literal["x", "y_hat"] = "y_hat",
    released: Release | None = None,
    compute: Compute = DEFAULT_DEVICES,
) -> WrittenMasks:
    """Write masks/NAME (16 bits, rounded down), overlays/NAME.jpg, sizes.csv and masks.json; y is not needed.

    Beside them lie the files of a promise about a layer, such as labels of objects. Where all time points of
    a file are masked, their masks end in one file with its name and its times. Images larger than a tile of
    1024 pixels, and OME-Zarr, are masked whole, tile by tile, in bounded memory; their overlays are reduced.
    Images of the calibration's sizes are always scored in one pass. A killed run resumes with the images that
    are missing or have changed.

    Args:
        masker: a calibrated masker.
        triplets: images (x, y_hat); if y is known, the masks are measured.
        out: a folder that is empty, or holds masks of these images by exactly this masker.
        allow_network_mismatch: mask outputs of another network than the calibration's.
        overwrite: remove what masks.json in out claims: masks of another promise, or of other images.
        dicom_seg: also write segmentations/NAME.dcm for DICOM series: a DICOM SEG of the pixels that are not
            wholly shown, with the promise for the others; there is none for grey masks of a loss that is not
            monotone, and the file says so.
        mask_geometry: the role whose file type and geometry the masks have; x, such as a DICOM series whose
            y_hat is NIfTI, only if both files state that they lie in the same place.
        released: what release() returned for these images; it becomes columns of sizes.csv.
        compute: the devices; each is a process that masks its share of the images.

    Raises:
        OutputError: out cannot be written to, another process writes it, or its masks.json does not claim
            something that is in the way.
        ImageError: an image that cannot be used.
        InvalidArgumentError: dicom_seg for images that are not DICOM.
        MismatchError: other channels than those of the calibration images, outputs of another network, masks
            of another promise or of other images in out, or an x that does not lie where y_hat does.

    Examples:
        >>> import numpy as np
        >>> import conformask as cm
        >>> y = np.random.default_rng(0).random((30, 16, 16), dtype=np.float32)
        >>> images = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> scorer = cm.Heuristic(cm.residual, channels=1)
        >>> masker = cm.calibrate(scorer, images, threshold=0.05, loss="l1")
        >>> y = np.random.default_rng(1).random((20, 16, 16), dtype=np.float32)
        >>> new = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> written = cm.write_masks(masker, new, "masks-of-new")
        >>> len(written.sizes)
        20
    """
    expect(masker, Masker, "masker", "what calibrate() or load() returned")
    if mask_geometry == "x":
        refuse_other_places(triplets)
    if dicom_seg:
        refuse_segmentations(triplets, mask_geometry)
    caveat = masker.admit(triplets, allow_network_mismatch=allow_network_mismatch).warn().caveat
    promise = {
        "fingerprint": masker.fingerprint, "sentence": masker.sentence, "formula": masker.formula,
        "network": triplets.network,
    }  # fmt: skip
    columns = {} if released is None else released.columns(masker.fingerprint, triplets.names)
    processes = launch(compute)
    work = _Work(masker, triplets, MaskFolder(Path(out), processes.rank), mask_geometry)
    with exclusive_folder(work.folder.path):
        if processes.is_first:
            files = [*work.files, *(work.segmentations.values() if dicom_seg else ())]
            record = {**promise, "caveat": caveat, "release": released and released.sentence}
            work.folder.claim(record, files, overwrite=overwrite)
            work.remove_outdated()
        processes.wait()
        unfinished = work.unfinished()
        processes.wait()
        work.write(unfinished, processes.rank, processes.count)
        processes.wait()
        lines = work.folder.lines()
        if missing := [name for name in triplets.names if name not in lines]:
            raise OutputError(
                f"{work.folder.path} was changed during the run: {SIZES} has no line for {missing[0]!r}, "
                "which was masked; repeat the command"
            )
        rows = [replace(lines[name], **columns.get(name, {})) for name in triplets.names]
        processes.wait()
        if processes.is_first:
            work.folder.write(rows)
            for files_beside in work.beside:
                files_beside.join()
            for film in tracked(work.films, "films", len(work.films)):
                film.join(triplets.reading)
            if dicom_seg:
                # a monotone loss is never larger under a smaller mask: the promise of grey masks covers
                # their pixels of 1, which a segmentation shows
                promised = masker.sentence
                if masker.card.is_grey and not masker.loss.monotone:
                    name = masker.card.loss.name
                    promised = f"NOT PROMISED: grey masks, cut at 1; {name} may be larger for the rest"
                work.write_segmentations(promised_here(promised, caveat))
    losses, used = [row.loss for row in rows if row.loss is not None], [row.used is True for row in rows]
    measurement = None
    if len(losses) == len(rows):
        measurement = measurement_of_unused(masker, triplets, np.array(losses), np.array(used))
    return WrittenMasks(
        sizes={row.name: row.mask_size for row in rows},
        measurement=measurement,
        n_used=sum(used),
        caveat=caveat,
        features=work.features,
        outliers={row.name: row.outlier for row in rows if row.outlier},
        clipped=work.clipped,
    )


class _Work:
    """A run of write_masks: what is to be masked, and where it goes."""

    def __init__(self, masker: Masker, triplets: Triplets, folder: MaskFolder, mask_geometry: Role) -> None:
        self.masker, self.triplets, self.folder, self._mask_geometry = masker, triplets, folder, mask_geometry
        self._whole = whole_images(masker, triplets)
        by_blocks = exponent_by_blocks(masker.loss) is not None or not self._whole
        self._is_measured = by_blocks and _measurable(masker, triplets)
        self._indices = {name: index for index, name in enumerate(triplets.names)}
        self.features: dict[str, Array] = {}
        self.clipped: dict[str, float] = {}
        volumes = triplets.dimensions == 3
        self.places = {
            name: folder.path / MASKS / f"{name}{mask_suffix(triplets.suffix(index, mask_geometry), volumes)}"
            for name, index in self._indices.items()
        }
        layers, about = masker.loss.layers, (folder.path, self.places, triplets.dimensions)
        self.beside = [files for name in layers if (files := LAYERS[name].files_beside(*about)) is not None]
        self.films = time_series_of(triplets, self.places, mask_geometry)
        self._joined_paths = {name: film.path for film in self.films for name in film.names}

    @property
    def files(self) -> list[Path]:
        """All masks, overlays and files beside them that may exist at some time."""
        overlays = map(self._overlay, self.places)
        others = [path for name in self.places for path in self._beside(name)]
        others += [path for files in self.beside for path in files.of_all]
        return [*self.places.values(), *(film.path for film in self.films), *overlays, *others]

    def _beside(self, name: str) -> list[Path]:
        """Return the files beside the mask of an image, but for its overlay."""
        return [path for files in self.beside for path in files.of(name)]

    @property
    def segmentations(self) -> dict[str, Path]:
        """Path of the DICOM SEG of each image, by name."""
        return {name: self.folder.path / SEGMENTATIONS / f"{name}.dcm" for name in self.places}

    def remove_outdated(self) -> None:
        """Remove joined masks with a time point that has to be masked again, so that the others are whole."""
        lines = self.folder.lines()
        for film in self.films:
            if not all(self._is_done(name, lines.get(name)) for name in film.names):
                remove(film.path)

    def unfinished(self) -> list[int]:
        """Return the images whose masks are missing, or that have changed since."""
        lines = self.folder.lines()
        names = enumerate(self.triplets.names)
        return [index for index, name in names if not self._is_done(name, lines.get(name))]

    def _is_done(self, name: str, line: MaskRow | None) -> bool:
        joined_path = self._joined_paths.get(name)
        is_there = self.places[name].exists() or (joined_path is not None and joined_path.exists())
        others = (self._overlay(name), *self._beside(name))
        if line is None or not (is_there and all(path.exists() for path in others)):
            return False
        return line.source == self._source(name) and (line.used is not None or not self._is_measured)

    def write(self, unfinished: Sequence[int], process: int, processes: int) -> None:
        """Write masks, overlays and lines for this process's share of the images at these places.

        Threads read and write beside the network. Images are scored in the same batches however many
        processes share them and whichever are unfinished: the last bits of a score depend on its batch's
        size.
        """
        small = [index for index in range(len(self.triplets)) if index not in self._whole]
        pending = set(unfinished)
        batches = [small[start : start + BATCH_SIZE] for start in range(0, len(small), BATCH_SIZE)]
        batches = [batch for batch in batches if not pending.isdisjoint(batch)][process::processes]
        triplets = self.triplets.select(index for batch in batches for index in batch)
        names = {self.triplets.names[index] for index in unfinished}
        masked_batches = (self._mask_batch(batch) for batch in triplets.batches(BATCH_SIZE))
        finished = prefetch(partial(self._write_batch, names), masked_batches)
        for _ in tracked(finished, "masks", len(triplets), len):
            pass
        for index in [index for index in unfinished if index in self._whole][process::processes]:
            self._write_whole(self._whole.pop(index))  # frees what it decoded and opened

    def _mask_batch(self, batch: Batch) -> "_MaskedBatch":
        """Compute the masks of a batch, on the accelerator if there is one."""
        masker, on_device = self.masker, batch.to(best_device())
        item = masker.scored(on_device)
        self.features |= zip(batch.names, features_of(item.score), strict=True)
        admission = masker.admit_scored(item)
        self.clipped |= admission.clipped
        judged, bounds = masker.judge(item, measured=self._is_measured), masker.bounds_of(item)
        losses = None if judged.loss is None else judged.loss.tolist()
        used = None if losses is None else self._used(batch.names, truth_ids(batch).tolist())
        arrays = judged.mask.cpu().numpy(), item.score.map.cpu().numpy()
        limits = None if bounds is None else bounds.tolist()
        return _MaskedBatch(batch, *arrays, losses, limits, used, admission.outliers)

    def _used(self, names: Sequence[str], truths: Sequence[str]) -> list[bool]:
        """Return which of the images with these names and truths an earlier step has seen."""
        images = self.triplets.select(self._indices[name] for name in names)
        used: list[bool] = used_images(self.masker.seen, images, truths).tolist()
        return used

    def _write_batch(self, names: set[str], masked: "_MaskedBatch") -> Batch:
        """Write masks, overlays and lines of the images with these names; return the batch."""
        batch, losses, bounds = masked.batch, masked.losses, masked.bounds
        for index, name in enumerate(batch.names):
            if name not in names:
                continue
            self.folder.check_claimed()
            mask, y_hat = masked.masks[index], batch.y_hat[index].numpy()
            blocks = ((window, mask[:, *window]) for window in grid(mask.shape[1:]))
            geometry = None if batch.geometry is None else batch.geometry[index]
            under = self._source_image(name, geometry)
            write_blocks(self.places[name], mask.shape, blocks, under)
            for files in self.beside:
                score = self.masker.scorer.in_map(masked.scores[index, 0])
                group = self.triplets.groups[self._indices[name]]
                files.write(batch, index, group, score, mask[0], under)
            self._write_overlay(name, y_hat, mask, geometry)
            size = float(1 - mask.mean(dtype=np.float64))
            loss, bound = (None if values is None else values[index] for values in (losses, bounds))
            used = None if masked.used is None else masked.used[index]
            self.folder.add(self._line(name, size, loss, bound, used, masked.outliers.get(name, "")))
        return batch

    def _write_whole(self, image: WholeImage) -> None:
        self.folder.check_claimed()
        under = self._source_image(image.name, image.image.y_hat.header.geometry)
        summary = image.write(self.places[image.name], under)
        self._write_overlay(image.name, summary.y_hat, summary.mask, under.geometry)
        self.clipped |= summary.admission.clipped
        used = None if summary.loss is None else self._used([image.name], [summary.truth])[0]
        outlier = summary.admission.outliers.get(image.name, "")
        self.folder.add(self._line(image.name, summary.size, summary.loss, None, used, outlier))

    def write_segmentations(self, promise: str) -> None:
        """Write segmentations/NAME.dcm of every image: where its mask is below 1, and what that promises."""
        for name, path in tracked(self.segmentations.items(), "segmentations", len(self.places)):
            mask = decode(self.places[name]).astype(np.float32)
            write = self.triplets.segmentation_writer(self._indices[name], self._mask_geometry)
            assert write is not None
            with atomic_write(path) as temporary:
                write(temporary, mask, self._source_image(name, None), promise)

    def _line(
        self, name: str, size: float, loss: float | None, bound: float | None, used: bool | None, outlier: str
    ) -> MaskRow:
        within = None if loss is None else bool(self.masker.within(np.array(loss)))
        return MaskRow(name, size, self._source(name), loss, within, used, bound, outlier=outlier)

    def _source(self, name: str) -> str:
        return self.triplets.source(self._indices[name])

    def _source_image(self, name: str, geometry: Geometry | None) -> SourceImage:
        file = self.triplets.file(self._indices[name], self._mask_geometry)
        return SourceImage(file, geometry, self.triplets.reading)

    def _overlay(self, name: str) -> Path:
        return self.folder.path / OVERLAYS / f"{name}.jpg"

    def _write_overlay(self, name: str, y_hat: Array, mask: Array, geometry: Geometry | None) -> None:
        # of a volume, those of its selected slices side by side
        pictures = [
            overlay(in_colors(plane), as_bytes(mask_plane))
            for (mask_plane, plane), _ in planes_of(mask, y_hat, geometry=geometry)
        ]
        with atomic_write(self._overlay(name)) as temporary:
            write_jpeg(temporary, np.concatenate(pictures, axis=1))


@dataclass(frozen=True)
class _MaskedBatch:
    """A batch with its masks, ready to be written."""

    batch: Batch
    masks: Array
    scores: Array
    losses: list[float] | None
    bounds: list[float] | None
    used: list[bool] | None
    outliers: Mapping[str, str]


def _measurable(masker: Masker, triplets: Triplets) -> bool:
    """Return whether the loss can be measured: truth and region are known, and its packages are installed.

    Noisy references are the truth for the losses that `refuse_noisy` lets them be.
    """
    if not (triplets.has_truth and has_theorem(masker.card.promise, masker.loss, triplets.reference)):
        return False
    if not all(map(triplets.has, masker.loss.layers)):
        return False
    zeros = torch.zeros(1, masker.card.channels, *min(masker.card.sizes))
    try:
        masker.loss.on(zeros, zeros, None, 1).of(zeros[:, :1])
    except MissingFileError as error:
        warn(f"the masks are not measured: {error}")
        return False
    return True
