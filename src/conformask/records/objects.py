"""Counts of objects on test images: what is shown, what of it is there, and what the network lacks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ObjectCounts:
    """Numbers of objects over all test images; they meet where their IoU is at least that of the loss."""

    n: int
    """Objects of y_hat."""
    right: int
    """Objects of y_hat that an object of y meets."""
    shown: int
    """Objects of y_hat that masks show."""
    shown_right: int
    """Objects of y_hat that masks show and an object of y meets."""
    true: int
    """Objects of y."""
    lacking: int
    """Objects of y that no object of y_hat meets: the network misses them, and no mask repairs that."""

    @property
    def shown_text(self) -> str:
        """How many of the objects are shown, and how many of these are there."""
        there = f"{_of(self.shown_right, self.shown)} are there"
        return f"of {self.shown:,} objects shown {there}, of all {self.n:,} {_of(self.right, self.n)}"

    @property
    def lacking_text(self) -> str:
        """How many of the objects of the reference the network lacks."""
        return (
            f"of {self.true:,} objects of the reference the network lacks {_of(self.lacking, self.true)}, "
            "which no mask brings back"
        )


def _of(count: int, whole: int) -> str:
    return f"{count:,}" + (f" ({count / whole:.1%})" if whole else "")
