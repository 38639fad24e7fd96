"""What a promise is about, in words: a distance between masked images, or an error map under a mask."""

from dataclasses import dataclass, fields

from conformask.names import DISTANCES, Over


class LossWords:
    """How a loss is called; for records that say which."""

    distance: str
    over: Over | None
    window: int | None
    tolerance: float | None
    region: bool

    @property
    def loss_name(self) -> str:
        """As it stands in a formula: l1, trusted(l1), window(l1, 9 px), missed(l1 > 0.1)."""
        tolerated = f" > {self.tolerance or 0:g}"
        numbers = {"window": f", {self.window} px", "missed": tolerated, "wrong": tolerated}
        inside = self.distance + numbers.get(self.over or "", "")
        name = inside if self.over in (None, "image") else f"{self.over}({inside})"
        return f"{name} in the region" if self.region else name

    @property
    def loss_label(self) -> str:
        """As people write it."""
        label = DISTANCES[self.distance].label if self.distance in DISTANCES else self.distance
        wrong = f"{label} above {self.tolerance or 0:g}"
        labels = {
            "trusted": f"mean {label} of what is shown",
            "window": f"mean {label} shown in any {self.window} x {self.window} pixels",
            "missed": f"share of the wrong pixels ({wrong}) that are shown",
            "wrong": f"share of what is shown that is wrong ({wrong})",
        }
        said = labels.get(self.over or "", label)
        return f"{said}, in the region" if self.region else said

    @property
    def limit(self) -> str:
        """What is promised not to exceed the threshold, before "at most T"."""
        label = DISTANCES[self.distance].label if self.distance in DISTANCES else self.distance
        where = " in the region" if self.region else ""
        wrong = f"wrong ({label} above {self.tolerance or 0:g})"
        limits = {
            "trusted": f"the mean {label} of what the mask trusts{where} is",
            "window": f"the mean {label} trusted in any {self.window} x {self.window} pixels{where} is",
            "missed": f"the share of the pixels{where} that are {wrong} and that the mask trusts is",
            "wrong": f"the share of what the mask trusts{where} that is {wrong} is",
        }
        return limits.get(
            self.over or "", f"what the mask trusts{where} differs from the truth in {label} by"
        )


@dataclass(frozen=True, kw_only=True)
class LossTerms(LossWords):
    """Which loss, as command line, JSON and Python name it."""

    distance: str
    """A distance, or an error map."""
    over: Over | None = None
    """None: between the masked images, as the paper has it; for lp that is the mean over the image."""
    window: int | None = None
    """Side of the window in pixels."""
    tolerance: float | None = None
    """The error above which a pixel is wrong."""
    region: bool = False
    """Whether only the region of each image counts."""

    @property
    def loss_terms(self) -> "LossTerms":
        """These alone, of a record that says more."""
        return LossTerms(**{field.name: getattr(self, field.name) for field in fields(LossTerms)})
