"""View of a masker in a notebook: its promise, what it says and does not say, and the size of its masks."""

from collections.abc import Sequence

from markupsafe import Markup

from conformask.records.card import CalibrationCard
from conformask.report.figures import size_curve
from conformask.report.promise_status import meaning_of
from conformask.report.templates import template
from conformask.report.words import levels, plural, sizes


def masker_html(card: CalibrationCard, scorer: str, size_by_threshold: Sequence[tuple[float, float]]) -> str:
    """Return a piece of HTML that takes its colours from the page around it."""
    curve = size_curve(size_by_threshold, card)
    return template("masker.html").render(
        card=card, rows=_rows(card, scorer), curve=Markup(curve) if curve else None
    )


def _rows(card: CalibrationCard, scorer: str) -> list[tuple[str, str]]:
    meaning = meaning_of(card)
    images = f"{plural(card.n_calibration, 'image')} of {sizes(card)}, {plural(card.channels, 'channel')}"
    groups = "" if card.n_groups is None else f", in {plural(card.n_groups, 'group')}"
    return [
        ("what holds", meaning.holds),
        ("what does not", meaning.silent),
        ("threshold", f"{card.loss_label} at most {card.threshold:.6g}{levels(card)}"),
        ("lambda", _lambda(card)),
        ("masks", f"family {card.family['name']}, scorer {scorer}"),
        ("calibration", f"{images}{groups}; {card.calibrated}"),
    ]


def _lambda(card: CalibrationCard) -> str:
    """Return the lambda of all images, or what it depends on."""
    if "lam" not in card.rule:
        return f"of each image, by the rule {card.rule['kind']}"
    return f"{card.rule['lam']:.6g}, {'exact' if card.exact else 'from a grid, slightly conservative'}"
