"""Masks of a whole folder, resumed image by image, never mixed with masks of another promise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from conformask.arrays import Array, Batch, best_device
from conformask.background import DEFAULT_DEVICES, Compute, launch, prefetch, tracked
from conformask.errors import MissingFileError, OutputError, expect, warn
from conformask.images.triplets import BATCH_SIZE, Triplets, pixel_ids
from conformask.masker.checks import has_theorem
from conformask.masker.folder import SIZES, MaskFolder, MaskRow
from conformask.masker.mask_files import MaskFiles, refuse_other_places, refuse_segmentations
from conformask.masker.masker import Masker
from conformask.masker.validation import measurement_of_unused
from conformask.masker.whole import WholeImage, whole_images
from conformask.masks.critical import features_of
from conformask.records.evaluation import Measurement, Release
from conformask.records.reading import Caveat
from conformask.records.record import exclusive_folder


@dataclass(frozen=True)
class WrittenMasks:
    """Summary of the masks that write_masks wrote."""

    sizes: dict[str, float]
    """Mask size of each image, mean(1 - m), by name."""
    measurement: Measurement | None
    """Agreement of the masks of unused images with the promise; None without their truth."""
    n_used: int = 0
    """Number of images that are not measured, because an earlier step has seen them."""
    caveat: Caveat | None = None
    """Caveat if the promise may not be about these images; else None."""
    notes: tuple[str, ...] = ()
    """How their sizes, spacings, ranges or groups are not covered by the promise, of each kind the first."""
    features: Mapping[str, Array] = field(default_factory=dict, repr=False)
    """Features of the scores by name, of the images that this process scored in one pass."""
    outliers: Mapping[str, str] = field(default_factory=dict)
    """How images among these lie far outside of all calibration images, by name."""
    clipped: Mapping[str, float] = field(default_factory=dict)
    """Share of the values of each of these images that were clipped to the range, by name."""
    bound: float | None = None
    """The bound of all images, of which there are several, where it is the same; see Masker.error_bounds."""


def write_masks(
    masker: Masker,
    triplets: Triplets,
    out: str | Path,
    *,
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
    admission = masker.admit(triplets).warn()
    caveat, notes = admission.caveat, admission.texts
    promise = {
        "fingerprint": masker.fingerprint, "sentence": masker.sentence, "formula": masker.formula,
        "network": triplets.network,
    }  # fmt: skip
    columns = {} if released is None else released.columns(masker.fingerprint, triplets.names)
    processes = launch(compute)
    folder = MaskFolder(Path(out), processes.rank)
    files = MaskFiles(folder.path, masker, triplets, mask_geometry)
    work = _Work(masker, triplets, folder, files)
    with exclusive_folder(folder.path):
        if processes.is_first:
            claimed = [*files.of_all, *(files.segmentations.values() if dicom_seg else ())]
            record = {**promise, "caveat": caveat, "notes": notes, "release": released and released.sentence}
            folder.claim(record, claimed, overwrite=overwrite)
            lines = folder.lines()
            files.remove_outdated(lambda name: work.is_done(name, lines.get(name)))
        processes.wait()
        unfinished = work.unfinished()
        processes.wait()
        work.write(unfinished, processes.rank, processes.count)
        processes.wait()
        lines = folder.lines()
        if missing := [name for name in triplets.names if name not in lines]:
            raise OutputError(
                f"{folder.path} was changed during the run: {SIZES} has no line for {missing[0]!r}, "
                "which was masked; repeat the command"
            )
        rows = [replace(lines[name], **columns.get(name, {})) for name in triplets.names]
        processes.wait()
        if processes.is_first:
            folder.write(rows)
            files.join()
            if dicom_seg:
                # a monotone loss is never larger under a smaller mask: the promise of grey masks covers
                # their pixels of 1, which a segmentation shows
                promised = masker.sentence
                if masker.card.is_grey and not masker.loss.traits.monotone:
                    name = masker.card.loss.name
                    promised = f"NOT PROMISED: grey masks, cut at 1; {name} may be larger for the rest"
                files.write_segmentations(masker.card.sentence_here(caveat, promised))
    losses, used = [row.loss for row in rows if row.loss is not None], [row.used is True for row in rows]
    bounds = {row.bound for row in rows}
    measurement = None
    if len(losses) == len(rows):
        measurement = measurement_of_unused(masker, triplets, np.array(losses), np.array(used))
    return WrittenMasks(
        sizes={row.name: row.mask_size for row in rows},
        measurement=measurement,
        n_used=sum(used),
        caveat=caveat,
        notes=notes,
        features=work.features,
        outliers={row.name: row.outlier for row in rows if row.outlier},
        clipped=work.clipped,
        bound=bounds.pop() if len(bounds) == 1 < len(rows) else None,
    )


class _Work:
    """A run of write_masks: what is to be masked, and where it goes."""

    def __init__(self, masker: Masker, triplets: Triplets, folder: MaskFolder, files: MaskFiles) -> None:
        self.masker, self.triplets, self.folder, self.files = masker, triplets, folder, files
        self._whole = whole_images(masker, triplets)
        by_blocks = masker.loss.traits.block_exponent is not None or not self._whole
        self._is_measured = by_blocks and _measurable(masker, triplets)
        self._indices = {name: index for index, name in enumerate(triplets.names)}
        self.features: dict[str, Array] = {}
        self.clipped: dict[str, float] = {}

    def unfinished(self) -> list[int]:
        """Return the images whose masks are missing, or that have changed since."""
        lines = self.folder.lines()
        return [index for name, index in self._indices.items() if not self.is_done(name, lines.get(name))]

    def is_done(self, name: str, line: MaskRow | None) -> bool:
        """Return whether the mask of an image is there, as this line says, and the image as it was then."""
        if line is None or not self.files.are_there(name):
            return False
        is_measured = line.loss is not None and line.used is not None
        return line.source == self._source(name) and (is_measured or not self._is_measured)

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
        admission = masker.compared(item)
        self.clipped |= admission.clipped
        judged, bounds = masker.judge(item, measured=self._is_measured), masker.bounds_of(item)
        losses = None if judged.loss is None else judged.loss.tolist()
        used = self._used(batch.names, pixel_ids(batch).tolist())
        arrays = judged.mask.cpu().numpy(), item.score.map.cpu().numpy()
        limits = None if bounds is None else bounds.tolist()
        return _MaskedBatch(batch, *arrays, losses, limits, used, admission.outliers)

    def _used(self, names: Sequence[str], pixels: Sequence[str]) -> list[bool]:
        """Return which of the images with these names and hashes of pixels an earlier step has seen."""
        images = self.triplets.select(self._indices[name] for name in names)
        used: list[bool] = images.used(self.masker.seen, pixels).tolist()
        return used

    def _write_batch(self, names: set[str], masked: "_MaskedBatch") -> Batch:
        """Write masks, overlays and lines of the images with these names; return the batch."""
        batch, losses, bounds = masked.batch, masked.losses, masked.bounds
        for index, name in enumerate(batch.names):
            if name not in names:
                continue
            self.folder.check_claimed()
            mask = masked.masks[index]
            self.files.write(batch, index, mask, masked.scores[index])
            size = float(1 - mask.mean(dtype=np.float64))
            loss, bound = (None if values is None else values[index] for values in (losses, bounds))
            self.folder.add(
                self._line(name, size, loss, bound, masked.used[index], masked.outliers.get(name, ""))
            )
        return batch

    def _write_whole(self, image: WholeImage) -> None:
        self.folder.check_claimed()
        geometry = image.image.y_hat.header.geometry
        summary = image.write(self.files.masks[image.name], self.files.under(image.name, geometry))
        self.files.write_overlay(image.name, summary.y_hat, summary.mask, geometry)
        self.clipped |= summary.admission.clipped
        (used,) = self._used([image.name], [summary.pixels])
        outlier = summary.admission.outliers.get(image.name, "")
        self.folder.add(self._line(image.name, summary.size, summary.loss, None, used, outlier))

    def _line(
        self, name: str, size: float, loss: float | None, bound: float | None, used: bool, outlier: str
    ) -> MaskRow:
        within = None if loss is None else bool(self.masker.within(np.array(loss)))
        return MaskRow(name, size, self._source(name), loss, within, used, bound, outlier=outlier)

    def _source(self, name: str) -> str:
        return self.triplets.source(self._indices[name])


@dataclass(frozen=True)
class _MaskedBatch:
    """A batch with its masks, ready to be written."""

    batch: Batch
    masks: Array
    scores: Array
    losses: list[float] | None
    bounds: list[float] | None
    used: list[bool]
    outliers: Mapping[str, str]


def _measurable(masker: Masker, triplets: Triplets) -> bool:
    """Return whether the loss can be measured: truth and region are known, and its packages are installed.

    Noisy references are the truth for the losses that `refuse_noisy` lets them be.
    """
    if not (triplets.has_truth and has_theorem(masker.card.promise, masker.loss, triplets.reference)):
        return False
    if not all(map(triplets.has, masker.loss.extent.layers)):
        return False
    zeros = torch.zeros(1, masker.card.channels, *min(masker.card.sizes))
    try:
        masker.loss.on(zeros, zeros, None, 1).of(zeros[:, :1])
    except MissingFileError as error:
        warn(f"the masks are not measured: {error}")
        return False
    return True
