"""Slices and frames of DICOM: headers, decoding, and their order in the patient.

Lossless JPEG, the commonest compression in archives, is decoded by imagecodecs: other plugins of pydicom are
under the GPL. The module has the names that pydicom expects of a plugin.
"""

import os
import warnings
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence, Sized
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise
from math import isfinite
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from conformask.errors import ImageError, one_line, warn_once
from conformask.extensions import required
from conformask.images.formats import check_memory, time_point
from conformask.records.reading import Geometry, Reading, affine_of
from conformask.records.record import Array, hash_of_text

LABEL = "imagecodecs"
DECODER_DEPENDENCIES: dict[str, tuple[str, ...]] = {
    "1.2.840.10008.1.2.4.57": ("imagecodecs",),
    "1.2.840.10008.1.2.4.70": ("imagecodecs",),
}
"""Packages for the transfer syntaxes decoded here: JPEG Lossless of any and of the first selection value."""
PLUGINS = {
    "1.2.840.10008.1.2.4.8": "pyjpegls",
    "1.2.840.10008.1.2.4.9": "pylibjpeg pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.2": "pylibjpeg pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4": "pylibjpeg pylibjpeg-libjpeg",
}
"""Packages for other transfer syntaxes, by prefix: JPEG-LS, JPEG 2000, HTJ2K, other JPEG."""


def is_available(uid: str) -> bool:
    """Return whether this module decodes a transfer syntax."""
    return uid in DECODER_DEPENDENCIES


def decode_frame(src: bytes, runner: Any) -> bytes:
    """Return the pixels of one grey frame."""
    if runner.samples_per_pixel != 1:
        raise NotImplementedError("lossless JPEG of several channels")
    pixels = imagecodecs.ljpeg_decode(src)
    runner.set_option("bits_allocated", 8 * pixels.dtype.itemsize)
    return bytes(pixels.tobytes())


def add_codecs() -> None:
    """Add this module to pydicom's decoders, once."""
    from pydicom.pixels import get_decoder

    for uid in DECODER_DEPENDENCIES:
        decoder = get_decoder(uid)
        if LABEL not in decoder.available_plugins:
            with suppress(ValueError):  # another thread was faster
                decoder.add_plugin(LABEL, (__name__, "decode_frame"))


def plugin_of(uid: str) -> str | None:
    """Return the packages that decode a transfer syntax, for pip install; None if none is known."""
    return next((packages for start, packages in PLUGINS.items() if uid.startswith(start)), None)


MARK, MARK_AT = b"DICM", 128
"""Signature of DICOM files, and its byte offset."""
INDEX = "DICOMDIR"
"""Name of the index of the files on a medium, which is itself a DICOM file."""
LOOKED_AT = 32
"""Number of files in which the signature is looked for before a folder counts as not DICOM."""
SUFFIXES = (".dcm", ".dicom", ".ima")
"""Suffixes of DICOM files; a file with one of them must have the signature."""
NO_IMAGES = {
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation",
    "1.2.840.10008.5.1.4.1.1.66.7": "a label map",
    "1.2.840.10008.5.1.4.1.1.481.2": "a radiotherapy dose",
    "1.2.840.10008.5.1.4.1.1.77.1.6": "a whole slide in tiles",
}
"""Objects with pixels that are neither grey values nor colours of one image."""
PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
GREYS = ("MONOCHROME1", "MONOCHROME2")
COLOURS = ("RGB", "PALETTE COLOR")
"""Photometric interpretations of colours, besides YBR of every kind, which becomes RGB."""
GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RealWorldValueSlope": "RealWorldValueMappingSequence",
    "RealWorldValueIntercept": "RealWorldValueMappingSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "FrameAcquisitionDateTime": "FrameContentSequence",
}
"""Functional group that holds a keyword, for one frame or for all, in multi-frame files."""
GROUP_LENGTH, CHUNK = 12, 2**20
"""Bytes of the first element, which states the length of its group; and bytes read at once."""
LEAST_FRAME, DEFLATED = 8, 1032
"""Fewest bytes of a frame, the header of its item; and the largest compression ratio of deflate."""
UNIT = 1e-3
"""Largest deviation of the directions of rows and columns from perpendicular unit vectors."""


