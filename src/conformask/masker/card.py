"""Card of a masker, as CARD.md and for a notebook: its promise, the images it covers, and its limits."""

import math
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from markupsafe import Markup

from conformask.images import svg
from conformask.records.card import CalibrationCard, hidden_text
from conformask.records.numbers import plural, rounded_share
from conformask.records.reading import size_text
from conformask.records.selection import ScoreComparison
from conformask.records.words import (
    EXPLORATORY_TEXT,
    all_hidden_text,
    comparison_text,
    meaning_of,
    network_label,
    useless_text,
)


def card_text(
    card: CalibrationCard, scorer: str, fingerprint: str, comparison: ScoreComparison | None
) -> str:
    """Return the card in Markdown."""
    meaning = meaning_of(card)
    exactness = (
        "opened exactly as far as the promise allows"
        if card.exact
        else "opened in steps, up to the last that keeps the promise"
    )
    tiles = ""
    if card.tiles is not None:
        tile, overlap = (side if isinstance(side, int) else size_text(side) for side in card.tiles)
        tiles = f"; they are scored by tiles of {tile} that overlap by {overlap}"
    limits = [
        f"The promise covers only {card.covered}, of {plural(card.channels, 'channel')}{tiles}.",
        "Images of another source need another calibration; `conformask monitor` watches for them.",
        "A mask says nothing about what it hides: 0 means not trusted, not wrong.",
    ]
    if card.exploratory:
        limits.insert(0, EXPLORATORY_TEXT)
    if card.hides is not None:
        limits.insert(0, all_hidden_text(card.hides))
    reference_row = "".join(f"\n| {name} | {value} |" for name, value in _reference(card))
    limits_text = "\n".join(f"- {limit}" for limit in limits)
    return f"""# Masks with a promise

**{card.sentence}**

{" ".join(filter(None, [hidden_of(card) or "How much is hidden is not known.", card.choice_text]))}

{meaning.holds}

{meaning.silent}

| | |
| --- | --- |
| loss, threshold | {card.loss.words.label}, {_threshold(card)}{_levels(card)} |
| guarantee | {card.promise.guarantee} |
| scorer | {scorer}{", with a level for each image" * (card.level == "image")}{_comparison_text(comparison)} |
| masks | {card.masks}; {exactness} |
| network | {network_label(card.network)} |{reference_row}
| calibration images | {card.n_calibration}{"" if card.population is None else f": {card.population}"} |
| calibrated | {card.calibrated} by conformask {version("conformask")} |
| fingerprint | {fingerprint} |
| promise as a formula | {card.formula} |
| loss as a formula | {card.loss.words.formula} |

## Limits

{limits_text}
"""


def hidden_of(card: CalibrationCard) -> str | None:
    """Return how much is hidden of the calibration images, in a sentence; None where it is not known."""
    if card.hidden is None:
        return None
    where = "" if card.lam == math.inf else ", on average over the calibration images"
    return f"{hidden_text(card, card.hidden)}{where}."


def _comparison_text(comparison: ScoreComparison | None) -> str:
    """Return how much the score's masks hide beside others, after a full stop; "" where not compared."""
    if comparison is None:
        return ""
    return f". {' '.join(filter(None, [comparison_text(comparison), useless_text(comparison)]))}"


def _threshold(card: CalibrationCard) -> str:
    return f"{card.threshold:.6g}, that is {card.loss.words.limit(card.threshold, card.values)}"


def _levels(card: CalibrationCard) -> str:
    """Return ", confidence 0.9, delta 0.05": the parameters of a promise besides its threshold."""
    confidence = "" if card.promise.confidence is None else f", confidence {card.promise.confidence:g}"
    return confidence + ("" if card.promise.delta is None else f", delta {card.promise.delta:g}")


def masker_html(
    card: CalibrationCard,
    scorer: str,
    size_by_threshold: Sequence[tuple[float, float]],
    comparison: ScoreComparison | None,
) -> str:
    """Return the card for a notebook: a piece of HTML that takes its colours from the page around it."""
    curve = size_curve(size_by_threshold, card)
    return svg.template(Path(__file__).with_name("card.html")).render(
        card=card,
        hidden=hidden_of(card),
        rows=_rows(card, scorer, comparison),
        curve=Markup(curve) if curve else None,
    )


def size_curve(curve: Sequence[tuple[float, float]], card: CalibrationCard) -> str | None:
    """Draw the mean hidden share against the threshold, from pairs of them; mark the card's."""
    curve = [(t, size) for t, size in curve if math.isfinite(t) and math.isfinite(size)]
    if len(curve) < 2:
        return None
    xs, ys = zip(*curve, strict=True)
    threshold = card.threshold
    cost = float(np.interp(threshold, xs, ys))
    low, high = min(xs[0], threshold), max(xs[-1], threshold)
    plot, hidden = svg.plot((low, high), (0, min(1.0, 1.08 * max(*ys, 0.05)))), "hidden on average"
    titles = [f"threshold {x:.4g}: {rounded_share(y)} hidden" for x, y in curve]
    marks = [
        svg.axes(plot, f"threshold on {card.loss.words.label}", hidden, (svg.plain, svg.percent)),
        svg.line(plot, xs, ys, svg.OURS),
        svg.points(plot, xs, ys, titles, svg.OURS, 2.5),
        svg.upright(plot, threshold, f"chosen, {svg.plain(threshold)}", hidden),
        svg.points(plot, (threshold,), (cost,), ("chosen",), svg.LIMIT, 5.5),
    ]
    return svg.document("Hidden share of the calibration images against the threshold", marks)


def _rows(card: CalibrationCard, scorer: str, comparison: ScoreComparison | None) -> list[tuple[str, str]]:
    meaning = meaning_of(card)
    sizes = ", ".join(map(size_text, card.sizes))
    images = f"{plural(card.n_calibration, 'image')} of {sizes}, {plural(card.channels, 'channel')}"
    groups = "" if card.n_groups is None else card.promise.named(f", in {plural(card.n_groups, 'group')}")
    lam = f"of each image, by the rule {card.rule.kind}"
    if card.lam is not None:
        lam = f"{card.lam:.6g}, {'exact' if card.exact else 'from a grid, slightly conservative'}"
    return [
        ("what holds", meaning.holds),
        ("what does not", meaning.silent),
        ("threshold", f"{card.loss.words.label} at most {_threshold(card)}{_levels(card)}"),
        ("lambda", lam),
        ("masks", f"{card.masks}, scorer {scorer}{_comparison_text(comparison)}"),
        *_reference(card),
        ("calibration", f"{images}{groups}; {card.calibrated}"),
        ("promise as a formula", card.formula),
        ("loss as a formula", card.loss.words.formula),
    ]


def _reference(card: CalibrationCard) -> list[tuple[str, str]]:
    """Return a row on what stood in the place of the truth; none where y was the truth."""
    reference = card.reference
    if not reference.is_noisy:
        return []
    formula = f": {reference.formula}" if card.loss.traits.truth.subtracts_noise else ""
    return [("reference y", f"{reference.text}{formula}")]
