"""An image that the viewer shows, of the collection or uploaded."""

from dataclasses import dataclass
from functools import cached_property

from conformask.data.formats.header import DataRange, Header
from conformask.data.triplets import Triplets
from conformask.pictures.views import View, views_of
from conformask.records.geometry import Geometry
from conformask.viewer.contrast import UNIT


@dataclass(frozen=True)
class CollectionImage:
    """An image of a collection, with its views and ranges."""

    triplets: Triplets
    index: int
    upload_header: Header | None = None
    """Header of the file of an upload's y_hat, whose pixels are in memory now; else None."""

    @cached_property
    def header(self) -> Header:
        """Header of y_hat."""
        return self.upload_header or self.triplets.header(self.index)

    @property
    def geometry(self) -> Geometry | None:
        """Geometry of y_hat; None where it is unknown."""
        return self.header.geometry

    @cached_property
    def views(self) -> tuple[View, ...]:
        """Planes in which the image is shown."""
        return views_of(self.header.space, self.geometry)

    @property
    def steps(self) -> tuple[float, ...]:
        """Spacing along z, y and x, all 1 where it is unknown."""
        return (1.0, 1.0, 1.0) if self.geometry is None else (1.0, *self.geometry.spacing)[-3:]

    @cached_property
    def data_range(self) -> DataRange:
        """Values of y_hat that became 0 and 1."""
        return self.triplets.data_range or self.header.data_range or UNIT

    @property
    def x_range(self) -> DataRange:
        """Values of x that became 0 and 1."""
        header = self.triplets.header(self.index, "x")
        return self.triplets.reading.of("x").ends(header.data_range, header.bits) or UNIT
