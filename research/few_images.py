"""What few calibration images cost: the hidden share, by how many there are.

    python research/few_images.py DATA

DATA has the folder nuclei. Half the resolution of each field is enlarged by cubic interpolation, the packaged
score is calibrated on all fields, and from the curves of the calibration n of them are drawn 400 times:
lambda is that of the n, at the threshold that half of all fields keep without a mask, and what it hides is
measured on the others. Writes research/results/few_images.csv, the rows of the table in
docs/promises.md. Three minutes.
"""

import argparse
from pathlib import Path

import numpy as np
from local import enlarged
from skimage.io import imread

import conformask as cm
from conformask.masker.masker import Masker
from conformask.masks.critical import calibration_data

TABLE = Path(__file__).parent / "results" / "few_images.csv"
FIELDS, SIDE, DRAWS = 200, 256, 400
COUNTS = (9, 12, 25, 50, 100)


def triplets(folder: Path) -> cm.Triplets:
    """Fields of nuclei at half their resolution, enlarged, and as they are."""
    fields = [imread(path, as_gray=True) for path in sorted(folder.glob("*.png"))[:FIELDS]]
    y = [(field / (255 if field.max() > 1 else 1))[:SIDE, :SIDE].astype(np.float32) for field in fields]
    x, y_hat = zip(*(enlarged(field, 2) for field in y), strict=True)
    return cm.Triplets.from_arrays(list(x), [each.clip(0, 1) for each in y_hat], y)


def row(masker: Masker, n: int) -> dict[str, object]:
    """Return what n calibration images hide of the others, on average and in 80 % of the draws."""
    curves, shares, generator = masker.stored_curves(), [], np.random.default_rng(0)
    threshold = float(np.median(curves.loss[:, -1]))
    for _ in range(DRAWS):
        order = generator.permutation(len(curves.names))
        drawn, others = curves.take(order[:n]), curves.take(order[n:])
        evidence = calibration_data(drawn, threshold, masker.loss)
        shares.append(others.hidden_at(masker.card.promise.rule(evidence)(others.covariates)))
    low, high = np.quantile(shares, (0.1, 0.9))
    return {"n": n, "hidden": f"{np.mean(shares):.3f}", "low": f"{low:.3f}", "high": f"{high:.3f}"}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    images = triplets(parser.parse_args().data / "nuclei")
    calibrated = cm.calibrate(cm.packaged_scorer(), images, threshold="1%")
    rows = [row(calibrated, n) for n in COUNTS]
    lines = [",".join(rows[0]), *(",".join(map(str, each.values())) for each in rows)]
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(*lines, sep="\n")
