"""Promises, measurements and scores in sentences; neither torch nor pages."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from conformask.errors import verb
from conformask.promises.axes import Coverage, Group, Marginal
from conformask.promises.promise import Promise
from conformask.records.card import CalibrationCard, as_sentence, kept_text, promised_share, worst_text
from conformask.records.evaluation import Measurement, ReleasePower, standing
from conformask.records.numbers import figure, left_out_text, percent, plural, rounded_share, share
from conformask.records.reading import Caveat, Network
from conformask.records.selection import ANY_SIZE, CONSTANT, ScoreComparison

CLIPPED = 0.01
"""Share of clipped values, above that of the calibration images, from which a warning is given."""


def measurement_text(
    card: CalibrationCard,
    measurement: Measurement | None,
    caveat: Caveat | None = None,
    n_used: int = 0,
    *,
    has_truth: bool = True,
) -> str:
    """Return the measurement on images with truth, beside what was promised for them; empty without any.

    `n_used` is the number of images that are not measured, because an earlier step has seen them; `has_truth`
    is False where none of the images could be.
    """
    texts = [] if measurement is None else [card.promise.named(_measurement(card, measurement, caveat))]
    if n_used:
        what = "with truth not measured" if has_truth else f"{verb(n_used, 'is')} not new"
        texts.append(left_out_text(n_used, what))
    return " ".join(texts)


def _measurement(card: CalibrationCard, measurement: Measurement, caveat: Caveat | None) -> str:
    unit, confidence = card.promise.axes.unit, promised_share(card.promise)
    images = plural(measurement.n, unit.singular)
    is_other = caveat is not None and caveat.other
    worst = worst_text(measurement.worst, card if confidence is None else None)
    each = " in each category" if worst else ""
    if confidence is None:
        mean = card.loss.words.mean(measurement.mean_loss, card.values)
        finding = f"on average over {images} the loss was {mean}{worst}"
        promise = f"at most {card.loss.words.mean(card.threshold, card.values)}"
    else:
        facts = images, measurement.n, measurement.coverage, measurement.coverage_interval
        met = "met the threshold" if is_other or measurement.broken else "kept it"
        expected = None if worst or is_other else measurement.expected  # it is about the worst category
        finding = f"{kept_text(card.promise, *facts, met, expected)}{worst}"
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
        "agrees": "" if expected else f", which agrees with the promised {percent(confidence)}",
    }
    return f"{finding}{endings[standing(confidence, measurement)]}."


def measured_text(measurement: Measurement) -> str:
    """Return the coverage and the mean loss of a measurement, after whether they break the promise."""
    status = "BROKEN" if measurement.broken else "Measured"
    low, high = map(share, measurement.coverage_interval)
    coverage = f"coverage {share(measurement.coverage)} (95 % interval {low} to {high})"
    return f"{status}: {coverage}{worst_text(measurement.worst)}, mean loss {figure(measurement.mean_loss)}."


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


def common_bound_text(bound: float, largest: float | None) -> str:
    """Return why all images have this bound of the loss without a mask; `largest` is that of any loss."""
    why = "too few selection images to fit one to each"
    if bound == largest:
        why = "the largest value that the loss can have, so it says nothing"
    return f"In sizes.csv, bound (largest loss without a mask) is {figure(bound)} for every image: {why}."


def release_table(
    power: Sequence[ReleasePower], batch: str, share_text: Callable[[float], str]
) -> list[tuple[str, ...]]:
    """Return what each share releases of a batch, such as "60 test images"; the headings come first."""
    rows = [
        (share_text(each.share), f"{each.released}", f"{each.failing}", share(each.of_good)) for each in power
    ]
    return [("share", f"released of {batch}", "of these miss", "of the good, released"), *rows]


NO_MODEL = " No model of the errors is assumed, and the network may be arbitrarily wrong."
ELSEWHERE = "and nothing at all for images of another source, camera or treatment."
EXPLORATORY_TEXT = (
    "The promise, or the set of images that it rests on, was changed after a calibration on the same "
    "images, so it is exploratory. To rely on it, calibrate on images that no choice has seen or, to "
    "choose another threshold or confidence afterwards, use the guarantee simultaneous."
)
CHOSEN_ON_CALIBRATION = (
    "A threshold that is chosen on these images, which calibrated the masks, is exploratory: to rely on it, "
    "calibrate with it on images that no choice has seen."
)
GREY_TEXT = (
    "The masks are grey: an error counts by the mask value of its pixel. A value of 0.4 is neither a "
    "probability nor a size of the error, and nothing is promised for masks that are cut at a value."
)


@dataclass(frozen=True)
class Meaning:
    """Two sentences on a promise; {c} stands for the confidence."""

    holds: str
    """The event that is promised."""
    silent: str
    """The events that are not promised."""


def meaning(promise: Promise) -> Meaning:
    """Return sentences on what a promise covers and what it leaves open."""
    population = promise.axes.population
    beginning = promise.axes.certainty.begins.format(drawn=population.drawn(promise.axes.unit))
    if promise.delta is not None and population.by_itself:
        beginning = population.by_itself + beginning[0].lower() + beginning[1:]
        beginning = beginning[0].upper() + beginning[1:]
    ending = promise.axes.certainty.ends + population.ends + promise.axes.lam.ends
    holds = beginning + _event_text(promise) + ending + "."
    return Meaning(holds + NO_MODEL, f"Not {_unpromised_text(promise)}; {ELSEWHERE}")


def _event_text(promise: Promise) -> str:
    statement, unit = promise.axes.statement, promise.axes.unit
    within = promise.axes.population.within if promise.delta is None else ""
    if not isinstance(statement, Coverage):
        return within + statement.event.format(mean=unit.mean)
    if isinstance(promise.axes.certainty, Marginal) and not within:
        return f"in at least {{c}} of these draws {unit.new} meets the threshold"
    return f"{within}{unit.share_of} meet the threshold"


def _unpromised_text(promise: Promise) -> str:
    statement, population = promise.axes.statement, promise.axes.population
    conditional = promise.delta is not None
    at_once = ["for all categories at once"] if conditional and population.by_itself else []
    this_set = [] if conditional else ["for this one calibration set"]
    if isinstance(statement, Coverage):
        share, first = "{c} ", population.each(promise.axes.unit)
    else:
        share, first = "", (statement.silent,)
    *others, last = *first, *this_set, *at_once
    return share + " or ".join(filter(None, (", ".join(others), last)))


def meaning_of(card: CalibrationCard) -> Meaning:
    """Return what the promise says, and what it does not say."""
    promise, sentences = card.promise, meaning(card.promise)
    confidence = "" if promise.confidence is None else percent(promise.confidence)
    holds, silent = (promise.named(text.format(c=confidence)) for text in vars(sentences).values())
    return Meaning(holds, f"{silent} {about_masks(card)}".rstrip())


def about_masks(card: CalibrationCard) -> str:
    """Return what readers of the masks may take for granted and must not; empty if there is nothing."""
    loss, reference, texts = card.loss, card.reference, []
    if card.patches is not None:
        texts.append(f"The masks consist of {card.parts}, shown or hidden.")
    if card.is_grey:
        texts.append(GREY_TEXT)
    if loss.words.caveat is not None and (reference.is_noisy or not loss.traits.truth.subtracts_noise):
        texts.append(loss.words.caveat)
    if reference.is_noisy and not loss.traits.truth.subtracts_noise:
        texts.append(
            f"The calibration images have {reference.text} in the place of a truth. Where the noise has mean "
            "0 and is independent of the input, the loss to it is on average at least that to the clean "
            "image, for which the promise then holds too."
        )
    elif reference.repeats == 2:
        texts.append("The noise of one repeat must be independent of that of the other.")
    elif reference.is_noisy:
        texts.append(
            "The noise model is assumed, not measured: if it says too much noise, more is subtracted than "
            "there is, and the promise does not hold."
        )
    return card.promise.named(" ".join(texts))


def all_hidden_text(hides: str) -> str:
    """Return the text for masks that hide everything because nothing less keeps the promise."""
    return (
        f"Only hiding {hides} completely keeps this promise: that it is kept says nothing about the network."
    )


def release_promise(
    card: CalibrationCard, share: float, caveat: Caveat | None = None, *, each: bool = False
) -> tuple[str, str]:
    """Return what is promised of the images released, as a condition if it was chosen after looking.

    It is a sentence and a formula, which is empty for images that another network made.
    """
    unit, misses = card.promise.axes.unit, "miss the threshold"
    if isinstance(unit, Group):
        misses = (
            f"do not keep the threshold on {unit.images}" if unit.share < 1 else f"{misses} on some image"
        )
    drawn = f"in expectation over calibration {unit.plural} and new {unit.plural}"
    text = f"of the {unit.plural} released under their masks, at most {percent(share)} {misses}, {drawn}"
    failure = f"{unit.statistic_of(card.loss.name)} > {card.threshold:.4g}"
    left = f"E[#{{released, {failure}}} / max(1, #released)]"
    if each:
        text = f"of all new {unit.plural}, at most {percent(share)} are released and {misses}, {drawn}"
        left = f"P(released, {failure})"
    text = as_sentence(text, exploratory=card.exploratory)
    if card.loss.traits.truth.subtracts_noise and card.reference.is_noisy:
        more = card.loss.traits.truth.images_left_out
        text += f" The noise of the references adds {more} of all new {unit.plural} to those that {misses}."
    sentence = card.sentence_here(caveat, card.promise.named(text))
    is_other = caveat is not None and caveat.other
    return sentence, "" if is_other else card.promise.named(f"{left} <= {share:g}")


def network_label(network: Network | None) -> str:
    """Return the network's name and the start of its fingerprint."""
    if network is None:
        return "unknown"
    return network.name + ("" if network.fingerprint is None else f" ({network.fingerprint[:8]})")


