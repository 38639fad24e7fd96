"""Texts of the report: the promise in plain words, whether it was kept, and the numbers."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from conformask.conformal.crossing import meets_threshold
from conformask.conformal.promise import Promise
from conformask.conformal.units import Unit
from conformask.records.card import EVERY_IMAGE, CalibrationCard
from conformask.records.change import Change
from conformask.records.evaluation import Evaluation, Measurement
from conformask.records.network import Caveat, Network
from conformask.records.size import size_text
from conformask.records.stream_status import StreamStatus
from conformask.report.benchmark import percent_of

ABSENT = "does not exist for this loss"
ALIKE = " Are these images like the calibration images?"
UNLIKELY = 0.025
"""Probability, on either side, below which a result is not ascribed to chance."""


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


def figure(value: float | None, digits: int = 3) -> str:
    """Format a number to a few significant digits; a dash where there is none."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.{digits}g}" if math.isfinite(value) else "∞"


def share(value: float | None) -> str:
    """Format a share as a percentage with one decimal."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def percent(value: float) -> str:
    """Format a promised share, without needless decimals: 90 %, 99.5 %."""
    return f"{100 * value:.4g}\N{NO-BREAK SPACE}%"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: 1 image, 2 images."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def levels(card: CalibrationCard) -> str:
    """Return ", confidence 0.9, delta 0.05": the parameters of a promise besides its threshold."""
    confidence = "" if card.promise.confidence is None else f", confidence {card.promise.confidence:g}"
    return confidence + ("" if card.promise.delta is None else f", delta {card.promise.delta:g}")


def sizes(card: CalibrationCard) -> str:
    """Return the sizes of the calibration images."""
    return ", ".join(map(size_text, card.sizes))


def network_label(network: Network | None) -> str:
    """Return the network's name and the start of its fingerprint."""
    if network is None:
        return "unknown"
    return network.name + ("" if network.fingerprint is None else f" ({network.fingerprint[:8]})")


def promised_share(promise: Promise) -> float | None:
    """Return the promised share of images within the threshold; None if the promise is about a mean."""
    return None if promise.resolve().statement.bounds_a_mean else promise.confidence


def headline(card: CalibrationCard) -> str:
    """Return the promise in one sentence."""
    unit, confidence = card.promise.resolve().unit, card.promise.confidence
    limit = card.loss.limit(f"{card.threshold:.4g}")
    if promised_share(card.promise) is not None:
        start = unit.headline.format(c=percent(confidence or 0.0))
    elif confidence is not None:
        start = f"For at least {percent(confidence)} of new inputs, on average over possible truths"
    else:
        start = f"On average {unit.on_average}"
    return f"{start}, {limit}."


def hidden_text(hides: str) -> str:
    """Return the text for masks that hide everything because nothing less keeps the promise."""
    return (
        f"Only hiding {hides} completely keeps this promise: that it is kept says nothing about the network."
    )


def hidden_share_text(card: CalibrationCard) -> str | None:
    """Return how much the masks of the calibration images hide; None where it is not known."""
    if card.hidden is None:
        return None
    if card.rule.get("lam") == math.inf:
        return "Nothing needs hiding: enough calibration images are within the threshold as they are."
    return f"On the calibration images the masks hide {percent_of(card.hidden)} of an image on average."


def promised_here(promise: str, caveat: Caveat | None) -> str:
    """Return the promise, or a note that there is none for images that another network made."""
    if caveat is None or not caveat.other:
        return promise
    return f"NOT PROMISED: {caveat.text}. Nothing is promised for them."


def measurement_text(card: CalibrationCard, measurement: Measurement, caveat: Caveat | None = None) -> str:
    """Return the measurement on images with truth, beside what was promised for them."""
    unit, confidence = card.promise.resolve().unit, promised_share(card.promise)
    images = plural(measurement.n, unit.singular)
    if confidence is None:
        finding = f"the mean loss of {images} is {figure(measurement.mean_loss)}"
        promise = f"at most {figure(card.threshold)}"
    else:
        interval = interval_text(measurement.coverage_interval)
        finding = f"{share(measurement.coverage)} of {images} are {unit.kept} ({interval})"
        promise = f"at least {percent(confidence)}"
    if caveat is not None and caveat.other:
        return f"Measured: {finding}."
    if measurement.broken:
        warning = "Chance alone does not explain this: do not rely on these masks."
        return f"BROKEN: {finding}; {promise} was promised. {warning}"
    if confidence is None or measurement.p_worse is None:
        return f"Measured: {finding}; the promise was {promise}."
    above = measurement.coverage_interval[0] > confidence
    ending = ", better than promised" if above else _expectation_text(confidence)
    return f"{_comparison_text(confidence, measurement, images, unit)}{ending}."


