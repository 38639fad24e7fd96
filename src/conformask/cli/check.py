"""conformask check: check triplets before hours of work."""

from pathlib import Path
from typing import TYPE_CHECKING

from conformask.cli.options import AS_FILES_SAY, AsJson, Read
from conformask.cli.output import bad_usage, facts, show, sizes_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from conformask.data.check import CheckReport

MOST = 5
"""Largest number of spacings or orientations to list."""


def check(
    data: Path,
    /,
    *,
    confidence: float = 0.9,
    noise_plot: Path | None = None,
    read: Read = AS_FILES_SAY,
    json: AsJson = False,
) -> None:
    """Read every triplet; check pairs, shapes, ranges, duplicates across parts, the number of images.

    Parameters
    ----------
    data
        A folder with x/, y_hat/ and, where the truth is known, y/, or else repeats/; or a manifest.csv.
    confidence
        The confidence that you plan to ask for.
    noise_plot
        Where to draw the variance of the noise of repeats against their mean, an SVG file.
    """
    from conformask.conformal.presets import guarantee
    from conformask.data.check import check_triplets
    from conformask.data.noise import photon_transfer_plot
    from conformask.storage.atomic import atomic_write
    from conformask.storage.claims import SVG_SIGNATURE, check_output
    from conformask.wording.promises import network_label

    needed = guarantee("marginal", confidence).smallest_calibration_set(None, None)
    if noise_plot is not None:
        check_output(noise_plot)
    findings = check_triplets(read.triplets(data), needed)
    if noise_plot is not None:
        if findings.transfer is None:
            bad_usage(f"--noise-plot needs two repeats of each image in {data}: repeats/NAME_1 and NAME_2")
        with atomic_write(noise_plot) as aside:
            aside.write_text(f"{SVG_SIGNATURE}\n{photon_transfer_plot(findings.transfer)}", encoding="utf-8")
    parts = ", ".join(f"{count} {part}" for part, count in findings.parts.items())
    rows = [
        ("triplets", str(findings.n) + (f" in {findings.groups} groups" * (findings.groups < findings.n))),
        (findings.reference.noun, _reference_text(findings)),
        *([("regions", "promises are about them alone")] if findings.has_regions else []),
        ("channels", f"x {findings.x_channels}, y_hat {findings.channels}"),
        ("sizes", sizes_text(findings.sizes)),
        *([("spacing", _counts_text(findings.spacings))] if findings.spacings else []),
        *([("orientation", _counts_text(findings.orientations))] if findings.orientations else []),
        *([("patients", str(findings.patients))] if findings.patients is not None else []),
        ("mean |y - y_hat|", _errors_text(findings)),
        *([("noise", _noise_text(findings))] if findings.transfer is not None else []),
        ("y_hat made by", network_label(findings.network)),
        ("parts", parts or "not split: each verb uses all of them for its own purpose"),
    ]
    verdict = [f"warning: {warning}" for warning in findings.warnings] or ["No problems found."]
    show({"data": str(data), **vars(findings)}, facts(rows), *verdict, as_json=json)


def _reference_text(findings: "CheckReport") -> str:
    if not findings.reference.is_noisy:
        return "known" if findings.has_truth else "unknown: only conformask mask can use them"
    shares = "promises about shares with --distance l2 --over clean"
    if findings.reference.formula is None:
        shares += " only with --noise-model or a second repeat"
    return f"{findings.reference.text}: {shares}, about means with --guarantee expected or rcps"


def _noise_text(findings: "CheckReport") -> str:
    from conformask.data.repeat_checks import FARTHEST
    from conformask.wording.numbers import plural

    assert findings.transfer is not None
    assert findings.reach is not None
    model, reach = findings.transfer.model, findings.reach
    independent = f"independent from {plural(reach, 'pixel')} on (--allowance exact --reach {reach})"
    if reach > FARTHEST:
        independent = f"shared by pixels more than {FARTHEST} apart (--allowance exact is refused)"
    return (
        f"variance gain * (value - offset) + read^2, {model.text}, values from 0 to 1 (--noise-model "
        f"{model.option} for one repeat); {independent}, by the central limit theorem --reach "
        f"{findings.clt_reach:g}"
    )


def _counts_text(counts: "Mapping[str, int]") -> str:
    """Return the values with their counts; a single value without its count."""
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{value} ({count})" for value, count in list(counts.items())[:MOST])


def _errors_text(findings: "CheckReport") -> str:
    if findings.mean_error is None or findings.error_quantiles is None:
        return "unknown"
    low, middle, high = findings.error_quantiles
    worst = "" if findings.worst is None else f"; most on {findings.worst}"
    return (
        f"{findings.mean_error:.4f}; by image {low:.4f} (10 %), {middle:.4f} (half), {high:.4f} (90 %){worst}"
    )
