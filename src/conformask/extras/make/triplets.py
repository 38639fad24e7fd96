"""Triplets from true images or from inputs that are there: tasks, tiles, outputs of a network."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from conformask.arrays import Array, Images, Predictor, Task, Triplet
from conformask.background import DEFAULT_DEVICES, Compute, launch, prefetch, tracked
from conformask.errors import (
    ConformaskError,
    ImageError,
    InvalidArgumentError,
    MismatchError,
    MissingFileError,
    OutputError,
    one_line,
)
from conformask.extras.make.predictors import (
    CLASSICAL,
    NO_MAPS,
    CueRecipe,
    NetworkPredictor,
    custom_predictor,
)
from conformask.images.formats import DataRange, Header, SourceImage
from conformask.images.npy_png import write_npy
from conformask.images.read import (
    FORMATS,
    Image,
    check_name,
    format_of,
    header_of_image,
    image_and_header,
    image_hash,
    list_images,
    name_and_suffix,
    quantised,
    read_header,
    read_image,
    write_image,
)
from conformask.images.rows import (
    FILE as PROVENANCE,
    MANIFEST,
    ROLES,
    Provenance,
    check_part,
    check_split,
    part_of_tile,
    unfinished,
)
from conformask.images.triplets import BATCH_SIZE
from conformask.records.fingerprints import fingerprint_of
from conformask.records.names import Show
from conformask.records.reading import Reading
from conformask.records.record import (
    atomic_write,
    exclusive_folder,
    hash_of,
    refuse_unclaimed_in,
    remove_claimed,
    write_csv,
)


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
        sides = [round(side * self.size / min(image.shape[1:])) for side in image.shape[1:]]
        if min(image.shape[1:]) != self.size:
            resized = F.interpolate(torch.from_numpy(image)[None], sides, mode="bicubic", antialias=True)
            image = resized[0].clamp(0, 1).numpy()
        top, left = ((side - self.size) // 2 for side in image.shape[1:])
        return image[:, top : top + self.size, left : left + self.size]


@dataclass(eq=False)
class TrueImages:
    """True images of one size and one number of channels, read on demand.

    Indexing gives (Source, image), the image float32 (C, size, size) in [0, 1], rounded to the bits of its
    file so that writing it loses nothing.
    """

    files: Mapping[str, Path | Array]
    headers: Mapping[str, Header]
    sources: tuple[Source, ...]
    channels: int
    data_range: DataRange | None
    tiling: _Tiling
    _last: tuple[str, Image] | None = None
    """The image that was read last, since the tiles of an image follow each other."""

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
        """
        files: dict[str, Path] = {}
        for path in list_images(Path(folder), recursive=True):
            name = "__".join(path.relative_to(folder).with_suffix("").parts)
            if name in files:
                raise ImageError(f"{path} and {files[name]} would both be called {name!r}; rename one")
            files[name] = path
        return cls.from_arrays(files, size, stride, split, seed, data_range, colour)

    @classmethod
    def from_arrays(
        cls,
        images: Mapping[str, Path | Array],
        size: int,
        stride: int | None = None,
        split: str = "file",
        seed: int = 0,
        data_range: DataRange | None = None,
        colour: bool = False,
    ) -> "TrueImages":
        """Open true images as from_folder does, from named files or arrays (H, W) or (H, W, C)."""
        if not images:
            raise InvalidArgumentError("images is empty; give at least one array")
        tiling = _Tiling(size, stride, split, seed)
        named = tracked(images.items(), "looking at images", len(images))
        headers = {name: header_of_image(image, name=_text(name, image)) for name, image in named}
        for name, header in headers.items():
            if min(header.space) < size:
                raise ImageError(
                    f"{_text(name, images[name])} is {' x '.join(map(str, header.space))} pixels, smaller "
                    f"than {size} x {size}; use a smaller --size or leave the image out"
                )
        sources = [source for name, header in headers.items() for source in tiling.sources(name, header)]
        for source in sources:
            check_name(source.name, _text(source.file, images[source.file]))
        channels = _common_channels(headers, colour)
        return cls(images, headers, tuple(sources), channels, data_range, tiling)

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self) -> Iterator[tuple[Source, Image]]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> tuple[Source, Image]:
        source = self.sources[index]
        image = self.tiling.cut(self._read(source.file), source.box)
        return source, quantised(image, self._bits(source.file))

    @property
    def bits(self) -> int:
        """Bits that keep all images as they are: 8 if every file holds 8 bits, else 16."""
        return max(map(self._bits, self.headers))

    @property
    def fingerprint(self) -> str:
        """Hash of the files, and of how they are read, cut and split; reads all of them."""
        files = {name: image_hash(self.files[name]) for name in {source.file for source in self.sources}}
        tiling = self.tiling
        cut = {"size": tiling.size, "stride": tiling.stride, "how": tiling.split, "seed": tiling.seed}
        settings = cut, self.data_range, self.channels, self.bits
        return hash_of([files, settings, [vars(source) for source in self.sources]])

    def select(self, indices: Sequence[int]) -> "TrueImages":
        """Return the images at these places, in this order."""
        return replace(self, sources=tuple(self.sources[index] for index in indices))

    def part(self, name: str) -> "TrueImages":
        """Return the images of one part of the split."""
        check_part(name)
        indices = [index for index, source in enumerate(self.sources) if source.part == name]
        if not indices:
            groups = {source.group for source in self.sources}
            raise InvalidArgumentError(
                f"the {name} part is empty: {len(groups)} groups are too few for four parts; add "
                "images, use another seed, or cut tiles with --stride and --split tile"
            )
        return self.select(indices)

    def _bits(self, file: str) -> int:
        return 16 if self.data_range is not None else self.headers[file].bits

    def _read(self, name: str) -> Image:
        if self._last is None or self._last[0] != name:
            file = self.files[name]
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
    compute: Compute = DEFAULT_DEVICES,
) -> int:
    """Run the predictor on every image of data/x and write its output to data/y_hat.

    With `cues` (outputs, flips, residual, samples,K or dropout,K; see `CueRecipe`), maps of it are
    written to data/cues, which `Given` takes for a score. `show` says what y_hat is where outputs are drawn:
    "one" of them, their "mean", or "all" of them, NAME_1 to NAME_K. Then manifest.csv states that these are
    the group NAME, with one map.

    All three folders are then read with the same data_range, or reading. Outputs have the
    format and the place of x, such as GeoTIFF or MRC; or they are PNG, for volumes NIfTI, or npy if the axes
    were given. Existing outputs are kept, so that a killed run resumes;
    triplets.json says which network made them. Threads read and write beside the predictor; several devices
    of `compute` are processes that share the images.

    Returns the number of images.
    """
    processes, recipe = launch(compute), CueRecipe.of(cues, show)
    folder, reading = Path(data), reading or Reading(data_range)
    if reading.has_own_range:
        raise InvalidArgumentError(
            "data_range 'image' is for outputs that exist already: let your function normalise x and undo "
            "it, or state one range"
        )
    inputs, truths, written, mapped = (_images_of(folder / role) for role in ("x", "y", "y_hat", CUES))
    if not inputs:
        raise MissingFileError(f"{folder} has no images in x/ to run the predictor on")
    stems = {name: recipe.names(name) for name in inputs}
    missing = [
        name
        for name in inputs
        if not written.keys() >= set(stems[name]) or (recipe.makes_maps and name not in mapped)
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
        if processes.is_first:
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


def _claim(folder: Path, predictor: Predictor, started: bool, recipe: CueRecipe, mapped: bool) -> None:
    """Record in triplets.json what makes y_hat/ and cues/, before the first output is written."""
    provenance = Provenance.load(folder)
    network, known = recipe.network(predictor), provenance.network
    outputs, other_maps = f"{folder / 'y_hat'} already contains outputs", provenance.cues != recipe.text
    mixed = ""
    if started and (known is None or known.is_other(network)):
        whose = "an unknown network" if known is None else known.name
        other = "this other version" if whose == network.name else network.name
        mixed = f"{outputs} of {whose}, not of {other}"
    elif recipe.makes_maps and mapped and other_maps:
        made = f"maps made {provenance.cues or 'by you'}"
        mixed = f"{folder / CUES} already contains {made}, not by {recipe.text}"
    elif recipe.kind == "samples" and started and other_maps:
        mixed = f"{outputs} that would not be among the samples of their maps"
    if mixed:
        raise MismatchError(f"{mixed}: move them to another folder")
    cues = recipe.text or provenance.cues
    provenance = replace(provenance, network=network, trained_on=predictor.trained_on, cues=cues)
    provenance.claim(folder, [MANIFEST] if recipe.show == "all" else [])


def _write_output(stem: Path, output: Image, x: Path, reading: Reading) -> None:
    """Write in the format of x if it says where x lies; else a 16-bit PNG, or npy for a given range or axes.

    Other volumes are NIfTI, other channels npy. All but PNG have the units of the given range.
    """
    low, high = reading.stated_range or (0.0, 1.0)
    header = read_header(x, reading)
    if (write_over := _writer_over(x, header, output)) is not None:
        with atomic_write(stem.with_name(f"{stem.name}{name_and_suffix(x)[1]}")) as aside:
            write_over(aside, low + (high - low) * output, SourceImage(x, header.geometry, reading))
        return
    if reading.data_range is None and output.ndim == 3 and len(output) in (1, 3) and reading.axes is None:
        write_image(stem.with_name(f"{stem.name}.png"), output, bits=16)
        return
    _write_values(stem, low + (high - low) * output, x, reading)


def _writer_over(x: Path, header: Header, output: Image) -> Callable[[Path, Image, SourceImage], None] | None:
    """Return what writes an output in the format of x, if files of it say where they lie; else None."""
    kind = format_of(x)
    if kind is None or len(output) != header.channels:
        return None
    says_where = kind.write is None or header.geometry is not None
    fits = kind.rescales or output.shape[1:] == header.space
    return kind.write_over if says_where and fits else None


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
    axes, order = axes or "YXC", "CZYX" if values.ndim == 4 else "CYX"
    if "C" not in axes:
        values, order = values[0], order[1:]
    with atomic_write(path) as aside:
        write_npy(aside, values.transpose([order.index(axis) for axis in axes if axis in order]))


def _images_of(folder: Path) -> dict[str, Path]:
    with suppress(MissingFileError):
        return {name_and_suffix(path)[0]: path for path in list_images(folder)}
    return {}


def outputs_of(
    predictor: Predictor, images: Mapping[str, Images], recipe: CueRecipe = NO_MAPS
) -> Iterator[tuple[list[Tensor], Tensor | None]]:
    """Yield what is shown of each image, y_hat (C, *space), and its maps (K, *space) if there are any.

    Without maps, images of one shape are predicted together, else one by one; errors name the image.
    """
    if not recipe.makes_maps and len({image.shape for image in images.values()}) == 1:
        with suppress(Exception):
            outputs = predictor(torch.cat(list(images.values())))
            yield from (([output], None) for output in outputs)
            return
    for name, image in images.items():
        try:
            shown, maps = recipe(predictor, image)
        except ConformaskError as error:
            raise type(error)(f"{name}: the predictor failed: {error}") from error
        except Exception as error:  # a network may raise anything
            raise ImageError(
                f"{name}: the predictor failed: {type(error).__name__}: {one_line(error)}"
            ) from error
        yield [y_hat[0] for y_hat in shown], None if maps is None else maps[0]


def check_output(name: str, output: Tensor, expected: tuple[int, ...]) -> None:
    """Raise ImageError for an output of another shape than y, or with NaN."""
    if tuple(output.shape) != tuple(expected):
        raise ImageError(
            f"{name}: the predictor returned shape {tuple(output.shape)}, but y has {tuple(expected)}"
        )
    if not bool(torch.isfinite(output).all()):
        raise ImageError(f"{name}: the predictor returned NaN or infinity")


def write_triplets(
    images: TrueImages,
    out: str | Path,
    *,
    task: Task,
    predictor: Predictor,
    population: str | None = None,
    cues: CueRecipe = NO_MAPS,
    compute: Compute = DEFAULT_DEVICES,
) -> int:
    """Make x and y of every true image, run the predictor, write x/, y_hat/, y/ and the manifest.

    Maps by the recipe `cues` are written to cues/ as npy; where all outputs of an input are shown, they
    are images of its group.

    Until the end triplets.json says that they are not finished, and from what they are made: a killed run
    resumes where it stopped, one with other images, task or predictor starts over. Threads read and write
    beside the predictor; several devices of `compute` are processes that share
    the images. Returns the number of images.
    """
    out = Path(out)
    if (out / MANIFEST).exists() and not unfinished(out):
        raise MismatchError(f"{out} already contains triplets: choose another folder, or delete it")
    processes = launch(compute)
    network = cues.network(predictor)
    provenance = Provenance(task.name, network, predictor.trained_on, population, cues.text)

    def is_written(source: Source) -> bool:
        return all((out / path).exists() for path in _paths(source, cues))

    def write(image: tuple[Source, list[Image]]) -> None:
        source, arrays = image
        if is_written(source):
            return
        # all or none: outputs that are drawn belong to the map that is made of them
        for path, array in zip(_paths(source, cues), arrays, strict=True):
            if path.startswith(CUES):
                write_array(out / path, array)
            else:
                write_image(out / path, array, bits=images.bits)

    with exclusive_folder(out):
        if processes.is_first:
            source = hash_of([images.fingerprint, fingerprint_of(task)])
            _begin(out, images, replace(provenance, source=source, finished=False), cues)
        processes.wait()
        missing = [part for part in _parts(images) if not all(map(is_written, images.sources[part]))]
        # nobody writes before everybody has listed what is missing, or the lists would differ
        processes.wait()
        made = _made(images, task, predictor, cues, missing[processes.rank :: processes.count])
        for _ in prefetch(write, made):
            pass
        processes.wait()
        if processes.is_first:
            rows = (row for source in images.sources for row in _rows(source, cues))
            write_csv(out / MANIFEST, rows, ("name", *_roles(cues), "group", "split"))
            provenance.save(out)
        processes.wait()
    return len(images)


def _begin(out: Path, images: TrueImages, claim: Provenance, cues: CueRecipe) -> None:
    """Keep what a killed run with this claim wrote, remove what another's wrote; raise for anything else."""
    folders = [(out / role).resolve() for role in _roles(cues)]
    for path in images.files.values():
        if isinstance(path, Path) and path.resolve().parent in folders:
            raise OutputError(
                f"{path} is a true image, but {out} is the folder for the triplets: choose another "
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


def _parts(images: TrueImages) -> list[slice]:
    """Return the batches in which the predictor is run, as places of images.

    The batches are the same however many processes share them and whatever is left, for the last bits of an
    output may depend on the size of its batch.
    """
    return [slice(start, start + BATCH_SIZE) for start in range(0, len(images), BATCH_SIZE)]


def _roles(cues: CueRecipe) -> tuple[str, ...]:
    return (*ROLES, CUES) if cues.makes_maps else ROLES


def _rows(source: Source, cues: CueRecipe) -> list[dict[str, str]]:
    """Return the lines of the manifest about an image, one for each output that is shown."""
    shared = {"x": f"x/{source.name}.png", "y": f"y/{source.name}.png"}
    shared |= {CUES: f"{CUES}/{source.name}.npy"} if cues.makes_maps else {}
    shared |= {"group": source.group, "split": source.part}
    return [{"name": name, "y_hat": f"y_hat/{name}.png"} | shared for name in cues.names(source.name)]


def _paths(source: Source, cues: CueRecipe) -> list[str]:
    """Return the files of an image, each once, maps last."""
    rows = _rows(source, cues)
    return list(dict.fromkeys(row[role] for role in _roles(cues) for row in rows))


def predicted(images: TrueImages, task: Task, predictor: Predictor) -> Iterator[tuple[Source, Triplet]]:
    """Yield the triplets of true images, in order, x made by the task and y_hat by the predictor."""
    for source, (x, y_hat, y) in _made(images, task, predictor, NO_MAPS, _parts(images)):
        yield source, Triplet(source.name, x, y_hat, y, facts={"group": source.group})


def _made(
    images: TrueImages, task: Task, predictor: Predictor, cues: CueRecipe, parts: Sequence[slice]
) -> Iterator[tuple[Source, list[Image]]]:
    """Yield true images with x, each y_hat that is shown, y and maps; those of a part are predicted together.

    The images are in the order of `_paths`.
    """
    batches = [range(len(images))[part] for part in parts]
    pairs, places = Pairs(images, task), [place for batch in batches for place in batch]
    read = prefetch(pairs.__getitem__, places, lambda pair: 2 * pair[2].nbytes, threads=1)
    reported = tracked(read, "triplets", len(places))
    for places_of_batch in batches:
        batch = list(islice(reported, len(places_of_batch)))
        outputs = outputs_of(predictor, {source.name: x for source, x, _ in batch}, cues)
        for (source, x, y), (shown, maps) in zip(batch, outputs, strict=True):
            for y_hat in shown:
                check_output(source.name, y_hat, y.shape[1:])
            made = [x[0], *shown, y[0], *([] if maps is None else [maps])]
            yield source, [image.float().numpy() for image in made]


def predictor_named(name: str, task: Task, data_range: DataRange | None = None) -> Predictor:
    """Return bicubic, biharmonic, the predictor of a run folder, or `custom_predictor(name)`."""
    if name in CLASSICAL:
        return CLASSICAL[name](task)
    if not Path(name).is_dir():
        return custom_predictor(name, data_range)
    predictor = NetworkPredictor.load(Path(name))
    if predictor.task.name != task.name:
        raise MismatchError(f"the predictor in {name} was trained for {predictor.task.name}, not {task.name}")
    return predictor


def population_of(stride: int | None, split: str) -> str | None:
    """Return the images for which a promise about tiles holds; None if these are all new images."""
    return "new tiles of these files" if stride is not None and split != "file" else None
