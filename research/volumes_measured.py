"""Volumes of hippocampi with a promise: intervals around those of a segmented output.

    python research/volumes_measured.py HIPPOCAMPUS           # five minutes
    python research/volumes_measured.py HIPPOCAMPUS --draw    # docs/images/numbers.png alone

Noise is added to each volume, total variation takes it away, and a forest labels what is left
(`objects.py`). The number is the volume of the anterior part, the posterior part, or both; the truth is
that of the labels by hand. The volumes that did not train the forest are divided DIVISIONS times.
Writes research/results/volumes_measured.json.
"""

import json
import sys
import warnings
from pathlib import Path

import matplotlib
import numpy as np
from objects import hippocampi

import conformask as cm

matplotlib.use("Agg")
from matplotlib import pyplot

DIVISIONS, CALIBRATION = 40, 36
LABELS = {"anterior": 1, "posterior": 2, "both": None}
RECORD = Path(__file__).parent / "results" / "volumes_measured.json"
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "numbers.png"
INSIDE, OUTSIDE = "#2f6f9f", "#d1495b"


def draw(images: cm.Triplets) -> None:
    """Draw the intervals of the test images of one division, in the order of the volumes of the output."""
    calibration, test = images.holdout(1 - CALIBRATION / len(images))
    masker = cm.calibrate(cm.Heuristic(cm.residual, channels=1), calibration, threshold=0.1, loss="l1")
    number = cm.measure(masker, calibration, "volume", symmetric=True)
    print(number.sentence)
    figure, axes = pyplot.subplots(figsize=(7, 3), layout="constrained")
    found = sorted(number.intervals(test), key=lambda each: each.value)
    for place, each in enumerate(found):
        color = INSIDE if each.within else OUTSIDE
        axes.plot([place, place], [each.low, each.high], color=color, linewidth=5, alpha=0.35)
        axes.plot(place, each.value, "_", color=color, markersize=9)
        axes.plot(place, each.truth, "o", color=color, markersize=4)
    axes.set_xticks([])
    axes.set_ylabel("volume (mm³)")
    axes.set_xlabel("new volumes: the output's volume (dash), its interval (bar), the volume by hand (dot)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURE, dpi=120)


def main(folder: Path) -> None:
    images, record = hippocampi(folder), {}
    draw(images)
    if "--draw" in sys.argv:
        return
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
