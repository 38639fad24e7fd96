"""Images that a promise must not be calibrated or tested on, since something has learnt from them."""

import warnings

from conformask.data.lookalikes import copies
from conformask.data.survey import Survey
from conformask.errors import CalibrationError
from conformask.types import Array


def refuse_duplicates(seen: Survey, groups: tuple[str, ...]) -> None:
    """Refuse calibration images of one truth in two groups, which are not two draws.

    Raises:
        CalibrationError: there are such; names two.
    """
    first: dict[str | None, int] = {None: 0}
    for index, pixels in enumerate(seen.pixels):
        twin = first.setdefault(pixels, index)
        if pixels is not None and groups[twin] != groups[index]:
            raise CalibrationError(
                f"calibration images {seen.names[twin]!r} and {seen.names[index]!r} have the same truth: "
                "keep one of them, or put them into one group"
            )


def warn_of_copies(seen: Survey, looks: Array | None, kind: str, reason: str) -> None:
    """Warn of images that look like copies of those with these looks."""
    pairs = [] if looks is None else copies(seen.looks, looks)
    names = list(dict.fromkeys(seen.names[index] for index, _ in pairs))
    if names:
        warnings.warn(
            f"{len(names)} of {len(seen.names)} {kind} images, such as {names[0]!r}, look like copies of "
            f"images that {reason}, saved again, turned, scaled or cropped a little. If they are, leave them "
            "out: errors on them are too small",
            stacklevel=4,
        )
