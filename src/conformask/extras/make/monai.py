"""Networks of MONAI: bundles, and networks with an inferer. Needs the extra monai.

MONAI's readers return images as (C, X, Y, Z) or (C, X, Y), so its networks have learnt that order of axes;
images here are (C, Z, Y, X) or (C, Y, X).
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from conformask.arrays import Images, best_device
from conformask.errors import (
    ImageError,
    InvalidArgumentError,
    MismatchError,
    MissingFileError,
    one_line,
    warn,
)
from conformask.extras.make.predictors import (
    CustomPredictor,
    NetworkFormat,
    device_of,
    predictor_of,
    required,
    settings_of,
)

CONFIGS = ("inference.json", "inference.yaml", "inference.yml")
READS = ("Load", "EnsureChannelFirst", "EnsureType", "ToTensor", "ToDevice", "Save", "Invert")
"""Beginnings of the names of transforms that read, write or only pass on: conformask does the same."""
Range = tuple[float, float]


def from_inferer(
    inferer: Any,
    network: nn.Module,
    *,
    input_range: Range = (0, 1),
    output_range: Range = (0, 1),
    reversed_axes: bool = True,
) -> CustomPredictor:
    """Wrap a network that an inferer runs, such as SlidingWindowInferer.

    Args:
        inferer: a monai.inferers.Inferer that needs only the network.
        network: from (N, C, X, Y, Z) or (N, C, X, Y) to the same; it is put into eval mode.
        input_range: the network's input values for 0 and 1 in x.
        output_range: the network's output values that become 0 and 1.
        reversed_axes: whether the network takes its axes in MONAI's order; if False, in that of x.

    Raises:
        MissingFileError: MONAI is not installed.
        InvalidArgumentError: it is not an Inferer.
    """
    if not isinstance(inferer, required("monai.inferers").Inferer):
        raise InvalidArgumentError(
            f"{type(inferer).__name__} is not an Inferer of MONAI, such as SimpleInferer()"
        )

    def run(x: Images) -> Images:
        network_input = rescale(reorder_axes(x, reversed_axes), (0, 1), input_range).to(device_of(network))
        output = inferer(network_input, network)
        if not isinstance(output, Tensor):
            raise ImageError(f"{type(network).__name__} returned {type(output).__name__}, not one tensor")
        return reorder_axes(rescale(output, output_range, (0, 1)), reversed_axes)

    ranges = [float(value) for value in (*input_range, *output_range)]
    return predictor_of(network, run, "monai", settings_of(network), inferer, ranges, reversed_axes)


def reorder_axes(images: Images, reverse: bool) -> Images:
    """Reverse the spatial axes of images (N, C, *space) if `reverse`."""
    return images.permute(0, 1, *range(images.ndim - 1, 1, -1)) if reverse else images


def rescale(images: Images, old: Range, new: Range) -> Images:
    """Map values linearly from the old range to the new one."""
    if old == new:
        return images
    return (images - old[0]) * ((new[1] - new[0]) / (old[1] - old[0])) + new[0]


def from_bundle(folder: str | Path) -> CustomPredictor:
    """Open the network of a bundle with its inferer, using the value ranges in its metadata.

    It reads network_def and inferer in configs/inference.json or .yaml, value_range of the one input and the
    one output in configs/metadata.json, and models/model.pt. The configuration of a bundle is code that is
    run: open only bundles that you trust. Its preprocessing and postprocessing are not run.

    Raises:
        MissingFileError: one of these files is missing, or MONAI is not installed.
        MismatchError: the bundle is incomplete, or its weights are not those of its network.

    Warns:
        ConformaskWarning: the bundle has transforms that change the values or the size of images.
    """
    folder = Path(folder)
    configs = [path for name in CONFIGS if (path := folder / "configs" / name).is_file()]
    config = configs[0] if configs else folder / "configs" / CONFIGS[0]
    weights, metadata = folder / "models" / "model.pt", folder / "configs" / "metadata.json"
    for path in (config, weights, metadata):
        if not path.is_file():
            raise MissingFileError(f"{path} does not exist: give the folder of a MONAI bundle")
    parser = required("monai.bundle").ConfigParser()
    try:
        parser.read_config(config)
        parser.read_meta(metadata)
        if str(folder) not in sys.path:
            sys.path.insert(1, str(folder))  # network_def and inferer may use code in the bundle
        parser["bundle_root"], parser["device"] = str(folder), str(best_device())
        network, inferer = map(parser.get_parsed_content, ("network_def", "inferer"))
    except Exception as error:  # a bundle's configuration may raise anything
        raise MismatchError(
            f"{folder}: its configuration failed with {type(error).__name__}: {one_line(error)}"
        ) from error
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        network.load_state_dict(state.get("model", state))
    except Exception as error:  # the type depends on where it is damaged
        raise MismatchError(
            f"{weights} does not contain the weights of {type(network).__name__}: {one_line(error)}"
        ) from error
    if names := [name for part in ("preprocessing", "postprocessing") for name in _transforms(parser, part)]:
        warn(
            f"{folder}: its transforms {', '.join(names)} are not run: prepare x as they would, and y as "
            "the network's output without them"
        )
    input_range, output_range = (_value_range(parser, metadata, ends) for ends in ("inputs", "outputs"))
    predictor = from_inferer(
        inferer, network.to(best_device()), input_range=input_range, output_range=output_range
    )
    return replace(predictor, name=folder.name)


def _value_range(parser: Any, metadata: Path, direction: str) -> Range:
    """Return the value range of the one input or output."""
    formats = parser["_meta_"].get("network_data_format", {}).get(direction, {})
    if len(formats) != 1 or len(next(iter(formats.values())).get("value_range", ())) != 2:
        raise MismatchError(
            f"{metadata}: network_data_format must have one of {direction}, with "
            f"the value_range that corresponds to [0, 1] here, such as [0, 1] or [-1, 1]; it has {formats}"
        )
    low, high = next(iter(formats.values()))["value_range"]
    return float(low), float(high)


def _transforms(parser: Any, part: str) -> list[str]:
    """Return the names of the transforms that do more than read and write."""
    composition = parser.config.get(part)
    entries = composition.get("transforms") if isinstance(composition, Mapping) else None
    targets = [str(entry.get("_target_")) for entry in entries or () if isinstance(entry, Mapping)]
    return [name for target in targets if not (name := target.rpartition(".")[2]).startswith(READS)]


MONAI = NetworkFormat(lambda path, data_range: from_bundle(path), "BUNDLE")
