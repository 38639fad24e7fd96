"""Units that a promise counts: images, groups of them, or images of new groups; statistics of groups."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from conformask.conformal.calibration_data import CalibrationData
from conformask.conformal.curves import Curves
from conformask.conformal.intervals import clopper_pearson, grouped_proportion
from conformask.storage.as_arrays import Array

Labels = Shaped[np.ndarray, "n"]
Places = Int[np.ndarray, "_"]
Columns = Mapping[str, Array | None]
"""The columns group, category and weight of the images, where present."""
Losses = Float[np.ndarray, "_ ..."]
Proportion = tuple[float, tuple[float, float]]


def members(groups: Labels) -> list[Places]:
    """Return the places of the images of each group, groups in the order of their labels."""
    order = np.argsort(groups, kind="stable")
    _, starts = np.unique(groups[order], return_index=True)
    return np.split(order, starts[1:])


def first_of_each(groups: Labels) -> Places:
    """Return the place of the first image of each group, ascending."""
    return np.sort(np.unique(groups, return_index=True)[1])


def group_means(values: Float[np.ndarray, "n *g"], groups: Labels) -> Float[np.ndarray, "k *g"]:
    """Return the mean of each group."""
    return np.stack([values[places].mean(axis=0) for places in members(groups)])


def kth_smallest(
    values: Float[np.ndarray, "n *g"], groups: Labels, share: float
) -> Float[np.ndarray, "k *g"]:
    """Return the k-th smallest value of each group, which at least this share of its values do not exceed."""
    ranks = [(places, _rank(share, len(places)) - 1) for places in members(groups)]
    return np.stack([np.partition(values[places], rank, axis=0)[rank] for places, rank in ranks])


def kth_largest(values: Float[np.ndarray, "n"], groups: Labels, share: float) -> Float[np.ndarray, "k"]:
    """Return the k-th largest value of each group, which at least this share of its values reach."""
    return -kth_smallest(-values, groups, share)


def _rank(share: float, n: int) -> int:
    """Return ceil(share * n), at least 1, tolerant of rounding."""
    return max(1, int(np.ceil(share * n - 1e-9)))


@dataclass(frozen=True)
class Image:
    """A new image, if no two calibration images are dependent."""

    says: ClassVar[str] = "of new images"
    reads: ClassVar[frozenset[str]] = frozenset()
    given: ClassVar[str] = ""
    singular: ClassVar[str] = "image"
    is_group: ClassVar[bool] = False
    """True if a whole group is judged as one."""
    plural: ClassVar[str] = "images"
    drawn: ClassVar[str] = "calibration images and a new image from the same source"
    new: ClassVar[str] = "the new image"
    share_of: ClassVar[str] = "at least {c} of new images"
    mean: ClassVar[str] = "loss of new images"
    event: ClassVar[str] = "in at least {share} {whom}{origin}"
    """The beginning of a sentence about a share of units; `whom` are the new images, of this origin."""
    average: ClassVar[str] = "on average over {whom}"
    """The beginning of a sentence about a mean."""
    judged: ClassVar[str] = ""
    """How a unit is judged, after its verdict."""
    each: ClassVar[tuple[str, ...]] = ("for each image", "for each kind of image")
    """Cases in which nothing is promised."""

    def count(self, n: int, columns: Columns) -> int:
        """Return the number of units in n images."""
        return n

    def statistic_of(self, loss: str) -> str:
        """Return the loss of a unit as it is written in a formula."""
        return loss

    def losses(self, losses: Losses, groups: Labels) -> Losses:
        """Return the loss of one image of each group: images that count must be independent."""
        return np.asarray(losses[first_of_each(groups)])

    def coverage(self, met: Bool[np.ndarray, "n"], groups: Labels) -> Proportion:
        """Return the share of units that meet the threshold, and its 95 % interval."""
        return grouped_proportion(met, groups)


class _GroupUnit:
    """Common part of the units that count groups."""

    reads: ClassVar[frozenset[str]] = frozenset({"group"})
    plural: ClassVar[str] = "groups"
    drawn: ClassVar[str] = "calibration groups and a new group from the same source"

    def count(self, n: int, columns: Columns) -> int:
        """Return the number of groups in n images."""
        group = columns.get("group")
        return n if group is None else len(np.unique(group))


@dataclass(frozen=True)
class ImageOfNewGroup(_GroupUnit):
    """A random image of a new group; images of a group are dependent, groups are exchangeable."""

    says: ClassVar[str] = "of a random image of a new group"
    given: ClassVar[str] = " in a new group"
    singular: ClassVar[str] = "image"
    is_group: ClassVar[bool] = False
    new: ClassVar[str] = "a random image of the new group"
    share_of: ClassVar[str] = "on average over new groups, at least {c} of the images of a group"
    mean: ClassVar[str] = "loss of a random image of a new group"
    event: ClassVar[str] = "in at least {share} {whom}, each drawn from a new group"
    average: ClassVar[str] = "on average over new groups, and over the images of each"
    judged: ClassVar[str] = ", each group counting alike"
    each: ClassVar[tuple[str, ...]] = ("for each group", "of the images of all groups taken together")

    def statistic_of(self, loss: str) -> str:
        """Return the loss of an image as it is written in a formula."""
        return loss + self.given

    def losses(self, losses: Losses, groups: Labels) -> Losses:
        """Return the mean of each group."""
        return group_means(losses, groups)

    def coverage(self, met: Bool[np.ndarray, "n"], groups: Labels) -> Proportion:
        """Return the mean over groups of their share of images that pass, and its 95 % interval."""
        return grouped_proportion(met, groups, each_group_alike=True)

    def reduce(self, evidence: CalibrationData) -> CalibrationData:
        """Reduce each group to one unit, with the mean of its losses."""
        groups = evidence.column("group")
        return _reduce_to_first(evidence, groups, group_means(evidence.curves.loss, groups))


@dataclass(frozen=True)
class Group(_GroupUnit):
    """A new group, such as a patient, with at least a share of its images within the threshold."""

    share: float = 1.0
    """The share of images that must meet the threshold; 1 is every image."""
    says: ClassVar[str] = "of new groups"
    singular: ClassVar[str] = "group"
    is_group: ClassVar[bool] = True
    each: ClassVar[tuple[str, ...]] = ("for each group", "for each kind of group")

    @property
    def mean(self) -> str:
        """The quantity that a mean is taken of, in words."""
        if self.share >= 1:
            return "over new groups of the largest loss of their images"
        return f"over new groups of the loss that {100 * self.share:.4g} % of their images keep"

    @property
    def event(self) -> str:
        """The beginning of a sentence about a share of new groups."""
        return f"for at least {{share}} new groups{{origin}}, in {self.images}"

    @property
    def average(self) -> str:
        """The beginning of a sentence about a mean over new groups."""
        rest = "" if self.share >= 1 else f", leaving out up to {100 - 100 * self.share:.4g} % of its images"
        return f"on average over new groups, in the worst image of each{rest}"

    @property
    def judged(self) -> str:
        """How a group is judged, after its verdict."""
        return f" in {self.images}"

    @property
    def images(self) -> str:
        """The images of a group that must meet the threshold, in words."""
        return "every image" if self.share >= 1 else f"at least {100 * self.share:.4g} % of the images"

    @property
    def new(self) -> str:
        """The images of one new group, in words."""
        return f"{self.images} of the new group"

    @property
    def share_of(self) -> str:
        """The share of new groups and their images, in words."""
        return f"in at least {{c}} of new groups, {'all images' if self.share >= 1 else self.images}"

    @property
    def given(self) -> str:
        """The images of a group, as a part of a formula."""
        images = "every image" if self.share >= 1 else f"at least {self.share:.4g} of the images"
        return f" on {images} of a new group"

    def statistic_of(self, loss: str) -> str:
        """Return the statistic of a group's losses as it is written in a formula."""
        statistic = "largest" if self.share >= 1 else f"{self.share:.4g}-quantile of"
        return f"{statistic} {loss} of a new group"

    def losses(self, losses: Losses, groups: Labels) -> Losses:
        """Return the loss of each group that the required share of its images do not exceed."""
        return kth_smallest(losses, groups, self.share)

    def coverage(self, met: Bool[np.ndarray, "n"], groups: Labels) -> Proportion:
        """Return the share of groups that meet the threshold, and its exact 95 % interval."""
        passing = self.losses((~met).astype(np.float64), groups) == 0
        return float(passing.mean()), clopper_pearson(int(passing.sum()), len(passing))

    def reduce(self, evidence: CalibrationData) -> CalibrationData:
        """Reduce each group to one unit; its critical lambda is the largest at which enough images pass."""
        groups = evidence.column("group")
        reduced = _reduce_to_first(evidence, groups, self.losses(evidence.curves.loss, groups))
        return replace(reduced, critical_lambdas=kth_largest(evidence.critical_lambdas, groups, self.share))


def _reduce_to_first(
    evidence: CalibrationData, groups: Labels, losses: Float[np.ndarray, "k g"]
) -> CalibrationData:
    """Reduce groups to one image each, with the facts of its first image and without its own bound."""
    first_places = np.unique(groups, return_index=True)[1]
    curves = evidence.curves
    columns = {name: getattr(curves, name) for name in ("category", "weight")}
    reduced_curves = Curves(
        names=groups[first_places].astype(str),
        grid=curves.grid,
        loss=losses,
        size=group_means(curves.size, groups),
        **{name: None if column is None else column[first_places] for name, column in columns.items()},
    )
    critical = evidence.critical_lambdas[first_places]
    return replace(evidence, curves=reduced_curves, critical_lambdas=critical, own_bound=False)


Unit = Image | ImageOfNewGroup | Group
