"""Stacks of DICOM slices, ordered by position in the patient, never by file name or instance number."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from conformask.data.formats.format import time_point
from conformask.errors import ConformaskWarning, ImageError
from conformask.plugins.dicom.frames import DicomFrame, frames_of
from conformask.records.geometry import Geometry, affine_of
from conformask.records.reading import Reading
from conformask.storage.as_arrays import Array

SAME = 1e-3
"""Tolerance of equal positions, in pixels."""
PARALLEL = 1e-4
"""Largest difference between the directions of rows and columns of two slices."""
STEP, ROUNDING = 0.01, 0.01
"""Tolerances of the steps between slices: relative, and in mm (for small steps a tenth of the step)."""
SKIPPED = 0.1
"""Tolerance, in slice thicknesses, within which a step counts as a multiple that skips slices."""
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
TIMES: tuple[tuple[str, ...], ...] = (
    ("TemporalPositionIndex",),
    ("TemporalPositionIdentifier",),
    ("FrameAcquisitionDateTime",),
    ("AcquisitionDateTime",),
    ("AcquisitionDate", "AcquisitionTime"),
    ("TriggerTime",),
    ("AcquisitionNumber",),
    ("InstanceNumber",),
)
"""Attributes that may order the times of a slice; the first that distinguishes them is used."""


@dataclass(frozen=True)
class SortedSlices:
    """The slices of an image, perhaps at several times."""

    path: Path
    times: tuple[tuple[DicomFrame, ...], ...]
    """Slices of each time point, ordered along the normal of their plane."""
    has_times: bool
    """True if the given axes include time."""
    is_volume: bool
    """True if there is an axis of slices, perhaps of length 1."""
    geometry: Geometry | None

    def at(self, time: int | None) -> tuple[DicomFrame, ...]:
        """Return the slices of one time point.

        Raises:
            ImageError: there is no such time point, or one has to be named.
        """
        count = len(self.times) if self.has_times else None
        return self.times[time_point(self.path, count, time, "TZYX")]


def read_stack(path: Path, reading: Reading) -> SortedSlices:
    """Read the headers of a DICOM file or of a folder with one series, in order.

    Raises:
        MissingFileError: the extra dicom is not installed.
        ImageError: the files are not one image, a slice is missing or repeated, or positions are missing;
            the message names the files.
    """
    frames = frames_of(path)
    _check_alike(path, frames)
    axes = reading.axes or ""
    arrange = _times_by_place if _are_placed(path, frames) else _unplaced
    times = arrange(path, frames, axes)
    depth = len(times[0])
    if axes and "Z" not in axes and depth > 1:
        raise ImageError(
            f"{path} has {depth} slices, but the given axes {axes} have no Z: add it, such as --axes ZYX"
        )
    is_volume = depth > 1 or "Z" in axes
    _check_numbers(path, times)
    return SortedSlices(path, times, "T" in axes, is_volume, _geometry(times[0], is_volume))


def _check_numbers(path: Path, times: Sequence[Sequence[DicomFrame]]) -> None:
    """Raise for a series that seems to lack slices in between, and warn of one that seems to lack its ends.

    Equal steps alone do not reveal that every second slice is missing; steps of twice the thickness together
    with instance numbers that skip as many do.
    """
    slices = [frame for time in times for frame in time]
    numbers = sorted(frame.number for frame in slices if frame.index is None and frame.number is not None)
    if len(numbers) < len(slices) or len(set(numbers)) < len(numbers) or len(numbers) < 2:
        return
    skips = {later - earlier for earlier, later in pairwise(numbers)}
    step, thickness = _step_of(slices), slices[0].thickness
    if len(times) == len(skips) == 1 and step is not None and thickness is not None:
        (skip,) = skips
        if skip > 1 and abs(step - skip * thickness) <= SKIPPED * thickness:
            raise ImageError(
                f"{path}: its slices lie {step:.4g} mm apart, are {thickness:.4g} mm thick, and their "
                f"instance numbers increase by {skip}: the slices in between are missing; copy the series "
                "again"
            )
    stated = max((int(frame.value("ImagesInAcquisition") or 0) for frame in slices), default=0)
    if skips == {1} and (numbers[0] > 1 or stated > len(slices)):
        more = f" of {stated}" if stated > len(slices) else ""
        warnings.warn(
            f"{path}: its slices are numbered {numbers[0]} to {numbers[-1]}{more}: if the series has more, "
            "they are missing, and a promise about whole series does not cover this one",
            category=ConformaskWarning,
            stacklevel=2,
        )


def _step_of(slices: Sequence[DicomFrame]) -> float | None:
    """Return the mean step from slice to slice, in mm; None where slices have no position."""
    if any(frame.place is None for frame in slices):
        return None
    first, last = _place(slices[0])[0], _place(slices[-1])[0]
    return float(np.linalg.norm(last - first)) / (len(slices) - 1)


def _check_alike(path: Path, frames: Sequence[DicomFrame]) -> None:
    """Raise for files of several series, patients, sizes or kinds of colour, and for a repeated file."""
    # the frames of one file share its header
    first, files = frames[0], {frame.path: frame for frame in frames}.values()
    attributes: tuple[tuple[Callable[[DicomFrame], Any], str], ...] = (
        (
            lambda frame: frame.data.get("SeriesInstanceUID"),
            "belong to different series: put each series in its own folder",
        ),
        (lambda frame: frame.patient, "belong to different patients"),
        (lambda frame: frame.size, "differ in rows or columns"),
        (lambda frame: frame.channels, "differ in channels: grey values and colours"),
    )
    for attribute_of, difference in attributes:
        other = next((frame for frame in files if attribute_of(frame) != attribute_of(first)), None)
        if other is not None:
            raise ImageError(f"{path}: {first.path.name} and {other.path.name} {difference}")
    files_by_uid: dict[str, DicomFrame] = {}
    for frame in files:
        uid = str(frame.data.get("SOPInstanceUID") or frame.path)
        if uid in files_by_uid:
            raise ImageError(
                f"{path}: {files_by_uid[uid].path.name} and {frame.path.name} are the same image: remove "
                "one of them"
            )
        files_by_uid[uid] = frame


def _are_placed(path: Path, frames: Sequence[DicomFrame]) -> bool:
    """Return whether the frames have positions; raise if only some do."""
    without = [frame for frame in frames if frame.place is None]
    if without and len(without) < len(frames):
        raise ImageError(f"{path}: {without[0].name} has no position and orientation, but other slices do")
    return not without


def _unplaced(path: Path, frames: Sequence[DicomFrame], axes: str) -> tuple[tuple[DicomFrame, ...], ...]:
    """Return frames without positions: one, or those of one file in its order, if the axes name Z or T."""
    if len(frames) == 1:
        return (tuple(frames),)
    if len({frame.path for frame in frames}) > 1:
        raise ImageError(
            f"{path}: {frames[0].name} and {len(frames) - 1} more have no positions (ImagePositionPatient, "
            "ImageOrientationPatient), perhaps because they were anonymised, so they cannot be sorted"
        )
    if ("T" in axes) == ("Z" in axes):
        raise ImageError(
            f"{path} has {len(frames)} frames without positions: --axes ZYX reads them as slices in their "
            "order, --axes TYX as times"
        )
    return (tuple(frames),) if "Z" in axes else tuple((frame,) for frame in frames)


def _times_by_place(
    path: Path, frames: Sequence[DicomFrame], axes: str
) -> tuple[tuple[DicomFrame, ...], ...]:
    places = _at_places(path, frames)
    counts = {len(place) for place in places}
    if counts == {1}:
        slices = tuple(place[0] for place in places)
        _check_steps(path, slices)
        return (slices,)
    if len(counts) > 1:
        twice = next(place for place in places if len(place) == max(counts))
        raise ImageError(
            f"{path}: {twice[0].name} and {twice[1].name} have the same position, but other positions do "
            "not repeat as often"
        )
    count = counts.pop()
    if "T" not in axes:
        with_time = "TZYX" if len(places) > 1 else "TYX"
        raise ImageError(
            f"{path} has {len(places)} positions, each {count} times: --axes {with_time} reads each time as "
            "an image of one group"
        )
    times = tuple(zip(*_in_time(path, places), strict=True))
    _check_steps(path, times[0])
    return times


def _at_places(path: Path, frames: Sequence[DicomFrame]) -> list[list[DicomFrame]]:
    """Return the frames of each position, along the normal."""
    first = frames[0]
    directions = _place(first)[1:]
    for frame in frames:
        if abs(_place(frame)[1:] - directions).max() > PARALLEL:
            raise ImageError(f"{path}: {first.name} and {frame.name} differ in orientation")
        if not _close(frame.pixel_spacing, first.pixel_spacing):
            raise ImageError(f"{path}: {first.name} and {frame.name} differ in pixel spacing")
    normal = _normal(first)
    same = SAME * min(first.pixel_spacing or (1.0, 1.0))
    places: list[list[DicomFrame]] = []
    # frames are compared with the first at a position, so that small errors do not add up along the stack
    for frame in sorted(frames, key=lambda frame: float(_place(frame)[0] @ normal)):
        offset = _place(frame)[0] - _place(places[-1][0])[0] if places else None
        if offset is None or offset @ normal > same:
            places.append([frame])
        elif np.linalg.norm(offset) > same:
            raise ImageError(f"{path}: {places[-1][0].name} and {frame.name} lie side by side in one plane")
        else:
            places[-1].append(frame)
    return places


def _close(one: tuple[float, float] | None, other: tuple[float, float] | None) -> bool:
    return one == other or bool(one and other and np.allclose(one, other, rtol=SAME, atol=0))


def _check_steps(path: Path, slices: Sequence[DicomFrame]) -> None:
    """Raise for steps that differ from the usual one; a constant sideways share is a tilted gantry."""
    if len(slices) < 3:
        return
    positions = np.array([_place(frame)[0] for frame in slices])
    steps = np.diff(positions, axis=0)
    usual = np.median(steps, axis=0)
    along, length = steps @ _normal(slices[0]), float(np.linalg.norm(usual))
    allowed = max(STEP * length, min(ROUNDING, length / 10))
    offsets = np.linalg.norm(steps - usual, axis=1)
    odd, common = int(offsets.argmax()), float(np.median(along))
    if offsets[odd] <= allowed:
        return
    names = f"{path}: between {slices[odd].name} and {slices[odd + 1].name}"
    if abs(along[odd] - common) <= allowed:
        raise ImageError(f"{names} the slices shift sideways by {offsets[odd]:.4g} mm, elsewhere they do not")
    cause = "be missing" if along[odd] > common else "not belong there"
    raise ImageError(
        f"{names} the step is {along[odd]:.4g} mm, elsewhere {common:.4g} mm: a slice may {cause}"
    )


def _in_time(path: Path, places: Sequence[Sequence[DicomFrame]]) -> list[list[DicomFrame]]:
    """Return the frames of each position in the order of their times."""
    for keywords in TIMES:
        keys = [[_key(frame, keywords) for frame in place] for place in places]
        if all(None not in times and len(set(times)) == len(times) for times in keys):
            # positions, not frames, are sorted: frames have no order
            orders = [sorted(range(len(times)), key=times.__getitem__) for times in keys]
            return [[place[index] for index in order] for place, order in zip(places, orders, strict=True)]
    names = ", ".join(keywords[-1] for keywords in TIMES)
    raise ImageError(
        f"{path}: {places[0][0].name} and {places[0][1].name} have the same position, and none of {names} "
        "shows which is earlier"
    )


def _key(frame: DicomFrame, keywords: tuple[str, ...]) -> Any:
    """Return (number, "") for a number, else (0, text), which sorts dates and times; None without a value."""
    values = [frame.value(keyword) for keyword in keywords]
    if values[-1] is None:
        return None
    if len(values) == 1 and isinstance(values[0], (int, float)):
        return float(values[0]), ""
    return 0.0, "".join(str(value or "") for value in values)


def _geometry(slices: Sequence[DicomFrame], is_volume: bool) -> Geometry | None:
    """Return spacing in mm, with the affine where there are positions; None where the spacing is unknown."""
    first, spacing = slices[0], slices[0].pixel_spacing
    if spacing is None:
        return None
    if first.place is None:
        return None if is_volume else Geometry(spacing, "mm")
    position, row, column = first.place
    normal, thickness = _normal(first), first.thickness
    step = normal * (thickness or 1.0)
    if len(slices) > 1:
        step = (_place(slices[-1])[0] - position) / (len(slices) - 1)
    elif is_volume and thickness is None:
        return None
    affine = np.eye(4)
    # along a row the column index grows, in steps of the second value of PixelSpacing
    affine[:3] = LPS_TO_RAS @ np.column_stack([row * spacing[1], column * spacing[0], step, position])
    between = (float(step @ normal),) if is_volume else ()
    return Geometry((*between, *spacing), "mm", affine_of(affine))


def _place(frame: DicomFrame) -> Array:
    assert frame.place is not None
    return frame.place


def _normal(frame: DicomFrame) -> Array:
    """Return the unit normal of the plane of a slice, in LPS."""
    normal = np.cross(*_place(frame)[1:])
    unit: Array = normal / np.linalg.norm(normal)
    return unit
