"""Triplets (x, y_hat, y), an ordered collection: what is known of it unread, and batches of it."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import torch
from jaxtyping import Bool

from conformask.arrays import Array, Batch, Triplet, best_device
from conformask.background import prefetch
from conformask.errors import ConformaskError, ImageError, InvalidArgumentError, expect, warn
from conformask.images.formats import DataRange, Header, SegmentationWriter, at_time
from conformask.images.layers import LAYERS, batched
from conformask.images.read import (
    DatasetImage,
    Image,
    Keys,
    Raster,
    format_of,
    image_ids,
    images_of,
    name_and_suffix,
)
from conformask.images.rows import (
    FACTS,
    MANIFEST,
    PARTS,
    UNKNOWN,
    OpenedTriplet,
    Provenance,
    Role,
    TripletRow,
    check_part,
    groups_of,
    parts_of,
    rows_of_arrays,
    rows_of_folder,
    rows_of_manifest,
    set_aside,
)
from conformask.records.names import Guarantee
from conformask.records.numbers import Values, plural
from conformask.records.reading import (
    CLEAN,
    PLAIN,
    Caveat,
    Geometry,
    Network,
    PhysicalWindow,
    Reading,
    Reference,
    check_network,
    values_of,
)
from conformask.records.record import hash_of_text

BATCH_SIZE = 16
"""Images that are scored at once."""
Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of x, y_hat, and of y and layers where they are known."""
PIXELS, PIXELS_OF_PROCESSOR = 2**24, 2**18
"""Pixels in the largest batch, with an accelerator and on the CPU, where larger ones are no quicker."""


