"""Outputs of a network, and maps beside them, for inputs that are there."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from conformask.data.batches import BATCH_SIZE
from conformask.data.decoding import name_and_suffix, read_header
from conformask.data.formats import FORMATS
from conformask.data.formats.format import SourceImage
from conformask.data.formats.npy import write_npy
from conformask.data.images import DataRange, Image, list_images, read_image, write_image
from conformask.data.manifest import MANIFEST
from conformask.data.provenance import Provenance
from conformask.errors import (
    ConformaskError,
    ImageError,
    InvalidArgumentError,
    MismatchError,
    MissingFileError,
    one_line,
)
from conformask.names import Show
from conformask.predictors.cues import CueRecipe
from conformask.prefetch import prefetch
from conformask.progress import tracked
from conformask.records.network import Network
from conformask.records.reading import Reading
from conformask.storage.as_csv import write_csv
from conformask.storage.atomic import atomic_write
from conformask.storage.exclusive import exclusive_folder
from conformask.training.processes import ONE_DEVICE, Compute, launch
from conformask.types import Images, Predictor

T = TypeVar("T")
CUES = "cues"
"""Folder of the maps that conformask makes."""
VOLUME = ".nii.gz"
"""Suffix of outputs that are volumes."""


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
            check_output(name, output, expected)
            if stem not in written:
                _write_output(folder / "y_hat" / stem, output.numpy(), inputs[name], reading)
        if maps is not None and name not in mapped:
            _write_values(folder / CUES / name, maps.numpy(), inputs[name], reading)

    def outputs() -> Iterator[tuple[str, list[Tensor], Tensor | None]]:
        images = zip(names, prefetch(read, names, lambda image: image.nbytes), strict=True)
        while batch := dict(islice(images, batch_size)):
            for name, made in zip(batch, outputs_of(predictor, batch, recipe), strict=True):
                yield name, *made

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
    write_csv(folder / MANIFEST, rows, ("name", "group", "y_hat", *roles))


def _named(name: str, run: Callable[[Images], T], image: Images) -> T:
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
    network = network_of(predictor, recipe)
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
    write_array(stem.with_name(f"{stem.name}.npy"), values, reading.axes)


def write_array(path: Path, values: Image, axes: str | None = None) -> None:
    """Write values of any range, (C, *space), as npy with these axes, or (*space, C)."""
    with atomic_write(path) as aside:
        write_npy(aside, _with_axes(values, axes or "YXC"))


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


def network_of(predictor: Predictor, recipe: CueRecipe | None) -> Network:
    """Return what makes y_hat: the predictor alone, or by a recipe."""
    return Network(predictor.name, predictor.fingerprint) if recipe is None else recipe.network(predictor)


def outputs_of(
    predictor: Predictor, images: Mapping[str, Images], recipe: CueRecipe | None
) -> Iterator[tuple[list[Tensor], Tensor | None]]:
    """Yield what is shown of each image, y_hat (C, *space), and its maps (K, *space) by the recipe.

    Without a recipe that is one y_hat, and no maps.

    Raises:
        ImageError: the predictor failed; the message names the image.
    """
    if recipe is None:
        yield from (([output], None) for output in _outputs(predictor, images))
        return
    for name, image in images.items():
        shown, maps = _named(name, partial(recipe, predictor), image)
        yield [y_hat[0] for y_hat in shown], maps[0]


def _outputs(predictor: Predictor, images: Mapping[str, Images]) -> list[Tensor]:
    """Predict images together if they have one shape, else one by one; errors name the image."""
    if len({image.shape for image in images.values()}) == 1:
        with suppress(Exception):
            return list(predictor(torch.cat(list(images.values()))))
    return [_named(name, predictor, image)[0] for name, image in images.items()]


def check_output(name: str, output: Tensor, expected: tuple[int, ...]) -> None:
    """Raise ImageError for an output of another shape than y, or with NaN."""
    if tuple(output.shape) != tuple(expected):
        raise ImageError(
            f"{name}: the predictor returned shape {tuple(output.shape)}, but y has {tuple(expected)}"
        )
    if not bool(torch.isfinite(output).all()):
        raise ImageError(f"{name}: the predictor returned NaN or infinity")
