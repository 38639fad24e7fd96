"""calibration.json: what is promised, and for which images."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from conformask.records.network import Network
from conformask.storage.as_json import Json


@dataclass(frozen=True)
class CalibrationCard:
    """calibration.json: what is promised, and for which images."""

    threshold: float
    confidence: float | None
    """None for a promise about a mean."""
    delta: float | None
    """Share of calibration sets for which the promise may fail; None where it averages over them."""
    guarantee: str
    claim: str
    """What is promised, as a formula."""
    distance: str
    family: Mapping[str, Json]
    rule: Mapping[str, Json]
    exact: bool
    """Critical lambdas solved exactly; otherwise on a grid, which is conservative."""
    exploratory: bool
    """Threshold or confidence were changed after the calibration."""
    thresholds: tuple[float, ...] | None
    """Declared before the calibration, for a simultaneous promise."""
    n_calibration: int
    n_groups: int | None
    """Where images of a group are dependent."""
    n_effective: float | None
    """Effective sample size, where images are weighted."""
    channels: int
    sizes: tuple[tuple[int, int], ...]
    data_range: tuple[float, float] | None
    """Values of black and white, where it was stated; the file type says them otherwise."""
    population: str | None
    """For which images the promise holds, where the data say so."""
    calibrated: str
    """When, in UTC."""
    calibrated_on: tuple[str, ...]
    """Pixel hashes of the calibration images."""
    tiles: tuple[int, int] | None = None
    """Side and overlap of the tiles by which whole images were scored; None where each was one pass."""
    network: Network | None = None
    """Who made y_hat; None where nobody said."""
    code: Mapping[str, str] = field(default_factory=dict)
    """Hashes of the scorer and of what else a user brought as code, by the name of its argument."""

    @property
    def promise(self) -> str:
        """The promise in one sentence."""
        images = f"the {self.n_calibration} calibration images"
        if self.n_groups is not None:
            images += f" in {self.n_groups} groups"
        whom = f"{self.population}, like {images}" if self.population else f"new images like {images}"
        exploratory = ", exploratory" if self.exploratory else ""
        return f"{self.claim} for {whom} ({self.guarantee}{exploratory})"
