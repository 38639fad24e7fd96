"""A trained network on the accelerator, if there is one."""

from dataclasses import dataclass

from conformask.arithmetic import best_device
from conformask.predictors.network_predictor import NetworkPredictor
from conformask.types import Images


@dataclass(frozen=True)
class Accelerated:
    """A trained network on the accelerator that takes and returns images on the CPU."""

    predictor: NetworkPredictor

    @property
    def name(self) -> str:
        """Kind of the network."""
        return self.predictor.name

    @property
    def fingerprint(self) -> str:
        """Hash of the network's weights."""
        return self.predictor.fingerprint

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Pixel hashes of the images that the network was trained on."""
        return self.predictor.trained_on

    def __call__(self, x: Images) -> Images:
        """Return the network's output, back on the CPU."""
        return self.predictor(x.to(best_device())).cpu()
