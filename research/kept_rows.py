"""The results of finished rows of a `conformask paper`, without its networks and images.

    python research/kept_rows.py RUN KEPT.tar.xz [--preset long] [--photos DIR] [--cells DIR]

`long` takes more hours than a small machine may have at a stretch. The archive receives what the table and
the figures are made of, beside the rows that it holds already. Unpacked in a RUN on another machine
(tar -xJf KEPT.tar.xz -C RUN), these rows count as finished there.
"""

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from conformask.background import Compute
from conformask.extras.paper import PRESETS, rows_of
from conformask.extras.paper.reproduce import distances_of
from conformask.extras.paper.rows import Row
from conformask.extras.paper.stages import Cache, collections_of, plan_row
from conformask.masker.run_folder import read_stored
from conformask.records.evaluation import Evaluation
from conformask.records.record import Array, read_arrays, write_arrays


def calibrated(folder: Path) -> dict[str, Array]:
    """The critical lambdas of a calibration, and the features where there are any."""
    if (folder / "curves.npz").is_file():
        return read_arrays(folder / "curves.npz")
    stored = read_stored(folder)
    features = None if stored.curves is None else stored.curves.features
    return {"critical_lambda": stored.critical_lambdas} | ({} if features is None else {"features": features})


def keep(shop: Row, kept: Cache) -> None:
    """Copy what a row's goals left, but for the example images, and its critical lambdas."""
    for stage in shop.plan.goals():
        found, folder = shop.cache.folder(stage), kept.folder(stage)
        ignored = shutil.ignore_patterns("examples*.npz", "curves-*.npz")
        shutil.copytree(found, folder, ignore=ignored, dirs_exist_ok=True)
        if (found / "evaluation.json").exists():
            replace(Evaluation.load(found), examples=()).save(folder)
    for stage in shop.plan.calibrations.values():
        write_arrays(kept.folder(stage) / "curves.npz", calibrated(shop.cache.folder(stage)))


def shops(given: argparse.Namespace) -> Iterator[Row]:
    """The rows of the run."""
    rows = rows_of([int(number) for number in given.rows.split(",")] if given.rows else None)
    how, cache = PRESETS[given.preset], Cache(given.run / "stages")
    folders = {"photos": given.photos, "cells": given.cells}
    collections, distances = collections_of(rows, how, folders, "within"), distances_of(rows, how, None)
    for row in rows:
        plan = plan_row(row, how, collections[row.data].stage(row.data))
        yield Row(plan, how, cache, collections[row.data], distances[row.distance], Compute("auto"))


def run_options() -> argparse.ArgumentParser:
    """What tells which rows of which run, and on which images."""
    options = argparse.ArgumentParser()
    options.add_argument("run", type=Path)
    options.add_argument("--photos", type=Path)
    options.add_argument("--cells", type=Path)
    options.add_argument("--rows")
    options.add_argument("--preset", choices=PRESETS, default="long")
    return options


def main() -> None:
    options = run_options()
    options.add_argument("kept", type=Path)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.kept.exists():
            shutil.unpack_archive(given.kept, folder, filter="data")
        for shop in shops(given):
            if not shop.cache.missing(shop.plan.goals()):
                keep(shop, Cache(Path(folder) / "stages"))
        print(shutil.make_archive(str(given.kept).removesuffix(".tar.xz"), "xztar", folder))


if __name__ == "__main__":
    main()
