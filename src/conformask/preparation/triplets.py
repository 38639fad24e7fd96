"""Triplets from true images: a task makes x, a predictor y_hat."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Final

from conformask.data.batches import BATCH_SIZE
from conformask.data.images import DataRange, Image, write_image
from conformask.data.manifest import MANIFEST
from conformask.data.provenance import FILE as PROVENANCE
from conformask.data.provenance import Provenance, unfinished
from conformask.data.sources import Pairs, Source, TrueImages
from conformask.errors import MismatchError, OutputError
from conformask.fingerprints import fingerprint_of
from conformask.predictors.classical import CLASSICAL
from conformask.predictors.cues import CueRecipe
from conformask.predictors.custom import custom_predictor
from conformask.predictors.network_predictor import Accelerated
from conformask.prefetch import prefetch
from conformask.preparation.outputs import CUES, check_output, network_of, outputs_of, write_array
from conformask.progress import tracked
from conformask.storage.as_csv import write_csv
from conformask.storage.as_json import hash_of
from conformask.storage.atomic import remove_claimed
from conformask.storage.claims import refuse_unclaimed_in
from conformask.storage.exclusive import exclusive_folder
from conformask.training.processes import ONE_DEVICE, Compute, launch
from conformask.types import Predictor, Task, Triplet

ROLES: Final = ("x", "y_hat", "y")


def write_triplets(
    images: TrueImages,
    out: str | Path,
    *,
    task: Task,
    predictor: Predictor,
    population: str | None = None,
    cues: CueRecipe | None = None,
    compute: Compute = ONE_DEVICE,
) -> int:
    """Make x and y of every true image, run the predictor, write x/, y_hat/, y/ and the manifest.

    With `cues`, maps beside y_hat are written to cues/ as npy; where all outputs of an input are shown, they
    are images of its group.

    Until the end triplets.json says that they are not finished, and from what they are made: a killed run
    resumes where it stopped, one with other images, task or predictor starts over. Threads read and write
    beside the predictor; several devices of `compute` are processes that share
    the images. Returns the number of images.

    Raises:
        MismatchError: the folder already holds triplets, or the predictor cannot make such maps.
        OutputError: x/, y_hat/, y/ or cues/ holds something that no record of conformask claims, such as the
            true images themselves.
        ImageError: the predictor returned NaN or another shape; the message names the image.
    """
    out = Path(out)
    if (out / MANIFEST).exists() and not unfinished(out):
        raise MismatchError(f"{out} already contains triplets: choose another folder, or delete it")
    processes = launch(compute)
    with exclusive_folder(out):
        provenance = provenance_of(predictor, task.name, population, cues)
        if processes.is_first:
            source = hash_of([images.fingerprint, fingerprint_of(task)])
            _begin(out, images, replace(provenance, source=source, finished=False), cues)
        processes.wait()
        missing = [
            part
            for part in _parts(len(images))
            if not all(_is_written(out, images.sources[place], cues) for place in part)
        ]
        # nobody writes before everybody has listed what is missing, or the lists would differ
        processes.wait()
        _write(out, images, task, predictor, cues, missing[processes.rank :: processes.count])
        processes.wait()
        if processes.is_first:
            rows = (row for source in images.sources for row in _rows(source, cues))
            write_csv(out / MANIFEST, rows, ("name", *_roles(cues), "group", "split"))
            provenance.save(out)
        processes.wait()
    return len(images)


def _begin(out: Path, images: TrueImages, claim: Provenance, cues: CueRecipe | None) -> None:
    """Keep what a killed run with this claim wrote, remove what another's wrote; raise for anything else."""
    folders = [(out / role).resolve() for role in _roles(cues)]
    endangered = [path for path in images.paths if path.resolve().parent in folders]
    if endangered:
        raise OutputError(
            f"{endangered[0]} is a true image, but {out} is the folder for the triplets: choose another "
            "folder for them"
        )
    interrupted = unfinished(out)
    if interrupted == claim:
        return
    if interrupted is not None:
        remove_claimed(out / PROVENANCE)
    for role in _roles(cues):
        refuse_unclaimed_in(out / role)
    claim.claim(out, [MANIFEST, *(path for source in images.sources for path in _paths(source, cues))])


def _parts(count: int) -> list[range]:
    """Return the batches in which the predictor is run, as ranges of places of images.

    The batches are the same however many processes share them and whatever is left, for the last bits of an
    output may depend on the size of its batch.
    """
    return [range(start, min(start + BATCH_SIZE, count)) for start in range(0, count, BATCH_SIZE)]


def _is_written(out: Path, source: Source, cues: CueRecipe | None) -> bool:
    return all((out / path).exists() for path in _paths(source, cues))