@dataclass(frozen=True)
class DicomFrame:
    """One slice: a file, or a frame of one."""

    path: Path
    index: int | None
    """Index of the frame in its file; None in a file without frames."""
    data: Any
    """Header of the file, a pydicom Dataset."""

    def value(self, keyword: str) -> Any:
        """Return a value of this frame, else the one for all frames of the file; None where there is none."""
        group = GROUPS.get(keyword, "")
        for item in self._items:
            if group in item and item[group].value and not _is_empty(item[group].value[0].get(keyword)):
                return item[group].value[0].get(keyword)
        value = self.data.get(keyword)
        return None if _is_empty(value) else value

    @property
    def name(self) -> str:
        """Name for messages: that of the file, and the number of the frame, counted from 1 as in DICOM."""
        return self.path.name if self.index is None else f"{self.path.name} frame {self.index + 1}"

    @cached_property
    def place(self) -> Array | None:
        """Position, direction of a row, of a column, (3, 3) float64, in LPS; None where one is missing."""
        position, directions = self._numbers("ImagePositionPatient", 3), self._directions
        return None if position is None or directions is None else np.vstack([position, directions])

    @property
    def pixel_spacing(self) -> tuple[float, float] | None:
        """Steps from row to row and from column to column, in mm; None where one is missing."""
        steps = self._numbers("PixelSpacing", 2)
        return None if steps is None or (steps <= 0).any() else (float(steps[0]), float(steps[1]))

    @property
    def thickness(self) -> float | None:
        """SpacingBetweenSlices, else SliceThickness, in mm; None where neither is above 0."""
        steps = [self._numbers(name, 1) for name in ("SpacingBetweenSlices", "SliceThickness")]
        return next((float(step[0]) for step in steps if step is not None and step[0] > 0), None)

    @property
    def number(self) -> int | None:
        """The InstanceNumber; None where there is none."""
        numbers = self._numbers("InstanceNumber", 1)
        return None if numbers is None else int(numbers[0])

    @property
    def size(self) -> tuple[int, int]:
        """Number of rows, and of columns."""
        return int(self.data.Rows), int(self.data.Columns)

    @property
    def channels(self) -> int:
        """Number of channels: 1 for grey values, 3 for colours."""
        return 1 if self.data.PhotometricInterpretation in GREYS else 3

    @property
    def patient(self) -> str | None:
        """Hash of the PatientID and its issuer; None where the ID is empty.

        It keeps IDs out of tables and messages. It is no secret: anyone who can list the IDs can hash them.
        """
        number = str(self.data.get("PatientID") or "").strip()
        issuer = str(self.data.get("IssuerOfPatientID") or "").strip()
        digest = hash_of_text(f"{issuer}\0{number}")
        return f"patient-{digest[:16]}" if number else None

    @cached_property
    def _items(self) -> tuple[Any, ...]:
        """Functional groups of this frame, then those of all frames."""
        per_frame = self.data.get("PerFrameFunctionalGroupsSequence") or []
        shared = self.data.get("SharedFunctionalGroupsSequence") or []
        index = self.index or 0
        return (*per_frame[index : index + 1], *shared[:1])

    @cached_property
    def _directions(self) -> Array | None:
        values = self._numbers("ImageOrientationPatient", 6)
        if values is None:
            return None
        directions = values.reshape(2, 3)
        if abs(directions @ directions.T - np.eye(2)).max() > UNIT:
            raise ImageError(
                f"{self.path.parent / self.name}: ImageOrientationPatient is not two perpendicular unit "
                "vectors"
            )
        return directions

    def _numbers(self, keyword: str, count: int) -> Array | None:
        value = self.value(keyword)
        values = [value] if count == 1 else value
        if isinstance(values, str) or not isinstance(values, Collection) or len(values) != count:
            return None
        numbers = [float("nan") if value in (None, "") else float(value) for value in values]
        return np.array(numbers, np.float64) if all(map(isfinite, numbers)) else None


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, Sized) and len(value) == 0)


