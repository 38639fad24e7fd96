"""conformask evaluate: measure a calibrated masker on test triplets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from conformask.cli.options import (
    AS_FILES_SAY,
    DEFAULT_DEVICES,
    AsJson,
    Devices,
    NetworkName,
    OtherNetwork,
    Read,
    WeightsPath,
    loss_of,
)
from conformask.cli.output import bad_usage, show, table
from conformask.progress import main_process

if TYPE_CHECKING:
    from conformask.records.evaluation import Evaluation


def evaluate(
    run: Path,
    data: Path,
    /,
    *,
    report: Annotated[Path | None, Parameter(help="Write a report to this HTML file.")] = None,
    read: Read = AS_FILES_SAY,
    network: NetworkName = None,
    allow_network_mismatch: OtherNetwork = False,
    weights_path: WeightsPath = None,
    devices: Devices = DEFAULT_DEVICES,
    json: AsJson = False,
) -> None:
    """Measure coverage and mask sizes on triplets that no step has seen; writes evaluation.json into RUN.

    Parameters
    ----------
    run
        A calibrated run folder.
    data
        A folder of triplets; its test part is used, or all of it if it is not split.
    """
    from conformask.evaluation.evaluate import evaluate as evaluate_masker
    from conformask.masker.load import load
    from conformask.records.evaluation import FILE
    from conformask.report.page import write_report
    from conformask.storage.claims import check_output, refuse_unclaimed
    from conformask.wording.promises import formula_here, promised_here

    if report is not None and report.suffix.lower() not in (".html", ".htm"):
        bad_usage(
            f"--report {report}: the report's name must end with .html, such as {report / 'report.html'}"
        )
    refuse_unclaimed([run / FILE])
    if report is not None:
        check_output(report)
    masker = load(run, loss=loss_of(run, weights_path))
    test = read.triplets(data, network, masker.card).part("test")
    evaluation = evaluate_masker(
        masker, test, out=run, allow_network_mismatch=allow_network_mismatch, compute=devices.compute()
    )
    written = f"{run / 'evaluation.json'}"
    if report is not None and main_process():
        write_report(evaluation, report)
        written += f" and {report}"
    record = {"run": str(run), "report": report and str(report), **evaluation.summary()}
    promise = promised_here(evaluation.card.sentence, evaluation.caveat)
    lines = [promise, "", *judgement(evaluation), ""]
    ending = ["", f"Written: {written}", *formula_here(evaluation.card.formula, evaluation.caveat)]
    show(record, *lines, summary_table(evaluation), *ending, as_json=json)


def judgement(evaluation: "Evaluation") -> list[str]:
    """Return whether the promise was kept, counts of objects, and what speaks against the score."""
    from conformask.report.words import doubts, verdict

    judged = verdict(evaluation)
    objects = evaluation.objects
    counts = [] if objects is None else [objects.shown_text, objects.lacking_text]
    counts = [evaluation.card.promise.named(f"{text[0].upper()}{text[1:]}.") for text in counts]
    return [f"{judged.title}. {judged.text}", *counts, *doubts(evaluation)]


def summary_table(evaluation: "Evaluation") -> Table:
    """Return a table of the most important numbers."""
    from conformask.records.sentence import rounded_share
    from conformask.report.words import hardest_tenth
    from conformask.wording.numbers import figure

    hardest, knows = hardest_tenth(evaluation), f"with the {evaluation.reference.noun} known"
    low, high = map(rounded_share, evaluation.mask_size_interval)
    rows = [
        ("test images", f"{evaluation.n_test}", _groups(evaluation)),
        ("coverage", f"{evaluation.coverage:.3f}", _between(evaluation.coverage_interval)),
        *([] if hardest is None else [("of the hardest tenth", f"{hardest:.3f}", "by the mean score")]),
        ("mean loss", figure(evaluation.mean_loss), f"threshold {evaluation.card.threshold:.4g}"),
        ("hidden", rounded_share(evaluation.mask_size), f"{low} to {high} (95 %)"),
        ("best possible", _share(evaluation.mask_size_oracle), knows),
        ("by the paper's Opt", _share(evaluation.mask_size_paper_oracle), knows),
        *_parts(evaluation),
        *_errors(evaluation),
        *_reference(evaluation),
        *(
            (f"good released, {each.share:g}", f"{each.of_good:.3f}", "see conformask release")
            for each in evaluation.power
            if each.released
        ),
        ("C(M, D)", _text(evaluation.correlation_size_loss), "mask size and loss without a mask"),
        ("C(M, M_opt)", _text(evaluation.correlation_size_oracle), "mask size and Opt's"),
    ]
    return table(("", "value", ""), rows)


def _parts(evaluation: "Evaluation") -> "list[tuple[str, str, str]]":
    from conformask.report.words import parts_text
    from conformask.wording.numbers import figure

    parts, text = evaluation.images.parts, parts_text(evaluation)
    return [] if parts is None or text is None else [("connected parts", figure(sum(parts[:2])), text)]


def _errors(evaluation: "Evaluation") -> "list[tuple[str, str, str]]":
    from conformask.report.words import errors_of_pixels

    errors = errors_of_pixels(evaluation)
    if errors is None:
        return []
    hidden, shown, count = errors
    what = f"mean {evaluation.reference.error} of {count} images"
    return [("error of what is hidden", f"{hidden:.4f}", what), ("of what is shown", f"{shown:.4f}", what)]


def _reference(evaluation: "Evaluation") -> "list[tuple[str, str, str]]":
    from conformask.wording.numbers import figure

    reference = evaluation.reference
    if not reference.is_noisy:
        return []
    what = f"mean of v, {reference.formula}" if reference.formula else "not known: the noise of one repeat"
    floor = ("noise floor", figure(evaluation.noise_floor), what)
    return [("reference y", "noisy", reference.text), floor]


def _between(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.3f} to {interval[1]:.3f} (95 %)"


def _groups(evaluation: "Evaluation") -> str:
    return "" if evaluation.n_groups is None else f"in {evaluation.n_groups} groups"


def _share(value: float | None) -> str:
    from conformask.records.sentence import rounded_share

    return "none" if value is None else rounded_share(value)


def _text(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