def _write(
    out: Path,
    images: TrueImages,
    task: Task,
    predictor: Predictor,
    cues: CueRecipe | None,
    parts: Sequence[range],
) -> None:
    def write(image: tuple[Source, list[Image]]) -> None:
        source, arrays = image
        # all or none: outputs that are drawn belong to the map that is made of them
        if not _is_written(out, source, cues):
            for path, array in zip(_paths(source, cues), arrays, strict=True):
                if path.startswith(CUES):
                    write_array(out / path, array)
                else:
                    write_image(out / path, array, bits=images.bits)

    for _ in prefetch(write, _made(images, task, predictor, cues, parts)):
        pass


def _roles(cues: CueRecipe | None) -> tuple[str, ...]:
    return ROLES if cues is None else (*ROLES, CUES)


def _rows(source: Source, cues: CueRecipe | None) -> list[dict[str, str]]:
    """Return the lines of the manifest about an image, one for each output that is shown."""
    names = [source.name] if cues is None else cues.names(source.name)
    facts = {"group": source.group, "split": source.part}
    return [{"name": name} | facts | _paths_of(source.name, name, cues) for name in names]


def _paths_of(source: str, name: str, cues: CueRecipe | None) -> dict[str, str]:
    paths = {"x": f"x/{source}.png", "y_hat": f"y_hat/{name}.png", "y": f"y/{source}.png"}
    return paths if cues is None else paths | {CUES: f"{CUES}/{source}.npy"}


def _paths(source: Source, cues: CueRecipe | None) -> list[str]:
    """Return the files of an image, each once, maps last."""
    rows = _rows(source, cues)
    return list(dict.fromkeys(row[role] for role in _roles(cues) for row in rows))


def provenance_of(
    predictor: Predictor,
    task: str | None = None,
    population: str | None = None,
    cues: CueRecipe | None = None,
) -> Provenance:
    """Return the provenance of triplets whose y_hat, and maps by a recipe, the predictor makes."""
    text = None if cues is None else cues.text
    return Provenance(task, network_of(predictor, cues), predictor.trained_on, population, text)


def predicted(images: TrueImages, task: Task, predictor: Predictor) -> Iterator[tuple[Source, Triplet]]:
    """Yield the triplets of true images, in order.

    Args:
        images: the true images.
        task: makes x.
        predictor: makes y_hat.

    Raises:
        ImageError: the predictor returned NaN or another shape; the message names the image.
    """
    for source, (x, y_hat, y) in _made(images, task, predictor, None, _parts(len(images))):
        yield source, Triplet(source.name, x, y_hat, y, source.group)


def _made(
    images: TrueImages, task: Task, predictor: Predictor, cues: CueRecipe | None, parts: Sequence[range]
) -> Iterator[tuple[Source, list[Image]]]:
    """Yield true images with x, each y_hat that is shown, y and maps; those of a part are predicted together.

    The images are in the order of `_paths`.
    """
    pairs, places = Pairs(images, task), [place for part in parts for place in part]
    read = prefetch(pairs.__getitem__, places, lambda pair: 2 * pair[2].nbytes, threads=1)
    reported = tracked(read, "triplets", len(places))
    for part in parts:
        batch = list(islice(reported, len(part)))
        outputs = outputs_of(predictor, {source.name: x for source, x, _ in batch}, cues)
        for (source, x, y), (shown, maps) in zip(batch, outputs, strict=True):
            for y_hat in shown:
                check_output(source.name, y_hat, y.shape[1:])
            made = [x[0], *shown, y[0], *([] if maps is None else [maps])]
            yield source, [image.float().numpy() for image in made]


def true_images(
    folder: Path,
    size: int,
    stride: int | None,
    split: str,
    seed: int,
    data_range: DataRange | None = None,
) -> TrueImages:
    """Return the true images of a folder, split as the verbs predictor and triplets both do it."""
    return TrueImages.from_folder(folder, size, stride, split, seed, data_range, colour=True)


def predictor_named(name: str, task: Task, data_range: DataRange | None = None) -> Predictor:
    """Return bicubic, biharmonic, the predictor of a run folder, or `custom_predictor(name)`.

    Raises:
        InvalidArgumentError: none of these.
        MismatchError: the run's predictor was trained for another task, or a file is damaged.
        MissingFileError: no such run folder or file.
    """
    if name in CLASSICAL:
        return CLASSICAL[name](task)
    if not Path(name).is_dir():
        return custom_predictor(name, data_range)
    predictor = Accelerated.load(Path(name))
    if predictor.task.name != task.name:
        raise MismatchError(f"the predictor in {name} was trained for {predictor.task.name}, not {task.name}")
    return predictor


def population_of(stride: int | None, split: str) -> str | None:
    """Return the images for which a promise about tiles holds; None if these are all new images."""
    return "new tiles of these files" if stride is not None and split != "file" else None
