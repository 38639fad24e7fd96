"""What is known of a collection of triplets without reading an image: names, groups, files, headers."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from conformask.data.decoding import name_and_suffix
from conformask.data.formats.header import Header
from conformask.data.images import DataRange, Image
from conformask.data.provenance import UNKNOWN, Provenance
from conformask.data.rasters import Raster
from conformask.data.regions import RegionWindow
from conformask.data.rows import FileRole, Role, TripletRow
from conformask.errors import InvalidArgumentError
from conformask.records.geometry import Geometry, PhysicalWindow
from conformask.records.network import Network
from conformask.records.reading import PLAIN, Reading
from conformask.records.reference import CLEAN, Reference
from conformask.records.values import Values
from conformask.storage.hashes import hash_of_text


def hash_of_group(group: str) -> str:
    """Return a hash by which a group is recognised; it does not reveal the name, perhaps a patient's."""
    return f"group-{hash_of_text(group)[:16]}"


class UnreadTriplets:
    """An ordered collection of triplets of which no image is read yet.

    Whatever reads a header raises an ImageError that names the file if that fails.
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
        return self.reading.data_range

    def file(self, index: int, role: FileRole = "y_hat") -> Path | None:
        """Return the file of an image, perhaps with #t=3; None for an array."""
        image = getattr(self._rows[index], role)
        return image if isinstance(image, Path) else None

    def suffix(self, index: int, role: Role = "y_hat") -> str:
        """Return the file type of an image, ".npy" for an array."""
        file = self.file(index, role)
        return ".npy" if file is None else name_and_suffix(file)[1]

    def geometry(self, index: int) -> Geometry | None:
        """Return the geometry of y_hat, where its file states it."""
        return None if self.file(index) is None else self.header(index).geometry

    def geometries(self) -> Iterator[tuple[str, Geometry | None]]:
        """Return an iterator over the name and geometry of each image; headers are read as it goes."""
        return ((name, self.geometry(index)) for index, name in enumerate(self.names))

    def window(self, length: str) -> PhysicalWindow:
        """Return the window with a side such as "5mm" or "20um" in pixels of the first image.

        Raises:
            InvalidArgumentError: the first image has no spacing.
            ImageError: its header cannot be read.
        """
        geometry = self.geometry(0)
        if geometry is None:
            raise InvalidArgumentError(
                f"window {length!r}: the file of y_hat of {self.names[0]!r} states no spacing; give the "
                "window in pixels"
            )
        return geometry.window(length)

    @property
    def dimensions(self) -> int:
        """Number of spatial axes, 2 for planes or 3 for volumes, by the first image's header."""
        return len(self.header(0).space)

    def header(self, index: int, role: Role = "y_hat") -> Header:
        """Return the header of an image, which is not decoded."""
        return self._rows[index].header(role, self.reading)

    def range_of(self, role: Role) -> DataRange | None:
        """Return the least and the largest value of the first image: as stated, or from its header.

        For a file with inverted values, they are the range of the values stored in the file.
        """
        header, about = self.header(0, role), self.header(0, role).turned_about
        used = self.reading.of(role).ends(header.data_range, header.bits)
        return used if used is None or about is None else (about - used[1], about - used[0])

    @property
    def values(self) -> Values | None:
        """The values of y_hat that become 0 and 1; None where they are not known."""
        used = self.range_of("y_hat")
        is_stated = self.reading.data_range is not None
        return None if used is None else Values(*used, self.reading.units, is_stated)

    def _shape_text(self, role: Role) -> str:
        """Return the size and the channels of the first triplet's image of this role, in words."""
        header = self.header(0, role)
        channels = "channel" if header.channels == 1 else "channels"
        return f"{' x '.join(map(str, header.space))} with {header.channels} {channels}"

    def raster(self, index: int, role: Role) -> Raster:
        """Open an image of a triplet to be read window by window; only its header is read now."""
        return self._rows[index].raster(role, self.reading)

    def cue_raster(self, index: int) -> Raster | None:
        """Open the maps of a triplet, to be read window by window; None where it has none."""
        return self._rows[index].cue_raster(self.reading)

    def region(self, index: int) -> RegionWindow | None:
        """Open the region of a triplet, to be read window by window; None where it has none."""
        return self._rows[index].region_window(self.reading)

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
        return tuple(row.name if row.group is None else row.group for row in self._rows)

    @property
    def group_ids(self) -> tuple[str | None, ...]:
        """The hash of the group of each triplet; None where it has none."""
        return tuple(None if row.group is None else hash_of_group(row.group) for row in self._rows)

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
        return tuple(row.category for row in self._rows)

    @cached_property
    def weights(self) -> tuple[float | None, ...]:
        """The weight of each triplet."""
        return tuple(row.weight for row in self._rows)

    @property
    def has_truth(self) -> bool:
        """True if every triplet has a y."""
        return all(row.y is not None for row in self._rows)

    @property
    def has_regions(self) -> bool:
        """True if every triplet has a region."""
        if self.reading.nan is not None:
            return True
        return bool(self._rows) and all(row.region is not None for row in self._rows)

    @property
    def has_cues(self) -> bool:
        """True if every triplet has maps beside y_hat."""
        return bool(self._rows) and all(row.cues is not None for row in self._rows)

    @property
    def reference(self) -> Reference:
        """What every y is: the truth, or repeats with noise; the truth, too, where there is no y.

        Raises:
            InvalidArgumentError: it is not the same for all of them; names two.
        """
        references = {row.reference(self.reading): row.name for row in self._rows[::-1] if row.y is not None}
        if len(references) > 1:
            (one, first), (other, second), *_ = references.items()
            raise InvalidArgumentError(
                f"y of {second!r} is {other.text}, but that of {first!r} is {one.text}: use images with y of "
                "one kind"
            )
        return next(iter(references), CLEAN)

    @property
    def has_objects(self) -> bool:
        """True if the objects of every y_hat and y are known."""
        if self.reading.components_above is not None:
            return self.has_truth
        return bool(self._rows) and all(
            row.labels is not None and row.y_labels is not None for row in self._rows
        )

    def cues(self, index: int) -> Image:
        """Read the maps of a triplet, (K, *space) of any range.

        Raises:
            ImageError: they cannot be read, or hold NaN or infinite values.
        """
        return self._rows[index].read_cues(self.reading)

    @property
    def has_split(self) -> bool:
        """True if a manifest says which part each triplet belongs to."""
        return any(row.part is not None for row in self._rows)

    @property
    def network(self) -> Network | None:
        """The network that made y_hat; None if not recorded."""
        return self.provenance.network
