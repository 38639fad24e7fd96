"""Texts on the quality of a score: how much its masks hide."""

from conformask.records.selection import ScoreComparison
from conformask.wording.numbers import rounded_share, share

ANY_SIZE = "any size"
"""Name, among other scores, of the score itself where its masks are in parts of any size."""
LABELS = {
    ANY_SIZE: "of the same score in parts of any size",
    "trained": "of the trained network",
    "packaged": "of the packaged score",
    "residual": "of |x - y_hat|",
    "gradient": "of the gradient of y_hat",
    "spread": "of the local spread of y_hat",
    "constant": "of a constant score",
}


def label_of(score: str) -> str:
    """Return whose masks those of a score are."""
    return LABELS.get(score, f"of {score}")


def comparison_text(comparison: ScoreComparison) -> str:
    """Return how much a score's masks hide, compared with others and the best."""
    in_order = sorted(comparison.others, key=lambda name: [*LABELS, name].index(name))
    shares = ", ".join(f"{label_of(name)} {rounded_share(comparison.others[name])}" for name in in_order)
    oracle = comparison.oracle
    best = "" if oracle is None else f"the best possible masks hide {rounded_share(oracle)}, "
    return (
        f"On {comparison.n} {comparison.part} images, with 90\N{NO-BREAK SPACE}% of them within "
        f"{comparison.threshold:.3g}, its masks hide {hidden_text(comparison)} of {comparison.whole}; "
        f"{best}those {shares}."
    )


def useless_text(comparison: ScoreComparison) -> str | None:
    """Return that the score is no better than one value everywhere; None where it is, or was not compared."""
    constant = comparison.others.get("constant")
    if constant is None or comparison.hidden < constant:
        return None
    return (
        f"The score is no better than one value everywhere: on {comparison.n} {comparison.part} images its "
        f"masks hide {share(comparison.hidden)}, those of a constant score {share(constant)}. Train one, or "
        "use another."
    )


def hidden_text(comparison: ScoreComparison) -> str:
    """Return the hidden share, and its interval over nine of ten sets of such images."""
    if comparison.interval is None:
        return rounded_share(comparison.hidden)
    low, high = map(rounded_share, comparison.interval)
    return f"{rounded_share(comparison.hidden)} ({low} to {high})"
