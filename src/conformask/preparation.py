"""Preparation of triplets: apply a task and a predictor to true images, or a predictor to inputs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from conformask.data.batches import BATCH_SIZE
from conformask.data.decoding import name_and_suffix, read_header
from conformask.data.formats import FORMATS
from conformask.data.formats.format import SourceImage
from conformask.data.images import DataRange, Image, list_images, read_image, write_image
from conformask.data.manifest import MANIFEST, write_manifest
from conformask.data.provenance import FILE as PROVENANCE
from conformask.data.provenance import Provenance, unfinished
from conformask.data.sources import Pairs, Source, TrueImages
from conformask.errors import (
    ConformaskError,
    ImageError,
    InvalidArgumentError,
    MismatchError,
    MissingFileError,
    OutputError,
    one_line,
)
from conformask.fingerprints import fingerprint_of
from conformask.names import Show
from conformask.predictors.classical import CLASSICAL
from conformask.predictors.cues import CueRecipe
from conformask.predictors.custom import custom_predictor
from conformask.predictors.network_predictor import Accelerated
from conformask.prefetch import prefetch
from conformask.progress import tracked
from conformask.records.network import Network
from conformask.records.reading import Reading
from conformask.storage.as_json import hash_of
from conformask.storage.atomic import atomic_write, remove_claimed
from conformask.storage.claims import refuse_unclaimed_in
from conformask.storage.exclusive import exclusive_folder
from conformask.training.processes import ONE_DEVICE, Compute, launch
from conformask.types import Images, Predictor, Task, Triplet

T = TypeVar("T")
ROLES = ("x", "y_hat", "y")
CUES = "cues"
"""Folder of the maps that conformask makes."""
VOLUME = ".nii.gz"
"""Suffix of outputs that are volumes."""


def write_triplets(
    images: TrueImages,
    out: str | Path,
    *,
    task: Task,
    predictor: Predictor,
    population: str | None = None,
    compute: Compute = ONE_DEVICE,
) -> int:
    """Make x and y of every true image, run the predictor, write x/, y_hat/, y/ and the manifest.

    Until the end triplets.json says that they are not finished, and from what they are made: a killed run
    resumes where it stopped, one with other images, task or predictor starts over. Threads read and write
    beside the predictor; several devices of `compute` are processes that share
    the images. Returns the number of images.

    Raises:
        MismatchError: the folder already holds triplets.
        OutputError: x/, y_hat/ or y/ holds something that no record of conformask claims, such as the true
            images themselves.
        ImageError: the predictor returned NaN or another shape; the message names the image.
    """
    out = Path(out)
    if (out / MANIFEST).exists() and not unfinished(out):
        raise MismatchError(f"{out} already contains triplets: choose another folder, or delete it")
    processes = launch(compute)
    with exclusive_folder(out):
        provenance = provenance_of(predictor, task.name, population)
        if processes.is_first:
            source = hash_of([images.fingerprint, fingerprint_of(task)])
            _begin(out, images, replace(provenance, source=source, finished=False))
        processes.wait()
        missing = [part for part in _parts(len(images)) if not _is_written(out, images, part)]
        # nobody writes before everybody has listed what is missing, or the lists would differ
        processes.wait()
        _write(out, images, task, predictor, missing[processes.rank :: processes.count])
        processes.wait()
        if processes.is_first:
            _write_manifest(out, images)
            provenance.save(out)
        processes.wait()
    return len(images)


def _begin(out: Path, images: TrueImages, claim: Provenance) -> None:
    """Keep what a killed run with this claim wrote, remove what another's wrote; raise for anything else."""
    folders = [(out / role).resolve() for role in ROLES]
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
    for role in ROLES:
        refuse_unclaimed_in(out / role)
    paths = [path for source in images.sources for path in _paths(source).values()]
    claim.claim(out, [MANIFEST, *paths])


