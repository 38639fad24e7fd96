"""What a calibration costs beside scoring the same images once, for each loss.

    python benchmarks/calibration.py DATA [--losses NAME ...]

One thread, the packaged score, real images in memory: DATA/nuclei, 100 images of 256 x 256 to calibrate and
40 to choose on, denoised by total variation; and DATA/fmd, 24 and 12 crops of 240 x 240 with two repeats. The
level for each image and the comparison with other scores are included. Calibrating and scoring take turns,
and the median ratio of the processor's time counts. Writes benchmarks/results/calibration.json, loss by loss,
where other losses keep the numbers that they have.
"""

import argparse
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np
import torch
from PIL import Image
from skimage.restoration import denoise_tv_chambolle

import conformask as cm
from conformask.cli import keep_memory
from conformask.losses.base import Loss
from conformask.scores.scoring import scored_batches

RESULT = Path(__file__).parent / "results" / "calibration.json"
REPEATS = 5
TOLERANCE = 0.05
LOSSES: Mapping[str, Loss] = {
    "l1": cm.losses.loss("l1"),
    "l2": cm.losses.loss("l2"),
    "missed": cm.MissRate("l1", TOLERANCE),
    "trusted": cm.MeanShown("l1"),
    "wrong": cm.FalseOmissionRate("l1", TOLERANCE),
    "local": cm.Local("l1", 9),
    "local_share": cm.LocalShare("l1", 9, TOLERANCE),
    "window": cm.MaskedWindow("l1", 9),
    "ssim": cm.losses.loss("ssim"),
}
OF_REPEATS: Mapping[str, Loss] = {
    "l2, two repeats": cm.CleanMean("l2"),
    "l2, their mean": cm.losses.loss("l2"),
}


def nuclei(data: Path) -> tuple[cm.Triplets, cm.Triplets]:
    """Images to calibrate and to choose on, with noise, and denoised."""
    generator, rows = np.random.default_rng(0), []
    for path in sorted((data / "nuclei").glob("*.png")):
        y = np.asarray(Image.open(path).convert("L"), np.float32) / 255
        if y.shape == (256, 256) and len(rows) < 140:
            x = (y + 0.1 * generator.standard_normal(y.shape)).clip(0, 1).astype(np.float32)
            rows.append((x, denoise_tv_chambolle(x, 0.1).astype(np.float32), y))
    images = cm.Triplets.from_arrays(*map(np.stack, zip(*rows, strict=True)))
    return images.select(range(40, len(rows))), images.select(range(40))


def pairs(data: Path, *, repeats: bool) -> tuple[cm.Triplets, cm.Triplets]:
    """Crops of fields under a microscope, denoised, with two more acquisitions, or with their mean."""
    rows = []
    for path in sorted((data / "fmd").glob("*_noisy1.png")):
        paths = [path.with_name(path.name.replace("noisy1", f"noisy{place}")) for place in (1, 2, 3)]
        if not all(each.exists() for each in paths):
            continue
        x, b, c = (np.asarray(Image.open(each), np.float32) / 255 for each in paths)
        y_hat = denoise_tv_chambolle(x, 0.1).astype(np.float32)
        for top, left in ((0, 0), (0, 256), (256, 0), (256, 256)):
            window = np.s_[top : top + 240, left : left + 240]
            rows.append(tuple(image[window] for image in (x, y_hat, b, c)))
    x, y_hat, b, c = map(np.stack, zip(*rows[:36], strict=True))
    of_truth = {"y": b, "repeats": c} if repeats else {"y": (b + c) / 2}
    images = cm.Triplets.from_arrays(x, y_hat, **of_truth)
    return images.select(range(12, len(x))), images.select(range(12))


def ratio(loss: Loss, images: cm.Triplets, selection: cm.Triplets) -> dict[str, float]:
    """Median seconds of both, and of their ratio."""
    scorer = cm.packaged_scorer().of(images, loss)
    times: list[tuple[float, float]] = []
    for _ in range(1 + REPEATS):
        started = process_time()
        for part in (selection, images):
            for _item in scored_batches(scorer, part):
                pass
        scoring = process_time() - started
        started = process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cm.calibrate(cm.packaged_scorer(), images, threshold="q0.3", loss=loss, selection=selection)
        times.append((scoring, process_time() - started))
    scoring, calibrating = (median(column) for column in zip(*times[1:], strict=True))
    ratios = [calibration / scores for scores, calibration in times[1:]]
    return {"scoring_s": scoring, "calibration_s": calibrating, "ratio": median(ratios)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--losses", nargs="*", default=[*LOSSES, *OF_REPEATS])
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    of_nuclei = nuclei(options.data)
    results: dict[str, dict[str, float]] = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for name in options.losses:
        if name in LOSSES:
            results[name] = ratio(LOSSES[name], *of_nuclei)
        else:
            loss = OF_REPEATS[name]
            results[name] = ratio(loss, *pairs(options.data, repeats=isinstance(loss, cm.CleanMean)))
        print(f"{name:16}", *(f"{key} {value:.2f}" for key, value in results[name].items()), flush=True)
        RESULT.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