def is_series(path: Path) -> bool:
    """Return whether a folder directly holds DICOM files, by the signature of its first few files."""
    if not os.path.isdir(path):
        return False
    try:
        with os.scandir(path) as entries:
            files = (Path(entry.path) for entry in entries if _is_listed(entry.name) and entry.is_file())
            return any(has_mark(file) for file in islice(files, LOOKED_AT))
    except OSError:
        return False


def has_mark(path: Path) -> bool:
    """Return whether a file has the signature of DICOM; False where it cannot be opened."""
    try:
        with path.open("rb") as file:
            return file.read(MARK_AT + len(MARK))[MARK_AT:] == MARK
    except OSError:
        return False


def _is_listed(name: str) -> bool:
    return not name.startswith(".") and name.upper() != INDEX


def frames_of(path: Path) -> list[DicomFrame]:
    """Return the slices of a DICOM file, or of all DICOM files of a folder by name; pixels are not read."""
    pydicom = required("pydicom", path, "dicom")
    add_codecs()
    frames = []
    for file in _files(path) if path.is_dir() else [path]:
        data = _header(file, pydicom)
        count, largest = int(data.get("NumberOfFrames") or 1), file.stat().st_size // LEAST_FRAME
        if _is_deflated(data.file_meta.get("TransferSyntaxUID")):
            largest *= DEFLATED
        if count > max(largest, 1):
            raise ImageError(f"{file} states {count:,} frames but is too short for them: copy it again")
        frames += [DicomFrame(file, None if count == 1 else index, data) for index in range(count)]
    return frames


def _files(folder: Path) -> list[Path]:
    """Return the files with the signature, by name; skip others that are clearly not DICOM."""
    files = sorted(file for file in folder.iterdir() if _is_listed(file.name) and file.is_file())
    marked = [file for file in files if has_mark(file)]
    for file in sorted(set(files) - set(marked)):
        if not _is_other(file):
            raise ImageError(_unmarked_text(file))
    if not marked:
        raise ImageError(f"{folder} contains no DICOM files")
    return marked


def _is_other(file: Path) -> bool:
    """Return whether a file without the signature is not DICOM: by its suffix, or because it is text."""
    suffix = file.suffix.lower()
    if suffix in SUFFIXES:
        return False
    if any(sign.isalpha() for sign in suffix):
        return True
    with file.open("rb") as content:
        start = content.read(MARK_AT)
    return bool(start) and not set(start) & set(range(9))  # control characters that no text has


def _unmarked_text(file: Path) -> str:
    return f"{file} lacks the DICOM signature at byte {MARK_AT}: it may be damaged; copy it again"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pydicom's warnings, which are about values that do not follow the standard."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="pydicom")
        yield


def _header(path: Path, pydicom: Any) -> Any:
    if not has_mark(path):
        raise ImageError(_unmarked_text(path))
    try:
        with quiet():
            _check_deflated(path, pydicom)
            data = pydicom.dcmread(path, stop_before_pixels=True)
            _check_image(path, data)
            return data
    except ImageError:
        raise
    except Exception as error:  # pydicom's readers of values share no type of error
        raise ImageError(
            f"{path} cannot be read as DICOM ({one_line(error)}): it may be truncated; copy it again"
        ) from error


def _is_deflated(syntax: Any) -> bool:
    """Return whether the transfer syntax is deflated: all but the first bytes of the file is compressed."""
    return bool(syntax == "1.2.840.10008.1.2.1.99")


def _check_deflated(path: Path, pydicom: Any) -> None:
    """Raise for a file that would take more memory than an image may; pydicom decompresses it whole."""
    meta = pydicom.filereader.read_file_meta_info(path)
    if not _is_deflated(meta.get("TransferSyntaxUID")):
        return
    stream, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with path.open("rb") as file:
        file.seek(MARK_AT + len(MARK) + GROUP_LENGTH + int(meta.FileMetaInformationGroupLength))
        while content := file.read(CHUNK):
            while content:
                size += len(stream.decompress(content, CHUNK))
                check_memory(f"{path}, deflated,", size)
                content = stream.unconsumed_tail