def _parts(count: int) -> list[range]:
    """Return the batches in which the predictor is run, as ranges of places of images.

    The batches are the same however many processes share them and whatever is left, for the last bits of an
    output may depend on the size of its batch.
    """
    return [range(start, min(start + BATCH_SIZE, count)) for start in range(0, count, BATCH_SIZE)]


def _is_written(out: Path, images: TrueImages, part: range) -> bool:
    return all((out / path).exists() for place in part for path in _paths(images.sources[place]).values())


def _write(out: Path, images: TrueImages, task: Task, predictor: Predictor, parts: Sequence[range]) -> None:
    def write(image: tuple[Source, Triplet]) -> None:
        source, triplet = image
        for role, path in _paths(source).items():
            if not (out / path).exists():
                write_image(out / path, getattr(triplet, role), bits=images.bits)

    for _ in prefetch(write, predicted(images, task, predictor, parts)):
        pass


def _write_manifest(out: Path, images: TrueImages) -> None:
    rows = (
        {"name": source.name, "group": source.group, "split": source.part} | _paths(source)
        for source in images.sources
    )
    write_manifest(out / MANIFEST, rows)


def _paths(source: Source) -> dict[str, str]:
    return {role: f"{role}/{source.name}.png" for role in ROLES}


def provenance_of(predictor: Predictor, task: str | None = None, population: str | None = None) -> Provenance:
    """Return the provenance of triplets whose y_hat the predictor makes."""
    network = Network(predictor.name, predictor.fingerprint)
    return Provenance(task, network, predictor.trained_on, population)


def predicted(
    images: TrueImages, task: Task, predictor: Predictor, parts: Sequence[range] | None = None
) -> Iterator[tuple[Source, Triplet]]:
    """Yield the triplets of true images, in order, for the places in `parts` or for all.

    Args:
        images: the true images.
        task: makes x.
        predictor: makes y_hat; it is run on the images of a part together.
        parts: places of images that are predicted together, as `_parts` returns them.

    Raises:
        ImageError: the predictor returned NaN or another shape; the message names the image.
    """
    parts = _parts(len(images)) if parts is None else parts
    pairs, places = Pairs(images, task), [place for part in parts for place in part]
    read = prefetch(pairs.__getitem__, places, lambda pair: 2 * pair[2].nbytes, threads=1)
    reported = tracked(read, "triplets", len(places))
    for part in parts:
        batch = list(islice(reported, len(part)))
        outputs = _outputs(predictor, {source.name: x for source, x, _ in batch})
        for (source, x, y), y_hat in zip(batch, outputs, strict=True):
            _check_output(source.name, y_hat, y.shape[1:])
            arrays = [image.float().numpy() for image in (x[0], y_hat, y[0])]
            yield source, Triplet(source.name, arrays[0], arrays[1], arrays[2], source.group)


