"""Task and predictor over true images -> triplets on disk."""

import csv
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from conformask.data.images import DataRange, write_image
from conformask.data.manifest import MANIFEST
from conformask.data.provenance import Provenance
from conformask.data.sources import Source, TrueImages
from conformask.errors import ImageError, MismatchError
from conformask.predictors.classical import CLASSICAL
from conformask.predictors.network_predictor import NetworkPredictor
from conformask.predictors.pairs import Pairs
from conformask.progress import tracked
from conformask.results import whole_file
from conformask.types import Images, Predictor, Task, Triplet

COLUMNS = ("name", "x", "y_hat", "y", "group", "split")
BATCH_SIZE = 16


def write_triplets(
    images: TrueImages,
    out: str | Path,
    *,
    task: Task,
    predictor: Predictor,
    population: str | None = None,
) -> int:
    """Make x and y of every true image, run the predictor, write x/, y_hat/, y/ and the manifest.

    The manifest is written last: a folder without one is not finished, and is made anew. Returns how many.

    Raises:
        MismatchError: the folder already holds triplets.
        ImageError: the predictor returned NaN or another shape; names the image.
    """
    out = Path(out)
    if (out / MANIFEST).exists():
        raise MismatchError(f"{out} already holds triplets: choose another folder, or delete it")
    rows = []
    for source, triplet in predicted(images, task, predictor):
        paths = {role: f"{role}/{source.name}.png" for role in ("x", "y_hat", "y")}
        for role, path in paths.items():
            write_image(out / path, getattr(triplet, role), bits=images.bits)
        rows.append({"name": source.name, **paths, "group": source.group, "split": source.part})
    Provenance(task.name, predictor.name, predictor.trained_on, population).save(out)
    with whole_file(out / MANIFEST) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return len(rows)


def predicted(images: TrueImages, task: Task, predictor: Predictor) -> Iterator[tuple[Source, Triplet]]:
    """The triplet of every true image, in order, the predictor run on batches.

    Raises:
        ImageError: the predictor returned NaN or another shape; names the image.
    """
    pairs = Pairs(images, task)
    starts = range(0, len(pairs), BATCH_SIZE)
    for start in tracked(starts, "triplets", len(starts)):
        batch = [pairs[index] for index in range(start, min(start + BATCH_SIZE, len(pairs)))]
        outputs = predictor(torch.cat([x for _, x, _ in batch]))
        _check(outputs, batch)
        for (source, x, y), y_hat in zip(batch, outputs, strict=True):
            arrays = [image.float().numpy() for image in (x[0], y_hat, y[0])]
            yield source, Triplet(source.name, arrays[0], arrays[1], arrays[2], source.group)


def _check(outputs: Images, batch: list[tuple[Source, Tensor, Tensor]]) -> None:
    for (source, _, y), output in zip(batch, outputs, strict=True):
        if output.shape != y.shape[1:]:
            raise ImageError(
                f"{source.name}: the predictor returned {tuple(output.shape)}, y has {tuple(y.shape[1:])}"
            )
        if not bool(torch.isfinite(output).all()):
            raise ImageError(f"{source.name}: the predictor returned NaN or infinity")


def true_images(
    folder: Path,
    size: int,
    stride: int | None,
    split: str,
    seed: int,
    data_range: DataRange | None = None,
) -> TrueImages:
    """The true images of a folder, as the verbs predictor and triplets both split them."""
    return TrueImages.from_folder(folder, size, stride, split, seed, data_range, colour=True)


def predictor_named(name: str, task: Task) -> Predictor:
    """bicubic, biharmonic, or the predictor of a run folder.

    Raises:
        MismatchError: the run's predictor was trained for another task.
        MissingFileError: no such run folder.
    """
    if name in CLASSICAL:
        return CLASSICAL[name](task)
    predictor = NetworkPredictor.load(Path(name))
    if predictor.task.name != task.name:
        raise MismatchError(f"the predictor in {name} was trained for {predictor.task.name}, not {task.name}")
    return predictor


def population_of(stride: int | None, split: str) -> str | None:
    """For which images a promise about tiles holds, where that is narrower than new images."""
    return "new tiles of these files" if stride is not None and split != "file" else None
