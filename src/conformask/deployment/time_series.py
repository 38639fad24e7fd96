"""Masks of all time points of a file, joined into one mask of its type."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from conformask.data.decoding import name_and_suffix, times_of
from conformask.data.formats import format_of
from conformask.data.formats.format import Blocks, SourceImage, at_time
from conformask.data.mask_files import grid, mask_suffix, write_blocks
from conformask.data.rasters import open_raster
from conformask.data.rows import Role
from conformask.data.triplets import Triplets
from conformask.records.reading import Reading
from conformask.storage.atomic import remove


@dataclass(frozen=True)
class TimeSeries:
    """A file whose time points are all masked, its joined mask and the masks of its time points."""

    file: Path
    """File of the image."""
    path: Path
    """Path of the joined mask, which appears only after all of `parts`; these are then removed."""
    names: tuple[str, ...]
    """Names of the time points, in their order."""
    parts: tuple[Path, ...]
    """Paths of the masks of the time points."""

    def join(self, reading: Reading) -> None:
        """Write the joined mask from its parts, wholly or not at all, unless it exists; remove the parts.

        Raises:
            ImageError: a part cannot be read.
            OutputError: the mask cannot be written.
        """
        if not self.path.exists():
            header = open_raster(self.parts[0]).header
            under = SourceImage(self.file, header.geometry, reading, is_film=True)
            shape = (header.channels, len(self.parts), *header.space)
            write_blocks(self.path, shape, self._blocks(), under)
        for part in self.parts:
            remove(part)

    def remove(self) -> None:
        """Remove the joined mask, if it exists."""
        remove(self.path)

    def _blocks(self) -> Blocks:
        for time, part in enumerate(self.parts):
            raster = open_raster(part)
            for places in grid(raster.size):
                yield (slice(time, time + 1), *places), raster.read(places)[:, None]


def time_series_of(triplets: Triplets, places: Mapping[str, Path], mask_geometry: Role) -> list[TimeSeries]:
    """Return the files whose time points are all among the images, with the names that the file gives them.

    Time points of other files, and of types whose masks have no axis of time, keep their own masks.

    Args:
        triplets: the images.
        places: the path of the mask of each image, by name.
        mask_geometry: the role whose file type and place the masks have.
    """
    files: dict[Path, dict[int, str]] = defaultdict(dict)
    for index, name in enumerate(triplets.names):
        path = triplets.file(index, mask_geometry)
        if path is not None and name == name_and_suffix(path)[0]:
            file, time = at_time(path)
            if time is not None:
                files[file][time] = name
    return [
        _film(file, [names[time] for time in sorted(names)], places)
        for file, names in files.items()
        if _is_film(file, len(names), triplets)
    ]


def _is_film(file: Path, count: int, triplets: Triplets) -> bool:
    name, suffix = name_and_suffix(file)
    kind = format_of(Path(f"mask{mask_suffix(suffix, volume=True)}"))
    joinable = kind is not None and kind.films and name not in triplets.names
    return joinable and times_of(file, triplets.reading) == count


def _film(file: Path, names: list[str], places: Mapping[str, Path]) -> TimeSeries:
    name, suffix = name_and_suffix(file)
    parts = tuple(places[name] for name in names)
    path = parts[0].with_name(f"{name}{mask_suffix(suffix, volume=True)}")
    return TimeSeries(file, path, tuple(names), parts)
