"""conformask check: look at triplets before hours of work."""

from pathlib import Path

from conformask.cli.options import AsJson, DataRange
from conformask.cli.output import show, table


def check(data: Path, *, confidence: float = 0.9, data_range: DataRange = None, json: AsJson = False) -> None:
    """Read every triplet: pairs, shapes, ranges, duplicates across splits, enough images for a confidence.

    Parameters
    ----------
    data
        A folder of triplets.
    confidence
        The confidence that is going to be wanted.
    """
    from conformask.conformal.guarantees import guarantee
    from conformask.data.check import check_triplets
    from conformask.data.triplets import Triplets

    found = check_triplets(
        Triplets.from_folder(data, data_range), guarantee("marginal", confidence).smallest_calibration_set()
    )
    rows = [
        ("triplets", f"{found.n} in {found.groups} groups"),
        ("truth", "known" if found.has_truth else "unknown: only `mask` can use them"),
        ("channels", f"x {found.x_channels}, y_hat {found.channels}"),
        (
            "sizes",
            ", ".join(f"{h}x{w}" for h, w in found.sizes[:5]) + (" ..." if len(found.sizes) > 5 else ""),
        ),
        ("mean |y - y_hat|", "unknown" if found.mean_error is None else f"{found.mean_error:.4f}"),
        *[(f"{part} images", str(count)) for part, count in found.parts.items()],
    ]
    drawn = table(str(data), ("", ""), rows)
    drawn.columns[-1].justify = "left"
    verdict = [f"warning: {warning}" for warning in found.warnings] or ["nothing to complain about"]
    show(vars(found), drawn, *verdict, as_json=json)
