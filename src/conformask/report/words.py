"""Texts of the report: the promise in plain words, whether it was kept, and the numbers."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from conformask.conformal.crossing import meets_threshold
from conformask.records.card import EVERY_CALIBRATION_IMAGE, EVERY_IMAGE
from conformask.records.evaluation import Evaluation, is_rare, judged_coverage, standing
from conformask.wording.measurements import (
    expectation_text,
    promised_and_measured,
    release_table,
    worst_text,
)
from conformask.wording.numbers import figure, interval_text, percent, plural, share
from conformask.wording.promises import EXPLORATORY_TEXT, all_hidden_text, network_label, promised_share
from conformask.wording.scores import useless_text

ABSENT = "does not exist for this loss"
ALIKE = " Are these images like the calibration images?"
TENTH = 20
"""Number of images from which the coverage of a tenth says something."""
ENOUGH = 10
"""Number of partly hidden images from which the errors of what is hidden and shown are compared."""


@dataclass(frozen=True)
class Verdict:
    """Comparison of the measurement with the promise."""

    status: str
    """Class of the style sheet: agrees, above, below or open."""
    title: str
    text: str


@dataclass(frozen=True)
class KeyNumber:
    """One key number."""

    label: str
    value: str
    note: str


def sample_text(evaluation: Evaluation) -> str:
    """Return what was counted in a test."""
    unit = evaluation.card.promise.resolve().unit
    groups = unit.is_group and evaluation.n_groups is not None
    count = evaluation.n_groups if groups else evaluation.n_test
    return plural(count or 0, f"test {evaluation.card.promise.named(unit.singular)}")


def verdict(evaluation: Evaluation) -> Verdict:
    """Return whether the test images agree with the promise, in plain words."""
    confidence, caveat = promised_share(evaluation.card.promise), evaluation.caveat
    if caveat is not None and caveat.other:
        measurement = f"Measured {share(evaluation.coverage)} of {sample_text(evaluation)}"
        text = f"{measurement} ({interval_text(evaluation.coverage_interval)}). {caveat.text}."
        return Verdict("open", "Not about these images", f"{text} Nothing was promised for them.")
    if evaluation.card.hides in (EVERY_IMAGE, EVERY_CALIBRATION_IMAGE):
        return Verdict("open", "Everything is hidden", all_hidden_text(evaluation.card.hides))
    if confidence is None:
        return _mean_verdict(evaluation)
    unit = evaluation.card.promise.resolve().unit
    text = evaluation.card.promise.named(
        promised_and_measured(confidence, evaluation, sample_text(evaluation), unit)
    )
    chance = _chance_text(evaluation) if judged_coverage(evaluation)[0] < confidence else ""
    stands = standing(confidence, evaluation)
    if stands == "above":
        return Verdict("above", "Above the promise", f"{text}: the masks are more careful than promised.")
    if stands == "below":
        return Verdict(
            "below",
            "Below the promise",
            f"{text}, lower than chance alone explains in 95 of 100 tests.{chance}{ALIKE}",
        )
    return Verdict(
        "agrees", "Agrees with the promise", f"{text}{expectation_text(confidence, evaluation)}.{chance}"
    )


def _mean_verdict(evaluation: Evaluation) -> Verdict:
    judged, (low, high) = evaluation.worst or evaluation, evaluation.mean_loss_interval
    text = (
        "The promise is about a mean loss, not about a share of images: the mean loss of the test images "
        f"is {figure(evaluation.mean_loss)} (95\N{NO-BREAK SPACE}% interval {figure(low)} to {figure(high)})"
        f"{worst_text(evaluation, of_means=True)}, and at most "
        f"{figure(evaluation.card.threshold)} was promised. {share(evaluation.coverage)} of "
        f"{sample_text(evaluation)} are {evaluation.card.promise.resolve().unit.kept}."
    )
    threshold = evaluation.card.threshold
    if judged.mean_loss > threshold and is_rare(evaluation.p_worse, low > threshold):
        return Verdict("below", "Above the limit", text + _chance_text(evaluation) + ALIKE)
    if not evaluation.card.promise.resolve().statement.measurable:
        return Verdict("open", "Not directly measurable", text + " One truth per input cannot show its mean.")
    return Verdict("agrees", "Agrees with the promise", text)


def _chance_text(evaluation: Evaluation) -> str:
    """Return how often chance measures as bad as this, where that is known."""
    if evaluation.p_worse is None:
        return ""
    return (
        " If the promise is kept, a result this bad or worse occurs by chance in "
        f"{share(evaluation.p_worse)} of evaluations."
    )


def caveats(evaluation: Evaluation) -> list[str]:
    """Return warnings to read before the promise is relied on, apart from what it does not say."""
    network = evaluation.caveat
    return [
        *([] if network is None else [f"{network.text[0].upper()}{network.text[1:]}."]),
        *([] if evaluation.card.hides is None else [all_hidden_text(evaluation.card.hides)]),
        *([EXPLORATORY_TEXT] if evaluation.card.exploratory else []),
        *doubts(evaluation),
    ]


def doubts(evaluation: Evaluation) -> Iterator[str]:
    """Yield what speaks against the score: the promise holds, but what is hidden is not what is wrong."""
    errors, comparison = evaluation.images.hidden_and_shown_error, evaluation.comparison
    if errors is not None and errors[0] < errors[1] and errors[2] >= ENOUGH:
        yield (
            f"The masks hide the better pixels: {errors_text(evaluation)}. The promise holds nevertheless, "
            "but the score does not find the errors: train one, or use another."
        )
    useless = None if comparison is None else useless_text(comparison)
    if useless is not None:
        yield useless


def errors_text(evaluation: Evaluation) -> str:
    """Return the mean errors of what is hidden and of what is shown."""
    errors = evaluation.images.hidden_and_shown_error
    if errors is None:
        return "not measured: no image is partly hidden"
    hidden, shown, count = errors
    return (
        f"mean {evaluation.reference.error} is {figure(hidden)} where they hide and {figure(shown)} where "
        f"they show ({plural(count, 'image')} with both)"
    )


def parts_text(evaluation: Evaluation) -> str | None:
    """Return the mean number of connected parts of a mask, and the length of their boundary, or None."""
    if evaluation.images.parts is None:
        return None
    shown, hidden, boundary = map(figure, evaluation.images.parts)
    return f"{shown} shown and {hidden} hidden, with a boundary of {boundary} pixels"


def tiles(evaluation: Evaluation) -> list[KeyNumber]:
    """Return the key numbers, in the order in which readers ask for them."""
    interval = "\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}".join(map(figure, evaluation.mask_size_interval))
    confidence = promised_share(evaluation.card.promise)
    promised = f"promised {percent(confidence)}" if confidence else "share within the threshold"
    hardest = hardest_tenth(evaluation)
    note = promised if hardest is None else f"{promised}; hardest tenth {share(hardest)}"
    if evaluation.worst is not None:
        note += f"; {evaluation.worst.category} {share(evaluation.worst.coverage)}"
    return [
        KeyNumber("Coverage", share(evaluation.coverage), note),
        KeyNumber(
            "Mask size",
            figure(evaluation.mask_size),
            f"95\N{NO-BREAK SPACE}% interval {interval}",
        ),
        _oracle_tile(evaluation),
        KeyNumber(
            "Test images",
            f"{evaluation.n_test:,}",
            f"after {plural(evaluation.card.n_calibration, 'calibration image')}",
        ),
        KeyNumber("Threshold", f"{evaluation.card.threshold:.4g}", f"on {evaluation.card.loss.label}"),
        KeyNumber(
            "Scorer",
            evaluation.scorer,
            f"{evaluation.card.family_name} · {evaluation.card.promise.guarantee}",
        ),
    ]


def by_tenths(evaluation: Evaluation) -> bool:
    """Return whether the tenths of the images have enough of them to be looked at one by one."""
    parts = len(evaluation.coverage_by_difficulty)  # 0 in what is measured by parts
    return parts > 0 and evaluation.n_test >= TENTH * parts


def hardest_tenth(evaluation: Evaluation) -> float | None:
    """Return the coverage of the tenth with the largest mean scores; None where tenths are too small."""
    return evaluation.coverage_by_difficulty[-1] if by_tenths(evaluation) else None


def _oracle_tile(evaluation: Evaluation) -> KeyNumber:
    if evaluation.mask_size_oracle is not None:
        ratio = evaluation.ratio_to_oracle
        note = (
            f"sees the {evaluation.reference.noun}"
            if ratio is None or math.isnan(ratio)
            else f"ours is {figure(ratio)} times as large"
        )
        return KeyNumber("Oracle’s size", figure(evaluation.mask_size_oracle), note)
    if evaluation.mask_size_paper_oracle is not None:
        return KeyNumber("The paper’s Opt", figure(evaluation.mask_size_paper_oracle), "no oracle here")
    return KeyNumber("Oracle’s size", "–", ABSENT)


def numbers(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return the rows of the table: what was measured, and its value."""
    images, objects, unit = evaluation.images, evaluation.objects, evaluation.card.promise.resolve().unit
    within = meets_threshold(images.unmasked_loss, evaluation.card.threshold)
    interval = " – ".join(map(share, evaluation.coverage_interval))
    size_interval = " – ".join(map(figure, evaluation.mask_size_interval))
    oracle_size = ABSENT if evaluation.mask_size_oracle is None else figure(evaluation.mask_size_oracle)
    parts = parts_text(evaluation)
    return [
        (
            evaluation.card.promise.named(f"Coverage: test {unit.singular}s {unit.kept}"),
            f"{share(evaluation.coverage)} ({interval})",
        ),
        ("Without a mask: test images within the threshold", share(within.mean() if within.size else None)),
        ("Mean loss", _mean_loss(evaluation)),
        *_categories(evaluation),
        *([] if objects is None else [("Objects shown", objects.shown_text)]),
        *([] if objects is None else [("Objects that the network lacks", objects.lacking_text)]),
        ("Mean mask size", f"{figure(evaluation.mask_size)} ({size_interval})"),
        ("Of the masks", errors_text(evaluation)),
        *([] if parts is None else [("Connected parts of a mask, on average", parts)]),
        ("Mean mask size of the oracle", oracle_size),
        ("Mean mask size, ours / oracle’s", figure(evaluation.ratio_to_oracle)),
        ("Mean mask size of the paper’s Opt", _paper_oracle(evaluation)),
        (
            "Correlation of mask size with the unmasked loss",
            _correlations_text(evaluation.correlation_size_loss, evaluation.spearman_size_loss),
        ),
        (
            "Correlation of mask size with the paper’s Opt",
            _correlations_text(evaluation.correlation_size_oracle, evaluation.spearman_size_oracle),
        ),
        *_reference(evaluation),
        ("Loss, threshold", f"{evaluation.card.loss.label}, {evaluation.card.threshold:.6g}"),
        ("Formula of the loss", evaluation.card.loss.formula),
        ("Guarantee, confidence", f"{evaluation.card.promise.guarantee}, {_confidence_text(evaluation)}"),
        ("Scorer, masks", f"{evaluation.scorer}, {evaluation.card.masks}"),
        ("Calibration and test images", f"{evaluation.card.n_calibration:,} and {evaluation.n_test:,}"),
        ("Network that made the test images", network_label(evaluation.network)),
        ("Fingerprint of the masker", evaluation.fingerprint or "–"),
    ]