def batches_of(triplets: Iterable[Triplet], batch_size: int = BATCH_SIZE) -> Iterator[Batch]:
    """Yield batches of up to `batch_size` consecutive triplets of the same shapes, in order.

    A batch crosses no multiple of `batch_size`, nor holds more than PIXELS (on a CPU PIXELS_OF_PROCESSOR),
    unless one image does.
    """
    if batch_size < 1:
        raise InvalidArgumentError(f"batch_size is {batch_size}; give at least 1")
    pixels = PIXELS_OF_PROCESSOR if best_device().type == "cpu" else PIXELS

    def key(numbered: tuple[int, Triplet]) -> tuple[int, Shapes]:
        number, triplet = numbered
        return number // batch_size, _shapes(triplet)

    for (_, shapes), members in groupby(enumerate(triplets), key):
        largest = max(1, min(batch_size, pixels // math.prod(shapes["y_hat"][1:])))
        while batch := list(islice(members, largest)):
            yield stacked([triplet for _, triplet in batch])


def _shapes(triplet: Triplet) -> Shapes:
    images = {"x": triplet.x, "y_hat": triplet.y_hat, "y": triplet.y, **triplet.layers}
    return {role: image.shape for role, image in images.items() if image is not None}


def stacked(triplets: Sequence[Triplet]) -> Batch:
    """Return triplets of one shape as a batch."""
    layers = [batched(triplet) for triplet in triplets]
    facts = [triplet.facts for triplet in triplets]
    first = triplets[0]
    return Batch(
        tuple(triplet.name for triplet in triplets),
        _stack(triplet.x for triplet in triplets),
        _stack(triplet.y_hat for triplet in triplets),
        None if first.y is None else _stack(triplet.truth() for triplet in triplets),
        {name: _stack(each[name] for each in layers) for name in layers[0]},
        {name: tuple(each[name] for each in facts) for name in FACTS if all(name in each for each in facts)},
        tuple(triplet.geometry for triplet in triplets),
        tuple(triplet.clipped for triplet in triplets),
    )


def _stack(images: Iterable[Image]) -> torch.Tensor:
    return torch.from_numpy(np.stack(list(images)))


def truth_ids(batch: Batch) -> Array:
    """Return the hash by which each image is recognised; "" where the truth is not known."""
    return np.full(len(batch), "") if batch.y is None else image_ids(batch.y.cpu().numpy())


def pixel_ids(batch: Batch) -> Array:
    """Return the hash by which each image is recognised: of its truth or, where it is not known, of y_hat."""
    return truth_ids(batch) if batch.y is not None else image_ids(batch.y_hat.cpu().numpy())


def hash_of_group(group: str) -> str:
    """Return a hash by which a group is recognised; it does not reveal the name, perhaps a patient's."""
    return f"group-{hash_of_text(group)[:16]}"


SET_ASIDE = 0.1
"""Fraction of the groups that are set aside for choices, where nothing else decides it."""


class Triplets:
    """An ordered collection of triplets; indexing reads one, float32 (C, *space) in [0, 1].

    Whatever reads a file, or only its header, raises an ImageError that names it if that fails.

    Examples:
        >>> import numpy as np
        >>> from conformask import Triplets
        >>> y = np.random.default_rng(0).random((20, 8, 8), np.float32)
        >>> triplets = Triplets.from_arrays(x=y / 2, y_hat=y, y=y)
        >>> triplets
        Triplets(20 images, first x 8 x 8 with 1 channel, y_hat 8 x 8 with 1 channel, with y)
        >>> triplets[0].y_hat.shape
        (1, 8, 8)
    """

    def __init__(
        self, rows: Sequence[TripletRow], reading: Reading = PLAIN, provenance: Provenance = UNKNOWN
    ) -> None:
        self._rows = tuple(rows)
        self.reading = reading
        self.provenance = provenance

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def data_range(self) -> DataRange | None:
        """The values that become 0 and 1, where they were given."""
        return self.reading.stated_range

    def file(self, index: int, role: str = "y_hat") -> Path | None:
        """Return the file of an image, perhaps with #t=3; None for an array."""
        image = self._rows[index].image(role)
        return image if isinstance(image, Path) else None

    def suffix(self, index: int, role: Role = "y_hat") -> str:
        """Return the file type of an image, ".npy" for an array."""
        file = self.file(index, role)
        return ".npy" if file is None else name_and_suffix(file)[1]

    def segmentation_writer(self, index: int, role: Role) -> SegmentationWriter | None:
        """Return the writer of segmentations over the file of an image; None where its type has none."""
        file = self.file(index, role)
        kind = None if file is None else format_of(at_time(file)[0])
        return None if kind is None else kind.write_segmentation

    def geometry(self, index: int) -> Geometry | None:
        """Return the geometry of y_hat, where its file states it."""
        return None if self.file(index) is None else self.header(index).geometry

    def geometries(self) -> Iterator[tuple[str, Geometry | None]]:
        """Return an iterator over the name and geometry of each image; headers are read as it goes."""
        return ((name, self.geometry(index)) for index, name in enumerate(self.names))

    def window(self, length: str) -> PhysicalWindow:
        """Return the window with a side such as "5mm" or "20um" in pixels of the first image."""
        geometry = self.geometry(0)
        if geometry is None:
            raise InvalidArgumentError(
                f"window {length!r}: the file of y_hat of {self.names[0]!r} states no spacing; give the "
                "window in pixels"
            )
        return geometry.window(length)

    def patch_area(self, choice: int | str | None) -> int | None:
        """Return the least number of pixels of a connected part: a number, or an area such as "25mm2"."""
        if isinstance(choice, str) and not choice.strip().isdecimal():
            geometry = self.geometry(0)
            if geometry is None:
                raise InvalidArgumentError(
                    f"patches {choice!r}: the file of y_hat of {self.names[0]!r} states no spacing; give a "
                    "number of pixels"
                )
            choice = geometry.pixels(choice)
        area = None if choice is None else int(choice)
        if area is not None and area < 2:
            raise InvalidArgumentError(
                f"patches of {area} pixels: every part of a mask has that many; give at least 2, or leave it "
                "out"
            )
        if area is not None and area >= 2**63:  # which the kernel cannot count
            raise InvalidArgumentError(f"patches of {area} pixels: no image has that many; give fewer")
        return area

    @property
    def dimensions(self) -> int:
        """Number of spatial axes, 2 for planes or 3 for volumes, by the first image's header."""
        return len(self.header(0).space)

    def header(self, index: int, role: Role = "y_hat") -> Header:
        """Return the header of an image, which is not decoded."""
        return self._rows[index].header(role, self.reading)

    def range_of(self, role: Role) -> DataRange | None:
        """Return the least and the largest value of the first image: as stated, or from its header."""
        return self.header(0, role).stored_ends(self.reading.of(role))

    @property
    def turned(self) -> tuple[Role, ...]:
        """The roles, x or y_hat, whose files hold turned images, as the first triplet shows."""
        roles: tuple[Role, ...] = ("x", "y_hat")
        return tuple(role for role in roles if self.header(0, role).turned_about is not None)

    @property
    def values(self) -> Values | None:
        """The values of y_hat that become 0 and 1; None where they are not known."""
        return values_of(self.reading, self.range_of("y_hat"))

    def _shape_text(self, role: Role) -> str:
        """Return the size and the channels of the first triplet's image of this role, in words."""
        header = self.header(0, role)
        channels = "channel" if header.channels == 1 else "channels"
        return f"{' x '.join(map(str, header.space))} with {header.channels} {channels}"

    def settled(self, index: int) -> Reading:
        """Return how a triplet is read, with its range where each image has its own."""
        return self._rows[index].settled(self.reading)

    def raster(self, index: int, role: Role) -> Raster:
        """Open an image of a triplet to be read window by window; only its header is read now."""
        return self._rows[index].raster(role, self.reading)

    def opened(self, index: int) -> OpenedTriplet:
        """Open a triplet to be read window by window, with the truth only if that of all is known."""
        opened = self._rows[index].opened(self.reading)
        return opened if self.has_truth else replace(opened, y=None)

    def facts(self, index: int) -> Mapping[str, Any]:
        """Return what is known of a triplet as a whole: group, category and weight."""
        return self._rows[index].facts

    def layer(self, name: str, index: int) -> Image:
        """Read a layer of a triplet, (K, *space) of any range."""
        return LAYERS[name].values(self._rows[index], self.reading)

    def source(self, index: int) -> str:
        """Return a hash of the files or arrays of a triplet and of how they are read."""
        return self._rows[index].source(self.reading)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The name of each triplet."""
        return tuple(row.name for row in self._rows)

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """The group of each triplet, its own name where it has none."""
        return tuple(row.facts.get("group", row.name) for row in self._rows)

    @property
    def group_ids(self) -> tuple[str | None, ...]:
        """The hash of the group of each triplet; None where it has none."""
        groups = (row.facts.get("group") for row in self._rows)
        return tuple(None if group is None else hash_of_group(group) for group in groups)

    def used(self, seen: frozenset[str], ids: Iterable[str | None]) -> Bool[np.ndarray, "n"]:
        """Return which triplets an earlier step has `seen`, such as `Masker.seen`, or the predictor.

        They are recognised by `ids`, hashes of their pixels (see `pixel_ids`), or by their group.
        """
        seen, pairs = seen.union(self.provenance.trained_on), zip(ids, self.group_ids, strict=True)
        return np.array([not seen.isdisjoint(each) for each in pairs], dtype=bool)

    @property
    def parts(self) -> tuple[str | None, ...]:
        """The part of the manifest's split that each triplet belongs to."""
        return tuple(row.part for row in self._rows)

    @cached_property
    def suffixes(self) -> tuple[str, ...]:
        """The file type of each y_hat, ".npy" for arrays."""
        return tuple(self.suffix(index) for index in range(len(self)))

    @cached_property
    def categories(self) -> tuple[str | None, ...]:
        """The category of each triplet."""
        return tuple(row.facts.get("category") for row in self._rows)

    @cached_property
    def weights(self) -> tuple[float | None, ...]:
        """The weight of each triplet."""
        return tuple(row.facts.get("weight") for row in self._rows)

    @property
    def columns(self) -> dict[str, Array | None]:
        """Group, category and weight of each triplet, for promises; None for what they do not have."""
        return {
            "group": np.array(self.groups),
            "category": None if None in self.categories else np.array(self.categories),
            "weight": None if None in self.weights else np.array(self.weights, dtype=np.float64),
        }

    @property
    def has_truth(self) -> bool:
        """True if every triplet has a y."""
        return all(row.y is not None for row in self._rows)

    @property
    def has_regions(self) -> bool:
        """True if every triplet has a region."""
        return self.has("region")

    @property
    def has_cues(self) -> bool:
        """True if every triplet has maps beside y_hat."""
        return self.has("cues")

    def has(self, layer: str) -> bool:
        """Return whether there are triplets, and every one has this layer."""
        return bool(self._rows) and all(LAYERS[layer].is_known(row, self.reading) for row in self._rows)

    @property
    def reference(self) -> Reference:
        """What every y is: the truth, or repeats with noise; the truth, too, where there is no y."""
        references = {row.reference(self.reading): row.name for row in self._rows[::-1] if row.y is not None}
        if len(references) > 1:
            (one, first), (other, second), *_ = references.items()
            raise InvalidArgumentError(
                f"y of {second!r} is {other.text}, but that of {first!r} is {one.text}: use images with y of "
                "one kind"
            )
        return next(iter(references), CLEAN)

    @property
    def layer_columns(self) -> dict[str, str]:
        """The columns of a manifest that hold layers of these triplets, and their layers."""
        held = {name for row in self._rows for name in row.layers}
        places = {kind.name: kind.place(self.reading) for kind in LAYERS.values() if kind.name in held}
        return {place: name for name, place in places.items() if place is not None}

    @property
    def has_split(self) -> bool:
        """True if a manifest says which part each triplet belongs to."""
        return any(row.part is not None for row in self._rows)

    @property
    def network(self) -> Network | None:
        """The network that made y_hat; None if not recorded."""
        return self.provenance.network

    def of_any_network(self) -> "Triplets":
        """Return these triplets, to be used with a warning where another network made y_hat than promised.

        Otherwise they are refused, since a promise is about the outputs of one network.
        """
        return self.described(replace(self.provenance, any_network=True))

    def check_made_by(self, promised: Network | None, what: str) -> Caveat | None:
        """Check that y_hat was made by the network that `what` is about, see `check_network`."""
        return check_network(promised, self.network, what, any_network=self.provenance.any_network)

    @classmethod
    def from_folder(
        cls,
        folder: Path | str,
        data_range: DataRange | None = None,
        *,
        reading: Reading | None = None,
        network: str | None = None,
        group_from: str | None = None,
    ) -> "Triplets":
        """Open the triplets of folder/manifest.csv or, without one, of folder/{x,y_hat,y} matched by stem.

        The suffixes may differ between the folders; without a folder y the truth is unknown, unless a folder
        repeats has one or two noisy acquisitions in its place, NAME_1 and NAME_2. A folder region selects the
        pixels that a promise is about: not 0 in a mask or label image. Each time point of a file is an image,
        and the file its group. `reading` says more about how files are read than `data_range` alone;
        `network` is the name of the network that made y_hat, where triplets.json does not say it;
        `group_from` says where the groups are found; see `grouped`. That of `reading`, as runs keep it, is
        only for groups that no manifest or film states, and where it finds none a warning says so.

        Raises:
            MissingFileError: no such folder, no images in it, or an image without its partners.
            ImageError: two images with the same stem.
            InvalidArgumentError: a manifest with a bad line.
            MismatchError: triplets.json says another network.
        """
        folder, reading = Path(folder), reading or Reading(data_range)
        if (folder / MANIFEST).is_file():
            triplets = cls.from_manifest(folder / MANIFEST, reading=reading, network=network)
        else:
            triplets = cls(rows_of_folder(folder, reading), reading, Provenance.load(folder, network))
        return triplets._grouped_as_before() if group_from is None else triplets.grouped(group_from)

    @classmethod
    def from_manifest(
        cls,
        path: Path | str,
        data_range: DataRange | None = None,
        *,
        reading: Reading | None = None,
        network: str | None = None,
    ) -> "Triplets":
        """Open the triplets of a CSV file, with paths relative to it.

        Columns: x, y_hat and optionally y, repeat, region, name (else the stem of y_hat), group, category,
        weight, split. An empty y means that the truth is unknown, an empty group that the image is its own
        group. With repeat, y and repeat are two acquisitions with noise, or repeat alone is one. Maps lie in
        the column that `reading` names, and labels of objects in LABELS/y_hat and LABELS/y, where it names
        LABELS.

        Raises:
            MissingFileError: the manifest or a file that it names does not exist.
            InvalidArgumentError: a column is missing or a value is not allowed; names the line.
            MismatchError: triplets.json beside it says another network.
        """
        path = Path(path)
        provenance = Provenance.load(path.parent, network)
        reading = reading or Reading(data_range)
        if provenance.reading is not None:
            reading = reading.over(provenance.reading)
        return cls(rows_of_manifest(path, reading), reading, provenance)

    @classmethod
    def from_arrays(
        cls,
        x: Iterable[Array | DatasetImage],
        y_hat: Iterable[Array | DatasetImage],
        y: Iterable[Array | DatasetImage] | None = None,
        *,
        regions: Iterable[Array] | None = None,
        cues: Iterable[Array | DatasetImage] | None = None,
        repeats: Iterable[Array | DatasetImage] | None = None,
        labels: Iterable[Array] | Callable[[Array], Array] | None = None,
        y_labels: Iterable[Array] | None = None,
        layers: Mapping[str, Iterable[Array | DatasetImage]] | None = None,
        groups: Sequence[object] | None = None,
        categories: Sequence[str] | None = None,
        weights: Sequence[float] | Array | None = None,
        names: Sequence[str] | None = None,
        data_range: DataRange | None = None,
        reading: Reading | None = None,
        network: str | None = None,
    ) -> "Triplets":
        """Make triplets of arrays (H, W) or (H, W, C), whose type says their range as in a file.

        Each argument is a sequence, or one stacked array; names default to 00000, 00001, ... For volumes
        `reading` says what their axes are, as Reading(axes="ZYX"). `cues` are maps of any range beside y_hat,
        (H, W) or (H, W, K), of its size or a whole fraction of it, which `Given` takes for a score. `repeats`
        are second acquisitions of y where nobody has a clean truth: both with noise of mean 0, independent of
        each other and of x (see `CleanMean`); without y they are the only ones, whose noise `reading` may
        say, as Reading(noise_model=NoiseModel(...)). `labels` and `y_labels` are whole numbers (H, W), those
        of the objects of y_hat and of y, 0 for the background (`Objects`); or `labels` alone is a function
        that makes them of an image. `layers` are those that packages add, by name. `network` is the name of
        the network that made y_hat.

        Raises:
            InvalidArgumentError: arguments of different lengths, none at all, or bad names or weights.
        """
        rows = rows_of_arrays({
            "x": x, "y_hat": y_hat, "y": y, "groups": groups, "categories": categories, "weights": weights,
            "names": names, "regions": regions, "cues": cues, "repeats": repeats,
            "labels": labels, "y_labels": y_labels, **(layers or {}),
        })  # fmt: skip
        provenance = UNKNOWN if network is None else Provenance(network=Network(network))
        return cls(rows, reading or Reading(data_range), provenance)

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,
        *,
        keys: Keys | None = None,
        data_range: DataRange | None = None,
        reading: Reading | None = None,
        groups: Sequence[object] | None = None,
        categories: Sequence[str] | None = None,
        weights: Sequence[float] | Array | None = None,
        names: Sequence[str] | None = None,
        network: str | None = None,
    ) -> "Triplets":
        """Make triplets of a torch Dataset, or any sequence, of (x, y_hat[, y]): tensors or arrays.

        Images are (C, H, W) or (C, D, H, W), of float in [0, 1] or of `data_range`, such as (-1, 1). They are
        read one by one on demand, and again each time. The other arguments are as for `from_arrays`.

        Args:
            dataset: has a length and returns an item for a number.
            keys: the keys of x, y_hat and, where they are known, y, cues and repeat in an item that is a
                mapping, or their places in a tuple, in this order or by name, as {"x": 0, "y_hat": 1,
                "repeat": 2}; by default these names, or their order. A repeat is as for `from_arrays`, and
                other layers, such as region, have names alone.
            data_range: the values that become 0 and 1.
            reading: says more about how they are read than data_range alone; their axes are those above.

        Raises:
            InvalidArgumentError: a dataset without length, or items of fewer than 2 or more than 5 images.
            ImageError: an item without one of them, or with images of other axes.
        """
        images, axes = images_of(dataset, keys, LAYERS)
        return cls.from_arrays(
            images.pop("x"),
            images.pop("y_hat"),
            images.pop("y", None),
            layers=images,
            groups=groups,
            categories=categories,
            weights=weights,
            names=names,
            reading=replace(reading or Reading(data_range), axes=axes),
            network=network,
        )

    def __repr__(self) -> str:
        images = "1 image" if len(self) == 1 else f"{len(self)} images"
        return f"Triplets({', '.join([images, *self._text()])})"

    def _text(self) -> Iterator[str]:
        """Yield facts known without reading an image; sizes come from the header of the first."""
        groups = len(set(self.groups))
        if groups < len(self):
            yield plural(groups, "group")
        with suppress(ConformaskError, IndexError):
            yield f"first x {self._shape_text('x')}, y_hat {self._shape_text('y_hat')}"
        yield "with y" if self.has_truth else "without y"
        with suppress(ConformaskError):
            if self.reference.is_noisy:
                yield self.reference.text
        known: dict[str, list[bool]] = {}
        for name, kind in LAYERS.items():
            known.setdefault(kind.said, []).append(self.has(name))
        yield from (f"with {said}" for said, has in known.items() if said and all(has))
        if self.has_split:
            yield "split"

    def __iter__(self) -> Iterator[Triplet]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Triplet:
        """Read one triplet.

        Raises:
            ImageError: an image cannot be read, y and y_hat have different shapes or lie in different places,
                or a region is empty.
        """
        expect(index, SupportsIndex, "index", "the number of one triplet; select(range(10)) returns several")
        return self._rows[index].read(self.reading)

    def grouped(self, where: str) -> "Triplets":
        """Return these triplets, grouped by their names or files.

        Args:
            where: a regular expression whose one group, in brackets, is found in every name, such as
                r"sub-([^_]+)"; or "patient", the hash of the PatientID in DICOM files.

        Raises:
            InvalidArgumentError: it is neither, or a name or file does not give a group.
        """
        groups = groups_of(self._rows, where, self.reading)
        pairs = zip(self._rows, groups, strict=True)
        rows = [replace(row, facts={**row.facts, "group": group}) for row, group in pairs]
        return Triplets(rows, replace(self.reading, group_from=where), self.provenance)

    def _grouped_as_before(self) -> "Triplets":
        """Return these triplets, grouped as the reading says unless they state their groups."""
        where = self.reading.group_from
        if where is None or any("group" in row.facts for row in self._rows):
            return self
        try:
            return self.grouped(where)
        except InvalidArgumentError as error:
            if len(self) > 1:
                warn(
                    f"{error}: each image is a group of its own here, unless --group-from (group_from=) "
                    "names the groups"
                )
            return self

    def described(self, provenance: Provenance) -> "Triplets":
        """Return these triplets with another provenance."""
        return Triplets(self._rows, self.reading, provenance)

    def in_training(self) -> "Triplets":
        """Return these triplets without the layers with which no score is trained."""
        kept = [name for name, kind in LAYERS.items() if kind.trained_with]
        rows = [
            replace(row, layers={name: row.layers[name] for name in kept if name in row.layers})
            for row in self._rows
        ]
        return Triplets(rows, replace(self.reading, objects=None), self.provenance)

    def select(self, indices: Iterable[int]) -> "Triplets":
        """Return the triplets at these places, in this order."""
        return Triplets([self._rows[index] for index in indices], self.reading, self.provenance)

    def part(self, name: str) -> "Triplets":
        """Return the triplets of one part of the manifest's split; all of them where there is no split.

        Raises:
            InvalidArgumentError: an unknown part, or no triplet in it.
        """
        check_part(name)
        return Splits(self, self.parts).part(name) if self.has_split else self

    def split(
        self,
        seed: int = 0,
        *,
        fractions: Sequence[float] | None = None,
        guarantee: Guarantee | None = None,
        confidence: float | None = None,
    ) -> "Splits":
        """Split into train, selection, calibration and test, as the manifest says or by a hash.

        Hashing each group with the seed gives parts that do not change when others are added, but may be very
        uneven for few groups. With fractions or a guarantee, whole groups are assigned in fixed numbers.

        Args:
            seed: decides the parts.
            fractions: those of train, selection, calibration, test, as (0.4, 0.1, 0.3, 0.2); if a guarantee
                is given without them, (0.55, 0.1, 0.2, 0.15).
            guarantee: a name of `conformask.records.names.Guarantee`: the calibration part gets at least as
                many images, or groups, as the guarantee takes.
            confidence: the confidence of the guarantee; 0.9 if None.

        Raises:
            InvalidArgumentError: too few groups, invalid fractions or guarantee, or either beside a manifest
                that splits.
        """
        if self.has_split:
            if fractions is not None or guarantee is not None:
                raise InvalidArgumentError(
                    "the manifest already defines a split: leave out fractions and guarantee"
                )
            return Splits(self, self.parts)
        splits = Splits(self, parts_of(self.groups, seed, fractions, guarantee, confidence))
        for name in PARTS:  # a manifest may leave a part out, but a hash that does must not be found out late
            splits.part(name)
        return splits

    def holdout(self, fraction: float, seed: int = 0) -> tuple["Triplets", "Triplets"]:
        """Return (the others, the groups set aside), drawn by hash, independent of split(); at least one.

        Raises:
            InvalidArgumentError: a fraction outside (0, 1), or a single group.
        """
        if not 0 < fraction < 1:
            raise InvalidArgumentError(f"fraction is {fraction}; give a number between 0 and 1, such as 0.1")
        if len(set(self.groups)) < 2:
            raise InvalidArgumentError(f"cannot set aside {fraction:g} of {_counts_text(self)}: add groups")
        held_out = set_aside(set(self.groups), fraction, seed)
        others = self.select(index for index, group in enumerate(self.groups) if group not in held_out)
        return others, self.select(index for index, group in enumerate(self.groups) if group in held_out)

    def set_aside(self) -> tuple["Triplets", "Triplets | None"]:
        """Return the images for lambda and those for other choices, `calibrate(..., selection=)`.

        They are the parts of a manifest that splits; otherwise a tenth of the groups is set aside by hash, as
        conformask calibrate does, or None of a single group.
        """
        if self.has_split:
            return self.part("calibration"), self.part("selection")
        return self.holdout(SET_ASIDE) if len(set(self.groups)) > 1 else (self, None)

    def batches(self, batch_size: int = BATCH_SIZE) -> Iterator[Batch]:
        """Read in order and stack up to `batch_size` consecutive triplets of the same shapes.

        Batches of large images hold fewer; see batches_of.

        Raises:
            ImageError: an image cannot be used, or its channels differ from those of the first.
        """
        return batches_of(self.checked(), batch_size)

    def validate(self, progress: Callable[[int], None] | None = None) -> None:
        """Read everything once, reporting to `progress` how many triplets are done; raise the first error."""
        for done, _ in enumerate(self.checked(), start=1):
            if progress is not None:
                progress(done)

    def checked(self) -> Iterator[Triplet]:
        """Read in order, with files prefetched by threads.

        Raises:
            ImageError: an image cannot be used, or its channels differ from those of the first.
        """
        in_files = all(isinstance(row.y_hat, Path) for row in self._rows)
        triplets = prefetch(self.__getitem__, range(len(self)), _bytes_of) if in_files else iter(self)
        first: Shapes = {}
        for triplet in triplets:
            shapes = _shapes(triplet)
            first = first or {role: shape for role, shape in shapes.items() if role != "y"}
            for role in first:
                if role in shapes and shapes[role][0] != first[role][0]:
                    raise ImageError(
                        f"mixed channels: {role} of {triplet.name!r} has {shapes[role][0]}, but {role} of "
                        f"{self.names[0]!r} has {first[role][0]}; use images of one kind"
                    )
            yield triplet


def _counts_text(triplets: Triplets) -> str:
    return f"{plural(len(triplets), 'triplet')} in {plural(len(set(triplets.groups)), 'group')}"


def _bytes_of(triplet: Triplet) -> int:
    images = (triplet.x, triplet.y_hat, triplet.y, *triplet.layers.values())
    return sum(image.nbytes for image in images if image is not None)


class Splits:
    """The four parts of a collection; whole groups stay together.

    A part that a manifest leaves out is an error only when it is asked for.

    Examples:
        >>> import numpy as np
        >>> from conformask import Triplets
        >>> y = np.random.default_rng(0).random((20, 8, 8), np.float32)
        >>> splits = Triplets.from_arrays(x=y / 2, y_hat=y, y=y).split(fractions=(0.4, 0.2, 0.2, 0.2))
        >>> len(splits.train), len(splits.calibration)
        (8, 4)
    """

    def __init__(self, triplets: Triplets, parts: Sequence[str | None]) -> None:
        self._triplets = triplets
        self._parts = parts

    def part(self, name: str) -> Triplets:
        """Return the triplets of one part.

        Raises:
            InvalidArgumentError: there is no triplet in it; the message says how many the others have.
        """
        indices = [index for index, part in enumerate(self._parts) if part == name]
        if not indices:
            counts = Counter(self._parts)
            others = ", ".join(f"{counts[part]} {part}" for part in PARTS if part in counts)
            remedy = "add images or groups, use another seed, or write a manifest with a split column"
            if self._triplets.has_split:
                remedy = f"mark lines as {name} in the split column of the manifest"
            raise InvalidArgumentError(
                f"the {name} part is empty: {_counts_text(self._triplets)}, of which {others}; {remedy}"
            )
        return self._triplets.select(indices)

    @property
    def train(self) -> Triplets:
        """The images to learn from."""
        return self.part("train")

    @property
    def selection(self) -> Triplets:
        """The images for every choice but that of lambda."""
        return self.part("selection")

    @property
    def calibration(self) -> Triplets:
        """The images for lambda."""
        return self.part("calibration")

    @property
    def test(self) -> Triplets:
        """The images to measure with."""
        return self.part("test")


def refuse_others(*arguments: object) -> None:
    """Raise for anything but Triplets, such as a DataLoader; None is allowed."""
    for argument in arguments:
        if argument is not None and not isinstance(argument, Triplets):
            dataset = "LOADER.dataset" if hasattr(argument, "dataset") else "DATASET"
            call = "from_folder(PATH)" if isinstance(argument, str | Path) else f"from_dataset({dataset})"
            raise InvalidArgumentError(
                f"expected Triplets, not a {type(argument).__name__}: give Triplets.{call}, or the result of "
                "another Triplets.from_..."
            )
