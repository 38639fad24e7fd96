"""Evaluation of a masker on images that no choice has seen: from measures of each to evaluation.json."""

import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from conformask.arrays import Array
from conformask.background import DEFAULT_DEVICES, Compute, main_process
from conformask.errors import MismatchError, expect
from conformask.images.scan import scan
from conformask.images.triplets import Triplets
from conformask.masker.candidates import usual_release
from conformask.masker.checks import check_test_images, refuse_noisy
from conformask.masker.masker import Masker
from conformask.masker.measure import SHARES, examples_of, gain_of, measures_of
from conformask.masker.validation import category_coverage, measurement_of
from conformask.promises.intervals import bootstrap, correlation
from conformask.records.evaluation import (
    Evaluation,
    EvaluationProvenance,
    ImageRecords,
    ObjectCounts,
    RiskCurve,
)
from conformask.scores.benchmark import compared_on_test
from conformask.scores.scoring import check_parts, gathered, parts_folder

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
    compute: Compute = DEFAULT_DEVICES,
) -> Evaluation:
    """Measure a masker on test triplets; out receives evaluation.json and its arrays.

    The paper's Opt is solved for lp distances; for others it is iterated, on the first `opt_images` images.
    If its mask sizes are known, give them as `opt_sizes`, (n_test,), with NaN where they are not. Outputs of
    another network than the calibration's are measured only with `of_any_network()`. The results of a
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
    admission = masker.admit(test)
    if admission.sizes and masker.card.tiles is None:
        raise MismatchError(next(iter(admission.sizes.values())))
    admission.warn()
    refuse_noisy(masker.card.promise, masker.loss, test.reference)
    seen = scan(test, "reading test images")
    check_test_images(masker, test, seen)
    if opt_sizes is not None:
        opt_images = 0
    elif masker.loss.traits.block_exponent is not None:
        opt_images = len(test)
    with parts_folder(compute):
        records, risk, facts = _measured(masker, test, opt_images, compute)
    masker.warn_of_clipped(test.names, facts["clipped"])
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
    measurement = measurement_of(masker, records.loss, groups, categories)
    by_category = measurement.worst is not None
    measured = facts | {"hidden": records.size, "within": met}
    release_share, power, verdicts = usual_release(masker, test, measured)
    evaluation = Evaluation(
        card=card,
        fingerprint=masker.fingerprint,
        scorer=masker.scorer.name,
        n_test=len(test),
        coverage=measurement.coverage,
        coverage_interval=measurement.coverage_interval,
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
        examples=examples_of(masker, test, records, records.loss, gain_of(records, met), verdicts),
        mean_loss=measurement.mean_loss,
        mean_loss_interval=bootstrap(records.loss, groups=groups),
        p_worse=measurement.p_worse,
        p_better=measurement.p_better,
        expected=measurement.expected,
        risk=risk,
        coverage_by_category=category_coverage(masker, records.loss, groups, categories)
        if by_category
        else (),
        worst=measurement.worst,
        network=test.network,
        caveat=admission.caveat,
        comparison=masker.comparison
        or compared_on_test(masker.scorer, test, masker.loss, masker.family, card.threshold),
        made=provenance_of_evaluation(card.calibrated, seen.contents),
        n_groups=len(np.unique(groups)) if promise.by_group else None,
        reference=test.reference,
        noise_floor=_mean(facts["noise"]),
        power=power,
        release_share=release_share,
        again=partial(_recalibrate, masker, test, opt_images),
        objects=ObjectCounts(*facts["objects"].sum(axis=0).tolist()) if "objects" in facts else None,
    )
    if out is not None and main_process():
        evaluation.save(Path(out))
    return evaluation


def _recalibrate(masker: Masker, test: Triplets, opt_images: int, promise: Mapping[str, Any]) -> Evaluation:
    recalibrated = masker.recalibrate(**promise)
    return evaluate(recalibrated, test, opt_images=opt_images)


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


def provenance_of_evaluation(calibrated: str, images: str) -> EvaluationProvenance:
    """Return the provenance of an evaluation by this process, on images with this hash."""
    versions = {"Python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}
    program, *arguments = sys.argv or [""]
    command = None  # in a notebook or an interactive session
    if Path(program).stem == "conformask":
        command = shlex.join(["conformask", *arguments])
    elif program.endswith(".py") and "ipykernel" not in sys.modules:
        command = shlex.join(["python", program, *arguments])
    return EvaluationProvenance(calibrated, images, versions, command)
