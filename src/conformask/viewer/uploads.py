"""A pair that someone hands to the page: read within a limit, checked as files of a folder are."""

import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive

from conformask.data.decoding import IMAGE_SUFFIXES, decode, read_header
from conformask.data.images import DataRange, check_name
from conformask.data.manifest import parse_weight
from conformask.data.triplets import Triplets
from conformask.errors import ConformaskError, ImageError, InvalidArgumentError
from conformask.types import Array
from conformask.viewer.session import check_size

MIB = 2**20
MOST_BYTES = 64 * MIB
"""Of all files of an upload together."""
ROLES = ("x", "y_hat", "y")
FACTS = ("category", "weight")


@dataclass(frozen=True)
class Upload:
    """The files by role, and what was said of the image."""

    files: Mapping[str, UploadFile]
    facts: Mapping[str, str]


@asynccontextmanager
async def received(request: Request, most: int = MOST_BYTES) -> AsyncIterator[Upload]:
    """Read a form with the files x, y_hat and perhaps y; stops reading at the limit.

    Raises:
        ImageError: more bytes than the limit.
        InvalidArgumentError: not such a form, or x or y_hat is missing.
    """
    limited = Request(request.scope, _limited(request.receive, most))
    try:
        form = await limited.form(max_files=len(ROLES), max_fields=len(FACTS))
    except HTTPException as error:
        raise InvalidArgumentError(f"the upload cannot be read: {error.detail}") from error
    try:
        files = {role: file for role in ROLES if isinstance(file := form.get(role), UploadFile)}
        for role in ROLES[:2]:
            if role not in files:
                raise InvalidArgumentError(f"the file {role} is missing: an upload takes x and y_hat")
        yield Upload(files, {fact: str(form[fact]) for fact in FACTS if form.get(fact)})
    finally:
        await form.close()


def _limited(receive: Receive, most: int) -> Receive:
    got = 0

    async def counted() -> Message:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        if got > most:
            raise ImageError(f"the files are larger than {most // MIB} MiB together: cut the images")
        return message

    return counted


def pair_of(upload: Upload, data_range: DataRange | None) -> Triplets:
    """The one triplet of an upload, named after y_hat's file.

    Nothing is written under a name that was sent, and nothing is left on disk.

    Raises:
        InvalidArgumentError: a name that could not name a file in a folder, or a bad weight.
        ImageError: a file that is no image, or an image that cannot be used.
    """
    names = {role: _checked_name(role, file.filename or "") for role, file in upload.files.items()}
    images = {role: _decoded(file, names[role]) for role, file in upload.files.items()}
    weight, category = upload.facts.get("weight"), upload.facts.get("category")
    return Triplets.from_arrays(
        *([images[role]] if role in images else None for role in ROLES),  # type: ignore[arg-type]
        names=[PurePath(names["y_hat"]).stem],
        weights=None if weight is None else [parse_weight(weight, "the upload")],
        categories=None if category is None else [category],
        data_range=data_range,
    )


def _checked_name(role: str, name: str) -> str:
    check_name(name, f"the file of {role}")
    if PurePath(name).suffix.lower() not in IMAGE_SUFFIXES:
        raise ImageError(f"{name} is no image that can be read; images end in {', '.join(IMAGE_SUFFIXES)}")
    return name


def _decoded(file: UploadFile, name: str) -> Array:
    """The pixels, by way of a file with a name of ours; messages call it by theirs."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"upload{PurePath(name).suffix.lower()}"
        with path.open("wb") as aside:
            shutil.copyfileobj(file.file, aside)
        try:
            header = read_header(path)
            check_size(str(path), (header.height, header.width))
            return decode(path)
        except ConformaskError as error:
            raise ImageError(str(error).replace(str(path), name)) from error
