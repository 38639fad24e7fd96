"""The table of docs/results/photographs.md from the runs of photographs.sh: photographs.py RUNS OUT.

Every row is calibrated at confidence 0.9 and the threshold q0.1 of the selection images, evaluated on the
test images, and dealt anew 200 times. Rows that are already in OUT/photographs.json are not made again.
"""

import json
import sys
from pathlib import Path
from typing import Any

from conformask.data.triplets import Triplets
from conformask.evaluation.evaluate import evaluate
from conformask.evaluation.resplits import resplit
from conformask.masker.calibrate import calibrate
from conformask.results import plain
from conformask.scorers.network_scorer import NetworkScorer

TASKS = ("super_resolution", "completion", "colorization")
METHODS = (
    ("mask-per-channel", "reciprocal"),
    ("error-per-channel", "reciprocal"),
    ("error-per-channel", "water_filling"),
    ("error", "reciprocal"),
    ("error", "water_filling"),
)
NAMES = {
    "mask-per-channel": "mask network, per channel",
    "error-per-channel": "error regressor, per channel",
    "error": "error regressor, one channel",
}
HEAD = """# Three tasks on photographs

x4 super-resolution, completion and colorization of {n} photographs at 128 pixels, U-Net regressors as
predictors, L1, confidence 0.9; the threshold is the 0.1-quantile of the unmasked distance on the selection
images. {n_calibration} calibration and {n_test} test photographs. All networks are U-Nets of width 32;
within a task all were trained for the same number of epochs (25 in super-resolution, 15 in colorization, 10
in completion).

Made by

    docs/results/photographs.sh IMAGES RUNS
    python docs/results/photographs.py RUNS docs/results

- **size**: mean mask size over 200 resplits of calibration and test photographs, with the range of 95 %.
- **coverage**: that of the masks which each resplit deploys, mean and standard deviation over resplits,
  beside those of the Beta-binomial law. For the first five resplits it is also measured on the masks
  themselves (`first_five_measured` in photographs.json).
- The other columns are of the one split: mask sizes of the oracles (exact, and the paper's Opt), C(M, D),
  C(M, M_opt), and the coverage in the tenth of the photographs with the largest mean score.
- The mask network is the paper's method (equation 6, reciprocal family); error regressor + water_filling with
  one channel is conformask's default. Oracles differ between per channel and one channel.

"""


def main(runs: Path, out: Path) -> None:
    path = out / "photographs.json"
    rows: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for task in TASKS:
        for run, family in METHODS:
            key = f"{task}, {run}, {family}"
            if key not in rows and (runs / task / run / "scorer.json").exists():
                rows[key] = plain(row(runs / task, run, family))
                path.write_text(json.dumps(rows, indent=1) + "\n")
                print(key, rows[key]["size"], flush=True)
    (out / "photographs.md").write_text(page(rows))


def row(folder: Path, run: str, family: str) -> dict[str, Any]:
    triplets = Triplets.from_folder(folder / "data")
    calibration, test = triplets.part("calibration"), triplets.part("test")
    masker = calibrate(NetworkScorer.load(folder / run), calibration, threshold="q0.1", family=family)
    evaluation, resplits = evaluate(masker, test), resplit(masker, calibration, test).summary()
    return {
        "task": folder.name,
        "method": f"{NAMES[run]} + {family}",
        "n": len(triplets),
        "n_calibration": len(calibration),
        "n_test": len(test),
        "threshold": masker.card.threshold,
        "size": resplits["mask_size"],
        "size_interval": resplits["mask_size_interval"],
        "coverage": resplits["coverage"],
        "coverage_std": resplits["coverage_std"],
        "first_five": resplits["first_five"],
        "first_five_measured": resplits["first_five_measured"],
        "law_mean": resplits["law_mean"],
        "law_std": resplits["law_std"],
        "split_size": evaluation.mask_size,
        "split_coverage": evaluation.coverage,
        "oracle": evaluation.mask_size_oracle,
        "paper_oracle": evaluation.mask_size_paper_oracle,
        "c_size_distance": evaluation.correlation_size_distance,
        "c_size_opt": evaluation.correlation_size_oracle,
        "hardest": evaluation.coverage_by_difficulty[-1],
    }


def page(rows: dict[str, Any]) -> str:
    if not rows:
        return HEAD
    text = HEAD.format(**next(iter(rows.values())))
    for task in TASKS:
        of_task = [row for row in rows.values() if row["task"] == task]
        if of_task:
            text += f"## {task}: threshold {of_task[0]['threshold']:.4f}\n\n" + table(of_task) + "\n"
    return text


def table(rows: list[dict[str, Any]]) -> str:
    columns = ("method", "size", "coverage (law)", "exact", "Opt", "C(M, D)", "C(M, M_opt)", "hardest tenth")
    lines = [" | ".join(columns), " | ".join(["---"] * len(columns))]
    for row in rows:
        low, high = row["size_interval"]
        lines.append(
            " | ".join(
                (
                    row["method"],
                    f"**{row['size']:.3f}** ({low:.3f} to {high:.3f})",
                    f"{row['coverage']:.3f} ± {row['coverage_std']:.3f} "
                    f"({row['law_mean']:.3f} ± {row['law_std']:.3f})",
                    f"{row['oracle']:.3f}",
                    f"{row['paper_oracle']:.3f}",
                    f"{row['c_size_distance']:.2f}",
                    f"{row['c_size_opt']:.2f}",
                    f"{row['hardest']:.2f}",
                )
            )
        )
    return "\n".join(f"| {line} |" for line in lines) + "\n"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