def add_outputs(
    data: str | Path,
    predictor: Predictor,
    data_range: DataRange | None = None,
    batch_size: int = BATCH_SIZE,
    *,
    reading: Reading | None = None,
    cues: str | None = None,
    show: Show = "one",
    compute: Compute = ONE_DEVICE,
) -> int:
    """Run the predictor on every image of data/x and write its output to data/y_hat.

    With `cues` (outputs, flips, residual, samples,K or dropout,K; see `predictors.cues`), maps of it are
    written to data/cues, which `Given` takes for a score. `show` says what y_hat is where outputs are drawn:
    "one" of them, their "mean", or "all" of them, NAME_1 to NAME_K. Then manifest.csv states that these are
    the group NAME, with one map.

    All three folders are then read with the same data_range, or reading. Outputs of volumes are NIfTI in the
    place of x, or npy if the axes were given. Existing outputs are kept, so that a killed run resumes;
    triplets.json says which network made them. Threads read and write beside the predictor; several devices
    of `compute` are processes that share the images.

    Returns the number of images.

    Raises:
        MissingFileError: there is no folder x/ in data, or no image in it.
        MismatchError: y_hat/ holds outputs of another network, or of an unknown one; or cues/ maps that were
            made otherwise.
        InvalidArgumentError: no such recipe, or nothing but one output to show.
        OutputError: all are shown, and data has a manifest.csv of its own.
        ImageError: an image cannot be read, or the predictor failed on it, returned NaN or another shape than
            that of y; the message names the image.
    """
    processes = launch(compute)
    folder, reading = Path(data), reading or Reading(data_range)
    inputs, truths, written, mapped = (_images_of(folder / role) for role in ("x", "y", "y_hat", CUES))
    if not inputs:
        raise MissingFileError(f"{folder} has no images in x/ to run the predictor on")
    if cues is None and show != "one":
        raise InvalidArgumentError("show goes with cues samples,K or dropout,K")
    recipe = None if cues is None else CueRecipe.of(cues, show)
    stems = {name: [name] if recipe is None else recipe.names(name) for name in inputs}
    missing = [
        name
        for name in inputs
        if not written.keys() >= set(stems[name]) or (recipe is not None and name not in mapped)
    ]
    names = missing[processes.rank :: processes.count]

    def read(name: str) -> Images:
        return torch.from_numpy(read_image(inputs[name], reading.of("x")))[None]

    def write(result: tuple[str, list[Tensor], Tensor | None]) -> None:
        name, shown, maps = result
        for stem, output in zip(stems[name], shown, strict=True):
            expected = read_header(truths[name], reading).shape if name in truths else output.shape
            _check_output(name, output, expected)
            if stem not in written:
                _write_output(folder / "y_hat" / stem, output.numpy(), inputs[name], reading)
        if maps is not None and name not in mapped:
            _write_values(folder / CUES / name, maps.numpy(), inputs[name], reading)

    def outputs() -> Iterator[tuple[str, list[Tensor], Tensor | None]]:
        images = zip(names, prefetch(read, names, lambda image: image.nbytes), strict=True)
        while batch := dict(islice(images, batch_size)):
            if recipe is None:
                for name, output in zip(batch, _outputs(predictor, batch), strict=True):
                    yield name, [output], None
                continue
            for name, image in batch.items():
                shown, maps = run_named(name, partial(recipe, predictor), image)
                yield name, [y_hat[0] for y_hat in shown], maps[0]

    with exclusive_folder(folder):
        processes.wait()
        if (missing or recipe is not None) and processes.is_first:
            _claim(folder, predictor, bool(written), recipe, bool(mapped))
        processes.wait()
        for _ in tracked(prefetch(write, outputs()), "outputs", len(names)):
            pass
        processes.wait()
        if show == "all" and processes.is_first:
            _write_groups(folder, stems)
        processes.wait()
    return len(inputs)


def _write_groups(folder: Path, stems: Mapping[str, Sequence[str]]) -> None:
    """Write the manifest of images that share x, y, region and map with others of their group."""
    shared = {role: _images_of(folder / role) for role in ("x", "y", "region", CUES)}
    roles, outputs = [role for role, files in shared.items() if files], _images_of(folder / "y_hat")

    def path(role: str, name: str) -> str:
        return f"{role}/{shared[role][name].name}" if name in shared[role] else ""

    rows = (
        {"name": stem, "group": name, "y_hat": f"y_hat/{outputs[stem].name}"}
        | {role: path(role, name) for role in roles}
        for name, samples in stems.items()
        for stem in samples
    )
    write_manifest(folder / MANIFEST, rows, ("name", "group", "y_hat", *roles))


def run_named(name: str, run: Callable[[Images], T], image: Images) -> T:
    """Return what a network makes of an image; its errors name the image."""
    try:
        return run(image)
    except ConformaskError as error:
        raise type(error)(f"{name}: the predictor failed: {error}") from error
    except Exception as error:  # a network may raise anything
        raise ImageError(
            f"{name}: the predictor failed: {type(error).__name__}: {one_line(error)}"
        ) from error


