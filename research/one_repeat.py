"""Promises about clean images from one noisy repeat and a noise model, right or wrong by a tenth.

    python research/one_repeat.py DATA

The tiles, outputs and scores of research/repeats_promise.py to which noise was added, whose gain is known:
half of them calibrate, the others test, DEALS times. Coverage is of the clean squared error under deployed
masks. research/results/one_repeat.json keeps what was measured.
"""

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
import repeats_promise as pairs

import conformask as cm

RESULTS = Path(__file__).parent / "results" / "one_repeat.json"
KINDS = "sections, noise added", "cells, noise added"
GAINS = {"right": 1.0, "too large": 1.1, "too small": 0.9}
"""The assumed gain, as a share of the right one."""
DEALS = 10


def measured(kind: str, data: Path) -> dict[str, dict[str, float]]:
    """Hidden share, and coverage of the clean squared error, by the assumed gain."""
    arrays = pairs.tiles(kind, data)
    losses = np.square(arrays["y"] - arrays["y_hat"]).mean(axis=(1, 2))
    threshold, n = float(np.quantile(losses, pairs.QUANTILE)), len(losses)
    score = cm.Heuristic(cm.local_spread, channels=1)
    rows = {}
    for name, share in GAINS.items():
        reading = cm.Reading(noise_model=cm.NoiseModel(share * pairs.GAIN, 0, pairs.READ))

        def part(places: np.ndarray, reading: cm.Reading = reading) -> cm.Triplets:
            x, y_hat, b = (arrays[role][places] for role in ("x", "y_hat", "b"))
            return cm.Triplets.from_arrays(x, y_hat, repeats=b, reading=reading)

        found = []
        for seed in range(DEALS):
            order = np.random.default_rng(seed).permutation(n)
            selection, rest = order[: pairs.SELECTION], order[pairs.SELECTION :]
            calibration, test = np.array_split(rest, 2)
            masker = cm.calibrate(
                score, part(calibration), threshold=threshold, loss=cm.CleanMean("l2"),
                promise=cm.Promise(confidence=pairs.CONFIDENCE), selection=part(selection),
            )  # fmt: skip
            masks = np.concatenate([masker(triplet)[None] for triplet in part(test)])
            clean = (masks**2 * np.square(arrays["y"] - arrays["y_hat"])[test]).mean(axis=(1, 2))
            found.append((float(1 - masks.mean()), float(np.mean(clean <= threshold))))
        rows[name] = dict(zip(("hidden", "coverage"), np.mean(found, axis=0).tolist(), strict=True))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    results = {kind: measured(kind, options.data) for kind in KINDS}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
