"""A user's own network as a predictor: a Python callable, a TorchScript file or an ONNX file."""

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from conformask.errors import InvalidArgumentError, MismatchError, MissingFileError
from conformask.types import Array, Images

Run = Callable[[Images], Images]


@dataclass(frozen=True)
class OwnPredictor:
    """Runs x (N, C, H, W) in [0, 1] through a user's network; what leaves [0, 1] is clipped."""

    run: Run
    name: str
    trained_on: tuple[str, ...] = ()

    @torch.no_grad()
    def __call__(self, x: Images) -> Images:
        """The network's output, float32, on the CPU."""
        return self.run(x).detach().cpu().float().clamp(0, 1)


def own_predictor(told: str) -> OwnPredictor:
    """The network that `told` names.

    package.module:function, found from the working folder too, takes an array (H, W, C), float32 in [0, 1],
    and returns one, (H, W, C) or (H, W). A .pt, .pth or .ts file is TorchScript and a .onnx file ONNX, both
    from (N, C, H, W) in [0, 1] to (N, C, H, W).

    Raises:
        InvalidArgumentError: none of these, or there is no such function in the module.
        MissingFileError: no such file or module, or onnxruntime is not installed.
        MismatchError: the file is damaged, or of another kind.
    """
    opened = OPENED.get(Path(told).suffix.lower(), _of_module)
    return OwnPredictor(opened(told), told)


def _of_module(told: str) -> Run:
    module, separator, function = told.partition(":")
    if not (separator and function):
        raise InvalidArgumentError(
            f"predictor {told!r}: give package.module:function, or a file {', '.join(OPENED)}"
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingFileError(f"predictor {told!r}: {error}; start where the module lies") from error
    if not callable(getattr(found, function, None)):
        raise InvalidArgumentError(f"predictor {told!r}: {module} has no function {function!r}")
    return _each(getattr(found, function))


def _each(function: Callable[[Array], Array]) -> Run:
    """A function of one array as a function of a batch."""

    def run(x: Images) -> Images:
        found = [np.asarray(function(image)) for image in np.moveaxis(x.cpu().numpy(), 1, -1)]
        planes = [image[..., None] if image.ndim == 2 else image for image in found]
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(np.stack(planes), -1, 1), dtype=np.float32))

    return run


def _torchscript(told: str) -> Run:
    try:
        with warnings.catch_warnings(category=DeprecationWarning, action="ignore"):
            network = torch.jit.load(_file(told), map_location="cpu")  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise MismatchError(f"{told} is damaged or no TorchScript file: {_first_line(error)}") from error
    run: Run = network.eval()
    return run


def _onnx(told: str) -> Run:
    path = _file(told)
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingFileError(f"{told} needs onnxruntime: pip install 'conformask[onnx]'") from error
    try:
        session = onnxruntime.InferenceSession(path, providers=onnxruntime.get_available_providers())
    except Exception as error:  # onnxruntime's own errors share no type
        raise MismatchError(f"{told} is damaged or no ONNX file: {_first_line(error)}") from error
    (given, *others), single = session.get_inputs(), session.get_inputs()[0].shape[0] == 1
    if others:
        raise MismatchError(f"{told} takes {1 + len(others)} inputs; it must take one, (N, C, H, W)")
    kind = np.float16 if "float16" in given.type else np.float32

    def run(x: Images) -> Images:
        parts = torch.split(x, 1 if single else len(x))
        found = [session.run(None, {given.name: part.cpu().numpy().astype(kind)})[0] for part in parts]
        return torch.from_numpy(np.concatenate(found).astype(np.float32))

    return run


def _file(told: str) -> str:
    if not Path(told).is_file():
        raise MissingFileError(f"{told} does not exist")
    return told


def _first_line(error: Exception) -> Any:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


OPENED: Mapping[str, Callable[[str], Run]] = {
    ".onnx": _onnx,
    ".pt": _torchscript,
    ".pth": _torchscript,
    ".ts": _torchscript,
}
