"""conformask demo: every step, on packaged photographs."""

import sys
from pathlib import Path

from conformask.cli.options import AsJson
from conformask.cli.output import facts, show


def demo(*, out: Path = Path("demo"), seed: int = 0, json: AsJson = False) -> None:
    """Train a x4 super-resolution network on real photographs, and masks with a promise for it; no download.

    Parameters
    ----------
    out
        The folder for the triplets, report.html, evaluation.json, the masks and the runs.
    seed
        Seed of the split and of both training runs.
    """
    from conformask.cli.evaluate import summary_table
    from conformask.demo import demonstrate

    done = demonstrate(out, seed, say=lambda stage: print(f"{stage} ...", file=sys.stderr))
    evaluation = done.evaluation
    show(
        {**evaluation.summary(), "seconds": done.seconds, "out": str(out)},
        evaluation.card.sentence,
        "The promise holds for new 64-pixel tiles of these twelve photographs, not for other photographs: "
        "the calibration set contains tiles of each. For your own images, calibrate on your own images.",
        "",
        summary_table(evaluation),
        "",
        "Seconds:",
        facts([(stage, f"{value:.1f}") for stage, value in done.seconds.items()]),
        "",
        f"Open {out / 'report.html'}; masks are in {out / 'masks'}, overlays in {out / 'overlays'}.",
        f"Next, look at each image: conformask view {out / 'masker'} {out / 'data'}",
        "For your own images, in three folders: conformask look X Y_HAT Y",
        as_json=json,
    )
