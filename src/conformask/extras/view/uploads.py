"""Uploads of the viewer: received within limits of size and time, and read as one triplet each."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import NamedTuple, TypeVar

import numpy as np
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive

from conformask.errors import ConformaskError, ImageError, InvalidArgumentError
from conformask.extras.view.viewed_image import MOST_DECODED, CollectionImage
from conformask.images.formats import FLOAT32, Header, range_of
from conformask.images.layers import LAYERS
from conformask.images.read import (
    FORMATS,
    check_name,
    decode_with_header,
    name_and_suffix,
    read_header,
    to_unit,
)
from conformask.images.rows import parse_weight
from conformask.images.triplets import Triplets
from conformask.records.reading import Reading
from conformask.records.record import Array

T = TypeVar("T")

MIB = 2**20
MOST_BYTES = 64 * MIB
"""Most bytes of all files of all uploads being read, together."""
PATIENCE = 10.0
"""Seconds that an upload may fall behind SLOWEST."""
SLOWEST = MIB // 16
"""Slowest rate of an upload, in bytes per second."""
SUFFIXES = tuple(suffix for suffix, kind in FORMATS.usable().items() if not kind.is_folder)
"""Suffixes of formats whose images are single files."""
IMAGES = ("x", "y_hat", "y")
ROLES = (*IMAGES, *LAYERS)
FACTS = ("category", "weight")


class Upload(NamedTuple):
    """Files by role, and facts stated about the image."""

    files: Mapping[str, UploadFile]
    facts: Mapping[str, str]


class UploadReceiver:
    """Uploads in flight of a viewer, which share one limit of bytes and are decoded one by one."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most = self._free = most
        self._decoding = asyncio.Lock()

    @asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[Upload]:
        """Read a form with x, y_hat and perhaps y and layers, and yield it when its turn has come."""
        with self._reserve(request) as size:
            form = await _read_form(Request(request.scope, _limit(request.receive, size)))
            try:
                files = {role: file for role in ROLES if isinstance(file := form.get(role), UploadFile)}
                missing = [role for role in ("x", "y_hat") if role not in files]
                if missing:
                    raise InvalidArgumentError(
                        f"the file {missing[0]} is missing: an upload needs x and y_hat"
                    )
                async with self._decoding:
                    yield Upload(files, {fact: str(form[fact]) for fact in FACTS if form.get(fact)})
            finally:
                await form.close()

    @contextmanager
    def _reserve(self, request: Request) -> Iterator[int]:
        """Reserve the bytes that the request announces, or the whole limit; yield their number."""
        length_header = request.headers.get("content-length", "")
        size = int(length_header) if length_header.isdecimal() else self._most
        if size > self._most:
            raise _too_large_error(self._most)
        if size > self._free:
            raise InvalidArgumentError("other uploads are being read: try again when they are done")
        self._free -= size
        try:
            yield size
        finally:
            self._free += size


def _too_large_error(most: int) -> ImageError:
    return ImageError(f"the files are larger than {most // MIB} MiB in total: crop the images")


def _limit(receive: Receive, most: int) -> Receive:
    """Limit a request to this many bytes, and to SLOWEST; only the time that the sender takes counts."""
    size, waiting_time = 0, 0.0

    async def receive_limited() -> Message:
        nonlocal size, waiting_time
        start = monotonic()
        try:
            message = await asyncio.wait_for(receive(), PATIENCE + size / SLOWEST - waiting_time)
        except TimeoutError as error:
            raise InvalidArgumentError(
                f"the upload is too slow, below {SLOWEST // 1024} KiB per second: try again, or copy the "
                "files to a folder and view that"
            ) from error
        waiting_time += monotonic() - start
        if message["type"] == "http.disconnect":
            raise InvalidArgumentError("the upload was interrupted: try again")
        size += len(message.get("body", b""))
        if size > most:
            raise _too_large_error(most)
        return message

    return receive_limited


