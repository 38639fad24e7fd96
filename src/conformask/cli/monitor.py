"""conformask monitor: do new images still look like those of the calibration?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from conformask.cli.options import AsJson, DataRange, WeightsPath, distance_of
from conformask.cli.output import show, table

if TYPE_CHECKING:
    from conformask.monitoring import Monitoring


def monitor(
    run: Path,
    data: Path,
    /,
    *,
    level: Annotated[
        float, Parameter(help="How often images that are like the calibration's may be called shifted.")
    ] = 0.01,
    data_range: DataRange = None,
    weights_path: WeightsPath = None,
    json: AsJson = False,
) -> None:
    """Compare scores and mask sizes of new images with those at calibration; needs no y.

    Parameters
    ----------
    run
        A calibrated run folder.
    data
        A folder of new images, x/ and y_hat/; with y/ the masks are measured too.
    """
    from dataclasses import asdict

    from conformask.data.triplets import Triplets
    from conformask.masker.masker import load
    from conformask.monitoring import monitor as watch

    masker = load(run, distance=distance_of(run, weights_path))
    new = Triplets.from_folder(data, data_range or masker.card.data_range)
    found = watch(masker, new, level=level)
    rows = [
        (each.measure, f"{each.calibration:.4g}", f"{each.new:.4g}", f"{each.p_value:.3g}")
        for each in found.comparisons
    ]
    columns = ("", f"median of {found.n_calibration} calibration", f"of {found.n_new} new", "p")
    record = {"run": str(run), "shifted": found.shifted, "failing": found.failing, **asdict(found)}
    show(record, masker.promise, "", table(columns, rows), "", *_told(found), as_json=json)


def _told(found: "Monitoring") -> list[str]:
    p_value = f"p = {found.p_value:.3g} of all together, level {found.level:g}"
    told = [
        f"SHIFTED: these images do not look like those of the calibration ({p_value}). The promise is not "
        "about them: calibrate on images like these."
        if found.shifted
        else f"No shift is seen ({p_value})."
    ]
    if found.coverage is not None and found.coverage_interval is not None:
        low, high = found.coverage_interval
        verdict = f", below the promised {found.confidence:g}" if found.failing else ""
        told.append(
            f"Coverage with their truth: {found.coverage:.3f} ({low:.3f} to {high:.3f}, 95 %){verdict}."
        )
    return told
