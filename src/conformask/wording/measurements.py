"""Measurements of masks in use, in sentences: whether the promise was kept, and what changed."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from conformask.records.card import CalibrationCard
from conformask.records.change import Change
from conformask.records.evaluation import Measurement, standing
from conformask.records.network import Caveat
from conformask.records.release import ReleasePower
from conformask.records.sentence import kept_text, mean_text, promised_share, worst_text
from conformask.records.stream_status import StreamStatus
from conformask.wording.numbers import figure, percent, plural, share

CLIPPED = 0.01
"""Share of clipped values, above that of the calibration images, from which a warning is given."""


def measurement_text(
    card: CalibrationCard, measurement: Measurement | None, caveat: Caveat | None = None, n_used: int = 0
) -> str:
    """Return the measurement on images with truth, beside what was promised for them; empty without any.

    `n_used` is the number of those that are not measured, because an earlier step has seen them.
    """
    texts = [] if measurement is None else [card.promise.named(_measurement(card, measurement, caveat))]
    if n_used:
        them = "it" if n_used == 1 else "them"
        steps = f"training, selection or calibration has seen {them}"
        texts.append(f"{plural(n_used, 'image')} with truth not measured: {steps}.")
    return " ".join(texts)


def _measurement(card: CalibrationCard, measurement: Measurement, caveat: Caveat | None) -> str:
    unit, confidence = card.promise.resolve().unit, promised_share(card.promise)
    images = plural(measurement.n, unit.singular)
    is_other = caveat is not None and caveat.other
    worst = worst_text(measurement.worst, card if confidence is None else None)
    each = " in each category" if worst else ""
    if confidence is None:
        finding = f"on average over {images} the loss was {mean_text(card, measurement.mean_loss)}{worst}"
        promise = f"at most {mean_text(card, card.threshold)}"
    else:
        facts = images, measurement.n, measurement.coverage, measurement.coverage_interval
        met = "met the threshold" if is_other or measurement.broken else "kept it"
        finding = f"{kept_text(card.promise, *facts, met)}{worst}"
        promise = f"at least {percent(confidence)}"
    if is_other:
        return f"Measured: {finding}."
    if measurement.broken:
        chance = f"p = {measurement.p_worse:.2g} if it is kept"
        return f"BROKEN: {finding}; {promise} was promised{each} ({chance}). Do not rely on these masks."
    if confidence is None or measurement.p_worse is None:
        return f"Measured: {finding}; the promise was {promise}{each}."
    endings = {
        "above": ", better than promised",
        "below": ", fewer than chance alone explains in 95 of 100 tests",
        "agrees": f", which agrees with the promised {percent(confidence)}",
    }
    return f"{finding}{endings[standing(confidence, measurement)]}."


def shift_text(p_value: float, level: float, *, shifted: bool) -> str:
    """Return whether a batch of new images looks like the calibration images."""
    p_text = f"p = {p_value:.3g} for all comparisons combined, level {level:g}"
    if shifted:
        return (
            f"SHIFTED: these images do not look like the calibration images ({p_text}). The promise does "
            "not cover them: calibrate on images like these."
        )
    return f"No shift is seen in scores and mask sizes ({p_text})."


def clipped_text(shares: Mapping[str, float], before: float | None = None) -> str | None:
    """Return a warning if clearly more values were clipped to the range than in the calibration images.

    `shares` are those of each image, by name; `before` is that of the calibration images, None before one.
    """
    mean = sum(shares.values()) / len(shares) if shares else 0.0
    if mean <= (before or 0.0) + CLIPPED:
        return None
    name = max(shares, key=lambda each: shares[each])
    most = f", most of {name} ({share(shares[name])})" if len(shares) > 1 else ""
    beside = "" if before is None else f"; of the calibration images' {share(before)}"
    clipped = f"{share(mean)} of the values lay outside the range and were clipped"
    return f"{clipped}{most}{beside}. Is the range right?"


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
    unit, confidence = card.promise.resolve().unit, promised_share(card.promise)
    level = f"level {status.level:g}"
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
    return [card.promise.named(line) for line in lines]


def release_table(
    power: Sequence[ReleasePower], batch: str, share_text: Callable[[float], str]
) -> list[tuple[str, ...]]:
    """Return what each share releases of a batch, such as "60 test images"; the headings come first."""
    rows = [
        (share_text(each.share), f"{each.released}", f"{each.failing}", share(each.of_good)) for each in power
    ]
    return [("share", f"released of {batch}", "of these miss", "of the good, released"), *rows]
