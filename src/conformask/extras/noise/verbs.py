"""conformask split-counts: make x and repeats from images of counts."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from conformask.cli.options import IMAGES, AsJson
from conformask.cli.output import bad_usage, show
from conformask.cli.verb import Verb


def split_counts(
    images: Path,
    out: Path,
    /,
    *,
    gain: Annotated[
        float,
        Parameter(help="Value of one count: the variance of repeats divided by their mean above --offset."),
    ] = 1.0,
    offset: Annotated[float, Parameter(help="Value of pixels without light.")] = 0.0,
    parts: Annotated[
        Literal[2, 3], Parameter(help="2 for x and one repeat, 3 for x and two repeats of equal shares.")
    ] = 2,
    share: Annotated[
        float,
        Parameter(
            help="Share of the counts that goes to x. More of it makes x better and the repeats noisier; new "
            "images must be split with the same share."
        ),
    ] = 0.5,
    rounded: Annotated[
        bool,
        Parameter(
            name="--round",
            help="Round values between whole counts, and set negative ones to 0, as of a camera with read "
            "noise. The parts are then only nearly independent, least so in the dark.",
        ),
    ] = False,
    axes: Annotated[
        str | None,
        Parameter(group=IMAGES, help="Axes of npy files, and of files that do not name them, such as ZYX."),
    ] = None,
    seed: int = 0,
    json: AsJson = False,
) -> None:
    """Split images of counts into x and repeats of it, where there is no clean truth.

    Each photon or event goes to one of the parts at random (binomial thinning). If the counts are Poisson,
    the parts are independent: as if the exposure had been divided. A promise is then about outputs of x, so
    split new images in the same way.

    Parameters
    ----------
    images
        A folder of images of photons or events, as the detector wrote them.
    out
        A new folder for the parts.
    seed
        Seed of the parts, with the name and the content of each image.
    """
    from conformask.extras.noise.repeats import REPEATS, Thinning, split_folder
    from conformask.records.numbers import figure, plural, share as percentage
    from conformask.records.reading import Reading

    if not 0 < share < 1:
        bad_usage(f"--share is {share:g}; give the share of the counts that goes to x, between 0 and 1")
    shares = (share, *[(1 - share) / (parts - 1)] * (parts - 1))
    thinning = Thinning(gain, offset, shares, seed, rounded)
    split = split_folder(images, out, thinning, Reading(axes=axes))
    low, high = split.data_range
    changed = f"At most {percentage(split.odd)} of the values of an image were rounded, and "
    changed += f"{percentage(split.negative)} were negative and set to 0"
    show(
        {"out": str(out), **vars(thinning), **vars(split)},
        f"{plural(split.n, 'image')} in {out / 'x'}, {plural(parts - 1, 'repeat')} of each in "
        f"{out / REPEATS.plural}",
        f"Noise between neighbouring pixels: {figure(split.noise)} times that of counts",
        *([changed] if split.odd or split.negative else []),
        f"Next: conformask triplets {out} --predictor NETWORK --data-range {low:.9g} {high:.9g}",
        as_json=json,
    )


SPLIT_COUNTS = Verb(
    split_counts,
    group="Prepare",
    order=1,
    example="split-counts photons parts --gain 4 --offset 100",
    resumes="",
)
