"""A user's own network as a predictor: a Python callable, a file of torch.export, TorchScript or ONNX, or a
library's network.
"""

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from conformask import extensions
from conformask.errors import ImageError, InvalidArgumentError, MismatchError, MissingFileError, one_line
from conformask.extensions import Extensions
from conformask.fingerprints import fingerprint_of
from conformask.storage.as_arrays import Array
from conformask.storage.as_json import hash_of
from conformask.storage.sealed import path_hash
from conformask.types import Images

Outputs = Tensor | tuple[Tensor, ...]
"""y_hat, or y_hat and what else a network returns."""
Run = Callable[[Images], Outputs]
DataRange = tuple[float, float]
FAR = 4.0
"""Largest magnitude of an output; a larger one is rejected as wrongly scaled."""


@dataclass(frozen=True)
class CustomPredictor:
    """Runs x (N, C, *space) in [0, 1] through a user's network; small excursions from [0, 1] are clipped."""

    run: Run
    name: str
    fingerprint: str
    """Hash of its file, or of its code and the version of its package."""
    trained_on: tuple[str, ...] = ()
    network: nn.Module | None = None
    """The torch module that it runs, where its layers can be reached."""

    @torch.no_grad()
    def __call__(self, x: Images) -> Images:
        """Return the network's output, float32, on the CPU, the first of several; infinity becomes NaN.

        Raises:
            ImageError: values far outside [0, 1], such as 0 to 255.
        """
        outputs = self.run(x.clone())  # networks may change their input in place
        return self._image(outputs[0] if isinstance(outputs, tuple) else outputs)

    @torch.no_grad()
    def with_maps(self, x: Images) -> tuple[Images, Images]:
        """Return y_hat, and the maps (N, K, *space) of any range that the network returns after it.

        Raises:
            ImageError: it returns nothing else, or no maps of the size of y_hat.
        """
        outputs = self.run(x.clone())
        if not isinstance(outputs, tuple) or len(outputs) < 2:
            raise ImageError("it returns y_hat alone, and no map after it")
        y_hat, maps = self._image(outputs[0]), outputs[1].detach().cpu().float()
        if maps.ndim != y_hat.ndim or maps.shape[2:] != y_hat.shape[2:]:
            raise ImageError(
                f"its second output has shape {tuple(maps.shape)}, but y_hat has {tuple(y_hat.shape)}"
            )
        return y_hat, maps

    def _image(self, output: Tensor) -> Images:
        output = output.detach().cpu().float()
        finite = output[output.isfinite()]
        if finite.numel() and finite.abs().max() > FAR:
            raise ImageError(
                f"it returned values from {finite.min():.4g} to {finite.max():.4g}, but must return values "
                "in [0, 1]: divide by their range"
            )
        return torch.where(output.isfinite(), output.clamp(0, 1), torch.nan)


@dataclass(frozen=True)
class NetworkFormat:
    """A kind of network that `custom_predictor` opens: files with a suffix, or networks of a library."""

    open: Callable[[str, DataRange | None], CustomPredictor]
    """Function that opens the network at a path; the range is black and white in the units of its images."""
    what: str = "PATH"
    """Word for what follows the colon after the name of a library."""


def custom_predictor(name: str, data_range: DataRange | None = None) -> CustomPredictor:
    """Open the network with this name. It is code: opening its file may run it, see SECURITY.md.

    package.module:function, found from the working folder too, takes an array (*space, C), float32 in [0, 1],
    and returns one of floats, (*space, C) or (*space), or a tuple of it and of a map; it may also name a
    CustomPredictor. A .pt2 file is torch.export, a .pt, .pth or .ts file TorchScript and a .onnx file ONNX,
    all from (N, C, *space) in [0, 1] to the same. monai:BUNDLE, careamics:CHECKPOINT and transformers:FOLDER
    are networks of these libraries; an installed package may add others.

    Args:
        name: the name, such as "enhance:enlarge" or "network.onnx".
        data_range: black and white in the units of the images, as CAREamics has seen them; [0, 1] if None.

    Raises:
        InvalidArgumentError: none of these, or there is no such function in the module.
        MissingFileError: no such file or module, or a library is not installed.
        MismatchError: the file is damaged, or of another kind.
    """
    library, _, path = name.partition(":")
    if library in NETWORKS and not library.startswith("."):
        return NETWORKS[library].open(path, data_range)
    suffix = Path(name).suffix.lower()
    if suffix in NETWORKS:
        return NETWORKS[suffix].open(name, data_range)
    function = _function(name)
    if isinstance(function, CustomPredictor):
        return function
    if isinstance(function, nn.Module):
        module = function.eval()
        return CustomPredictor(module, name, _hash_of_function(name, module), network=module)
    return CustomPredictor(_map_images(function), name, _hash_of_function(name, function))


def _hash_of_function(spec: str, function: Callable[[Array], Array]) -> str:
    packages = metadata.packages_distributions().get(spec.partition(":")[0].split(".")[0], [])
    return hash_of([spec, [[name, metadata.version(name)] for name in packages], fingerprint_of(function)])


