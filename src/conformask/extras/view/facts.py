"""What an evaluation says, each fact once: the command line, notebooks and the report show them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from conformask.promises.order import meets_threshold
from conformask.records.card import EVERY_CALIBRATION_IMAGE, EVERY_IMAGE, promised_share
from conformask.records.evaluation import (
    VERDICTS,
    Evaluation,
    ReleasePower,
    is_rare,
    judged_coverage,
    none_released,
    standing,
)
from conformask.records.numbers import figure, percent, plural, rounded_share, share
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


def verdict(evaluation: Evaluation) -> Verdict:
    """Return whether the test images agree with the promise, in plain words."""
    card, caveat = evaluation.card, evaluation.caveat
    confidence = promised_share(card.promise)
    if caveat is not None and caveat.other:
        text = f"{share(evaluation.coverage)} of {evaluation.units_text} met the threshold. {caveat.text}."
        return Verdict("open", "Not about these images", f"{text} Nothing was promised for them.")
    if card.hides in (EVERY_IMAGE, EVERY_CALIBRATION_IMAGE):
        return Verdict("open", "Everything is hidden", all_hidden_text(card.hides))
    chance = ""
    if evaluation.p_worse is not None:
        chance = (
            " If the promise is kept, a result this bad or worse occurs by chance in "
            f"{share(evaluation.p_worse)} of evaluations."
        )
    if confidence is None:
        return _verdict_on_mean(evaluation, chance)
    chance *= judged_coverage(evaluation)[0] < confidence
    text, stands = evaluation.kept_text, standing(confidence, evaluation)
    if stands == "above":
        text += ": the masks are more careful than promised."
    elif stands == "below":
        text += f", fewer than chance alone explains.{chance}{ALIKE}"
    else:
        text += f".{chance}"
    return Verdict(stands, VERDICTS[stands][0], text)


def _verdict_on_mean(evaluation: Evaluation, chance: str) -> Verdict:
    card, (low, _) = evaluation.card, evaluation.mean_loss_interval
    judged, text = evaluation.worst or evaluation, f"{evaluation.kept_text}."
    if judged.mean_loss > card.threshold and is_rare(evaluation.p_worse, low > card.threshold):
        return Verdict("below", "Above the limit", text + chance + ALIKE)
    if not card.promise.axes.statement.measurable:
        return Verdict("open", "Not directly measurable", text + " One truth per input cannot show its mean.")
    return Verdict("agrees", "Agrees with the promise", text)


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
    errors, comparison = evaluation.errors_of_pixels, evaluation.comparison
    if errors is not None and errors[0] < errors[1] and errors[2] >= ENOUGH:
        yield (
            f"The masks hide the better pixels: {_errors_text(evaluation)}. The promise holds nevertheless, "
            "but the score does not find the errors: train one, or use another."
        )
    useless = None if comparison is None else useless_text(comparison)
    if useless is not None:
        yield useless


def _errors_text(evaluation: Evaluation) -> str:
    if evaluation.errors_of_pixels is None:
        return "not measured: no image is partly hidden"
    hidden, shown, count = evaluation.errors_of_pixels
    return (
        f"mean {evaluation.reference.error} is {figure(hidden)} where they hide and {figure(shown)} where "
        f"they show ({plural(count, 'image')} with both)"
    )


def objects_texts(evaluation: Evaluation) -> list[str]:
    """Return how many objects are shown, and how many the network lacks; empty for other promises."""
    counts = evaluation.objects
    if counts is None:
        return []
    return [evaluation.card.promise.named(text) for text in (counts.shown_text, counts.lacking_text)]


def by_tenths(evaluation: Evaluation) -> bool:
    """Return whether the tenths of the images have enough of them to be looked at one by one."""
    parts = len(evaluation.coverage_by_difficulty)  # 0 in what is measured by parts
    return parts > 0 and evaluation.n_test >= TENTH * parts


def hardest_tenth(evaluation: Evaluation) -> float | None:
    """Return the coverage of the tenth with the largest mean scores; None where tenths are too small."""
    return evaluation.coverage_by_difficulty[-1] if by_tenths(evaluation) else None


@dataclass(frozen=True)
class Fact:
    """A row of the tables of an evaluation."""

    label: str = ""
    """Its name in the report; empty for one that only the terminal shows."""
    value: str = ""
    short: tuple[str, str, str] | None = None
    """Its name, number and note in a terminal; None for one that only the report shows."""


def facts(evaluation: Evaluation) -> Iterator[Fact]:
    """Yield what was measured, then what identifies masker and images."""
    card, images = evaluation.card, evaluation.images
    loss, promise, unit = card.loss, card.promise, card.promise.axes.unit
    n_groups, hardest = evaluation.n_groups, hardest_tenth(evaluation)
    groups = "" if n_groups is None else promise.named(f"in {plural(n_groups, 'group')}")
    yield Fact(short=("test images", f"{evaluation.n_test}", groups))
    low, high = evaluation.coverage_interval
    yield Fact(
        promise.named(f"Coverage: test {unit.singular}s within the threshold{unit.judged}"),
        f"{share(evaluation.coverage)} ({share(low)} – {share(high)})",
        ("coverage", f"{evaluation.coverage:.3f}", f"{low:.3f} to {high:.3f} (95 %)"),
    )
    if hardest is not None:
        yield Fact(short=("of the hardest tenth", f"{hardest:.3f}", "by the mean score"))
    within = meets_threshold(images.unmasked_loss, card.threshold)
    yield Fact(
        "Without a mask: test images within the threshold", share(within.mean() if within.size else None)
    )
    interval = " – ".join(map(figure, evaluation.mean_loss_interval))
    mean = figure(evaluation.mean_loss)
    yield Fact("Mean loss", f"{mean} ({interval})", ("mean loss", mean, f"threshold {card.threshold:.4g}"))
    for category in evaluation.coverage_by_category:
        interval = " – ".join(map(share, category.interval))
        measured = f"{share(category.coverage)} of {category.n} ({interval})"
        yield Fact(f"Coverage of {category.category}", measured)
    names = "Objects shown", promise.named("Objects that the network lacks")
    yield from map(Fact, names, objects_texts(evaluation))
    yield from _sizes(evaluation)
    yield from _masks(evaluation)
    yield from _reference(evaluation)
    for each in evaluation.power:
        if each.released:
            good = f"good released, {each.share:g}", f"{each.of_good:.3f}", "see conformask release"
            yield Fact(short=good)
    yield _correlation(
        "Correlation of mask size with the unmasked loss",
        (evaluation.correlation_size_loss, evaluation.spearman_size_loss),
        ("correlation of sizes", "of mask size and the loss without a mask"),
    )
    yield _correlation(
        "Correlation of mask size with the paper’s Opt",
        (evaluation.correlation_size_oracle, evaluation.spearman_size_oracle),
        ("with the paper's best", "of mask size and that of the paper's optimisation"),
    )
    confidence = "on the mean" if promise.confidence is None else percent(promise.confidence)
    yield Fact("Loss, threshold", f"{loss.words.label}, {card.threshold:.6g}")
    yield Fact("Formula of the promise", card.formula)
    yield Fact("Formula of the loss", loss.words.formula)
    yield Fact("Guarantee, confidence", f"{promise.guarantee}, {confidence}")
    yield Fact("Scorer, masks", f"{evaluation.scorer}, {card.masks}")
    yield Fact("Calibration and test images", f"{card.n_calibration:,} and {evaluation.n_test:,}")
    yield Fact("Network that made the test images", network_label(evaluation.network))
    yield Fact("Fingerprint of the masker", evaluation.fingerprint or "–")


def _sizes(evaluation: Evaluation) -> Iterator[Fact]:
    """Yield how much is hidden, by our masks and by those that know the reference."""
    size, (low, high) = evaluation.mask_size, evaluation.mask_size_interval
    yield Fact(
        "Mean mask size",
        f"{figure(size)} ({figure(low)} – {figure(high)})",
        ("hidden", rounded_share(size), f"{rounded_share(low)} to {rounded_share(high)} (95 %)"),
    )
    knows, oracle = f"with the {evaluation.reference.noun} known", evaluation.mask_size_oracle
    yield Fact(
        "Mean mask size of the oracle",
        ABSENT if oracle is None else figure(oracle),
        ("best possible", "none" if oracle is None else rounded_share(oracle), knows),
    )
    yield Fact("Mean mask size, ours / oracle’s", figure(evaluation.ratio_to_oracle))
    opt, hidden = evaluation.mask_size_paper_oracle, "none"
    value = "not computed, or never within the threshold"
    if opt is not None:
        hidden = rounded_share(opt)
        value = f"{figure(opt)} (on {plural(evaluation.n_paper_oracle, 'image')})"
    yield Fact(
        "Mean mask size of the paper’s Opt",
        value,
        ("by the paper's best", hidden, f"by its optimisation, {knows}"),
    )


def _masks(evaluation: Evaluation) -> Iterator[Fact]:
    """Yield connected parts of masks, and the errors of what they hide and show."""
    parts, errors = evaluation.images.parts, evaluation.errors_of_pixels
    if evaluation.card.loss.extent.counts_objects:
        return
    if parts is not None:
        shown, hidden, boundary = map(figure, parts)
        text = f"{shown} shown and {hidden} hidden, with a boundary of {boundary} pixels"
        short = "connected parts", figure(sum(parts[:2])), text
        yield Fact("Connected parts of a mask, on average", text, short)
    yield Fact("Of the masks", _errors_text(evaluation))
    if errors is not None:
        what = f"mean {evaluation.reference.error} of {errors[2]} images"
        for name, error in zip(("error of what is hidden", "of what is shown"), errors[:2], strict=True):
            yield Fact(short=(name, f"{error:.4f}", what))


def _reference(evaluation: Evaluation) -> Iterator[Fact]:
    """Yield what is known of noisy references."""
    reference, floor = evaluation.reference, evaluation.noise_floor
    if not reference.is_noisy:
        return
    what = f"mean of v, {reference.formula}" if reference.formula else "not known: the noise of one repeat"
    short = "noise floor", figure(floor), what
    yield Fact("Reference y of the test images", reference.text, ("reference y", "noisy", reference.text))
    if floor is None:
        yield Fact(short=short)
    else:
        label = "Noise floor: mean of v, the L2 to y of a perfect output"
        yield Fact(label, f"{figure(floor)}, {reference.formula}", short)


def _correlation(label: str, measured: tuple[float | None, float | None], name: tuple[str, str]) -> Fact:
    pearson, spearman = measured
    both = f"{figure(pearson)} (Pearson), {figure(spearman)} (Spearman)"
    value = "not defined" if measured == (None, None) else both
    return Fact(label, value, (name[0], "none" if pearson is None else f"{pearson:.3f}", name[1]))


def _divides(evaluation: Evaluation, power: ReleasePower) -> bool:
    """Return whether a share releases some of the test images and holds others back."""
    return 0 < power.released < evaluation.n_units


def releases(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """Return the rows of the table of releases, headings first; empty where each share keeps all or none."""
    is_choice = any(_divides(evaluation, each) for each in evaluation.power)
    return release_table(evaluation.power, evaluation.units_text, percent) if is_choice else []


def has_verdicts(evaluation: Evaluation) -> bool:
    """Return whether `release_share` tells test images apart, so that it is said of each example."""
    usual = (each for each in evaluation.power if each.share == evaluation.release_share)
    return any(_divides(evaluation, each) for each in usual)


def all_or_none_released(evaluation: Evaluation) -> str:
    """Return why no test image is released, and from which share on all are, where there is no table."""
    card, share, n = evaluation.card, evaluation.release_share, evaluation.n_units
    least = next((each.share for each in evaluation.power if each.released), None)
    unit, texts = card.promise.named(card.promise.axes.unit.singular), []
    if share is not None and (least is None or share < least):
        texts.append(none_released(share, unit, n, card.n_units))
    if least is not None:
        texts.append(f"From a share of {percent(least)} on, all {n} are released.")
    return " ".join(texts)


KeyNumber = tuple[str, str, str]
"""Name, value and note."""


def key_numbers(evaluation: Evaluation) -> list[KeyNumber]:
    """Return the key numbers, in the order in which readers ask for them."""
    card, confidence = evaluation.card, promised_share(evaluation.card.promise)
    low, high = map(rounded_share, evaluation.mask_size_interval)
    note = f"promised {percent(confidence)}" if confidence else "share within the threshold"
    hardest, limit = hardest_tenth(evaluation), card.loss.words.limit(card.threshold, card.values)
    note += "" if hardest is None else f"; hardest tenth {share(hardest)}"
    if evaluation.worst is not None:
        note += f"; {evaluation.worst.category} {share(evaluation.worst.coverage)}"
    interval = f"95\N{NO-BREAK SPACE}% interval {low} to {high}"
    after = f"after {plural(card.n_calibration, 'calibration image')}"
    return [
        ("Coverage", share(evaluation.coverage), note),
        ("Hidden", rounded_share(evaluation.mask_size), interval),
        _best_possible(evaluation),
        ("Test images", f"{evaluation.n_test:,}", after),
        ("Threshold", f"{card.threshold:.4g}", f"{limit}; on {card.loss.words.label}"),
        ("Scorer", evaluation.scorer, f"{card.family_name} · {card.promise.guarantee}"),
    ]


def _best_possible(evaluation: Evaluation) -> KeyNumber:
    ratio, opt = evaluation.ratio_to_oracle, evaluation.mask_size_paper_oracle
    if evaluation.mask_size_oracle is not None:
        is_known = ratio is not None and not math.isnan(ratio)
        times = f"we hide {figure(ratio)} times as much"
        if evaluation.mask_size_oracle > evaluation.mask_size:
            times = "to keep the threshold on every image"
        note = times if is_known else f"with the {evaluation.reference.noun} known"
        return "Best possible", rounded_share(evaluation.mask_size_oracle), note
    if opt is not None:
        return "Hidden by the paper’s Opt", rounded_share(opt), "no oracle here"
    return "Best possible", "–", ABSENT