def _mean_loss(evaluation: Evaluation) -> str:
    interval = " – ".join(map(figure, evaluation.mean_loss_interval))
    return f"{figure(evaluation.mean_loss)} ({interval})"


def releases(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """Return the rows of the table of releases, headings first; empty where nothing is promised of one."""
    return release_table(evaluation.power, sample_text(evaluation), percent) if evaluation.power else []


def _reference(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    if evaluation.reference.is_noisy:
        yield "Reference y of the test images", evaluation.reference.text
    if evaluation.noise_floor is not None:
        yield (
            "Noise floor: mean of v, the L2 to y of a perfect output",
            f"{figure(evaluation.noise_floor)}, {evaluation.reference.formula}",
        )


def _categories(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    for category in evaluation.coverage_by_category:
        interval = " – ".join(map(share, category.interval))
        yield f"Coverage of {category.category}", f"{share(category.coverage)} of {category.n} ({interval})"


def _confidence_text(evaluation: Evaluation) -> str:
    return (
        "on the mean"
        if evaluation.card.promise.confidence is None
        else percent(evaluation.card.promise.confidence)
    )


def _paper_oracle(evaluation: Evaluation) -> str:
    if evaluation.mask_size_paper_oracle is None:
        return "not computed, or never within the threshold"
    return f"{figure(evaluation.mask_size_paper_oracle)} (on {plural(evaluation.n_paper_oracle, 'image')})"


def _correlations_text(pearson: float | None, spearman: float | None) -> str:
    if pearson is None and spearman is None:
        return "not defined"
    return f"{figure(pearson)} (Pearson), {figure(spearman)} (Spearman)"
