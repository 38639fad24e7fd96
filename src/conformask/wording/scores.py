"""Texts on the quality of a score: how much others would hide, as multiples of what its masks hide."""

from conformask.records.selection import ScoreComparison
from conformask.records.sentence import rounded_share

ANY_SIZE = "any size"
"""Name, among other scores, of the score itself where its masks are in parts of any size."""
LABELS = {
    ANY_SIZE: "the same score in parts of any size",
    "trained": "the trained network",
    "packaged": "the packaged score",
    "residual": "|x - y_hat|",
    "gradient": "the gradient of y_hat",
    "spread": "the local spread of y_hat",
    "constant": "a constant score",
}


def label_of(score: str) -> str:
    """Return a score in words."""
    return LABELS.get(score, score)


def comparison_text(comparison: ScoreComparison, *, best: bool = True) -> str:
    """Return how much other scores would hide beside the masks of a score, and the best possible masks."""
    known = [*LABELS, *comparison.others]
    others = {label_of(name): comparison.others[name] for name in sorted(comparison.others, key=known.index)}
    if best and comparison.oracle is not None:
        others["the best possible masks"] = comparison.oracle
    (first, hidden), *rest = others.items()
    texts = [f"{first} would hide {times(hidden, comparison)}"]
    texts += [f"{name} {times(share, comparison)}" for name, share in rest]
    return f"On {comparison.n} {comparison.part} images, {', '.join(texts)}."


def times(hidden: float, comparison: ScoreComparison) -> str:
    """Return a hidden share as a multiple of that of a score."""
    if not comparison.hidden:
        return "as much" if not hidden else "more"
    ratio = f"{hidden / comparison.hidden:.2g}"
    return "as much" if ratio == "1" else f"{ratio} times as much"


def useless_text(comparison: ScoreComparison) -> str | None:
    """Return that the score is no better than one value everywhere; None where it is, or was not compared."""
    constant = comparison.others.get("constant")
    if constant is None or comparison.hidden < constant:
        return None
    return (
        f"The score is no better than one value everywhere, which on {comparison.n} {comparison.part} images "
        f"would hide {times(constant, comparison)}. Train one, or use another."
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
