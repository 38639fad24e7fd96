"""Text of CARD.md, beside a saved masker: its promise, the images it covers, and its limits."""

from importlib.metadata import version

from conformask.records.card import CalibrationCard
from conformask.records.size import size_text
from conformask.report.benchmark import percent_of
from conformask.report.promise_status import EXPLORATORY, meaning_of
from conformask.report.words import hidden_text, levels, network_label, plural


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
| loss, threshold | {card.loss_label}, {card.threshold:.6g}{levels(card)} |
| guarantee | {card.guarantee} |
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
    tile, overlap = (each if isinstance(each, int) else size_text(each) for each in card.tiles)
    return f"; they are scored by tiles of {tile} that overlap by {overlap}"
