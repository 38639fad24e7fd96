"""Networks of CAREamics: checkpoints, and a CAREamist. Needs the extra careamics."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from conformask.arrays import Array, Images
from conformask.errors import InvalidArgumentError, MismatchError, MissingFileError, one_line
from conformask.extras.make.predictors import CustomPredictor, NetworkFormat, predictor_of, required

TYPICAL = (
    "input_means",
    "input_mins",
    "input_maxes",
    "input_lower_quantile_values",
    "input_upper_quantile_values",
)
"""Statistics that lie within the range of the training images."""


def from_checkpoint(path: str | Path, data_range: tuple[float, float] = (0, 1)) -> CustomPredictor:
    """Open the network of a checkpoint that CAREamics wrote.

    Args:
        path: a .ckpt file.
        data_range: black and white in the units of the training images; see `from_careamist`.

    Raises:
        MissingFileError: no such file, or CAREamics is not installed.
        MismatchError: the file is damaged, or was not written by CAREamics.
        InvalidArgumentError: it was trained on images of another range.
    """
    library = required("careamics")
    if not Path(path).is_file():
        raise MissingFileError(f"{path} does not exist: give a .ckpt file that CAREamics wrote")
    work_folder = TemporaryDirectory(prefix="conformask-careamics-")
    options = {"work_dir": work_folder.name, "enable_progress_bar": False}
    try:
        careamist = library.CAREamist(checkpoint_path=path, **options)
    except Exception as error:  # the type depends on where it is damaged
        raise MismatchError(
            f"{path} is damaged, or is not a checkpoint of a CAREamist ({type(error).__name__}: "
            f"{one_line(error)})"
        ) from error
    careamist.scratch = work_folder  # keeps the folder as long as the CAREamist
    return replace(from_careamist(careamist, data_range), name=Path(path).name)


def from_careamist(careamist: Any, data_range: tuple[float, float] = (0, 1)) -> CustomPredictor:
    """Wrap a CAREamist: `careamist.predict` on whole images, with its normalization.

    Images whose sides its network cannot halve are extended by reflection, and the output is cropped.

    Args:
        careamist: a trained careamics.CAREamist; predict chooses the checkpoint.
        data_range: black and white in the units of the images that it was trained on, such as (0, 65535).

    Raises:
        MissingFileError: CAREamics is not installed.
        InvalidArgumentError: it is not a CAREamist, or was trained on images of another range.
        MismatchError: it is not trained.
    """
    if not isinstance(careamist, required("careamics").CAREamist):
        raise InvalidArgumentError(f"{type(careamist).__name__} is not a CAREamist of CAREamics")
    network, (low, high) = careamist.config.algorithm_config.model, data_range
    normalization = careamist.config.data_config.normalization
    if normalization.needs_computation():
        raise MismatchError("this CAREamist is not trained: it has no statistics to normalize images with")
    statistics = normalization.model_dump()
    values = np.array([value for name in TYPICAL for value in statistics.get(name) or ()])
    if values.size and not (low <= values.min() and values.max() <= high):
        raise InvalidArgumentError(
            f"this CAREamist was trained on values such as {values.min():.4g}, outside [{low:g}, {high:g}]: "
            "give black and white in the units of its training images, such as --data-range 0 65535 for 16 "
            "bits (data_range=)"
        )
    multiple = 2**network.depth

    def run(x: Images) -> Images:
        sides = x.shape[2:]
        margins = [(0, 0), (0, 0), *((0, -side % multiple) for side in sides)]
        padded = np.pad(low + (high - low) * x.cpu().numpy(), margins, mode="reflect")
        crop = tuple(slice(side) for side in sides)
        return torch.from_numpy((_predict(careamist, padded)[:, :, *crop] - low) / (high - low))

    # a trial at a small size, so that what predict cannot do fails before the first image
    _predict(careamist, np.zeros((1, network.in_channels, *[4 * multiple] * network.conv_dims), np.float32))
    settings = network.model_dump(), statistics, [float(low), float(high)]
    predictor = predictor_of(careamist.model.model, run, "careamics", *settings)
    return replace(predictor, name=careamist.config.experiment_name)


def _predict(careamist: Any, images: Array) -> Array:
    """Predict (N, C, *space), in and out in the units of the training images."""
    axes = "SCZYX" if images.ndim == 5 else "SCYX"
    target = axes if careamist.config.data_config.target_axes is not None else None
    output: Array
    (output,), _ = careamist.predict(images, axes=axes, output_axes=target, data_type="array", batch_size=1)
    return output


CAREAMICS = NetworkFormat(lambda path, data_range: from_checkpoint(path, data_range or (0, 1)), "CHECKPOINT")
