"""Texts on the quality of a score: how much its masks hide."""

from conformask.records.selection import ScoreComparison

LABELS = {
    "packaged": "of the packaged score",
    "residual": "of |x - y_hat|",
    "gradient": "of the gradient of y_hat",
    "spread": "of the local spread of y_hat",
    "constant": "of a constant score",
}


def comparison_text(comparison: ScoreComparison) -> str:
    """Return how much a score's masks hide on the selection images, compared with others and the best."""
    shares_by_label = {
        label: comparison.others[name] for name, label in LABELS.items() if name in comparison.others
    }
    shares = ", ".join(f"{label} {percent_of(share)}" for label, share in shares_by_label.items())
    best = (
        "" if comparison.oracle is None else f"the best possible masks hide {percent_of(comparison.oracle)}, "
    )
    correlation = "" if comparison.correlation is None else f" C(M, D) is {comparison.correlation:.2f}."
    return (
        f"On {comparison.n} selection images, with 90\N{NO-BREAK SPACE}% of them within "
        f"{comparison.threshold:.3g}, its masks hide {hidden_text(comparison)} of an image; "
        f"{best}those {shares}.{correlation}"
    )


def hidden_text(comparison: ScoreComparison) -> str:
    """Return the hidden share, and its interval over nine of ten sets of such images."""
    if comparison.interval is None:
        return percent_of(comparison.hidden)
    low, high = map(percent_of, comparison.interval)
    return f"{percent_of(comparison.hidden)} ({low} to {high})"


def standing_text(hidden: float, oracle: float | None) -> str:
    """Return how much a score's masks hide while it trains, in few words."""
    best = "" if oracle is None else f", best {percent_of(oracle)}"
    return f"hides {percent_of(hidden)}{best}"


def percent_of(hidden: float) -> str:
    """Format a measured share as a whole percentage, below a tenth with one decimal."""
    return f"{100 * hidden:.{1 if hidden < 0.1 else 0}f}\N{NO-BREAK SPACE}%"