LABELS = {
    ANY_SIZE: "the same score in parts of any size",
    "packaged": "the packaged score",
    "residual": "|x - y_hat|",
    "gradient": "the gradient of y_hat",
    "spread": "the local spread of y_hat",
    CONSTANT: "a constant score",
}


def comparison_text(comparison: ScoreComparison, *, best: bool = True) -> str:
    """Return how much other scores would hide beside the masks of a score, and the best possible masks.

    Those that hide more in some resampled sets of the images and less in others are named at the end.
    """
    images = f"{comparison.n} {comparison.part} images"
    if not comparison.hidden:
        return f"On {images}, this threshold needs no mask, whichever the score."
    clear, alike = [], []
    for name in sorted(comparison.others, key=[*LABELS, *comparison.others].index):
        label, ratio = LABELS.get(name, name), comparison.ratios.get(name)
        interval = "" if ratio is None else f" ({ratio[0]:.2g} to {ratio[1]:.2g})"
        if comparison.can_be_told_apart(name):
            clear.append(f"{label} would hide {comparison.times(comparison.others[name])}{interval}")
        else:
            alike.append(f"{label}{interval}")
    if best and comparison.oracle is not None:
        clear.append(f"the best possible masks would hide {comparison.times(comparison.oracle)}")
    first, *rest = clear or [""]
    texts = [", ".join([first, *(text.replace(" would hide", "", 1) for text in rest)])] if clear else []
    if alike:
        *others, last = alike
        named = " and ".join(filter(None, (", ".join(others), last)))
        texts.append(f"{named} cannot be told apart from the score by {comparison.n} images")
    return f"On {images} with one lambda for all, {'; '.join(texts)}."


def useless_text(comparison: ScoreComparison) -> str | None:
    """Return that the score is no better than one value everywhere; None if it is, or no mask is needed."""
    constant = comparison.others.get(CONSTANT)
    if constant is None or comparison.hidden < constant or not comparison.hidden:
        return None
    return (
        f"The score is no better than one value everywhere, which on {comparison.n} {comparison.part} images "
        f"would hide {comparison.times(constant)}. Train one, or use another."
    )


def judged_text(comparison: ScoreComparison) -> str:
    """Return the hidden share before a calibration, and its interval over nine of ten sets of such images."""
    hidden = rounded_share(comparison.hidden)
    if comparison.interval is not None:
        low, high = map(rounded_share, comparison.interval)
        hidden += f" ({low} to {high})"
    return (
        f"With 90\N{NO-BREAK SPACE}% of the {comparison.n} {comparison.part} images within "
        f"{comparison.threshold:.3g}, its masks hide {hidden} of {comparison.whole}."
    )