def interval_text(interval: tuple[float, float]) -> str:
    """Return the text of a 95 % interval of a share."""
    low, high = (f"{100 * end:.1f}" for end in interval)
    return f"95\N{NO-BREAK SPACE}% interval {low} to {high}"


def _comparison_text(confidence: float, measurement: Measurement | Evaluation, units: str, unit: Unit) -> str:
    """Return promise and measurement, in this order, so that neither is read as the other."""
    return (
        f"Promised {percent(confidence)}, measured {share(measurement.coverage)} of {units} {unit.kept} "
        f"({interval_text(measurement.coverage_interval)})"
    )


def _expectation_text(confidence: float) -> str:
    return f", as expected of a promise of {percent(confidence)}"


def shift_text(p_value: float, level: float, *, shifted: bool) -> str:
    """Return whether a batch of new images looks like the calibration images."""
    p_text = f"p = {p_value:.3g} for all comparisons combined, level {level:g}"
    if shifted:
        return (
            f"SHIFTED: these images do not look like the calibration images ({p_text}). The promise does "
            "not cover them: calibrate on images like these."
        )
    return f"No shift is seen in scores and mask sizes ({p_text})."


def changes_text(changes: Iterable[Change], images: str = "these images") -> str:
    """Return how images differ from the calibration images, separately for x and y_hat."""
    texts: dict[str, list[str]] = {"x": [], "y_hat": []}
    for change in changes:
        texts[change.role].append(change.text)
    if not any(texts.values()):
        return f"Brightness, contrast, noise and sharpness of {images} are as before (no clear change)."
    by_role = "; ".join(
        f"{role} {', '.join(descriptions) or 'as before'}" for role, descriptions in texts.items()
    )
    return f"What changed in {images}: {by_role}."


def stream_text(card: CalibrationCard, status: StreamStatus) -> list[str]:
    """Return the state of a stream: failures first, since scores can look the same while masks fail."""
    unit, confidence, level = (
        card.promise.resolve().unit,
        promised_share(card.promise),
        f"level {status.level:g}",
    )
    lines = []
    if confidence is not None and status.failure_evidence is not None and status.n_judged:
        finding = f"{figure(status.n_failed)} of {plural(status.n_judged, unit.singular)} failed"
        limit, odds = (
            status.most_failing or 1 - confidence,
            f"odds {figure(status.failure_evidence)} to 1",
        )
        by_chance = f", which happens by chance under {percent(status.level / 2)} of calibration sets"
        evidence = (
            f"{odds} that more than {share(limit)} fail{by_chance if limit > 1 - confidence else ''}; {level}"
        )
        lines.append(
            f"BROKEN: {finding}, at most {percent(1 - confidence)} was promised ({evidence}). Do not rely on "
            "these masks."
            if status.failing
            else f"Measured: {finding}; at most {percent(1 - confidence)} was promised ({evidence})."
        )
    odds = f"odds {figure(status.evidence)} to 1, {level}"
    counts = f"of {status.n_seen:,} so far, {status.n_new:,} new"
    if status.shifted:
        lines.append(
            f"SHIFTED: the images ({counts}) no longer look like the calibration images ({odds}). The "
            "promise does not cover them: calibrate on images like these."
        )
    else:
        lines.append(f"No shift is seen in scores and mask sizes ({counts}; {odds}).")
    if status.changes is not None:
        lines.append(changes_text(status.changes, f"the latest {plural(status.n_latest, 'image')}"))
    return lines


def sample_text(evaluation: Evaluation) -> str:
    """Return what was counted in a test."""
    unit = evaluation.card.promise.resolve().unit
    groups = unit.is_group and evaluation.n_groups is not None
    count = evaluation.n_groups if groups else evaluation.n_test
    return plural(count or 0, f"test {unit.singular}")


def verdict(evaluation: Evaluation) -> Verdict:
    """Return whether the test images agree with the promise, in plain words."""
    confidence, caveat = promised_share(evaluation.card.promise), evaluation.caveat
    if caveat is not None and caveat.other:
        measurement = f"Measured {share(evaluation.coverage)} of {sample_text(evaluation)}"
        text = f"{measurement} ({interval_text(evaluation.coverage_interval)}). {caveat.text}."
        return Verdict("open", "Not about these images", f"{text} Nothing was promised for them.")
    if evaluation.card.hides == EVERY_IMAGE:
        return Verdict("open", "Everything is hidden", hidden_text(evaluation.card.hides))
    if confidence is None:
        return _mean_verdict(evaluation)
    low, high = evaluation.coverage_interval
    below = evaluation.coverage < confidence and _is_rare(evaluation.p_worse, high < confidence)
    above = evaluation.coverage > confidence and _is_rare(evaluation.p_better, low > confidence)
    text = _comparison_text(
        confidence, evaluation, sample_text(evaluation), evaluation.card.promise.resolve().unit
    )
    chance = _chance_text(evaluation) if evaluation.coverage < confidence else ""
    if above:
        return Verdict("above", "Above the promise", f"{text}: the masks are more careful than promised.")
    if below:
        return Verdict(
            "below", "Below the promise", (f"{text}, lower than chance alone explains.{chance}{ALIKE}")
        )
    return Verdict("agrees", "Agrees with the promise", f"{text}{_expectation_text(confidence)}.{chance}")


