"""Card of a masker, as CARD.md and for a notebook: its promise, the images it covers, and its limits."""

from collections.abc import Sequence
from importlib.metadata import version

from markupsafe import Markup

from conformask.records.card import CalibrationCard
from conformask.records.size import size_text
from conformask.report.benchmark import percent_of
from conformask.report.figures import size_curve
from conformask.report.promise_status import EXPLORATORY, meaning_of
from conformask.report.templates import template
from conformask.report.words import hidden_text, levels, network_label, plural, sizes


def card_text(card: CalibrationCard, scorer: str, fingerprint: str) -> str:
    """Return the card in Markdown."""
    meaning = meaning_of(card)
    family = ", ".join(f"{name} {value}" for name, value in card.family.items() if name != "name")
    exactness = (
        "exact critical lambdas" if card.exact else "critical lambdas on a grid, slightly conservative"
    )
    limits = [
        f"The promise covers only {card.covered}, of {plural(card.channels, 'channel')}{_tiles_text(card)}.",
        "Images of another source need another calibration; `conformask monitor` watches for them.",
        "A mask says nothing about what it hides: 0 means not trusted, not wrong.",
    ]
    if card.exploratory:
        limits.insert(0, EXPLORATORY.text)
    if card.hides is not None:
        limits.insert(0, hidden_text(card.hides))
    limits_text = "\n".join(f"- {limit}" for limit in limits)
    return f"""# Masks with a promise

**{card.promise}**

{meaning.holds}

{meaning.silent}

| | |
| --- | --- |
| loss, threshold | {card.loss.label}, {card.threshold:.6g}{levels(card)} |
| guarantee | {card.promise.guarantee} |
| scorer | {scorer} |
| masks | {card.family["name"]} ({family}); {exactness} |
| network | {network_label(card.network)} |
| calibration images | {card.n_calibration}{"" if card.population is None else f": {card.population}"} |
| hidden | {"unknown" if card.hidden is None else percent_of(card.hidden)} of a calibration image |
| calibrated | {card.calibrated} by conformask {version("conformask")} |
| fingerprint | {fingerprint} |

## Limits

{limits_text}
"""


def _tiles_text(card: CalibrationCard) -> str:
    if card.tiles is None:
        return ""
    tile, overlap = (side if isinstance(side, int) else size_text(side) for side in card.tiles)
    return f"; they are scored by tiles of {tile} that overlap by {overlap}"


def masker_html(card: CalibrationCard, scorer: str, size_by_threshold: Sequence[tuple[float, float]]) -> str:
    """Return the card for a notebook: a piece of HTML that takes its colours from the page around it."""
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
        ("threshold", f"{card.loss.label} at most {card.threshold:.6g}{levels(card)}"),
        ("lambda", _lambda(card)),
        ("masks", f"family {card.family['name']}, scorer {scorer}"),
        ("calibration", f"{images}{groups}; {card.calibrated}"),
    ]


def _lambda(card: CalibrationCard) -> str:
    """Return the lambda of all images, or what it depends on."""
    if "lam" not in card.rule:
        return f"of each image, by the rule {card.rule['kind']}"
    return f"{card.rule['lam']:.6g}, {'exact' if card.exact else 'from a grid, slightly conservative'}"
