"""The true images of the rows, and all checks that can be made before hours of work."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from conformask.data.images import list_images
from conformask.data.sources import TrueImages
from conformask.data.splits import PARTS, uniform
from conformask.distances import distance as distance_by_name
from conformask.errors import InvalidArgumentError
from conformask.paper.settings import ROWS, SEED, Counts, PaperPreset, TableRow
from conformask.paper.stages import Stage
from conformask.preparation import population_of, true_images
from conformask.progress import tracked
from conformask.storage.as_json import Json
from conformask.storage.hashes import hash_of_text
from conformask.tasks import task as task_by_name
from conformask.types import Distance

SPLITS: Mapping[str, str] = {"within": "within", "paper": "paper"}
"""Splits of the tiles of the cells: whole fields kept for training, or all at random as in the paper."""


@dataclass(frozen=True)
class Collection:
    """True images of one kind, assigned to the four parts."""

    images: TrueImages
    files: str
    """Hash of the names and sizes of their files."""
    settings: Mapping[str, Json]
    population: str | None

    def stage(self, data: str) -> Stage:
        """Return the stage in which every image is read once."""
        return Stage("images", data, {**self.settings, "data": data, "files": self.files}, (), 10.0)

    def counts(self) -> dict[str, int]:
        """Return the number of images in each part."""
        return _counts(self.images)

    def read_all(self) -> None:
        """Decode every image.

        Raises:
            ImageError: one cannot be read.
        """
        for _ in tracked(self.images, "reading every image", len(self.images)):
            pass


def rows_of(numbers: Sequence[int] | None) -> tuple[TableRow, ...]:
    """Return the rows with these numbers, all if None.

    Raises:
        InvalidArgumentError: there is no such row.
    """
    by_number = {row.number: row for row in ROWS}
    row_numbers = list(by_number) if numbers is None else list(dict.fromkeys(numbers))
    unknown_numbers = [number for number in row_numbers if number not in by_number]
    if unknown_numbers or not row_numbers:
        numbers_text = ", ".join(map(str, unknown_numbers)) or "none"
        raise InvalidArgumentError(
            f"rows: {numbers_text}; the table has rows {min(by_number)} to {max(by_number)}"
        )
    return tuple(by_number[number] for number in sorted(row_numbers))


def collections_of(
    rows: Sequence[TableRow], preset: PaperPreset, folders: Mapping[str, Path | None], split: str
) -> dict[str, Collection]:
    """Return the images that the rows need.

    Raises:
        InvalidArgumentError: a folder is not given, or has too few images for the preset.
        MissingFileError: no such folder, or no images in it.
        ImageError: an image whose header cannot be read, that is too small, or has no colours.
    """
    collections = {}
    for data in dict.fromkeys(row.data for row in rows):
        data_rows = [row for row in rows if row.data == data]
        folder = folders.get(data)
        if folder is None:
            rows_text = ", ".join(str(row.number) for row in data_rows)
            raise InvalidArgumentError(
                f"rows {rows_text} need --{data}, a folder of images: give one, or choose other --rows"
            )
        collections[data] = _collection(data, folder, preset, split)
        for row in data_rows:
            task_by_name(row.task).truth(
                torch.zeros(1, collections[data].images.channels, *[preset.size] * 2)
            )
    return collections


def distances_of(
    rows: Sequence[TableRow], preset: PaperPreset, weights_path: Path | None
) -> dict[str, Distance]:
    """Return the distances that the rows need, each tried once.

    Raises:
        MissingFileError: the weights of the network under LPIPS are not there.
        InvalidArgumentError: torchvision is missing, or images are too small.
    """
    distances = {}
    for name in dict.fromkeys(row.distance for row in rows):
        distances[name] = distance_by_name(name, weights_path if name == "lpips" else None)
        zeros = torch.zeros(1, 1, preset.size, preset.size)
        distances[name](zeros, zeros)
    return distances


def _collection(data: str, folder: Path, preset: PaperPreset, split: str) -> Collection:
    stride = preset.stride if data == "cells" else None
    split_name = SPLITS[split] if stride is not None else "file"
    counts: Counts = getattr(preset, data)
    all_images = true_images(folder, preset.size, stride, split_name, SEED)
    images = limit_parts(all_images, counts)
    _check_counts(data, folder, images, preset.needed)
    settings: dict[str, Json] = {
        "size": preset.size, "stride": stride, "split": split_name, "seed": SEED, "counts": asdict(counts),
    }  # fmt: skip
    return Collection(images, _hash_of_files(folder), settings, population_of(stride, split_name))


def limit_parts(images: TrueImages, counts: Counts) -> TrueImages:
    """Limit each part to its number of images, chosen by hash of their names, in the original order."""
    indices: list[int] = []
    for part, limit in asdict(counts).items():
        part_indices = [index for index, source in enumerate(images.sources) if source.part == part]
        part_indices.sort(key=lambda index: uniform(SEED, "limit", images.sources[index].name))
        indices += part_indices[:limit]
    return images.select(sorted(indices))


def _check_counts(data: str, folder: Path, images: TrueImages, needed: Counts) -> None:
    counts = _counts(images)
    if any(counts[part] < least for part, least in asdict(needed).items()):
        counts_text = ", ".join(f"{counts[part]} of {asdict(needed)[part]} {part}" for part in PARTS)
        raise InvalidArgumentError(
            f"{folder} has too few images for --{data} with this preset: {counts_text} images (found of "
            "needed); add images, or choose a smaller preset"
        )


def _counts(images: TrueImages) -> dict[str, int]:
    parts = [source.part for source in images.sources]
    return {part: parts.count(part) for part in PARTS}


def _hash_of_files(folder: Path) -> str:
    files = list_images(folder, recursive=True)
    lines = (f"{path.relative_to(folder)}\0{path.stat().st_size}\n" for path in files)
    return hash_of_text("".join(lines))[:16]