def _check_image(path: Path, data: Any) -> None:
    """Raise for anything but an image of grey values or colours."""
    kind = data.get("SOPClassUID")
    name = NO_IMAGES.get(str(kind), f"{kind.name}" if kind else "of no stated kind")
    if str(kind) in NO_IMAGES:
        raise ImageError(f"{path} is not an image of grey values, but {name}")
    keywords = ("Rows", "Columns", "BitsAllocated", "PhotometricInterpretation")
    missing = [keyword for keyword in keywords if _is_empty(data.get(keyword)) or data.get(keyword) == 0]
    if missing:
        raise ImageError(
            f"{path} is not an image of grey values ({name}): it has no {', '.join(missing)}. If it should "
            "be one, it may be truncated; copy it again"
        )
    colours = str(data.PhotometricInterpretation)
    if colours not in (*GREYS, *COLOURS) and not colours.startswith("YBR"):
        raise ImageError(
            f"{path} contains {colours}; an image must contain grey values, RGB, YBR or a palette"
        )
    if colours in GREYS and data.get("PixelPresentation") in ("COLOR", "MIXED"):
        raise ImageError(
            f"{path} is not an image of grey values: some of its values stand for colours of a supplemental "
            "palette; export it as grey values or RGB"
        )
    if "MOSAIC" in (data.get("ImageType") or ()):
        raise ImageError(
            f"{path} is a Siemens mosaic, all slices side by side in one image: convert it with dcm2niix"
        )


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
        """Return the slices of one time point."""
        count = len(self.times) if self.has_times else None
        return self.times[time_point(self.path, count, time, "TZYX")]


def read_stack(path: Path, reading: Reading) -> SortedSlices:
    """Read the headers of a DICOM file or of a folder with one series, in order."""
    frames = frames_of(path)
    _check_alike(path, frames)
    axes = reading.axes or ""
    without = [frame for frame in frames if frame.place is None]
    if without and len(without) < len(frames):
        raise ImageError(f"{path}: {without[0].name} has no position and orientation, but other slices do")
    times = _unplaced(path, frames, axes) if without else _times_by_place(path, frames, axes)
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
    thickness = slices[0].thickness
    are_placed = all(frame.place is not None for frame in slices)
    if len(times) == len(skips) == 1 and are_placed and thickness is not None:
        (skip,) = skips
        length = float(np.linalg.norm(_place(slices[-1])[0] - _place(slices[0])[0]))
        step = length / (len(slices) - 1)  # the mean
        if skip > 1 and abs(step - skip * thickness) <= SKIPPED * thickness:
            raise ImageError(
                f"{path}: its slices lie {step:.4g} mm apart, are {thickness:.4g} mm thick, and their "
                f"instance numbers increase by {skip}: the slices in between are missing; copy the series "
                "again"
            )
    stated = max((int(frame.value("ImagesInAcquisition") or 0) for frame in slices), default=0)
    if skips == {1} and (numbers[0] > 1 or stated > len(slices)):
        more = f" of {stated}" if stated > len(slices) else ""
        text = (
            f"its slices are numbered {numbers[0]} to {numbers[-1]}{more}: if the series has more, they are "
            "missing, and a promise about whole series does not cover this one"
        )
        series = slices[0].data.get("SeriesInstanceUID") or path  # the same in x, y_hat and y
        warn_once(f"{series}: {text}", f"{path}: {text}", "series that may lack slices")


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
        one, other = frame.pixel_spacing, first.pixel_spacing
        if one != other and not (one and other and np.allclose(one, other, rtol=SAME, atol=0)):
            raise ImageError(f"{path}: {first.name} and {frame.name} differ in pixel spacing")
    normal, same = _normal(first), SAME * min(first.pixel_spacing or (1.0, 1.0))
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
