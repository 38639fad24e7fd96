"""The true images of the rows, the networks that are to be masked, and their triplets."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from conformask.background import Compute, tracked
from conformask.errors import InvalidArgumentError
from conformask.extras.make.predictors import NetworkPredictor
from conformask.extras.make.regressor import fit_predictor
from conformask.extras.make.tasks import task as task_by_name
from conformask.extras.make.triplets import TrueImages, population_of, write_triplets
from conformask.extras.paper import SEED, Counts, PaperPreset, TableRow
from conformask.extras.paper.stages import Stage
from conformask.images.read import list_images
from conformask.images.rows import PARTS, uniform
from conformask.records.record import Json, hash_of_text


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
        return Stage("images", data, {**self.settings, "data": data, "files": self.files}, expected=10.0)

    def counts(self) -> dict[str, int]:
        """Return the number of images in each part."""
        parts = [source.part for source in self.images.sources]
        return {part: parts.count(part) for part in PARTS}

    def read_all(self) -> None:
        """Decode every image."""
        for _ in tracked(self.images, "reading every image", len(self.images)):
            pass

    def train_predictor(self, row: TableRow, preset: PaperPreset, compute: Compute, folder: Path) -> None:
        """Train the network that is to be masked."""
        fit_predictor(
            self.images.part("train"),
            self.images.part("selection"),
            task=task_by_name(row.task),
            size=preset.size,
            out=folder,
            training=preset.predictor.config(),
            compute=compute,
            kind=row.network,
            width=preset.predictor.width,
            paper_form=preset.predictor.paper_form,
        )

    def write_triplets(self, predictor_folder: Path, compute: Compute, folder: Path) -> None:
        """Run the network on all images."""
        predictor = NetworkPredictor.load(predictor_folder)
        write_triplets(
            self.images,
            folder,
            task=predictor.task,
            predictor=predictor,
            population=self.population,
            compute=compute,
        )


def collections_of(
    rows: Sequence[TableRow], preset: PaperPreset, folders: Mapping[str, str | Path | None], split: str
) -> dict[str, Collection]:
    """Return the images that the rows need."""
    collections = {}
    for data in dict.fromkeys(row.data for row in rows):
        data_rows = [row for row in rows if row.data == data]
        folder = folders.get(data)
        if folder is None:
            rows_text = ", ".join(str(row.number) for row in data_rows)
            raise InvalidArgumentError(
                f"rows {rows_text} need --{data}, a folder of images: give one, or choose other --rows"
            )
        collections[data] = _collection(data, Path(folder), preset, split)
        for row in data_rows:
            task_by_name(row.task).truth(
                torch.zeros(1, collections[data].images.channels, *[preset.size] * 2)
            )
    return collections


def _collection(data: str, folder: Path, preset: PaperPreset, split: str) -> Collection:
    stride, split = (preset.stride, split) if data == "cells" else (None, "file")
    counts = preset.cells if data == "cells" else preset.photos
    images = limit_parts(
        TrueImages.from_folder(folder, preset.size, stride, split, SEED, colour=True), counts
    )
    settings: dict[str, Json] = {
        "size": preset.size, "stride": stride, "split": split, "seed": SEED, "counts": asdict(counts),
    }  # fmt: skip
    lines = (
        f"{path.relative_to(folder)}\0{path.stat().st_size}\n" for path in list_images(folder, recursive=True)
    )
    files = hash_of_text("".join(lines))[:16]
    collection = Collection(images, files, settings, population_of(stride, split))
    found, needed = collection.counts(), asdict(preset.needed)
    if any(found[part] < needed[part] for part in PARTS):
        counts_text = ", ".join(f"{found[part]} of {needed[part]} {part}" for part in PARTS)
        raise InvalidArgumentError(
            f"{folder} has too few images for --{data} with this preset: {counts_text} images (found of "
            "needed); add images, or choose a smaller preset"
        )
    return collection


def limit_parts(images: TrueImages, counts: Counts) -> TrueImages:
    """Limit each part to its number of images, chosen by hash of their names, in the original order."""
    indices: list[int] = []
    for part, limit in asdict(counts).items():
        part_indices = [index for index, source in enumerate(images.sources) if source.part == part]
        part_indices.sort(key=lambda index: uniform(SEED, "limit", images.sources[index].name))
        indices += part_indices[:limit]
    return images.select(sorted(indices))
