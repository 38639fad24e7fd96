"""The verb split: parts to train, choose, calibrate and test, of images that lie in folders."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from conformask.cli.options import AS_FILES_SAY, AsJson, Read, opened
from conformask.cli.output import show
from conformask.cli.verb import Verb
from conformask.records.names import PARTS, Guarantee

if TYPE_CHECKING:
    from conformask.images.triplets import Triplets

LARGEST = 0.99
"""Largest share of the images of a split that calibration takes: one group at least is left to train on."""
SHARES = Group("Shares, which add up to 1", sort_key=1)


def split(
    data: Path,
    /,
    *,
    out: Annotated[
        Path | None,
        Parameter(
            help="The folder for manifest.csv, which lists the files where they are; if not given, DATA."
        ),
    ] = None,
    train: Annotated[float, Parameter(group=SHARES, help="Images to train a score on.")] = PARTS["train"],
    selection: Annotated[
        float, Parameter(group=SHARES, help="Images for every choice, such as of a threshold.")
    ] = PARTS["selection"],
    calibration: Annotated[float, Parameter(group=SHARES, help="Images that the promise rests on.")] = PARTS[
        "calibration"
    ],
    test: Annotated[float, Parameter(group=SHARES, help="Images to test the promise on.")] = PARTS["test"],
    seed: Annotated[int, Parameter(help="Another seed draws other parts.")] = 0,
    read: Read = AS_FILES_SAY,
    json: AsJson = False,
) -> None:
    """Divide images into parts: to train on, for choices, for calibration, for a test.

    Writes manifest.csv, which lists the files where they are and the part of each. Groups stay whole.

    Parameters
    ----------
    data
        A folder with x/, y_hat/ and y/, or with a manifest.csv.
    """
    from conformask.images.manifest import write_manifest

    folder, triplets = out or data, opened(data, read)
    parts = divided(triplets, (train, selection, calibration, test), seed)
    write_manifest(folder, parts, triplets.provenance)
    counts = {part: len(images) for part, images in parts.items()}
    shown = ", ".join(f"{count} {part}" for part, count in counts.items())
    show(
        {"data": str(folder), "parts": counts},
        f"{folder / 'manifest.csv'} lists {len(triplets)} images: {shown}",
        f"Next: conformask train {folder} RUN",
        as_json=json,
    )


SPLIT = Verb(split, group="Prepare", order=5, example="split images")


def divided(triplets: "Triplets", fractions: Sequence[float], seed: int) -> "dict[str, Triplets]":
    """Return the images of each part, by its name.

    Of images that are split already, those for training and calibration are divided in the proportion of
    their fractions, and the others keep their part. Calibration has as many as the usual promise needs.
    """
    from conformask.promises.promise import Promise

    n_groups = len(set(triplets.groups))
    guarantee: Guarantee = "groups" if n_groups < len(triplets) else "marginal"
    if not triplets.has_split:
        splits = triplets.split(seed, fractions=fractions, guarantee=guarantee)
        return {part: splits.part(part) for part in PARTS}
    kept = {part: triplets.part(part) for part in ("selection", "test")}
    others = triplets.select(index for index, part in enumerate(triplets.parts) if part not in kept)
    train, _, calibration, _ = fractions
    fewest = Promise(guarantee).smallest_calibration_set(None, None) / len(set(others.groups))
    share = max(calibration / (train + calibration), min(fewest, LARGEST))
    learnt, calibrated = others.holdout(share, seed)
    return {"train": learnt, "selection": kept["selection"], "calibration": calibrated, "test": kept["test"]}