def _claim(folder: Path, predictor: Predictor, started: bool, recipe: CueRecipe | None, mapped: bool) -> None:
    """Record in triplets.json what makes y_hat/ and cues/, before the first output is written."""
    provenance = Provenance.load(folder)
    network = Network(predictor.name, predictor.fingerprint) if recipe is None else recipe.network(predictor)
    if started and (provenance.network is None or provenance.network.is_other(network)):
        whose = "of an unknown network" if provenance.network is None else f"of {provenance.network.name}"
        raise MismatchError(
            f"{folder / 'y_hat'} already contains outputs {whose}, and those of {network.name} would be "
            "mixed with them: move them to another folder"
        )
    if recipe is not None and mapped and provenance.cues != recipe.text:
        raise MismatchError(
            f"{folder / CUES} already contains maps made {provenance.cues or 'by you'}, and those by "
            f"{recipe.text} would be mixed with them: move them to another folder"
        )
    if recipe is not None and recipe.kind == "samples" and started and provenance.cues != recipe.text:
        raise MismatchError(
            f"{folder / 'y_hat'} already contains outputs that would not be among the samples of their maps: "
            "move them to another folder"
        )
    cues = provenance.cues if recipe is None else recipe.text
    provenance = replace(provenance, network=network, trained_on=predictor.trained_on, cues=cues)
    provenance.claim(folder, [MANIFEST] if recipe is not None and recipe.show == "all" else [])


def _write_output(stem: Path, output: Image, x: Path, reading: Reading) -> None:
    """Write a 16-bit PNG; NIfTI for volumes; npy if a range or axes are given, or for other channels.

    NIfTI and npy have the units of the given range.
    """
    if reading.data_range is None and output.ndim == 3 and len(output) in (1, 3) and reading.axes is None:
        write_image(stem.with_name(f"{stem.name}.png"), output, bits=16)
        return
    low, high = reading.data_range or (0.0, 1.0)
    _write_values(stem, low + (high - low) * output, x, reading)


def _write_values(stem: Path, values: Image, x: Path, reading: Reading) -> None:
    """Write values of any range, (C, *space), as NIfTI for volumes in the place of x, else as npy."""
    if values.ndim == 4 and x.suffix.lower() not in (".npy", ".npz"):
        write_over = FORMATS[VOLUME].write_over
        assert write_over is not None
        with atomic_write(stem.with_name(f"{stem.name}{VOLUME}")) as aside:
            write_over(aside, values, SourceImage(x, read_header(x, reading).geometry, reading))
        return
    axes = reading.axes or "YXC"
    with atomic_write(stem.with_name(f"{stem.name}.npy")) as aside, aside.open("wb") as file:
        np.save(file, _with_axes(values, axes), allow_pickle=False)


def _with_axes(image: Image, axes: str) -> Image:
    """Convert (C, *space) to an array of these axes, without those that they do not name."""
    order = "CZYX" if image.ndim == 4 else "CYX"
    if "C" not in axes:
        image, order = image[0], order[1:]
    return image.transpose([order.index(axis) for axis in axes if axis in order])


def _images_of(folder: Path) -> dict[str, Path]:
    with suppress(MissingFileError):
        return {name_and_suffix(path)[0]: path for path in list_images(folder)}
    return {}


def _outputs(predictor: Predictor, images: Mapping[str, Images]) -> list[Tensor]:
    """Predict images together if they have one shape, else one by one; errors name the image."""
    if len({image.shape for image in images.values()}) == 1:
        with suppress(Exception):
            return list(predictor(torch.cat(list(images.values()))))
    return [run_named(name, predictor, image)[0] for name, image in images.items()]


def _check_output(name: str, output: Tensor, expected: tuple[int, ...]) -> None:
    if tuple(output.shape) != tuple(expected):
        raise ImageError(
            f"{name}: the predictor returned shape {tuple(output.shape)}, but y has {tuple(expected)}"
        )
    if not bool(torch.isfinite(output).all()):
        raise ImageError(f"{name}: the predictor returned NaN or infinity")


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
