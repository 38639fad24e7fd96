"""conformask demo: the whole story on packaged photographs."""

import sys
from pathlib import Path

from conformask.cli.options import AsJson
from conformask.cli.output import facts, show


def demo(*, out: Path = Path("demo"), seed: int = 0, json: AsJson = False) -> None:
    """Train a x4 super-resolution network on real photographs, and masks with a promise for it; no download.

    Parameters
    ----------
    out
        Where the triplets, report.html, evaluation.json, the masks and the runs go.
    seed
        Decides the split and both trainings.
    """
    from conformask.cli.evaluate import summary_table
    from conformask.demo import demonstrate

    done = demonstrate(out, seed, say=lambda stage: print(f"{stage} ...", file=sys.stderr))
    evaluation = done.evaluation
    show(
        {**evaluation.summary(), "seconds": done.seconds, "out": str(out)},
        evaluation.promise,
        "The promise holds for new 64-pixel tiles of these twelve photographs, not for other photographs: "
        "tiles of each were in the calibration set. For your images, calibrate on your images.",
        "",
        summary_table(evaluation),
        "",
        "Seconds:",
        facts([(stage, f"{value:.1f}") for stage, value in done.seconds.items()]),
        "",
        f"Look at {out / 'report.html'}; masks are in {out / 'masks'}, overlays in {out / 'overlays'}.",
        f"Next, image by image: conformask view {out / 'masker'} {out / 'data'}",
        "With your own, in x/, y_hat/ and y/ of a folder: conformask check FOLDER",
        as_json=json,
    )
