"""What leaves say beside masks: of a run folder, and of each image that is shown, such as a number of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from conformask import extensions

if TYPE_CHECKING:
    from conformask.images.triplets import Triplets

Remark = tuple[str, str]
"""What a line is about, such as a number, and what it says."""
SaysOfImages = Callable[["Triplets"], Mapping[str, Sequence[Remark]]]
"""A function that returns the remarks on images, by their names; those without any may be left out."""


@dataclass(frozen=True)
class Remarks:
    """What a leaf says beside masks: an entry point of the group `conformask.remarks`."""

    of_run: Callable[[Path], Sequence[str]]
    """A function that returns sentences about a run folder, quickly; none where it holds nothing."""
    of_images: Callable[[Path, Path], SaysOfImages]
    """A function of a run folder and a folder of triplets that returns what says something of its images."""


REMARKS = extensions.Extensions(extensions.REMARKS, Remarks, {})
"""Whoever has something to say, by name."""


def remarks_on_run(run: Path) -> list[str]:
    """Return what is said of a run folder beside its masks."""
    return [text for each in REMARKS.usable().values() for text in each.of_run(run)]


def remarks_on_images(run: Path, data: Path) -> SaysOfImages:
    """Return the function that says something of images of a folder, by all that a run folder holds."""
    sayings = [each.of_images(run, data) for each in REMARKS.usable().values()]

    def of_all(images: "Triplets") -> dict[str, list[Remark]]:
        found: dict[str, list[Remark]] = {}
        for says in sayings:
            for name, remarks in says(images).items():
                found.setdefault(name, []).extend(remarks)
        return found

    return of_all


def no_remarks(images: "Triplets") -> Mapping[str, Sequence[Remark]]:
    """Say nothing of images."""
    return {}
