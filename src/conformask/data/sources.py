"""True images, cropped or tiled, each with its part of the split, and the pairs that a task makes of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from conformask.data.formats.header import Header
from conformask.data.images import (
    DataRange,
    Image,
    check_name,
    header_of_image,
    image_and_header,
    image_hash,
    list_images,
    quantised,
)
from conformask.data.splits import check_part, check_split, part_of_tile
from conformask.errors import ImageError, InvalidArgumentError
from conformask.progress import tracked
from conformask.records.reading import Reading
from conformask.storage.as_arrays import Array
from conformask.storage.as_json import hash_of
from conformask.types import Images, Task


@dataclass(frozen=True)
class Source:
    """One true image: its file, its place in the file, and its group and part of the split."""

    name: str
    file: str
    group: str
    part: str
    box: tuple[int, int] | None
    """Top and left of a tile in its file, in pixels; None for a whole image, resized and cropped."""


@dataclass(frozen=True)
class _Tiling:
    """How images are cut, and assigned to the parts of the split."""

    size: int
    stride: int | None
    split: str
    seed: int

    def __post_init__(self) -> None:
        check_split(self.split)
        if self.size < 1 or (self.stride is not None and self.stride < 1):
            raise InvalidArgumentError(f"size {self.size} and stride {self.stride} must be at least 1 pixel")
        if self.split == "tile" and self.stride is not None and self.stride < self.size:
            raise InvalidArgumentError(
                f"stride {self.stride} below size {self.size} makes tiles overlap, so split 'tile' could "
                "put the same pixels in training and calibration: use a stride of at least the size, or "
                "split 'file' or 'within'"
            )

    def sources(self, file: str, header: Header) -> Iterator[Source]:
        if self.stride is None:
            yield Source(file, file, file, part_of_tile(file, file, self.split, self.seed), None)
            return
        for row, top in enumerate(range(0, header.space[0] - self.size + 1, self.stride)):
            for column, left in enumerate(range(0, header.space[1] - self.size + 1, self.stride)):
                name = f"{file}_r{row:02d}_c{column:02d}"
                part = part_of_tile(file, name, self.split, self.seed)
                yield Source(name, file, file if self.split == "file" else name, part, (top, left))

    def cut(self, image: Image, box: tuple[int, int] | None) -> Image:
        if box is not None:
            return image[:, box[0] : box[0] + self.size, box[1] : box[1] + self.size]
        image = _short_side_to(image, self.size)
        top, left = ((side - self.size) // 2 for side in image.shape[1:])
        return image[:, top : top + self.size, left : left + self.size]


class TrueImages:
    """True images of one size and one number of channels, read on demand.

    Indexing gives (Source, image), the image float32 (C, size, size) in [0, 1], rounded to the bits of its
    file so that writing it loses nothing.
    """

    def __init__(
        self,
        files: Mapping[str, Path | Array],
        headers: Mapping[str, Header],
        sources: Sequence[Source],
        tiling: _Tiling,
        data_range: DataRange | None,
        colour: bool,
    ) -> None:
        self._files, self._headers, self._tiling = files, headers, tiling
        self.sources = tuple(sources)
        self.data_range = data_range
        self._colour = colour
        self.channels = _common_channels(headers, colour)
        self._last: tuple[str, Image] | None = None

    @classmethod
    def from_folder(
        cls,
        folder: Path | str,
        size: int,
        stride: int | None = None,
        split: str = "file",
        seed: int = 0,
        data_range: DataRange | None = None,
        colour: bool = False,
    ) -> "TrueImages":
        """Open the images of a folder and of the folders in it.

        Without a stride the short side is resized to `size` pixels (bicubic, antialiased) and the centre
        cut out; with one, tiles of `size` pixels are cut every `stride` pixels, without resizing. `split`
        says what is assigned to a part: a file, a tile, or a tile within a file that is not for training.
        With `colour`, grey images among colour images are repeated to three channels.

        Raises:
            MissingFileError: there is no such folder, or no image in it.
            ImageError: an image is unreadable, smaller than `size`, or has other channels than the first.
            InvalidArgumentError: an unknown `split`, a size or stride below 1, or tiles that would share
                pixels between training and calibration.
        """
        folder = Path(folder)
        files: dict[str, Path | Array] = {}
        for path in list_images(folder, recursive=True):
            name = "__".join(path.relative_to(folder).with_suffix("").parts)
            if name in files:
                raise ImageError(f"{path} and {files[name]} would both be called {name!r}; rename one")
            files[name] = path
        return cls._of(files, _Tiling(size, stride, split, seed), data_range, colour)

    @classmethod
    def from_arrays(
        cls,
        images: Mapping[str, Array],
        size: int,
        stride: int | None = None,
        split: str = "file",
        seed: int = 0,
        data_range: DataRange | None = None,
        colour: bool = False,
    ) -> "TrueImages":
        """Open true images as from_folder does, from named arrays (H, W) or (H, W, C)."""
        for name in images:
            check_name(name, "images")
        if not images:
            raise InvalidArgumentError("images is empty; give at least one array")
        return cls._of(dict(images), _Tiling(size, stride, split, seed), data_range, colour)

    @classmethod
    def _of(
        cls,
        files: Mapping[str, Path | Array],
        tiling: _Tiling,
        data_range: DataRange | None,
        colour: bool,
    ) -> "TrueImages":
        images = tracked(files.items(), "looking at images", len(files))
        headers = {name: header_of_image(image, name=_text(name, image)) for name, image in images}
        for name, header in headers.items():
            if min(header.space) < tiling.size:
                raise ImageError(
                    f"{_text(name, files[name])} is {' x '.join(map(str, header.space))} pixels, smaller "
                    f"than {tiling.size} x {tiling.size}; use a smaller --size or leave the image out"
                )
        sources = [source for name, header in headers.items() for source in tiling.sources(name, header)]
        for source in sources:
            check_name(source.name, _text(source.file, files[source.file]))
        return cls(files, headers, sources, tiling, data_range, colour)

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self) -> Iterator[tuple[Source, Image]]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> tuple[Source, Image]:
        source = self.sources[index]
        image = self._tiling.cut(self._read(source.file), source.box)
        return source, quantised(image, self._bits(source.file))

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each image."""
        return tuple(source.name for source in self.sources)

    @property
    def groups(self) -> tuple[str, ...]:
        """The group of each image: its file, or itself where the split assigns tiles."""
        return tuple(source.group for source in self.sources)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that the images come from; none for arrays."""
        return tuple(file for file in self._files.values() if isinstance(file, Path))

    @property
    def bits(self) -> int:
        """Bits that keep all images as they are: 8 if every file holds 8 bits, else 16."""
        return max(self._bits(file) for file in self._headers)

    @property
    def fingerprint(self) -> str:
        """Hash of the files, and of how they are read, cut and split; reads all of them."""
        files = {name: image_hash(self._files[name]) for name in {source.file for source in self.sources}}
        tiling = self._tiling
        cut = {"size": tiling.size, "stride": tiling.stride, "how": tiling.split, "seed": tiling.seed}
        settings = cut, self.data_range, self.channels, self.bits
        return hash_of([files, settings, [vars(source) for source in self.sources]])

    def select(self, indices: Sequence[int]) -> "TrueImages":
        """Return the images at these places, in this order."""
        return self._with([self.sources[index] for index in indices])

    def _with(self, sources: Sequence[Source]) -> "TrueImages":
        return TrueImages(self._files, self._headers, sources, self._tiling, self.data_range, self._colour)

    def part(self, name: str) -> "TrueImages":
        """Return the images of one part of the split.

        Raises:
            InvalidArgumentError: an unknown part, or no image in it.
        """
        check_part(name)
        indices = [index for index, source in enumerate(self.sources) if source.part == name]
        if not indices:
            raise InvalidArgumentError(
                f"the {name} part is empty: {len(set(self.groups))} groups are too few for four parts; add "
                "images, use another seed, or cut tiles with --stride and --split tile"
            )
        return self.select(indices)

    def _bits(self, file: str) -> int:
        return 16 if self.data_range is not None else self._headers[file].bits

    def _read(self, name: str) -> Image:
        """Read an image, or return it again, since the tiles of an image follow each other."""
        if self._last is None or self._last[0] != name:
            file = self._files[name]
            image, _ = image_and_header(file, Reading(self.data_range), _text(name, file))
            image = np.repeat(image, self.channels, axis=0) if len(image) < self.channels else image
            self._last = name, image
        return self._last[1]


@dataclass(frozen=True)
class Pairs:
    """Source, x and y that a task makes of each true image, both (1, C, H, W), rounded to its bit depth."""

    images: TrueImages
    task: Task

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Source, Images, Images]:
        source, image = self.images[index]
        y = round_to_bits(self.task.truth(torch.from_numpy(image)[None]), self.images.bits)
        return source, round_to_bits(self.task.degrade(y), self.images.bits), y


def round_to_bits(image: Images, bits: int) -> Images:
    """Round to the nearest values that integers of this many bits can hold."""
    highest = 2.0**bits - 1
    return (image * highest).round() / highest


def _text(name: str, file: Path | Array) -> str:
    return str(file) if isinstance(file, Path) else f"image {name!r}"


def _common_channels(headers: Mapping[str, Header], colour: bool) -> int:
    names: dict[int, str] = {}
    for name, header in headers.items():
        names.setdefault(header.channels, name)
    if len(names) == 1 or (colour and set(names) == {1, 3}):
        return max(names)
    (channels, name), (other_channels, other_name) = list(names.items())[:2]
    raise ImageError(
        f"mixed channels: {other_name!r} has {other_channels}, but {name!r} has {channels}; use images of "
        "one kind, or colour=True to convert grey photographs to three channels"
    )


def _short_side_to(image: Image, size: int) -> Image:
    height, width = image.shape[1:]
    short = min(height, width)
    if short == size:
        return image
    sides = [round(side * size / short) for side in (height, width)]
    resized = F.interpolate(torch.from_numpy(image)[None], sides, mode="bicubic", antialias=True)
    return resized[0].clamp(0, 1).numpy()
