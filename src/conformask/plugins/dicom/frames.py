"""Headers of DICOM files: the properties of each slice, and checks that a file holds a usable image."""

import os
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from conformask.data.memory import check_memory
from conformask.errors import ImageError, MissingFileError, one_line
from conformask.extensions import pip_install
from conformask.storage.as_arrays import Array
from conformask.storage.hashes import hash_of_text

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
        """Position, direction of a row, of a column, (3, 3) float64, in LPS; None where one is missing.

        Raises:
            ImageError: directions that are not perpendicular unit vectors.
        """
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
        if isinstance(values, str) or not hasattr(values, "__len__") or len(values) != count:
            return None
        numbers = [float("nan") if value in (None, "") else float(value) for value in values]
        return np.array(numbers, np.float64) if all(map(isfinite, numbers)) else None


def _is_empty(value: Any) -> bool:
    return value is None or (hasattr(value, "__len__") and len(value) == 0)


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
    """Return the slices of a DICOM file, or of all DICOM files of a folder by name; pixels are not read.

    Raises:
        MissingFileError: the extra dicom is not installed.
        ImageError: a file is damaged, or is not an image of grey values or colours; the message names it.
    """
    pydicom = import_pydicom(path)
    files = _files(path) if path.is_dir() else [path]
    return [frame for file in files for frame in _frames(file, _header(file, pydicom))]


def import_pydicom(path: Path) -> Any:
    """Import pydicom, with the codecs that conformask adds to it.

    Raises:
        MissingFileError: the extra dicom is not installed.
    """
    try:
        import pydicom
    except ImportError as error:
        raise MissingFileError(f"{path} needs pydicom: {pip_install('dicom')}") from error
    from conformask.plugins.dicom.codecs import add_codecs

    add_codecs()
    return pydicom


def _files(folder: Path) -> list[Path]:
    """Return the files with the signature, by name; skip others that are clearly not DICOM.

    Raises:
        ImageError: a file that may be a damaged slice.
    """
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


def _frames(path: Path, data: Any) -> list[DicomFrame]:
    count, largest = int(data.get("NumberOfFrames") or 1), path.stat().st_size // LEAST_FRAME
    if _is_deflated(data.file_meta.get("TransferSyntaxUID")):
        largest *= DEFLATED
    if count > max(largest, 1):
        raise ImageError(f"{path} states {count:,} frames but is too short for them: copy it again")
    return [DicomFrame(path, None if count == 1 else index, data) for index in range(count)]
