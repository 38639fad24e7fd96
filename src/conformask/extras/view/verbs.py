"""The verbs view, share and evaluate."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from conformask.background import main_process
from conformask.cli.options import ALIKE, DEFAULT_DEVICES, PROTECTION, AsJson, Devices, New, NewImages
from conformask.cli.output import bad_usage, show, table
from conformask.cli.verb import Verb
from conformask.extras.view.serving import RENAMED, Port, open_viewer

if TYPE_CHECKING:
    from conformask.records.evaluation import Evaluation


def evaluate(
    run: Path,
    data: Path,
    /,
    *,
    report: Annotated[Path | None, Parameter(help="Write a report to this HTML file.")] = None,
    new: New = ALIKE,
    devices: Devices = DEFAULT_DEVICES,
    json: AsJson = False,
) -> None:
    """Measure coverage and mask sizes on test images.

    No earlier step may have used these images. Writes evaluation.json into RUN.

    Parameters
    ----------
    run
        A calibrated run folder.
    data
        A folder of triplets; its test part is used, or all of it if it is not split.
    """
    from conformask.extras.view.page import write_report
    from conformask.masker.evaluate import evaluate as evaluate_masker
    from conformask.masker.remarks import remarks_on_images
    from conformask.records.evaluation import FILE
    from conformask.records.record import check_output, refuse_unclaimed

    if report is not None and report.suffix.lower() not in (".html", ".htm"):
        bad_usage(
            f"--report {report}: the report's name must end with .html, such as {report / 'report.html'}"
        )
    refuse_unclaimed([run / FILE])
    if report is not None:
        check_output(report)
    masker, triplets = new.opened(run, data)
    test = triplets.part("test")
    evaluation = evaluate_masker(masker, test, out=run, compute=devices)
    written = f"{run / 'evaluation.json'}"
    if report is not None and main_process():
        names = {example.image for example in evaluation.examples}
        shown = test.select(place for place, name in enumerate(test.names) if name in names)
        write_report(evaluation, report, remarks=remarks_on_images(run, data)(shown))
        written += f" and {report}"
    record = {"run": str(run), "report": report and str(report), **evaluation.summary()}
    promise = evaluation.card.sentence_here(evaluation.caveat)
    lines = [promise, "", *judgement(evaluation), ""]
    ending = ["", f"Written: {written}", *evaluation.card.formula_here(evaluation.caveat)]
    show(record, *lines, summary_table(evaluation), *ending, as_json=json)


EVALUATE = Verb(
    evaluate, group="Promise", order=3, example="evaluate runs/first images --report report.html", resumes=""
)


def judgement(evaluation: "Evaluation") -> list[str]:
    """Return whether the promise was kept, counts of objects, and what speaks against the score."""
    from conformask.extras.view.facts import doubts, objects_texts, verdict

    judged = verdict(evaluation)
    counts = [f"{text[0].upper()}{text[1:]}." for text in objects_texts(evaluation)]
    return [f"{judged.title}. {judged.text}", *counts, *doubts(evaluation)]


def summary_table(evaluation: "Evaluation") -> Table:
    """Return a table of the most important numbers."""
    from conformask.extras.view.facts import facts

    return table(("", "value", ""), [fact.short for fact in facts(evaluation) if fact.short])


def share(
    run: Path,
    data: Path,
    /,
    *,
    out: Annotated[Path, Parameter(help="The HTML file.")] = Path("look.html"),
    images: Annotated[int, Parameter(help="Number of images that are shown.")] = 6,
    new: Annotated[NewImages, Parameter(name="*", parse=re.compile("^(?!allow_network_mismatch$)"))] = ALIKE,
    json: AsJson = False,
) -> None:
    """Write one HTML file that shows images and their masks to people without conformask.

    What the network made, what you may trust of it and the truth, side by side, with a threshold that moves.
    The file needs no installation and no connection.

    Parameters
    ----------
    run
        A calibrated run folder or a saved masker.
    data
        A folder with x/ and y_hat/, and with y/ if the truth is known; its test part is used if it is split.
    """
    from conformask.extras.view.share import share as write
    from conformask.records.record import check_output

    check_output(out)
    masker, triplets = new.opened(run, data)
    write(masker, triplets, out, images=images)
    show(
        {"out": str(out), "sentence": masker.sentence, "formula": masker.formula},
        masker.sentence,
        f"{out} shows it to anybody with a browser; the pictures are in the file.",
        masker.formula,
        as_json=json,
    )


SHARE = Verb(share, group="Look", order=1, example="share runs/first images --out look.html")


NO_TOKEN = "Require no token; everyone with an account on this machine can then see the images."


def view(
    run: Path,
    data: Path,
    /,
    *,
    port: Port = 8000,
    no_browser: Annotated[
        bool, Parameter(help="Do not open a browser; open the printed address yourself.")
    ] = False,
    no_token: Annotated[bool, Parameter(help=NO_TOKEN, group=PROTECTION)] = False,
    new: New = ALIKE,
    release: Annotated[
        float | None,
        Parameter(
            help="Also mark which images are released, such that at most this share of them misses the "
            "threshold, in expectation: see conformask release."
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Look at images with their masks in a browser.

    Serves a web page to this machine only: gallery, swipe comparison, zoom, sliders for threshold and
    confidence that show the promise, upload of an image pair. Ctrl-C stops it.

    Parameters
    ----------
    run
        A calibrated run folder or a saved masker.
    data
        A folder with x/ and y_hat/, and with y/ if the truth is known, or with a manifest.csv. Of one that
        is split, the test part is measured and shown first.
    """
    from conformask.masker.release import release_once
    from conformask.masker.remarks import remarks_on_images

    masker, triplets = new.opened(run, data)
    released = None
    if release is not None:
        test = triplets.part("test")
        released = release_once(run, masker, test, release)
    open_viewer(
        masker,
        triplets,
        released=released,
        remarks=remarks_on_images(run, data),
        port=port,
        browser=not no_browser,
        token=not no_token,
        as_json=json,
    )


VIEW = Verb(view, group="First", order=3, example="view runs/first images", renamed=RENAMED)
