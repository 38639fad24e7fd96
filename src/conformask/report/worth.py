"""What a score is worth, in words."""

from conformask.records.curves import Worth


def worth_text(worth: Worth) -> str:
    """What a score hides on the selection images, beside the best masks and those of other scores."""
    others = [
        *([] if worth.oracle is None else [f"the best masks there are hide {percent_of(worth.oracle)}"]),
        f"those of the packaged score {percent_of(worth.packaged)}",
        f"of y_hat's local spread {percent_of(worth.local_spread)}",
        f"of one value everywhere {percent_of(worth.constant)}",
    ]
    follows = "" if worth.correlation is None else f" C(M, D) is {worth.correlation:.2f}."
    return (
        f"On {worth.n} selection images, with nine of ten within {worth.threshold:.3g}, its masks "
        f"hide {percent_of(worth.trained)} of an image; {', '.join(others)}.{follows}"
    )


def standing_text(worth: Worth) -> str:
    """The same while it trains, in few words."""
    best = "" if worth.oracle is None else f", best {percent_of(worth.oracle)}"
    return f"hides {percent_of(worth.trained)}{best}"


def percent_of(hidden: float) -> str:
    """A measured share as a whole percentage, below a tenth with one decimal."""
    return f"{100 * hidden:.{1 if hidden < 0.1 else 0}f}\N{NO-BREAK SPACE}%"