async def _read_form(request: Request) -> FormData:
    if "charset" in request.headers.get("content-type", "").lower():  # some give invalid Unicode names
        raise InvalidArgumentError("the upload cannot be read: send it without a charset, as UTF-8")
    try:
        return await request.form(max_files=len(ROLES), max_fields=len(FACTS))
    except ConformaskError:
        raise
    except (HTTPException, ValueError) as error:  # which of them depends on Starlette's version
        reason = error.detail if isinstance(error, HTTPException) else error
        raise InvalidArgumentError(f"the upload cannot be read: {reason}") from error


def pair_of(upload: Upload, reading: Reading) -> CollectionImage:
    """Read the one triplet of an upload, named after y_hat's file.

    Nothing is written under an uploaded name, and nothing is left on disk.
    """
    names = {role: _validate_name(role, file.filename or "") for role, file in upload.files.items()}
    weight, category = upload.facts.get("weight"), upload.facts.get("category")
    name = name_and_suffix(Path(names["y_hat"]))[0]
    with TemporaryDirectory() as folder:
        paths = {role: _write(upload.files[role], Path(folder) / role, names[role]) for role in names}
        header = partial(read_header, reading=reading)
        headers = {role: _read(header, paths[role], names[role]) for role in names}
        _check(name, headers)
        images = {
            role: _read(partial(_pixels, role=role, reading=reading.of(role)), paths[role], names[role])
            for role in names
        }
    triplets = Triplets.from_arrays(
        *([images[role]] if role in images else None for role in IMAGES),  # type: ignore[arg-type]
        layers={name: [images[name]] for name in LAYERS if name in images},
        names=[name],
        weights=None if weight is None else [parse_weight(weight, "the upload")],
        categories=None if category is None else [category],
        reading=replace(reading, axes="ZYXC"[-1 - len(headers["y_hat"].space) :]),
    )
    return CollectionImage(triplets, 0, headers["y_hat"])


def _check(name: str, headers: Mapping[str, Header]) -> None:
    """Raise for files that, by their headers, are too large for memory, or mix volumes and planes."""
    n_bytes = FLOAT32 * sum(header.values for header in headers.values())
    if n_bytes > MOST_DECODED:
        raise ImageError(
            f"{', '.join(headers)} of {name} take {n_bytes // MIB} MiB as float32; an upload may take up to "
            f"{MOST_DECODED // MIB} MiB: crop them, or view them in a folder"
        )
    if len({len(header.space) for header in headers.values()}) > 1:
        shapes = ", ".join(f"{role} {header.shape}" for role, header in headers.items())
        raise ImageError(f"{name} has {shapes} (C, *space); some are volumes, the others are not")


def _validate_name(role: str, name: str) -> str:
    check_name(name, f"the file of {role}")
    if name_and_suffix(Path(name))[1] not in _SUFFIXES:
        raise ImageError(
            f"{name} is not an image that can be read; names of images must end with {', '.join(SUFFIXES)}"
        )
    return name


_SUFFIXES = {*SUFFIXES, *(f".ome{suffix}" for suffix in SUFFIXES)}


def _write(file: UploadFile, stem: Path, name: str) -> Path:
    """Write an upload to a file with a safe name and the uploaded suffix."""
    path = stem.with_suffix(name_and_suffix(Path(name))[1])
    with path.open("wb") as output:
        shutil.copyfileobj(file.file, output)
    return path


def _pixels(path: Path, role: str, reading: Reading) -> Array:
    """Read (*space, C), in the file's type, or in [0, 1] if an image has another range, as with 12 bits."""
    array, header = decode_with_header(path, reading.of(role))
    if role in LAYERS:
        LAYERS[role].check_header(header, str(path))
    pixels = array[..., None] if array.ndim == len(header.space) else array
    as_stored = reading.of(role).as_stored or reading.data_range is not None
    if as_stored or header.data_range in (None, range_of(array.dtype, str(path))):
        return pixels
    return np.moveaxis(to_unit(array, header, reading, str(path)), 0, -1)


def _read(reader: Callable[[Path], T], path: Path, name: str) -> T:
    """Apply the reader to a temporary file; errors use the uploaded name."""
    try:
        return reader(path)
    except ConformaskError as error:
        raise ImageError(str(error).replace(str(path), name)) from error
