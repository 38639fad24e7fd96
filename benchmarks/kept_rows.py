"""The results of finished rows of a `conformask paper`, without its networks and images.

    python benchmarks/kept_rows.py RUN KEPT [--preset long] [--photos DIR] [--cells DIR]

`long` takes more hours than one session on a small machine has. KEPT/stages receives what the table, the
figures and the page of smaller_masks_page.py are made of, a megabyte or two; copied to RUN/stages on another
machine, these rows count as finished there.
"""

import shutil
from dataclasses import replace
from pathlib import Path

from smaller_masks import run_options, shops

from conformask.paper.stages import DONE, Cache, Stage
from conformask.paper.work import Workshop
from conformask.results import Evaluation, read_arrays, write_arrays

NEEDED = ("critical_lambda", "features")
"""Of what is stored with a calibration."""


def keep(shop: Workshop, kept: Cache) -> None:
    """Copy what a row's goals left, but for the example images, and its critical lambdas."""
    for stage in shop.plan.goals():
        found, folder = shop.cache.folder(stage), _emptied(kept, stage)
        shutil.copytree(found, folder, ignore=shutil.ignore_patterns("examples.npz", DONE))
        if (found / "evaluation.json").exists():
            replace(Evaluation.load(found), examples=()).save(folder)
        shutil.copy(found / DONE, folder)
    for stage in shop.plan.calibrations.values():
        found, folder = shop.cache.folder(stage), _emptied(kept, stage)
        stored = read_arrays(found / "curves.npz")
        write_arrays(folder / "curves.npz", {name: stored[name] for name in NEEDED if name in stored})


def _emptied(kept: Cache, stage: Stage) -> Path:
    folder = kept.folder(stage)
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def main() -> None:
    options = run_options()
    options.add_argument("kept", type=Path)
    given = options.parse_args()
    for shop in shops(given):
        if not shop.cache.missing(shop.plan.goals()):
            keep(shop, Cache(given.kept / "stages"))
            print(f"row {shop.row.number}")


if __name__ == "__main__":
    main()
