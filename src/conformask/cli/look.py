"""conformask look: from three folders to a tested promise, and to the viewer."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from conformask.cli.options import AS_FILES_SAY, AsJson, Read, Threshold
from conformask.cli.output import show
from conformask.cli.view import Port, open_viewer
from conformask.errors import MissingFileError


def look(
    x: Path,
    y_hat: Path,
    y: Path,
    /,
    *,
    out: Annotated[Path, Parameter(help="The folder for the run, the list of files and report.html.")] = Path(
        "look"
    ),
    threshold: Threshold = None,
    confidence: Annotated[float, Parameter(help="The promised share of new images.")] = 0.9,
    no_view: Annotated[bool, Parameter(show_default=False, help="Do not open the viewer.")] = False,
    port: Port = 8000,
    read: Read = AS_FILES_SAY,
    json: AsJson = False,
) -> None:
    """Find out in a minute what masks of your network's outputs would hide, and whether they keep a promise.

    Checks the images, sets a third aside, calibrates the score that comes with conformask on the others,
    tests the promise on those set aside, and shows them with their masks.

    Parameters
    ----------
    x
        The folder of what your network was given.
    y_hat
        The folder of what it made of that, in files of the same names.
    y
        The folder of what would have been right, in files of the same names.
    """
    from conformask.cli.evaluate import judgement
    from conformask.look import HALF
    from conformask.look import look as look_at
    from conformask.wording.scores import comparison_text

    found = look_at(
        {"x": x, "y_hat": y_hat, "y": y},
        out,
        are_groups=_are_groups,
        reading=read.reading(),
        group_from=read.group_from,
        threshold=HALF if threshold is None else threshold,
        confidence=confidence,
    )
    masker, counts, comparison = found.masker, found.parts, found.evaluation.comparison
    run, data = out / "run", out / "data"
    show(
        {"out": str(out), "sentence": masker.sentence, "parts": counts, **found.evaluation.summary()},
        *(f"warning: {warning}" for warning in found.findings.warnings),
        f"{found.findings.n} images: {counts['calibration']} make the promise, {counts['selection']} chose "
        f"the threshold, {counts['test']} test it.",
        "",
        masker.sentence,
        *judgement(found.evaluation),
        *([] if comparison is None else ["", comparison_text(comparison)]),
        "",
        f"Each image and its mask: {out / 'report.html'}, or conformask view {run} {data}",
        f"For people without conformask: conformask share {run} {data} --out {out / 'look.html'}",
        f"Masks of new images, x/ and y_hat/ of a folder NEW: conformask mask {run} NEW masks",
        *([] if threshold is not None else [_another_threshold(run)]),
        as_json=json,
    )
    if no_view or json:
        return
    try:
        open_viewer(masker, found.test, port=port)
    except MissingFileError as error:  # the extra is not installed: all but the viewer is done
        show({}, f"{error}; conformask view {run} {data}", as_json=False)


def _another_threshold(run: Path) -> str:
    return (
        "The threshold is what half of the images that chose it keep without a mask. Yours may be another: "
        f"conformask recalibrate {run} --threshold T"
    )


def _are_groups(count: int, example: str) -> bool:
    """Ask whether images are of groups; without a terminal they are, which is the cautious answer."""
    suggested = f"Names suggest images of {count} slides, stacks or patients, such as {example}"
    if not sys.stdin.isatty():
        print(f"{suggested}: images of one stay together (--group-from decides otherwise)", file=sys.stderr)
        return True
    print(f"{suggested}. Are images of one alike? [Y/n] ", end="", file=sys.stderr, flush=True)
    return not sys.stdin.readline().strip().lower().startswith("n")
