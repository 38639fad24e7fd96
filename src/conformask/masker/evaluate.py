"""Evaluation of a masker on images that no choice has seen: from measures of each to evaluation.json."""

import platform
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import label
from torch import Tensor

from conformask.arithmetic import image_means
from conformask.arrays import Array, Batch, Images, Triplet
from conformask.background import DEFAULT_DEVICES, Compute, main_process
from conformask.errors import MismatchError, expect
from conformask.images.pictures import as_bytes, error_bytes, in_colors, planes_of
from conformask.images.scan import scan
from conformask.images.triplets import Triplets, stacked
from conformask.losses import exponent_by_blocks, paper_distance
from conformask.losses.of_images import with_channels
from conformask.masker.admission import Admission
from conformask.masker.candidates import candidates, facts_for_release, judged, usual_share
from conformask.masker.guards import check_test_images, refuse_noisy
from conformask.masker.masker import Masker
from conformask.masker.validation import category_coverage, compare_with_promise
from conformask.masks.critical import critical_lambdas, loss_on, mask_size, paper_oracle, unmasked_loss
from conformask.promises.axes import EachCategory
from conformask.promises.intervals import bootstrap, correlation
from conformask.records.card import CalibrationCard
from conformask.records.evaluation import (
    Evaluation,
    EvaluationProvenance,
    Example,
    ImageRecords,
    RiskCurve,
)
from conformask.records.release import ReleasePower
from conformask.records.selection import ScoreComparison
from conformask.scores.benchmark import WITHOUT_TRAINING, ScoreBenchmark
from conformask.scores.scoring import check_parts, gathered, parts_folder

EACH = 3
"""Number of images of each kind."""


def gain_of(records: ImageRecords, met: Array) -> Array:
    """Return how much less loss each mask leaves than a uniform mask of its size.

    It is -inf where a mask failed, or hides nothing. Images that are hidden altogether gain nothing.
    """
    uniform_loss = (1 - records.size) * records.unmasked_loss
    return np.where(met & (records.size > 0), uniform_loss - records.loss, -np.inf)


