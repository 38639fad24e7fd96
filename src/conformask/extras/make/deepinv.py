"""Denoisers and reconstructors of deepinv. Needs the extra deepinv."""

from torch import nn

from conformask.arrays import Images
from conformask.errors import InvalidArgumentError
from conformask.extras.make.predictors import CustomPredictor, device_of, predictor_of, required, settings_of


def from_denoiser(denoiser: nn.Module, sigma: float) -> CustomPredictor:
    """Wrap a deepinv.models.Denoiser at a noise level; x is the noisy image.

    Args:
        denoiser: the denoiser, which is put into eval mode.
        sigma: standard deviation of the noise, where white is 1.

    Raises:
        MissingFileError: deepinv is not installed.
        InvalidArgumentError: it is not a Denoiser.
    """
    _check(denoiser, "Denoiser", "from_reconstructor(model, physics)")
    return _predictor(denoiser, sigma, settings_of(denoiser), sigma)


def from_reconstructor(reconstructor: nn.Module, physics: nn.Module) -> CustomPredictor:
    """Wrap a deepinv.models.Reconstructor of what a physics measures; x is the measurement.

    A measurement is an image in [0, 1] if the physics blurs, masks, adds noise or reduces the size. For
    others, such as a sinogram, bring x, y_hat and y as arrays.

    Args:
        reconstructor: the reconstructor, which is put into eval mode.
        physics: a deepinv.physics.Physics; on the same device.

    Raises:
        MissingFileError: deepinv is not installed.
        InvalidArgumentError: it is not a Reconstructor.
    """
    _check(reconstructor, "Reconstructor", "from_denoiser(model, sigma)")
    return _predictor(reconstructor, physics, physics, (settings_of(reconstructor), settings_of(physics)))


def _predictor(model: nn.Module, argument: object, *decisive: object) -> CustomPredictor:
    """Return a predictor from a model of x and a second argument."""

    def run(x: Images) -> Images:
        output: Images = model(x.to(device_of(model)), argument)
        return output

    return predictor_of(model, run, "deepinv", *decisive)


def _check(model: nn.Module, kind: str, other: str) -> None:
    if not isinstance(model, getattr(required("deepinv").models, kind)):
        raise InvalidArgumentError(f"{type(model).__name__} is not a deepinv.models.{kind}: see {other}")
