"""conformask release: which new images to use under their masks, and why the others are held back."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from conformask.cli.options import AS_FILES_SAY, AsJson, NetworkName, OtherNetwork, Read, WeightsPath, loss_of
from conformask.cli.output import show, table

if TYPE_CHECKING:
    from conformask.records.release import Release

MOST = 20
"""Number of images held back that are listed."""


def release(
    run: Path,
    data: Path,
    /,
    *,
    share: Annotated[
        float,
        Parameter(
            help="The largest share of the released images that may miss the threshold, in expectation."
        ),
    ] = 0.02,
    each: Annotated[
        bool,
        Parameter(
            show_default=False,
            help="Judge each image by itself, as in a stream, not the batch: at most this share of all new "
            "images is released and misses the threshold.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        Parameter(help="Write a new CSV file of all images, the riskiest first."),
    ] = None,
    read: Read = AS_FILES_SAY,
    network: NetworkName = None,
    allow_network_mismatch: OtherNetwork = False,
    weights_path: WeightsPath = None,
    json: AsJson = False,
) -> None:
    """Release new images such that at most a share of them misses the threshold; hold back the others.

    Parameters
    ----------
    run
        A calibrated run folder. It remembers what was judged, in released.json, since nothing is promised
        where the share or the batch is chosen after looking.
    data
        A folder of new images, with x/ and y_hat/; if it is split, its test part is used. With y/, it is
        measured how many good ones are released.
    """
    from dataclasses import asdict

    from conformask.masker.load import load
    from conformask.masker.release import release_once
    from conformask.storage.as_csv import write_csv
    from conformask.storage.claims import refuse_unclaimed

    refuse_unclaimed([] if out is None else [out])
    masker = load(run, loss=loss_of(run, weights_path))
    new = read.triplets(data, network, masker.card).part("test")
    found = release_once(run, masker, new, share, each=each, allow_network_mismatch=allow_network_mismatch)
    if out is not None:
        rows = [vars(image) | {"reasons": "; ".join(image.reasons)} for image in found.images]
        write_csv(out, rows, list(rows[0]))
    record = {name: value for name, value in asdict(found).items() if name != "pixels"}
    text = [found.sentence, "", *_summary(found), *_tables(found)]
    written = [] if out is None else ["", f"Written: {out}"]
    formula = ["", found.formula] if found.formula else []
    show({"run": str(run), **record}, *text, *written, *formula, as_json=json)


def _summary(found: "Release") -> Iterator[str]:
    n = len(found.images)
    yield f"Released: {found.n_released} of {n} images. Held back: {n - found.n_released}."
    if not found.n_released and not found.each:
        least = math.ceil(found.n_units / (found.share * (found.n_calibration + 1)) - 1e-9)
        yield (
            f"With {found.n_calibration} calibration units, at least {least} of {found.n_units} have to be "
            "released together: allow a larger share, or calibrate with more."
        )


def _tables(found: "Release") -> Iterator[str | Table]:
    from conformask.wording.measurements import release_table

    held_back = [image for image in found.images if not image.released]
    if held_back:
        rows = [(image.name, f"{image.p_value:.3f}", "; ".join(image.reasons)) for image in held_back[:MOST]]
        yield ""
        yield table(("held back", "p", "why"), rows)
    if len(held_back) > MOST:
        yield f"and {len(held_back) - MOST} more, of less risk"
    if found.power:
        yield ""
        headings, *measured = release_table(found.power, str(found.n_units), "{:g}".format)
        yield table(headings, measured)
