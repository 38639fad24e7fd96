"""What `conformask check` says of triplets: a table, and a verdict."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from conformask.cli.output import bad_usage, facts, sizes_text
from conformask.images.check import CheckReport
from conformask.records.numbers import plural
from conformask.records.record import SVG_SIGNATURE, atomic_write
from conformask.records.words import network_label

MOST = 5
"""Largest number of spacings or orientations to list."""


def record_of_check(findings: CheckReport) -> dict[str, Any]:
    """Return the fields that --json prints."""
    fields = {name: value for name, value in vars(findings).items() if name not in ("of_layers", "warnings")}
    for each in findings.of_layers:
        fields |= each.fields
    return fields | {"warnings": findings.warnings}


def blocks_of_check(findings: CheckReport) -> list[str | Table]:
    """Return the table of what is known, and the warnings below it."""
    parts = ", ".join(f"{count} {part}" for part, count in findings.parts.items())
    patients = "" if findings.patients is None else str(findings.patients)
    rows = [
        (
            "triplets",
            str(findings.n) + (f" in {plural(findings.groups, 'group')}" * (findings.groups < findings.n)),
        ),
        (findings.reference.noun, _reference_text(findings)),
        ("regions", "promises are about them alone" * findings.has_regions),
        ("channels", f"x {findings.x_channels}, y_hat {findings.channels}"),
        ("sizes", sizes_text(findings.sizes)),
        ("spacing", _counts_text(findings.spacings)),
        ("orientation", _counts_text(findings.orientations)),
        ("patients", patients),
        ("mean |y - y_hat|", _errors_text(findings)),
        *(row for each in findings.of_layers for row in each.rows),
        ("y_hat made by", network_label(findings.network)),
        ("parts", parts or "not split: each verb uses all of them for its own purpose"),
    ]
    verdict = [f"warning: {warning}" for warning in findings.warnings] or ["No problems found."]
    return [facts([row for row in rows if row[1]]), *verdict]


def draw_noise(findings: CheckReport, data: Path, path: Path) -> None:
    """Draw the variance of the noise against the mean; without two repeats of an image this is bad usage."""
    plot = next((each.plot for each in findings.of_layers if each.plot is not None), None)
    if plot is None:
        bad_usage(f"--noise-plot needs two repeats of each image in {data}: repeats/NAME_1 and NAME_2")
    with atomic_write(path) as aside:
        aside.write_text(f"{SVG_SIGNATURE}\n{plot()}", encoding="utf-8")


def _reference_text(findings: CheckReport) -> str:
    if not findings.reference.is_noisy:
        return "known" if findings.has_truth else "unknown: only conformask mask can use them"
    shares = "promises about shares with --loss l2 --over clean"
    if findings.reference.formula is None:
        shares += " only with --noise-model or a second repeat"
    return f"{findings.reference.text}: {shares}, about means with --guarantee expected or rcps"


def _counts_text(counts: Mapping[str, int]) -> str:
    """Return the values with their counts; a single value without its count; empty without any."""
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{value} ({count})" for value, count in list(counts.items())[:MOST])


def _errors_text(findings: CheckReport) -> str:
    if findings.mean_error is None or findings.error_quantiles is None:
        return "unknown"
    low, middle, high = findings.error_quantiles
    worst = "" if findings.worst is None else f"; most on {findings.worst}"
    return (
        f"{findings.mean_error:.4f}; by image {low:.4f} (10 %), {middle:.4f} (half), {high:.4f} (90 %){worst}"
    )
