"""conformask look: from three folders to a tested promise, and to the viewer."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from conformask.cli.loss_options import SAME_LOSS, AboutLoss
from conformask.cli.options import (
    AS_FILES_SAY,
    AsJson,
    HigherMeans,
    ObjectsFrom,
    Read,
    ScoreFrom,
    Threshold,
)
from conformask.cli.output import bad_usage, show
from conformask.cli.view import Port, open_viewer
from conformask.errors import MissingFileError

if TYPE_CHECKING:
    from conformask.look import Look
    from conformask.records.evaluation import Evaluation

MOST_DOTS = 40
"""Largest number of test images of which each is drawn as a dot."""
NoView = Annotated[bool, Parameter(show_default=False, help="Do not open the viewer.")]


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
    score_from: ScoreFrom = None,
    higher: HigherMeans = "distrusted",
    objects: ObjectsFrom = None,
    about: AboutLoss = SAME_LOSS,
    no_view: NoView = False,
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
    from conformask.look import HALF, PACKAGED
    from conformask.look import look as look_at
    from conformask.records.reading import COMPONENTS
    from conformask.scorers.given import Given

    if higher != "distrusted" and score_from is None:
        bad_usage("--higher goes with --score-from, which names the maps")
    found = look_at(
        {"x": x, "y_hat": y_hat, "y": y},
        out,
        are_groups=_are_groups,
        reading=replace(read.reading(), cues=score_from, objects=objects),
        scorer=PACKAGED if score_from is None else Given(higher),
        loss_of=lambda triplets: (
            about.loss(PACKAGED.loss.terms, triplets.values) if objects is None else about.of_objects
        ),
        group_from=read.group_from,
        threshold=HALF if threshold is None else threshold,
        confidence=confidence,
    )
    has_labels = objects is not None and not objects.startswith(COMPONENTS)
    more = [f", {each}/" for each in (score_from, has_labels and objects) if each]
    of_new = f"Next, for new images in x/{''.join(more)} and y_hat/ of a folder NEW:"
    tell(found, out, of_new, f"conformask mask {out / 'run'} NEW masks", as_json=json)
    if not (no_view or json):
        view(found, out, port)


def tell(found: "Look", out: Path, *next_step: str, as_json: bool) -> None:
    """Print how many test images kept the promise, the promise, what is hidden, and the next command."""
    from conformask.report.words import caveats

    evaluation = found.evaluation
    show(
        {"out": str(out), "parts": found.parts, **evaluation.summary()},
        *(f"warning: {warning}" for warning in (*found.findings.warnings, *caveats(evaluation))),
        f"{_dots(evaluation)}{evaluation.kept_text}",
        evaluation.card.sentence,
        evaluation.hidden_text,
        *next_step,
        f"Report: {out / 'report.html'}",
        as_json=as_json,
    )


def _dots(evaluation: "Evaluation") -> str:
    """Return a dot for each test image, those that kept the promise first; empty if a line has no room."""
    is_utf_8 = "utf" in (sys.stdout.encoding or "").lower()
    if evaluation.n_test > MOST_DOTS or not is_utf_8 or evaluation.images.passed is None:
        return ""
    kept = int(evaluation.images.passed.sum())
    return f"{'●' * kept}{'○' * (evaluation.n_test - kept)}  "


def view(found: "Look", out: Path, port: int) -> None:
    """Open the viewer on the most hidden test image; without a terminal or its extra, say how to."""
    command = f"conformask view {out / 'run'} {out / 'data'}"
    if not is_attended():
        show({}, "No terminal, so the viewer is not opened. To open it:", command, as_json=False)
        return
    images = found.evaluation.images
    try:
        image = images.name[images.size.argmax()]
        open_viewer(found.masker, found.test, port=port, image=image, with_promise=False)
    except MissingFileError as error:  # all but the viewer is done
        show({}, f"{error}; then:", command, as_json=False)


def is_attended() -> bool:
    """Return whether somebody sees what is printed and can press Ctrl-C."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _are_groups(count: int, example: str) -> bool:
    """Ask whether images are of groups; without a terminal they are, which is the cautious answer."""
    suggested = f"Names suggest {count} slides, stacks or patients, such as {example}"
    if not sys.stdin.isatty():
        print(
            f"{suggested}: the images of each stay together (--group-from decides otherwise)", file=sys.stderr
        )
        return True
    print(f"{suggested}. Keep the images of each together? [Y/n] ", end="", file=sys.stderr, flush=True)
    return not sys.stdin.readline().strip().lower().startswith("n")
