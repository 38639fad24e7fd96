"""Omissions: how much of what y_hat lacks, and x shows, is hidden by each score.

    python research/omissions.py DATA

Fields of nuclei (BBBC038, CC0), degraded and denoised as in own_range.py, each in its own range. Scores
without training are calibrated on some fields, at a threshold that half of the selection images keep
without a mask. In each other field one nucleus is painted over in y_hat by what surrounds it: x and y have
it, y_hat lacks it. An omission is found where the mask hides at least half of the nucleus. Writes
research/results/omissions.json: for each score, the shares of nuclei that are found, by the contrast of the
nucleus in y (thirds), and the share that was hidden as much before it was painted over. Three minutes.
"""

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
from own_range import CALIBRATION, SELECTION, degraded, fields
from scipy.ndimage import binary_dilation, find_objects, gaussian_filter, label
from skimage.filters import threshold_otsu

import conformask as cm
from conformask.records.record import Array
from conformask.scores.untrained import Untrained

RECORD = Path(__file__).parent / "results/omissions.json"
SCORES = ("packaged", "residual", "gradient", "spread")
SMALLEST, EDGE, RING, SOFT = 40, 3, 4, 1.5
"""Pixels of the smallest nucleus; by how many it is widened to be painted over; around these the width of its
surroundings, and the softness of the edge of the paint."""
HALF = 0.5


def one_nucleus(y: Array, generator: np.random.Generator) -> Array | None:
    """A nucleus that stands alone, drawn by the generator, (H, W) bool; None where there is none."""
    labels, count = label(y > threshold_otsu(y))
    boxes = find_objects(labels)
    for number in generator.permutation(count) + 1:
        nucleus = labels == number
        around = binary_dilation(nucleus, iterations=EDGE + RING)
        box = boxes[number - 1]
        inside = all(edge.start > EDGE and edge.stop < n - EDGE for edge, n in zip(box, y.shape, strict=True))
        if nucleus.sum() >= SMALLEST and inside and set(np.unique(labels[around])) == {0, number}:
            return nucleus
    return None


def surroundings(nucleus: Array) -> Array:
    """The ring of pixels around a nucleus that is widened by EDGE."""
    near = binary_dilation(nucleus, iterations=EDGE)
    return binary_dilation(near, iterations=RING) & ~near


def without(y_hat: Array, nucleus: Array) -> Array:
    """The output without the nucleus, painted over by the median of its surroundings with a soft edge."""
    paint = gaussian_filter(binary_dilation(nucleus, iterations=EDGE).astype(np.float32), SOFT)
    painted: Array = y_hat + paint * (np.median(y_hat[surroundings(nucleus)]) - y_hat)
    return painted


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    truths, generator = fields(parser.parse_args().data), np.random.default_rng(1)
    warnings.simplefilter("ignore", UserWarning)  # the packaged network has seen some of these fields
    pairs = [degraded(y, generator) for y in truths]
    triplets = cm.Triplets.from_arrays(*map(list, zip(*pairs, strict=True)), truths, data_range="image")
    first = SELECTION + CALIBRATION
    selection, calibration = (triplets.select(range(*ends)) for ends in ((0, SELECTION), (SELECTION, first)))
    cases = []
    for (x, y_hat), y in zip(pairs[first:], truths[first:], strict=True):
        if (nucleus := one_nucleus(y, generator)) is not None:
            contrast = y[nucleus].mean() - np.median(y[surroundings(nucleus)])
            cases.append((contrast / np.quantile(x, 0.999), x, y_hat, nucleus))
    contrasts = np.array([contrast for contrast, *_ in cases])
    thirds = np.searchsorted(np.quantile(contrasts, [1 / 3, 2 / 3]), contrasts)
    record: dict[str, object] = {"nuclei": len(cases)}
    for name in SCORES:
        masker = cm.calibrate(Untrained(name), calibration, threshold="q0.5", loss="l1", selection=selection)
        hidden = np.array(
            [
                [1 - masker(x, shown)[nucleus].mean() for shown in (y_hat, without(y_hat, nucleus))]
                for _, x, y_hat, nucleus in cases
            ]
        )
        found = hidden >= HALF
        shares = {"before": found[:, 0], "found": found[:, 1]}
        shares |= {third: found[thirds == k, 1] for k, third in enumerate(("faint", "middle", "bright"))}
        record[name] = {key: float(share.mean()) for key, share in shares.items()}
        print(name, record[name], flush=True)
    RECORD.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
