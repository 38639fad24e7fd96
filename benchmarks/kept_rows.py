"""The results of finished rows of a `conformask paper`, without its networks and images.

    python benchmarks/kept_rows.py RUN KEPT [--preset long] [--photos DIR] [--cells DIR]

`long` takes more hours than a small machine may have at a stretch. KEPT receives row-N.tar.gz, with what the
table, the figures and the page of smaller_masks_page.py are made of. Unpacked in a RUN on another machine
(tar -xzf row-N.tar.gz -C RUN), the row counts as finished there.
"""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from smaller_masks import run_options, shops

from conformask.paper.stages import Cache
from conformask.paper.work import Workshop
from conformask.results import Evaluation, read_arrays, write_arrays

NEEDED = ("critical_lambda", "features")
"""Of what is stored with a calibration."""


def keep(shop: Workshop, kept: Cache) -> None:
    """Copy what a row's goals left, but for the example images, and its critical lambdas."""
    for stage in shop.plan.goals():
        found, folder = shop.cache.folder(stage), kept.folder(stage)
        shutil.copytree(found, folder, ignore=shutil.ignore_patterns("examples.npz"))
        if (found / "evaluation.json").exists():
            replace(Evaluation.load(found), examples=()).save(folder)
    for stage in shop.plan.calibrations.values():
        stored = read_arrays(shop.cache.folder(stage) / "curves.npz")
        kept_arrays = {name: stored[name] for name in NEEDED if name in stored}
        write_arrays(kept.folder(stage) / "curves.npz", kept_arrays)


def main() -> None:
    options = run_options()
    options.add_argument("kept", type=Path)
    given = options.parse_args()
    for shop in shops(given):
        archive = given.kept / f"row-{shop.row.number}"
        if shop.cache.missing(shop.plan.goals()) or archive.with_suffix(".tar.gz").exists():
            continue
        with tempfile.TemporaryDirectory() as folder:
            keep(shop, Cache(Path(folder) / "stages"))
            print(shutil.make_archive(str(archive), "gztar", folder))


if __name__ == "__main__":
    main()