def _function(name: str) -> Callable[[Array], Array]:
    module, separator, function = name.partition(":")
    if not (separator and function):
        networks = NETWORKS.usable()
        suffixes = sorted(key for key in networks if key.startswith("."))
        libraries = [f"{key}:{kind.what}" for key, kind in networks.items() if not key.startswith(".")]
        raise InvalidArgumentError(
            f"predictor {name!r}: give package.module:function, or a file {', '.join(suffixes)}, or "
            f"{', '.join(libraries)}"
        )
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # last: its files must not take the place of installed packages
    try:
        module_object = importlib.import_module(module)
    except Exception as error:  # a user's module may raise anything
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            raise MissingFileError(
                f"predictor {name!r}: {error}; run the command in the folder of the module"
            ) from error
        raise MismatchError(
            f"predictor {name!r}: importing {module} failed with {type(error).__name__}: {one_line(error)}"
        ) from error
    if not callable(getattr(module_object, function, None)):
        file = getattr(module_object, "__file__", None) or "built in"
        raise InvalidArgumentError(f"predictor {name!r}: {module} ({file}) has no function {function!r}")
    user_function: Callable[[Array], Array] = getattr(module_object, function)
    return user_function


def _map_images(function: Callable[[Array], Array]) -> Run:
    """Turn a function of one array into a function of a batch."""

    def run(x: Images) -> Outputs:
        made = [function(image) for image in np.moveaxis(x.cpu().numpy(), 1, -1)]
        axes = x.ndim - 1
        if not all(isinstance(each, tuple) for each in made):
            return _stacked(made, axes)
        return tuple(_stacked(each, axes) for each in zip(*made, strict=True))

    return run


def _stacked(images: Sequence[Any], axes: int) -> Images:
    """Return a function's images as a batch (N, C, *space)."""
    arrays = [_image(image, axes) for image in images]
    planes = [image[..., None] if image.ndim == axes - 1 else image for image in arrays]
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(np.stack(planes), -1, 1), dtype=np.float32))


def _joined(parts: Sequence[Outputs]) -> Outputs:
    """Return the outputs of the parts of a batch as those of the batch."""
    if not isinstance(parts[0], tuple):
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    return tuple(torch.cat(each) for each in zip(*parts, strict=True))


def _image(output: Any, axes: int) -> Array:
    """Return a function's output as an array, if it is an image with this many axes, or one fewer.

    Raises:
        ImageError: it is not such an image.
    """
    image = np.asarray(output.detach().cpu() if isinstance(output, torch.Tensor) else output)
    if image.ndim not in (axes - 1, axes) or image.dtype.kind != "f":
        expected = "(H, W, C) or (H, W)" if axes == 3 else "(D, H, W, C) or (D, H, W)"
        raise ImageError(
            f"it returned {type(output).__name__} of shape {image.shape} and type {image.dtype}, not "
            f"floats in [0, 1] of shape {expected}"
        )
    return image


def _open_exported(name: str) -> Run:
    path = existing_file(name)
    try:
        program = torch.export.load(path)
        (input_name,) = program.graph_signature.user_inputs
    except Exception as error:  # the type depends on where it is damaged
        raise MismatchError(
            f"{name} is damaged, or is not a torch.export file with one input ({one_line(error)}): copy it "
            "again, or write the network with torch.export.save(torch.export.export(network, (x,)), path)"
        ) from error
    shape = next(node.meta["val"].shape for node in program.graph.nodes if node.name == input_name)
    module, single = program.module(), shape[0] == 1

    def run(x: Images) -> Outputs:
        return _joined([module(part) for part in torch.split(x, 1 if single else len(x))])

    return run


def _open_torchscript(name: str) -> Run:
    path = existing_file(name)
    try:
        with warnings.catch_warnings(category=DeprecationWarning, action="ignore"):
            network = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as error:  # the type depends on where it is damaged
        raise MismatchError(
            f"{name} is damaged, or is not a TorchScript file ({one_line(error).split('. ')[0]}): copy it "
            "again, or write the network with torch.jit.script(network).save(...), not torch.save"
        ) from error
    run: Run = network.eval()
    return run


def existing_file(name: str) -> str:
    """Return the name of a file.

    Raises:
        MissingFileError: there is no such file.
    """
    if not Path(name).is_file():
        raise MissingFileError(f"{name} does not exist")
    return name


def _network_file(open_run: Callable[[str], Run]) -> NetworkFormat:
    """Return the format of files whose fingerprint is the hash of the file."""

    def opened(name: str, data_range: DataRange | None) -> CustomPredictor:
        run, fingerprint = open_run(name), hash_of([path_hash(Path(name))])
        network = run if isinstance(run, nn.Module) else None
        return CustomPredictor(run, Path(name).name, fingerprint, network=network)

    return NetworkFormat(opened)


NETWORKS = Extensions(
    extensions.PREDICTORS,
    NetworkFormat,
    {
        ".pt2": _network_file(_open_exported),
        **dict.fromkeys((".pt", ".pth", ".ts"), _network_file(_open_torchscript)),
    },
)
"""All kinds of networks, by the suffix of their files, or by the library, as in monai:BUNDLE."""
