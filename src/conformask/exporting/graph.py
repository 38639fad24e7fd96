"""The module that becomes the graph, and its translation to ONNX."""

import re
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.export import Dim

from conformask.arithmetic import beside
from conformask.conformal.crossing import SLACK
from conformask.errors import ConformaskError, MismatchError
from conformask.exporting.families import opening
from conformask.masker.masker import Masker
from conformask.records.size import Size
from conformask.scorers.scoring import score_of
from conformask.types import Images, PerImage

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch.onnx import ONNXProgram

INPUTS, OUTPUTS = ("x", "y_hat", "lam"), ("mask", "score")
SIDES = "dhw"
"""Of the spatial axes, the last of them for planes: what they are called where they may have any length."""
OPSET = 20
"""Of ONNX."""
SMALL, SMALL_DEEP = 256, 48
"""Pixels along a side that the paper's U-Net halves down to one; of volumes, what takes little memory."""


class Graph(nn.Module):
    """(x, y_hat, lam) -> (mask, score); the mask is 0 of what PyTorch would refuse."""

    def __init__(self, masker: Masker) -> None:
        super().__init__()
        self.network = getattr(masker.scorer, "network", None)
        """Registers the weights."""
        self.score_map = getattr(masker.scorer, "score_map", lambda x, y_hat: masker.scorer(x, y_hat).map)
        self.opened = opening(masker.family)

    def forward(self, x: Images, y_hat: Images, lam: PerImage) -> tuple[Images, Images]:
        """Mask and score of each image at its lambda."""
        score = self.score_map(x, y_hat).float().clone()  # a score may be x itself, and keeps its own name
        usable = within(x, -SLACK, 1 + SLACK) & within(y_hat, -SLACK, 1 + SLACK)
        usable = usable & within(score, 0, torch.finfo(torch.float32).max)
        return torch.where(beside(usable, score), self.opened(score, lam.double()), 0.0), score


def within(images: Images, low: float, high: float) -> Tensor:
    """Whether all values of an image lie in [low, high]; NaN does not. (N,)"""
    return ((images >= low) & (images <= high)).flatten(1).all(dim=1)


def noise(masker: Masker, count: int, size: Size, seed: int = 0) -> tuple[Images, Images]:
    """Random x and y_hat of a size; x has half of it where the scorer takes that.

    Raises:
        MismatchError: the score fails at this size, whatever the size of x.
    """
    generator = torch.Generator().manual_seed(seed)
    channels = getattr(masker.scorer, "x_channels", masker.card.channels)
    y_hat = torch.rand(count, masker.card.channels, *size, generator=generator)
    halved = tuple((side + 1) // 2 for side in size)
    for of_x in (halved, size):
        x = torch.rand(count, channels, *of_x, generator=generator)
        try:
            score_of(masker.scorer, x, y_hat)
        except Exception as error:  # a user's own code may raise anything
            failed = error
        else:
            return x, y_hat
    raise MismatchError(f"the score fails on images of {size}: {first_line(failed)}") from failed


def translated(masker: Masker) -> "ModelProto":
    """The graph in ONNX, sizes and batch open as far as the network permits.

    Raises:
        MismatchError: the network or the family cannot be exported; names what torch said.
    """
    x, y_hat = _example(masker)
    lam = torch.ones(2, dtype=torch.float64)
    free = {axis: Dim.AUTO for axis in range(x.ndim) if axis != 1}
    with warnings.catch_warnings(action="ignore"), torch.no_grad():
        try:
            graph = Graph(masker).eval()
            program = torch.export.export(
                graph, (x, y_hat, lam), dynamic_shapes=(free, free, {0: Dim.AUTO}), strict=False
            )
            exported = torch.onnx.export(
                program,
                input_names=INPUTS,
                output_names=OUTPUTS,
                opset_version=OPSET,
                optimize=False,  # it takes 1 + 1e-6 for 1; onnxruntime optimises, exactly
                verbose=False,
            )
            model = cast("ONNXProgram", exported).model_proto
        except ConformaskError:
            raise
        except Exception as error:  # torch's own share no type
            raise MismatchError(
                f"{masker.scorer.name!r} cannot be exported to ONNX, torch says: {first_line(error)}"
            ) from error
    return named(without_traces(model))


def _example(masker: Masker) -> tuple[Images, Images]:
    """Images to translate the graph with: no layer is one pixel wide, which torch would take for fixed."""
    size = masker.card.sizes[0]
    if max(size) <= (SMALL if len(size) == 2 else SMALL_DEEP):
        with suppress(MismatchError):
            return noise(masker, 2, tuple(2 * side for side in size))
    return noise(masker, 2, size)


def without_traces(model: "ModelProto") -> "ModelProto":
    """Without the lines of source code, and their paths, that torch notes at each node and value."""
    del model.graph.value_info[:]
    for part in (model.graph, *model.graph.node):
        del part.metadata_props[:]
    return model


def named(model: "ModelProto") -> "ModelProto":
    """With names for the axes instead of torch's symbols."""
    shapes = {tensor.name: tensor.type.tensor_type.shape.dim for tensor in model.graph.input}
    names: dict[str, str] = {shapes["y_hat"][0].dim_param: "n"}
    for tensor, suffix in (("y_hat", ""), ("x", "x")):
        sides = shapes[tensor][2:]
        for side, name in zip(sides, SIDES[-len(sides) :], strict=True):
            names.setdefault(side.dim_param, f"{name}{suffix}")
    for tensor in (*model.graph.input, *model.graph.output):
        for dim in tensor.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = renamed(dim.dim_param, names)
    return model


def renamed(expression: str, names: Mapping[str, str]) -> str:
    """The expression with each symbol by its name."""
    return re.sub(r"\w+", lambda symbol: names.get(symbol[0], symbol[0]), expression)


def first_line(error: BaseException) -> str:
    """What the error says, in one line, from its first cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