def _mean_verdict(evaluation: Evaluation) -> Verdict:
    mean, (low, high) = evaluation.mean_loss, evaluation.mean_loss_interval
    text = (
        "The promise is about a mean loss, not about a share of images: the mean loss of the test images "
        f"is {figure(mean)} (95\N{NO-BREAK SPACE}% interval {figure(low)} to {figure(high)}), and at most "
        f"{figure(evaluation.card.threshold)} was promised. {share(evaluation.coverage)} of "
        f"{sample_text(evaluation)} are {evaluation.card.promise.resolve().unit.kept}."
    )
    if mean > evaluation.card.threshold and _is_rare(evaluation.p_worse, low > evaluation.card.threshold):
        return Verdict("below", "Above the limit", text + _chance_text(evaluation) + ALIKE)
    if not evaluation.card.promise.resolve().statement.measurable:
        return Verdict("open", "Not directly measurable", text + " One truth per input cannot show its mean.")
    return Verdict("agrees", "Agrees with the promise", text)


def _is_rare(p_value: float | None, beyond: bool) -> bool:
    """Return whether a result is unlikely by chance; without a p-value, whether the interval lies beyond."""
    return beyond if p_value is None else p_value < UNLIKELY


def _chance_text(evaluation: Evaluation) -> str:
    """Return how often chance measures as bad as this, where that is known."""
    if evaluation.p_worse is None:
        return ""
    return (
        " If the promise is kept, a result this bad or worse occurs by chance in "
        f"{share(evaluation.p_worse)} of evaluations."
    )


def tiles(evaluation: Evaluation) -> list[KeyNumber]:
    """Return the key numbers, in the order in which readers ask for them."""
    interval = "\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}".join(map(figure, evaluation.mask_size_interval))
    confidence = promised_share(evaluation.card.promise)
    note = f"promised {percent(confidence)}" if confidence else "share within the threshold"
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
            f"{evaluation.card.family['name'].replace('_', ' ')} · {evaluation.card.promise.guarantee}",
        ),
    ]


def _oracle_tile(evaluation: Evaluation) -> KeyNumber:
    if evaluation.mask_size_oracle is not None:
        ratio = evaluation.ratio_to_oracle
        note = (
            "sees the truth"
            if ratio is None or math.isnan(ratio)
            else f"ours is {figure(ratio)} times as large"
        )
        return KeyNumber("Oracle’s size", figure(evaluation.mask_size_oracle), note)
    if evaluation.mask_size_paper_oracle is not None:
        return KeyNumber("The paper’s Opt", figure(evaluation.mask_size_paper_oracle), "no oracle here")
    return KeyNumber("Oracle’s size", "–", ABSENT)


def numbers(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return the rows of the table: what was measured, and its value."""
    images, unit = evaluation.images, evaluation.card.promise.resolve().unit
    within = meets_threshold(images.unmasked_loss, evaluation.card.threshold)
    interval = " – ".join(map(share, evaluation.coverage_interval))
    size_interval = " – ".join(map(figure, evaluation.mask_size_interval))
    oracle_size = ABSENT if evaluation.mask_size_oracle is None else figure(evaluation.mask_size_oracle)
    return [
        (f"Coverage: test {unit.singular}s {unit.kept}", f"{share(evaluation.coverage)} ({interval})"),
        ("Without a mask: test images within the threshold", share(within.mean() if within.size else None)),
        ("Mean loss", _mean_loss(evaluation)),
        *_categories(evaluation),
        ("Mean mask size", f"{figure(evaluation.mask_size)} ({size_interval})"),
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
        ("Loss, threshold", f"{evaluation.card.loss.label}, {evaluation.card.threshold:.6g}"),
        ("Guarantee, confidence", f"{evaluation.card.promise.guarantee}, {_confidence_text(evaluation)}"),
        (
            "Scorer, family of masks",
            f"{evaluation.scorer}, {evaluation.card.family['name'].replace('_', ' ')}",
        ),
        ("Calibration and test images", f"{evaluation.card.n_calibration:,} and {evaluation.n_test:,}"),
        ("Network that made the test images", network_label(evaluation.network)),
        ("Fingerprint of the masker", evaluation.fingerprint or "–"),
    ]


def _mean_loss(evaluation: Evaluation) -> str:
    interval = " – ".join(map(figure, evaluation.mean_loss_interval))
    return f"{figure(evaluation.mean_loss)} ({interval})"


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
