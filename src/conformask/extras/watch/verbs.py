"""The verbs monitor and release."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from conformask.background import main_process
from conformask.cli.options import ALIKE, DEFAULT_DEVICES, AsJson, Devices, New
from conformask.cli.output import show, table
from conformask.cli.verb import Verb
from conformask.errors import InvalidArgumentError, OutputError
from conformask.records.record import check_output, exclusive_folder

if TYPE_CHECKING:
    from conformask.records.evaluation import Release

PARTS = "monitoring"
"""Subfolder of the run folder for the finished parts of several processes."""
WRONG = 3
"""Exit status with --strict, if images are shifted or the promise is broken."""


def monitor(
    run: Path,
    data: Path,
    /,
    *,
    level: Annotated[
        float, Parameter(help="False-alarm rate: how often images like the calibration's are called shifted.")
    ] = 0.01,
    strict: Annotated[
        bool, Parameter(help="Exit with status 3 if images are shifted or the promise is broken.")
    ] = False,
    state: Annotated[
        Path | None,
        Parameter(
            help="Follow a stream: a file that remembers earlier batches, so that checking every batch does "
            "not lead to more false alarms."
        ),
    ] = None,
    new: New = ALIKE,
    devices: Devices = DEFAULT_DEVICES,
    json: AsJson = False,
) -> None:
    """Check whether new images still look like the calibration images.

    Compares scores and mask sizes, which needs no truth. With truth, compares coverage too.

    Parameters
    ----------
    run
        A calibrated run folder.
    data
        A folder of new images, with x/ and y_hat/; with y/, the masks are measured too.
    """
    from dataclasses import asdict, replace

    from conformask.extras.watch.monitor import Monitoring, changes_text, monitor as monitor_batch
    from conformask.extras.watch.stream import StreamMonitor, StreamStatus, stream_text
    from conformask.records.numbers import left_out_text
    from conformask.records.words import measurement_text, shift_text

    masker, images = new.opened(run, data)
    found: Monitoring | StreamStatus
    compute = devices if devices == DEFAULT_DEVICES else replace(devices, parts=run / PARTS)
    if state is None:
        found = monitor_batch(masker, images, level=level, compute=compute)
        rows = [
            (each.measure, f"{each.calibration:.4g}", f"{each.new:.4g}", f"{each.p_value:.3g}")
            for each in found.comparisons
        ]
        columns = "", f"median of {found.n_calibration} calibration", f"of {found.n_new} new", "p"
        # measurements with truth first, because scores can look the same while the masks fail
        measured = measurement_text(masker.card, found.measurement, found.caveat)
        text: list[str | Table] = [measured] if measured else []
        text += [left_out_text(found.n_used)] * bool(found.n_used)
        text.append(shift_text(found.p_value, level, shifted=found.shifted))
        text += [] if found.changes is None else [changes_text(found.changes)]
        text += ["", table(columns, rows)]
    else:
        check_output(state)
        with exclusive_folder(state.parent, state.name):
            watch = StreamMonitor.load(masker, state) if state.is_file() else StreamMonitor(masker, level)
            found = watch.add(images, compute=compute)
            if main_process():
                watch.save(state)
        text = [*stream_text(masker.card, found)]
    promise = {"sentence": masker.sentence, "formula": masker.formula}
    record = {"run": str(run), **promise, "shifted": found.shifted, "failing": found.failing, **asdict(found)}
    if found.changes is not None:
        record["changes"] = [{**asdict(change), "text": change.text} for change in found.changes]
    sentence = masker.card.sentence_here(found.caveat)
    formula = masker.card.formula_here(found.caveat)
    show(record, sentence, "", *text, "", *formula, as_json=json)
    if strict and (found.shifted or found.failing):
        sys.exit(WRONG)


MONITOR = Verb(monitor, group="Use", order=2, example="monitor runs/first new-images")


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
            help="Judge each image by itself, as in a stream, not the batch: at most this share of all new "
            "images is released and misses the threshold, in expectation."
        ),
    ] = False,
    out: Annotated[
        Path | None, Parameter(help="Write a new file, NAME.csv, of all images, the riskiest first.")
    ] = None,
    new: New = ALIKE,
    json: AsJson = False,
) -> None:
    """Choose which new images to use under their masks, and which to look at.

    Of the images released, at most a share misses the threshold, in expectation (conformal selection). The
    others are held back, with reasons, the riskiest first. Needs no truth; with truth, it measures how many
    good images are released.

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

    from conformask.masker.release import release_once
    from conformask.records.record import write_csv

    if out is not None:  # no record of a run is ever replaced
        if out.suffix.lower() != ".csv":
            raise InvalidArgumentError(f"--out {out}: give the name of a CSV file, such as released.csv")
        check_output(out)
        if os.path.lexists(out):
            raise OutputError(f"{out} is in the way: choose another name, or remove it first")
    masker, triplets = new.opened(run, data)
    found = release_once(run, masker, triplets.part("test"), share, each=each)
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


RELEASE = Verb(
    release, group="Use", order=1, example="release runs/first new-images --share 0.05 --out released.csv"
)


def _tables(found: "Release") -> Iterator[str | Table]:
    from conformask.records.words import release_table

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
