"""Image-to-image models of transformers, such as Swin2SR. Needs the extra transformers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from conformask.arrays import Images, best_device
from conformask.errors import ImageError, InvalidArgumentError, MismatchError, MissingFileError, one_line
from conformask.extras.make.predictors import (
    CustomPredictor,
    NetworkFormat,
    device_of,
    predictor_of,
    required,
)

HISTORY = ("_name_or_path", "architectures", "dtype", "transformers_version")
"""Settings that record the history of a model, not its behaviour."""


def from_folder(folder: str | Path) -> CustomPredictor:
    """Open the model and the image processor that `save_pretrained` wrote to a folder.

    Nothing is downloaded, and code in the folder is not run.

    Raises:
        MissingFileError: no such folder, or transformers is not installed.
        MismatchError: it holds another kind of model, or files that are damaged or missing.
    """
    library = required("transformers")
    if not (Path(folder) / "config.json").is_file():
        raise MissingFileError(f"{folder} contains no config.json: give a folder that save_pretrained wrote")
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        model, info = library.AutoModelForImageToImage.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, **options
        )
        processor = library.AutoImageProcessor.from_pretrained(folder, **options)
    except Exception as error:  # the type depends on what is wrong with the folder
        raise MismatchError(
            f"{folder} contains no image-to-image model of transformers with its image processor "
            f"({type(error).__name__}: {one_line(error)})"
        ) from error
    if info["missing_keys"]:
        raise MismatchError(
            f"{folder} lacks weights of {type(model).__name__}: {', '.join(sorted(info['missing_keys'])[:3])}"
        )
    return replace(from_model(model.to(best_device()), processor), name=Path(folder).name)


def from_model(model: Any, processor: Any) -> CustomPredictor:
    """Wrap a model and its image processor, which pads; the padding is cut off the output.

    Args:
        model: a model such as Swin2SRForImageSuperResolution; it is put into eval mode.
        processor: its image processor; it does not rescale, since x is in [0, 1] already.

    Raises:
        InvalidArgumentError: the model is not an image-to-image model.
    """
    kinds = required("transformers").MODEL_FOR_IMAGE_TO_IMAGE_MAPPING.values()
    if not any(isinstance(model, kind) for kind in kinds):
        raise InvalidArgumentError(
            f"{type(model).__name__} is not an image-to-image model of transformers: give one of "
            f"{', '.join(kind.__name__ for kind in kinds)}"
        )

    def run(x: Images) -> Images:
        if x.ndim != 4:
            raise ImageError(f"{type(model).__name__} takes planes, not images of {tuple(x.shape[1:])}")
        pixel_values = processor(
            images=list(x), do_rescale=False, input_data_format="channels_first", return_tensors="pt"
        )["pixel_values"]
        output: Images = model(pixel_values.to(device_of(model))).reconstruction
        # padding lies at the right and at the bottom; the output may be larger by a whole factor
        height, width = (
            side * output.shape[axis] // pixel_values.shape[axis]
            for axis, side in enumerate(x.shape[2:], start=2)
        )
        return output[..., :height, :width]

    config = {name: value for name, value in model.config.to_dict().items() if name not in HISTORY}
    return predictor_of(model, run, "transformers", config, processor.to_dict())


TRANSFORMERS = NetworkFormat(lambda path, data_range: from_folder(path), "FOLDER")