def examples_of(
    masker: Masker,
    test: Triplets,
    records: ImageRecords,
    by: Array,
    gain: Array,
    releases: Mapping[str, str],
) -> tuple[Example, ...]:
    """Return three of each kind: best by the largest gain, (n_test,), worst by the largest `by`, typical.

    The best hide something. For volumes it takes one of each kind, and shows selected slices of it.
    `releases` says by name whether an image would be released.
    """
    order, best = np.argsort(by, kind="stable"), np.argsort(-gain, kind="stable")
    count = EACH if test.dimensions == 2 else 1
    middle = max(0, (len(order) - count) // 2)
    kinds = {
        "best": best[:count][gain[best[:count]] > -np.inf],
        "typical": order[middle : middle + count],
        "worst": order[::-1][:count],
    }
    kind_by_index: dict[int, str] = {}
    # an image is shown once; one that is among the worst must not be shown as typical
    for kind in ("worst", "best", "typical"):
        for index in kinds[kind]:
            kind_by_index.setdefault(int(index), kind)
    return tuple(
        replace(example, release=releases.get(test.names[index], ""))
        for index, kind in kind_by_index.items()
        for example in _examples(masker, test[index], kind, records, index)
    )


def _examples(
    masker: Masker, triplet: Triplet, kind: str, records: ImageRecords, index: int
) -> Iterator[Example]:
    item = masker.scored(stacked([triplet]))
    mask = masker.open(item)[0].numpy()
    oracle = float(records.oracle_size[index])
    truth = triplet.truth()
    error = np.abs(truth - triplet.y_hat)
    images = triplet.x, triplet.y_hat, truth
    for (mask_plane, x, y_hat, y), plane in planes_of(mask, *images, geometry=triplet.geometry, error=error):
        name = triplet.name if plane is None else f"{triplet.name}, {plane}"
        yield picture_of(
            replace(triplet, name=name, x=x, y_hat=y_hat, y=y, layers={}),
            mask_plane,
            kind=kind,
            size=float(records.size[index]),
            loss=float(records.loss[index]),
            oracle_size=None if np.isnan(oracle) else oracle,
        )


def picture_of(
    triplet: Triplet, mask: Array, *, kind: str, size: float, loss: float, oracle_size: float | None
) -> Example:
    """Return the pictures of a triplet and its mask (1 or C, H, W), ready to show."""
    error, scale = error_bytes(triplet.truth(), triplet.y_hat)
    return Example(
        name=triplet.name,
        kind=kind,
        x=in_colors(triplet.x),
        y=in_colors(triplet.truth()),
        y_hat=in_colors(triplet.y_hat),
        mask=as_bytes(mask),
        error=error,
        error_scale=scale,
        size=size,
        loss=loss,
        oracle_size=oracle_size,
    )


SHARES = tuple(round(0.05 * step, 2) for step in range(20))
"""Hidden shares at which the error is measured."""


def risk_curves(
    score: Images, y: Images, y_hat: Images, region: Images | None
) -> Float[np.ndarray, "n 2 shares"]:
    """Return the mean |y - y_hat| of what is shown at each of SHARES, float64.

    First with the pixels of the largest scores hidden, then with those of the largest errors, which is the
    least that any score can leave (the sparsification curves of Ilg et al. 2018). With a region, shares and
    means are those of its pixels.
    """
    errors = with_channels((y - y_hat).abs(), score.shape[1]).double()
    inside = torch.ones_like(score) if region is None else region.expand_as(score)
    curves = []
    for of_image, error, weight in zip(score, errors, inside, strict=True):
        here = weight > 0
        curves.append([_left(order, error[here]) for order in (of_image[here], error[here])])
    return np.array(curves)


def _left(order: Tensor, errors: Tensor) -> list[float]:
    """Return the mean of the errors that are left at each share, the largest of `order` hidden first."""
    sums = errors[order.argsort(descending=True, stable=True)].cumsum(0)
    hidden = [int(share * len(errors)) for share in SHARES]
    total = float(sums[-1])
    return [(total - (float(sums[k - 1]) if k else 0.0)) / (len(errors) - k) for k in hidden]


def measures_of(masker: Masker, opt_names: frozenset[str], item: Batch) -> dict[str, Array]:
    """Return the columns of ImageRecords for a batch, risk curves, and facts for what else is evaluated.

    The paper's Opt is computed for the names in `opt_names`.
    """
    judged_batch = masker.judge(item)
    assert judged_batch.loss is not None
    mask, region = judged_batch.mask, judged_batch.region
    noise, unknown = item.layers.get("noise"), np.full(len(item), np.nan)
    oracle = loss_on(item, masker.loss).oracle(masker.card.threshold)
    hidden_error, shown_error = _errors(mask, item, region)
    return {
        **masker.loss.measures(mask, item),
        "name": np.array(item.names),
        "loss": judged_batch.loss,
        "unmasked_loss": _array(unmasked_loss(masker.loss, item)),
        "size": judged_batch.size,
        "oracle_size": unknown if oracle is None else _array(mask_size(oracle, region)),
        "paper_oracle_size": _paper_sizes(masker, item, opt_names),
        "critical_lambda": critical_lambdas_of(masker, item),
        "difficulty": _array(image_means(item.score.map)),
        "hidden_error": hidden_error,
        "shown_error": shown_error,
        "noise": unknown if noise is None else _array(image_means(noise)),
        **({} if masker.card.is_grey else _parts(mask)),
        **facts_for_release(masker, item),
        "risk": risk_curves(item.score.map, item.truth(), item.y_hat, region),
    }


def _errors(mask: Images, batch: Batch, region: Images | None) -> tuple[Array, Array]:
    """Return the means of |y - y_hat| over what is hidden and over what is shown; NaN where nothing is."""
    error = with_channels((batch.truth() - batch.y_hat).abs(), mask.shape[1])
    inside = torch.ones_like(mask) if region is None else region.expand_as(mask)
    means = []
    for weight in ((1 - mask) * inside, mask * inside):
        total, share = (image_means(each, torch.float64) for each in (weight * error, weight))
        means.append(_array(torch.where(share > 0, total / share, torch.nan)))
    hidden, shown = means
    return hidden, shown


def _parts(mask: Images) -> dict[str, Array]:
    """Return numbers of connected parts of masks of 0 and 1, and of the sides of pixels between them.

    Pixels are neighbours along sides, within a channel.
    """
    shown = mask.cpu().numpy() > 0
    axes = range(2, shown.ndim)
    boundary = sum(np.diff(shown, axis=axis).sum(axis=(1, *axes)) for axis in axes)
    shown_parts, hidden_parts = (
        np.array([sum(label(channel)[1] for channel in image) for image in each]) for each in (shown, ~shown)
    )
    columns = {"shown_parts": shown_parts, "hidden_parts": hidden_parts, "boundary": boundary}
    return {name: np.asarray(values, np.float64) for name, values in columns.items()}


def critical_lambdas_of(masker: Masker, item: Batch) -> Float[np.ndarray, "n"]:
    """Return critical lambdas as in calibration: exact for monotone losses, else on the masker's grid."""
    return critical_lambdas(item, masker.family, masker.loss, masker.grid, masker.card.threshold)


def _paper_sizes(masker: Masker, item: Batch, opt_names: frozenset[str]) -> Array:
    distance, sizes = paper_distance(masker.loss), np.full(len(item), np.nan)
    indices = [place for place, name in enumerate(item.names) if name in opt_names]
    if distance is not None and indices:
        y, y_hat = item.truth()[indices], item.y_hat[indices]
        per_channel = item.score.map.shape[1] > 1
        mask, reached = paper_oracle(distance, y, y_hat, masker.card.threshold, per_channel)
        sizes[indices] = np.where(reached.cpu().numpy(), _array(mask_size(mask)), np.nan)
    return sizes


def _array(values: Tensor) -> Array:
    return values.detach().to(torch.float64).cpu().numpy()


DECILES = 10
"""Number of parts by difficulty."""
PARTS = "evaluating"
"""Folder, in the run folder, of the finished parts of an evaluation."""
OPT_IMAGES = 40
"""Number of images on which the paper's Opt is iterated; each takes seconds."""
LIBRARIES = ("conformask", "torch", "numpy")
"""Libraries whose version can change a measurement."""


def evaluate(
    masker: Masker,
    test: Triplets,
    *,
    out: str | Path | None = None,
    opt_images: int = OPT_IMAGES,
    opt_sizes: Array | None = None,
    allow_network_mismatch: bool = False,
    compute: Compute = DEFAULT_DEVICES,
) -> Evaluation:
    """Measure a masker on test triplets; out receives evaluation.json and its arrays.

    The paper's Opt is solved for lp distances; for others it is iterated, on the first `opt_images` images.
    If its mask sizes are known, give them as `opt_sizes`, (n_test,), with NaN where they are not. Outputs of
    another network than the calibration's are measured only with `allow_network_mismatch`. The results of a
    killed evaluation are kept in out, and it resumes from them; several devices share the images through that
    folder, or that of `compute`.

    Raises:
        CalibrationError: test images that the scorer, the predictor or the calibration has seen.
        MismatchError: images of other channels, size or network than those of the calibration.
        ImageError: an image that cannot be used.
        InvalidArgumentError: too many devices, or several without out; or noisy references, by which the
            loss of this promise cannot be measured.

    Examples:
        >>> import numpy as np
        >>> import conformask as cm
        >>> y = np.random.default_rng(0).random((30, 16, 16), dtype=np.float32)
        >>> images = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> scorer = cm.Heuristic(cm.residual, channels=1)
        >>> masker = cm.calibrate(scorer, images, threshold=0.05, loss="l1")
        >>> y = np.random.default_rng(1).random((20, 16, 16), dtype=np.float32)
        >>> new = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> cm.evaluate(masker, new).coverage
        0.95
    """
    expect(masker, Masker, "masker", "what calibrate() or load() returned")
    if out is not None and compute.parts is None:
        compute = replace(compute, parts=Path(out) / PARTS)
    check_parts(compute)
    admission = masker.admit(test, allow_network_mismatch=allow_network_mismatch)
    if admission.sizes and masker.card.tiles is None:
        raise MismatchError(next(iter(admission.sizes.values())))
    admission.warn()
    refuse_noisy(masker.card.promise, masker.loss, test.reference)
    seen = scan(test, "reading test images")
    check_test_images(masker, test, seen)
    if opt_sizes is not None:
        opt_images = 0
    elif exponent_by_blocks(masker.loss) is not None:
        opt_images = len(test)
    with parts_folder(compute):
        records, risk, facts = _measured(masker, test, opt_images, compute)
    Admission.of_clipped(test.names, facts["clipped"], masker.card.clipped).warn()
    if opt_sizes is not None:
        records = replace(records, paper_oracle_size=opt_sizes)
    groups, categories = np.array(test.groups), np.array(test.categories)
    met = masker.within(records.loss)
    labels = np.array(["" if category is None else category for category in test.categories])
    records = replace(records, group=groups, category=labels, passed=met)
    # stable, so that images with equal scores fall into the same tenths at every run
    order = np.argsort(records.difficulty, kind="stable")
    deciles = np.array_split(order, min(DECILES, len(order)))
    opt = records.paper_oracle_size
    size, oracle = float(records.size.mean()), _mean(records.oracle_size)
    card, promise = masker.card, masker.card.promise
    held = compare_with_promise(masker, records.loss, groups, categories)
    tails = held.tails
    by_category = isinstance(promise.axes.population, EachCategory)
    coverage, interval = promise.axes.unit.coverage(met, groups)
    release_share = usual_share(masker, test)
    power, releases = _released(masker, test, facts | {"hidden": records.size, "within": met}, release_share)
    evaluation = Evaluation(
        card=card,
        fingerprint=masker.fingerprint,
        scorer=masker.scorer.name,
        n_test=len(test),
        coverage=coverage,
        coverage_interval=interval,
        mask_size=size,
        mask_size_interval=bootstrap(records.size, groups=groups),
        mask_size_oracle=oracle,
        mask_size_paper_oracle=_mean(opt),
        n_paper_oracle=int(np.isfinite(opt).sum()),
        ratio_to_oracle=size / oracle if oracle else None,
        correlation_size_loss=correlation(records.size, records.unmasked_loss),
        correlation_size_oracle=correlation(records.size, opt),
        spearman_size_loss=correlation(records.size, records.unmasked_loss, of_ranks=True),
        spearman_size_oracle=correlation(records.size, opt, of_ranks=True),
        coverage_by_difficulty=tuple(float(met[part].mean()) for part in deciles),
        size_by_difficulty=tuple(float(records.size[part].mean()) for part in deciles),
        size_by_threshold=masker.size_by_threshold(),
        images=records,
        examples=examples_of(masker, test, records, records.loss, gain_of(records, met), releases),
        mean_loss=float(records.loss.mean()),
        mean_loss_interval=bootstrap(records.loss, groups=groups),
        p_worse=None if tails is None else tails.worse,
        p_better=None if tails is None else tails.better,
        expected=held.expected(promise),
        risk=risk,
        coverage_by_category=category_coverage(masker, records.loss, groups, categories)
        if by_category
        else (),
        worst=held.worst,
        network=test.network,
        caveat=admission.caveat,
        comparison=_comparison(masker, test),
        made=provenance_of_evaluation(card, seen.contents),
        n_groups=len(np.unique(groups)) if promise.by_group else None,
        reference=test.reference,
        noise_floor=_mean(facts["noise"]),
        power=power,
        release_share=release_share,
        again=partial(_recalibrate, masker, test, opt_images, allow_network_mismatch),
        **masker.loss.summary(facts),
    )
    if out is not None and main_process():
        evaluation.save(Path(out))
    return evaluation


def _comparison(masker: Masker, test: Triplets) -> ScoreComparison | None:
    """Return how the score compares with others: as it did before calibration, else on the test images.

    The latter only for scores that need no training, which are seldom compared before, and for masks in
    connected parts, beside those of parts of any size.
    """
    if masker.comparison is not None:
        return masker.comparison
    is_compared = masker.scorer.name in WITHOUT_TRAINING or masker.card.patches is not None
    if not is_compared or masker.card.tiles is not None:
        return None
    benchmark = ScoreBenchmark.on(test, masker.loss, masker.family, masker.card.threshold)
    return None if benchmark is None else replace(benchmark.compare(masker.scorer), part="test")


def _released(
    masker: Masker, test: Triplets, measured: Mapping[str, Array], share: float | None
) -> tuple[tuple[ReleasePower, ...], dict[str, str]]:
    """Return what a release keeps at several shares, and of each image whether it is released at this one."""
    if share is None:
        return (), {}
    new = candidates(masker, test.groups, measured)
    images = judged(masker, test.names, measured, new, new.released(share))
    return new.power(), {image.name: image.verdict for image in images}


def _recalibrate(
    masker: Masker, test: Triplets, opt_images: int, allow_network_mismatch: bool, promise: Mapping[str, Any]
) -> Evaluation:
    recalibrated = masker.recalibrate(**promise)
    return evaluate(recalibrated, test, opt_images=opt_images, allow_network_mismatch=allow_network_mismatch)


def _measured(
    masker: Masker, test: Triplets, opt_images: int, compute: Compute
) -> tuple[ImageRecords, RiskCurve, dict[str, Array]]:
    """Return the records of the images, their mean risk curve, and what else was measured of them."""
    measure = partial(measures_of, masker, frozenset(test.names[:opt_images]))
    names = [field.name for field in fields(ImageRecords)]
    key = (masker.fingerprint, opt_images, "risk", "noise", "appearance", names)
    columns = gathered(masker.scorer, test, measure, "evaluating", key, compute)
    by_score, best = columns.pop("risk").mean(axis=0).tolist()
    records = ImageRecords(**{name: columns.pop(name) for name in names if name in columns})
    return records, RiskCurve(SHARES, tuple(by_score), tuple(best)), columns


def _mean(values: Array) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None


def provenance_of_evaluation(card: CalibrationCard, images: str) -> EvaluationProvenance:
    """Return the provenance of an evaluation by this process, on images with this hash."""
    versions = {"Python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}
    program, *arguments = sys.argv or [""]
    command = None  # in a notebook or an interactive session
    if Path(program).stem == "conformask":
        command = shlex.join(["conformask", *arguments])
    elif program.endswith(".py") and "ipykernel" not in sys.modules:
        command = shlex.join(["python", program, *arguments])
    return EvaluationProvenance(card.calibrated, images, versions, command)
