"""Texts of the report: the promise in plain words, whether it was kept, and the numbers."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from conformask.promises.order import meets_threshold
from conformask.records.card import EVERY_CALIBRATION_IMAGE, EVERY_IMAGE
from conformask.records.evaluation import Evaluation, is_rare, judged_coverage, standing
from conformask.records.numbers import figure, percent, plural, share
from conformask.records.release import none_released
from conformask.records.sentence import promised_share, rounded_share, worst_text
from conformask.records.words import (
    EXPLORATORY_TEXT,
    all_hidden_text,
    network_label,
    release_table,
    useless_text,
)

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


def verdict(evaluation: Evaluation) -> Verdict:
    """Return whether the test images agree with the promise, in plain words."""
    card, caveat = evaluation.card, evaluation.caveat
    confidence = promised_share(card.promise)
    if caveat is not None and caveat.other:
        text = f"{share(evaluation.coverage)} of {evaluation.units_text} met the threshold. {caveat.text}."
        return Verdict("open", "Not about these images", f"{text} Nothing was promised for them.")
    if card.hides in (EVERY_IMAGE, EVERY_CALIBRATION_IMAGE):
        return Verdict("open", "Everything is hidden", all_hidden_text(card.hides))
    if confidence is None:
        return _mean_verdict(evaluation)
    chance = _chance_text(evaluation) if judged_coverage(evaluation)[0] < confidence else ""
    text, stands = evaluation.kept_text, standing(confidence, evaluation)
    if stands == "above":
        return Verdict("above", "Above the promise", f"{text}: the masks are more careful than promised.")
    if stands == "below":
        too_few = f"{text}, fewer than chance alone explains.{chance}{ALIKE}"
        return Verdict("below", "Below the promise", too_few)
    return Verdict("agrees", "Agrees with the promise", f"{text}.{_expected_text(evaluation)}{chance}")


def _expected_text(evaluation: Evaluation) -> str:
    """Return the range in which tests of a promise that is kept lie by chance, where it is known."""
    if evaluation.expected is None:
        return ""
    low, high = map(rounded_share, evaluation.expected)
    return f" Where a promise is kept, 95 of 100 such tests lie between {low} and {high}."


def _mean_verdict(evaluation: Evaluation) -> Verdict:
    card, mean, (low, _) = evaluation.card, evaluation.mean_loss, evaluation.mean_loss_interval
    judged = evaluation.worst or evaluation
    found, promised = (card.loss.mean_text(each, card.values) for each in (mean, card.threshold))
    text = (
        f"On average over {plural(evaluation.n_test, 'test image')} the loss was {found}"
        f"{worst_text(evaluation.worst, card)}; at most {promised} was promised."
    )
    if judged.mean_loss > card.threshold and is_rare(evaluation.p_worse, low > card.threshold):
        return Verdict("below", "Above the limit", text + _chance_text(evaluation) + ALIKE)
    if not card.promise.resolve().statement.measurable:
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
    errors, comparison = errors_of_pixels(evaluation), evaluation.comparison
    if errors is not None and errors[0] < errors[1] and errors[2] >= ENOUGH:
        yield (
            f"The masks hide the better pixels: {errors_text(evaluation)}. The promise holds nevertheless, "
            "but the score does not find the errors: train one, or use another."
        )
    useless = None if comparison is None else useless_text(comparison)
    if useless is not None:
        yield useless


def errors_of_pixels(evaluation: Evaluation) -> tuple[float, float, int] | None:
    """Return `hidden_and_shown_error`; None where objects are hidden, which are not wrong by their pixels."""
    return None if evaluation.card.loss.of_objects else evaluation.images.hidden_and_shown_error


def errors_text(evaluation: Evaluation) -> str:
    """Return the mean errors of what is hidden and of what is shown."""
    errors = errors_of_pixels(evaluation)
    if errors is None:
        return "not measured: no image is partly hidden"
    hidden, shown, count = errors
    return (
        f"mean {evaluation.reference.error} is {figure(hidden)} where they hide and {figure(shown)} where "
        f"they show ({plural(count, 'image')} with both)"
    )


def parts_text(evaluation: Evaluation) -> str | None:
    """Return the mean number of connected parts of a mask, and the length of their boundary, or None."""
    if evaluation.images.parts is None or evaluation.card.loss.of_objects:
        return None
    shown, hidden, boundary = map(figure, evaluation.images.parts)
    return f"{shown} shown and {hidden} hidden, with a boundary of {boundary} pixels"


def tiles(evaluation: Evaluation) -> list[KeyNumber]:
    """Return the key numbers, in the order in which readers ask for them."""
    card = evaluation.card
    low, high = map(rounded_share, evaluation.mask_size_interval)
    confidence = promised_share(evaluation.card.promise)
    promised = f"promised {percent(confidence)}" if confidence else "share within the threshold"
    hardest, limit = hardest_tenth(evaluation), card.loss.limit(card.threshold, card.values)
    note = promised if hardest is None else f"{promised}; hardest tenth {share(hardest)}"
    if evaluation.worst is not None:
        note += f"; {evaluation.worst.category} {share(evaluation.worst.coverage)}"
    return [
        KeyNumber("Coverage", share(evaluation.coverage), note),
        KeyNumber(
            "Hidden",
            rounded_share(evaluation.mask_size),
            f"95\N{NO-BREAK SPACE}% interval {low} to {high}",
        ),
        _oracle_tile(evaluation),
        KeyNumber(
            "Test images",
            f"{evaluation.n_test:,}",
            f"after {plural(card.n_calibration, 'calibration image')}",
        ),
        KeyNumber("Threshold", f"{card.threshold:.4g}", f"{limit}; on {card.loss.label}"),
        KeyNumber(
            "Scorer",
            evaluation.scorer,
            f"{card.family_name} · {card.promise.guarantee}",
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
            f"with the {evaluation.reference.noun} known"
            if ratio is None or math.isnan(ratio)
            else f"we hide {figure(ratio)} times as much"
        )
        return KeyNumber("Best possible", rounded_share(evaluation.mask_size_oracle), note)
    if evaluation.mask_size_paper_oracle is not None:
        hidden = rounded_share(evaluation.mask_size_paper_oracle)
        return KeyNumber("Hidden by the paper’s Opt", hidden, "no oracle here")
    return KeyNumber("Best possible", "–", ABSENT)


def numbers(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return the rows of the table: what was measured, and its value."""
    card, images, objects = evaluation.card, evaluation.images, evaluation.objects
    unit = card.promise.resolve().unit
    within = meets_threshold(images.unmasked_loss, card.threshold)
    interval = " – ".join(map(share, evaluation.coverage_interval))
    size_interval = " – ".join(map(figure, evaluation.mask_size_interval))
    oracle_size = ABSENT if evaluation.mask_size_oracle is None else figure(evaluation.mask_size_oracle)
    parts, counts = parts_text(evaluation), []
    if objects is not None:
        of_network = "Objects that the network lacks", card.promise.named(objects.lacking_text)
        counts = [("Objects shown", card.promise.named(objects.shown_text)), of_network]
    return [
        (
            card.promise.named(f"Coverage: test {unit.singular}s within the threshold{unit.judged}"),
            f"{share(evaluation.coverage)} ({interval})",
        ),
        ("Without a mask: test images within the threshold", share(within.mean() if within.size else None)),
        ("Mean loss", _mean_loss(evaluation)),
        *_categories(evaluation),
        *counts,
        ("Mean mask size", f"{figure(evaluation.mask_size)} ({size_interval})"),
        *([] if objects is not None else [("Of the masks", errors_text(evaluation))]),
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
        ("Loss, threshold", f"{card.loss.label}, {card.threshold:.6g}"),
        ("Formula of the promise", card.formula),
        ("Formula of the loss", card.loss.formula),
        ("Guarantee, confidence", f"{card.promise.guarantee}, {_confidence_text(evaluation)}"),
        ("Scorer, masks", f"{evaluation.scorer}, {card.masks}"),
        ("Calibration and test images", f"{card.n_calibration:,} and {evaluation.n_test:,}"),
        ("Network that made the test images", network_label(evaluation.network)),
        ("Fingerprint of the masker", evaluation.fingerprint or "–"),
    ]


def _mean_loss(evaluation: Evaluation) -> str:
    interval = " – ".join(map(figure, evaluation.mean_loss_interval))
    return f"{figure(evaluation.mean_loss)} ({interval})"


def releases(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """Return the rows of the table of releases, headings first; empty where none releases anything."""
    has_rows = any(each.released for each in evaluation.power)
    return release_table(evaluation.power, evaluation.units_text, percent) if has_rows else []


def none_released_text(evaluation: Evaluation) -> str:
    """Return why no test image is released."""
    card, share = evaluation.card, evaluation.release_share
    assert share is not None
    unit = card.promise.named(card.promise.resolve().unit.singular)
    return none_released(share, unit, evaluation.n_units, card.n_units)


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
