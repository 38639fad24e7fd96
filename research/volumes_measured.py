"""Volumes of hippocampi with a promise: intervals around those of a segmented output.

    python research/volumes_measured.py HIPPOCAMPUS    # five minutes

Noise is added to each volume, total variation takes it away, and a forest labels what is left
(`objects.py`). The number is the volume of the anterior part, the posterior part, or both; the truth is
that of the labels by hand. The volumes that did not train the forest are divided DIVISIONS times.
Writes research/results/volumes_measured.json.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
from objects import hippocampi

import conformask as cm

DIVISIONS, CALIBRATION = 40, 36
LABELS = {"anterior": 1, "posterior": 2, "both": None}
RECORD = Path(__file__).parent / "results" / "volumes_measured.json"


def main(folder: Path) -> None:
    images, record = hippocampi(folder), {}
    generator = np.random.default_rng(0)
    masker = cm.calibrate(cm.Heuristic(cm.residual, channels=1), images, threshold=0.1, loss="l1")
    for (name, label), symmetric in ((each, sided) for each in LABELS.items() for sided in (False, True)):
        kept, widths = [], []
        for _ in range(DIVISIONS):
            order = generator.permutation(len(images)).tolist()
            calibration, test = images.select(order[:CALIBRATION]), images.select(order[CALIBRATION:])
            number = cm.measure(masker, calibration, "volume", label=label, symmetric=symmetric)
            intervals = number.intervals(test)
            kept.append(np.mean([each.low <= each.truth <= each.high for each in intervals]))
            widths.append(np.mean([(each.high - each.low) / each.value for each in intervals]))
        of_all = cm.measure(masker, images, "volume", label=label, symmetric=symmetric)
        record[f"{name}, {'symmetric' if symmetric else 'two ends'}"] = {
            "coverage": float(np.mean(kept)), "error": float(np.std(kept) / np.sqrt(DIVISIONS)),
            "width": float(np.mean(widths)), "sentence": of_all.sentence,
        }  # fmt: skip
        print(name, symmetric, record[f"{name}, {'symmetric' if symmetric else 'two ends'}"], flush=True)
    RECORD.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]))
