"""conformask release: which new images to use under their masks, and why the others are held back."""

import os
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
            "images is released and misses the threshold, in expectation.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        Parameter(help="Write a new file, NAME.csv, of all images, the riskiest first."),
    ] = None,
    read: Read = AS_FILES_SAY,
    network: NetworkName = None,
    allow_network_mismatch: OtherNetwork = False,
    weights_path: WeightsPath = None,
    json: AsJson = False,
) -> None:
    """Release new images such that, in expectation, at most a share of them misses the threshold.

    The others are held back.

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

    if out is not None:
        _refuse_other_files(out)
    masker = load(run, loss=loss_of(run, weights_path))
    new = read.triplets(data, network, masker.card).part("test")
    found = release_once(run, masker, new, share, each=each, allow_network_mismatch=allow_network_mismatch)
    images = found.riskiest_first
    if out is not None:
        rows = [vars(image) | {"reasons": "; ".join(image.reasons)} for image in images]
        write_csv(out, rows, list(rows[0]))
    record = asdict(found) | {"images": images}
    batch = record.pop("batch")
    record |= {name: batch[name] for name in ("share", "each", "fingerprint")}
    first = [found.sentence, "", found.counts] if found.n_released else [found.counts, "", found.sentence]
    text = [*first, *_tables(found)]
    written = [] if out is None else ["", f"Written: {out}"]
    formula = ["", found.formula] if found.formula else []
    show({"run": str(run), **record}, *text, *written, *formula, as_json=json)


def _refuse_other_files(out: Path) -> None:
    """Raise unless a path ends in .csv and nothing lies there: no record of a run is ever replaced."""
    from conformask.errors import InvalidArgumentError, OutputError
    from conformask.storage.claims import check_output

    if out.suffix.lower() != ".csv":
        raise InvalidArgumentError(f"--out {out}: give the name of a CSV file, such as released.csv")
    check_output(out)
    if os.path.lexists(out):
        raise OutputError(f"{out} is in the way: choose another name, or remove it first")


def _tables(found: "Release") -> Iterator[str | Table]:
    from conformask.wording.measurements import release_table

    held_back = [image for image in found.riskiest_first if not image.released]
    if held_back:
        rows = [(image.name, f"{image.p_value:.3f}", "; ".join(image.reasons)) for image in held_back[:MOST]]
        yield ""
        yield table(("held back", "p", "why"), rows)
    if len(held_back) > MOST:
        yield f"and {len(held_back) - MOST} more, of less risk"
    if any(each.released for each in found.power):
        yield ""
        headings, *measured = release_table(found.power, str(found.n_units), "{:g}".format)
        yield table(headings, measured)
