"""A trained network on the accelerator, where there is one."""

from dataclasses import dataclass

from conformask.arithmetic import best_device
from conformask.predictors.network_predictor import NetworkPredictor
from conformask.types import Images


@dataclass(frozen=True)
class Accelerated:
    """A trained network that takes and gives images on the CPU."""

    predictor: NetworkPredictor

    @property
    def name(self) -> str:
        """Its kind."""
        return self.predictor.name

    @property
    def fingerprint(self) -> str:
        """A hash of its weights."""
        return self.predictor.fingerprint

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Pixel hashes of the images that it was trained on."""
        return self.predictor.trained_on

    def __call__(self, x: Images) -> Images:
        """Its output, back on the CPU."""
        return self.predictor(x.to(best_device())).cpu()
