"""What a level for each image hides less, and how far from the best possible masks that is.

    python research/levels.py WORK DATA [--tasks NAME ...] [--trained | --without-user-images]

Denoising, an enlargement and undersampled MR slices of DATA's nuclei, photographs, heads and eyes, and the
pairs of minute.py (its networks' outputs in WORK, from minute_networks.py). The packaged score of all
images is computed once; DEALS times whole groups are dealt to selection (20, 40 or 100 images), and half of
the other images, one by one, to calibration and test. The threshold is a quantile of the unmasked losses of
the selection images; 90 % is promised. With --trained it is a score that is trained on 160 other images.

Measured are the hidden share and the coverage of test images, of all and of the tenth with the largest
unmasked losses: with one lambda, with the guarantee `adaptive`, and with a level. Beside it what is hidden
if each image has its own best lambda with the same score, and by the best masks of the truth: from the
first to the second the level costs, from there to the best masks the order of the pixels.
results/levels.json keeps it, task by task; levels_page.py writes results/levels.md.

With --without-user-images the level of a task is fitted on the images of the other tasks named, and its own
selection images only state the threshold: what a level could be that is packaged with the score. The
logarithms of critical lambdas are relative to their mean over a task. It is fitted where that predicts tasks
that are left out better than one value does. research/results/levels_without.json keeps the results.
"""

import argparse
import json
import pickle
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import minute
import numpy as np
import torch
from PIL import Image
from skimage.restoration import denoise_tv_chambolle

import conformask as cm
from conformask.losses.of_images import exact_oracle
from conformask.masks.critical import calibration_data
from conformask.masks.families import family
from conformask.promises import kernel_ridge
from conformask.promises.data import Curves
from conformask.promises.order import marginal_rank, smallest
from conformask.promises.rules import covariates_of
from conformask.records.record import Array
from conformask.records.selection import Selection
from conformask.scores import scoring
from conformask.scores.level import LevelModel, fit_level, log_lambdas
from conformask.scores.steps import for_loss

RESULTS = Path(__file__).parent / "results" / "levels.json"
WITHOUT = RESULTS.with_name("levels_without.json")
OF_A_TASK, COUNT = 150, 40
"""Images of each of the other tasks to fit on, and selection images, without a user's images."""
CONFIDENCE, DEALS, QUANTILES, COUNTS = 0.9, 10, (0.1, 0.5), (20, 40, 100)
MOST, FEWEST, TENTH = 500, 30, 0.1
"""Of images, of groups to divide, and the share of the hardest images."""
SIDE, LINES, TRAINED, EPOCHS = 128, 0.35, 160, 12
GROUPS = 20
"""Number of groups that selection images come from where groups have several: as few as a level takes."""
Made = Iterator[tuple[str, Array, Array, Array]]
"""Group, x, y_hat and y, (H, W) or (H, W, 3) in [0, 1]."""


