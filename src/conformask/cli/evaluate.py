"""conformask evaluate: how a calibrated masker does on test triplets."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from conformask.cli.options import AsJson, DataRange
from conformask.cli.output import show, table
from conformask.results import Evaluation


def evaluate(
    run: Path,
    data: Path,
    *,
    report: Annotated[Path | None, Parameter(help="Write the HTML report here.")] = None,
    data_range: DataRange = None,
    json: AsJson = False,
) -> None:
    """Measure coverage and mask sizes on triplets that no step has seen; writes evaluation.json into RUN.

    Parameters
    ----------
    run
        A calibrated run folder.
    data
        A folder of triplets; its test part, or all of it where it is not split.
    """
    from conformask.data.triplets import Triplets
    from conformask.evaluation.evaluate import evaluate as evaluate_masker
    from conformask.masker import load
    from conformask.report.page import write_report

    evaluation = evaluate_masker(load(run), Triplets.from_folder(data, data_range).part("test"), out=run)
    if report is not None:
        write_report(evaluation, report)
    show(evaluation.summary(), evaluation.promise, summary_table(evaluation), as_json=json)


def summary_table(evaluation: Evaluation) -> Table:
    """The few numbers that a person looks at first."""
    low, high = evaluation.coverage_interval
    small, large = evaluation.mask_size_interval
    rows = [
        ("coverage", f"{evaluation.coverage:.3f}", f"{low:.3f} to {high:.3f}"),
        ("mask size", f"{evaluation.mask_size:.3f}", f"{small:.3f} to {large:.3f}"),
        ("exact oracle's size", _told(evaluation.mask_size_oracle), "knows the truth"),
        ("paper's Opt size", _told(evaluation.mask_size_paper_oracle), "knows the truth"),
        ("C(M, D)", _told(evaluation.correlation_size_distance), "mask size and distance"),
        ("C(M, M_opt)", _told(evaluation.correlation_size_oracle), "mask size and Opt's"),
    ]
    drawn = table(f"{evaluation.n_test} test images", ("", "value", "95 % interval"), rows)
    drawn.columns[-1].justify = "left"
    return drawn


def _told(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
