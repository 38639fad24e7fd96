"""The paper's family of masks, eq. 8: min(1, lam / (epsilon + score))."""

from dataclasses import dataclass, field

from conformask.masks.power import Power
from conformask.storage.as_json import Json


@dataclass(frozen=True)
class Reciprocal(Power):
    """The mask min(1, lam / (epsilon + score)), eq. 8 of the paper: `Power` with gamma = 1 and kappa = 0.

    Raises:
        InvalidArgumentError: epsilon is not finite and positive.
    """

    gamma: float = field(default=1.0, init=False)
    kappa: float = field(default=0.0, init=False)
    name = "reciprocal"

    def settings(self) -> dict[str, Json]:
        """Return name and epsilon."""
        return {"name": self.name, "epsilon": self.epsilon}