def middles(folder: Path, mode: str, step: slice = slice(None)) -> Iterator[tuple[str, Array]]:
    """The middle SIDE x SIDE pixels of images that have as many."""
    for path in sorted([*folder.glob("*.png"), *folder.glob("*.jpg")])[step]:
        image = np.asarray(Image.open(path).convert(mode), np.float32) / 255
        if min(image.shape[:2]) >= SIDE:
            top, left = ((length - SIDE) // 2 for length in image.shape[:2])
            yield path.stem, image[top : top + SIDE, left : left + SIDE]


def nuclei(work: Path, data: Path) -> Made:
    generator = np.random.default_rng(0)
    for name, y in middles(data / "nuclei", "L"):
        x = (y + 0.1 * generator.standard_normal(y.shape)).clip(0, 1)
        yield name, x, denoise_tv_chambolle(x, 0.1), y


def noisy_photographs(work: Path, data: Path) -> Made:
    generator = np.random.default_rng(1)
    for name, y in middles(data / "photos", "RGB", slice(1, None, 2)):
        x = (y + generator.uniform(0.03, 0.12) * generator.standard_normal(y.shape)).clip(0, 1)
        yield name, x, denoise_tv_chambolle(x, 0.12, channel_axis=2), y


def small_photographs(work: Path, data: Path) -> Made:
    for name, y in middles(data / "photos", "RGB", slice(0, None, 2)):
        small = Image.fromarray((255 * y).round().astype(np.uint8)).resize((32, 32), Image.Resampling.BOX)
        large = small.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        yield name, *(np.asarray(each, np.float32) / 255 for each in (small, large)), y


def undersampled(work: Path, data: Path) -> Made:
    """MR slices of which a share LINES of the lines of the Fourier transform is known, and the middle."""
    generator = np.random.default_rng(2)
    for path in sorted((data / "mr_t1").glob("*_t1.nii.gz")):
        scan = minute.nibabel.load(path).get_fdata(dtype=np.float32)
        for y in np.moveaxis((scan / np.quantile(scan, 0.999)).clip(0, 1)[..., 10:70:4], -1, 0):
            known = (generator.random(len(y)) < LINES) | (np.abs(np.fft.fftfreq(len(y))) < 0.06)
            x = np.abs(np.fft.ifft2(np.fft.fft2(y) * known[:, None])).clip(0, 1)
            yield path.name[:6], x, denoise_tv_chambolle(x, 0.03), y


def eyes(work: Path, data: Path) -> Made:
    for path in sorted((data / "oct").glob("*_noisy.png")):
        x, y = (
            np.asarray(Image.open(path.with_name(path.name.replace("noisy", role))).convert("L")) / 255
            for role in ("noisy", "clean")
        )
        y_hat = denoise_tv_chambolle(x, 0.25)
        for top in range(0, 256, 64):
            for left in range(0, 640, 64):
                yield path.name[:3], *(each[top : top + 64, left : left + 64] for each in (x, y_hat, y))


def of_minute(name: str) -> Callable[[Path, Path], Made]:
    def made(work: Path, data: Path) -> Made:
        arrays = minute.arrays_of(name, work, data)
        for group, *images in zip(*(arrays[each] for each in ("groups", "x", "y_hat", "y")), strict=True):
            yield str(group), *(image / np.float32(255) for image in images)

    return made


TASKS: dict[str, Callable[[Path, Path], Made]] = {
    "nuclei, noise, total variation": nuclei,
    "photographs, noise, total variation": noisy_photographs,
    "photographs, a quarter of the side, bicubic": small_photographs,
    "MR slices, a third of the lines, total variation": undersampled,
    "eyes, optical coherence tomography, total variation": eyes,
    **{name: of_minute(name) for name in minute.PAIRS},
}


@dataclass(frozen=True)
class Task:
    """The images of a task, scored, with all that the divisions need."""

    record: Selection
    groups: tuple[str, ...]
    errors: torch.Tensor
    """|y - y_hat|, (n, 1, H, W)."""


def scored(made: Made, *, trained: bool, folder: Path) -> Task | dict[str, int]:
    """Score the images of a task; their number and that of their groups where these are too few."""
    rows = list(made)
    rows = [rows[at] for at in np.random.default_rng(0).permutation(len(rows))]
    names = [f"{row[0]}-{at}" for at, row in enumerate(rows)]
    groups, *roles = zip(*rows, strict=True)
    x, y_hat, y = ([each.astype(np.float32) for each in role] for role in roles)
    images = cm.Triplets.from_arrays(x, y_hat, y, names=names, groups=list(groups))
    scorer, taken = cm.packaged_scorer().of(images), frozenset()
    if trained:
        taken = frozenset(first_groups(groups, TRAINED))
        own = images.select([at for at, group in enumerate(groups) if group in taken])
        train, selection = own.holdout(0.2)
        training = cm.TrainingConfig(epochs=EPOCHS, resume=True)
        scorer = cm.fit_scorer(train, selection=selection, loss="l1", out=folder, training=training)
    places = [at for at, group in enumerate(groups) if group not in taken][:MOST]
    images = images.select(places)
    if len(set(images.groups)) < FEWEST:
        return {"n": len(images), "groups": len(set(images.groups))}
    loss = cm.losses.loss("l1")
    scorer, masks = for_loss(scorer, loss), family("binary")
    scoring.QUARTERED = len(images)  # any of them may be dealt to selection
    record = scoring.selection_record(scorer, images, loss, [masks], 256)
    errors = torch.stack([torch.from_numpy(np.abs(t.y - t.y_hat)).mean(dim=0, keepdim=True) for t in images])
    return Task(record, images.groups, errors)


def measured(made: Made, *, trained: bool, folder: Path) -> dict[str, Any]:
    """What is hidden and kept of the images of a task, by number of selection images and quantile."""
    task = scored(made, trained=trained, folder=folder)
    if isinstance(task, dict):
        return task
    n = len(task.groups)
    return {
        f"{quantile:g}": {
            str(count): summary([deal(seed, count, quantile, task) for seed in range(DEALS)])
            for count in COUNTS
            if count <= n / 3
        }
        for quantile in QUANTILES
    } | {"n": n, "groups": len(set(task.groups))}


def measured_without(name: str, tasks: dict[str, Task]) -> dict[str, Any]:
    """What is hidden of the images of a task with a level of the other tasks, and with its own."""
    results: dict[str, Any] = {"n": len(tasks[name].groups)}
    for quantile in QUANTILES:
        model = fitted_on([task for other, task in tasks.items() if other != name], quantile)
        of_level = {"others": model, "own": None}
        results[f"{quantile:g}"] = {
            key: summary([deal(seed, COUNT, quantile, tasks[name], level) for seed in range(DEALS)])
            for key, level in of_level.items()
        } | {"fitted": bool(model.ridge.weights.any())}
    return results


def fitted_on(tasks: Sequence[Task], quantile: float) -> LevelModel:
    """The level of images of several tasks, each relative to the mean of its task."""
    rows, logs, of_task = [], [], []
    for at, task in enumerate(tasks):
        curves = task.record.curves["binary"].take(np.arange(min(OF_A_TASK, len(task.groups))))
        of_images = log_lambdas(curves, task.record.threshold(quantile))
        rows.append(task.record.level_features[: len(of_images)])
        logs.append(of_images - of_images.mean())
        of_task += [at] * len(of_images)
    ridge, left_out = kernel_ridge.fitted(
        np.concatenate(rows), np.concatenate(logs), np.array(of_task), np.ones(len(of_task), bool)
    )
    return LevelModel(ridge, left_out)


def first_groups(groups: Sequence[str], count: int) -> Iterator[str]:
    """The groups that the images begin with, whole, until they have this many images."""
    for group, size in Counter(groups).items():
        if count <= 0:
            return
        count -= size
        yield group


def deal(
    seed: int, count: int, quantile: float, task: Task, model: LevelModel | None = None
) -> dict[str, float]:
    """One division of the images, and what is measured of its test images; without a model, it is fitted."""
    record, masks, loss = task.record, family("binary"), cm.losses.loss("l1")
    generator, curves, quarters = (
        np.random.default_rng(seed),
        record.curves["binary"],
        record.quarters["binary"],
    )
    dealt: list[int] = []
    for group in generator.permutation(np.unique(curves.group)):
        if len(dealt) >= count:
            break
        dealt += list(generator.permutation(np.flatnonzero(curves.group == group))[: -(-count // GROUPS)])
    selection = np.array(dealt[:count])
    others = np.flatnonzero(~np.isin(curves.group, curves.group[selection]))
    calibration, test = np.array_split(generator.permutation(others), 2)
    of_quarters = quarters.take(np.flatnonzero(np.isin(quarters.names, curves.names[selection[:60]])))
    part = replace(
        record,
        unmasked_loss=record.unmasked_loss[selection],
        curves={"binary": curves.take(selection)},
        level_features=record.level_features[selection],
        quarters={"binary": of_quarters},
    )
    threshold, promise = part.threshold(quantile), cm.Promise()
    critical = calibration_data(curves, threshold, loss).critical_lambdas
    model = model or fit_level(part, masks, loss, promise, threshold)
    factors = np.ones(len(critical))
    if model is not None:
        levels = model(torch.from_numpy(record.level_features)).numpy().astype(float)
        factors = levels**masks.degree
    hard = test[record.unmasked_loss[test] >= np.quantile(record.unmasked_loss[test], 1 - TENTH)]
    adaptive = cm.Promise(guarantee="adaptive")
    adaptive = adaptive.fit_on_selection(
        calibration_data(part.curves["binary"], threshold, loss), len(calibration)
    )
    rule = adaptive.rule(calibration_data(curves.take(calibration), threshold, loss))
    lambdas = {
        "one": np.full(len(critical), lambda_of(critical[calibration])),
        "level": factors * lambda_of(critical[calibration] / factors[calibration]),
        "adaptive": rule(covariates_of(curves)),
    }
    found = {"chosen": float(model is not None)}
    for way, of_way in lambdas.items():
        met = of_way <= critical * (1 + 1e-9)
        found[f"{way} hidden"] = float(hidden_at(curves, of_way)[test].mean())
        found[f"{way} kept"] = float(met[test].mean())
        found[f"{way} kept of the hardest"] = float(met[hard].mean())
    found["own best"] = float(hidden_at(curves, critical)[test].mean())
    found["best"] = 1 - float(exact_oracle(task.errors[test], threshold, 1.0).mean())
    return found


def lambda_of(criticals: Array) -> float:
    return float(smallest(criticals, marginal_rank(len(criticals), CONFIDENCE)))


def hidden_at(curves: Curves, lambdas: Array) -> Array:
    """The hidden share at each image's lambda, by the grid point up to it."""
    below = np.searchsorted(curves.grid, lambdas * (1 + 1e-9), side="right") - 1
    return np.asarray(curves.hidden_shares[np.arange(len(lambdas)), below])


def summary(deals: list[dict[str, float]]) -> dict[str, float]:
    """Means over the divisions, and the mean, least and largest ratio of what is hidden."""
    means = {name: round(float(np.mean([each[name] for each in deals])), 4) for name in deals[0]}
    ratios = [each["level hidden"] / max(each["one hidden"], 1e-9) for each in deals]
    error = float(np.std(ratios, ddof=1) / np.sqrt(len(ratios)))
    return means | {"ratio": round(float(np.mean(ratios)), 4), "standard error": round(error, 4)}


def without_user_images(names: Sequence[str], work: Path, data: Path) -> None:
    """Measure each task with a level of the others; scored tasks are kept in WORK."""
    (work / "scored").mkdir(parents=True, exist_ok=True)
    tasks = {}
    for name in names:
        kept = work / "scored" / f"{name}.pickle"
        if not kept.exists():
            kept.write_bytes(pickle.dumps(scored(TASKS[name](work, data), trained=False, folder=work)))
        tasks[name] = pickle.loads(kept.read_bytes())
        print(name, len(tasks[name].groups), "images", flush=True)
    kernel_ridge.PAYS = 1.0  # the question is what is hidden with any function that predicts better
    results = {name: measured_without(name, tasks) for name in names}
    WITHOUT.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--trained", action="store_true")
    parser.add_argument("--without-user-images", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.without_user_images:
        without_user_images(options.tasks, options.work, options.data)
        return
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in options.tasks:
        key = f"{name}, trained" if options.trained else name
        if key not in results:
            made, folder = TASKS[name](options.work, options.data), options.work / "levels" / key
            results[key] = measured(made, trained=options.trained, folder=folder)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        print(key, json.dumps(results[key]), flush=True)


if __name__ == "__main__":
    main()
