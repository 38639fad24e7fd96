"""The modules that become a graph, and their translation to ONNX."""

import re
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.export import Dim

from conformask.arithmetic import per_image
from conformask.conformal.crossing import SLACK
from conformask.conformal.rules import ImageCovariates
from conformask.errors import ConformaskError, MismatchError
from conformask.masker.integrity import Shape
from conformask.masker.masker import Masker
from conformask.masks.mask_family import Family, refuse_unrelated
from conformask.predictors.custom import FAR
from conformask.records.size import Size
from conformask.scorers.scoring import score_of
from conformask.types import Images, PerImage

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch.onnx import ONNXProgram

Names = tuple[str, ...]
MaskFunction = Callable[[Images, PerImage], Images]
"""Function (score float32, lam float64) -> mask."""
SIDES = "dhw"
"""Names of spatial axes of any length; planes use the last two."""
OPSET = 20
"""Version of the ONNX operator set."""
CUES = "cues"
"""Name of the input for maps beside y_hat."""
LARGEST = torch.finfo(torch.float32).max
SMALL, SMALL_DEEP = 256, 48
"""Side, in pixels, that the paper's U-Net halves down to one; for volumes, one that takes little memory."""


class Graph(nn.Module):
    """Graph (x, y_hat, lam) -> (mask, score); the mask is 0 where PyTorch would raise.

    Maps beside y_hat, where the score is read from them, are a fourth input, `cues`.
    """

    inputs: ClassVar[Names] = ("x", "y_hat", "lam")
    outputs: ClassVar[Names] = ("mask", "score")

    def __init__(self, masker: Masker) -> None:
        super().__init__()
        self.network = masker.scorer.network
        """Network of the scorer; set here to register its weights."""
        self.score_map = masker.scorer.score_map
        self.mask_function = mask_function(masker.family)

    def forward(
        self, x: Images, y_hat: Images, lam: PerImage, cues: Tensor | None = None
    ) -> tuple[Images, Images]:
        """Return mask and score of each image at its lambda."""
        usable = lie_within(x, -SLACK, 1 + SLACK) & lie_within(y_hat, -SLACK, 1 + SLACK)
        if cues is not None:
            assert cues.shape[2:] == y_hat.shape[2:]  # ties their axes, which a score of maps alone does not
            usable = usable & lie_within(cues, -LARGEST, LARGEST)
        maps = () if cues is None else (cues,)
        score = self.score_map(x, y_hat, *maps).float().clone()  # x itself may be one, but needs its own name
        usable = usable & lie_within(score, 0, LARGEST)
        return torch.where(per_image(usable, score), self.mask_function(score, lam.double()), 0.0), score


class AtLambda(nn.Module):
    """Graph (x, y_hat) -> (mask, score) at the calibrated lambda."""

    inputs: ClassVar[Names] = ("x", "y_hat")
    outputs: ClassVar[Names] = ("mask", "score")

    def __init__(self, masker: Masker) -> None:
        super().__init__()
        self.at, self.lam = Graph(masker), cast(float, constant_lambda(masker))

    def forward(self, x: Images, y_hat: Images) -> tuple[Images, ...]:
        """Return mask and score of each image."""
        lam = torch.full(x.shape[:1], self.lam, dtype=torch.float64)
        outputs: tuple[Images, ...] = self.at(x, y_hat, lam)
        return outputs


class AfterPredictor(AtLambda):
    """Graph (x, a predictor's output) -> (y_hat, mask, score), with y_hat in [0, 1] as in `CustomPredictor`.

    Values far from [0, 1], or infinite, become NaN, and the mask of their image 0.
    """

    inputs: ClassVar[Names] = ("x", "output")
    outputs: ClassVar[Names] = ("y_hat", "mask", "score")

    def forward(self, x: Images, output: Images) -> tuple[Images, ...]:
        """Return y_hat, mask and score of each image."""
        y_hat = torch.where(output.abs() <= FAR, output.clamp(0, 1), torch.nan)
        return y_hat, *super().forward(x, y_hat)


def mask_function(family: Family) -> MaskFunction:
    """Return the function that computes a family's masks; they are 0 where lambda is 0, negative or NaN.

    Raises:
        MismatchError: your own family does not find its level in a graph.
    """
    refuse_unrelated(family)
    # a family without a level in the graph is refused here, before the work of an export
    family.level_in_graph(torch.ones(1, 1, 1, 1), torch.ones(1, dtype=torch.float64))

    def apply_masks(score: Images, lam: PerImage) -> Images:
        mask = family.apply(score, family.level_in_graph(score, lam))
        return torch.where(per_image(lam > 0, score), mask, 0.0)

    return apply_masks


def constant_lambda(masker: Masker) -> float | None:
    """Return the calibrated lambda; None where it depends on the image."""
    return None if masker.rule.needs else float(masker.rule(ImageCovariates(n=1))[0])


def calibrated_shapes(masker: Masker) -> tuple[Shape, Shape]:
    """Return the shapes of x and y_hat of a calibration image, (C, *space).

    Raises:
        MismatchError: the calibration did not record them.
    """
    if masker.probe is None:
        raise MismatchError("conformask 0.1 did not record the shape of x: calibrate again")
    x, y_hat = (tuple(shape) for shape in masker.probe["shape"].tolist())
    return x, y_hat


def lie_within(images: Images, low: float, high: float) -> Tensor:
    """Return, for each image, (N,), whether all its values lie in [low, high]; NaN does not."""
    return ((images >= low) & (images <= high)).flatten(1).all(dim=1)


def noise(masker: Masker, count: int, size: Size, seed: int = 0) -> tuple[Tensor, ...]:
    """Return random x, y_hat and, if the scorer takes any, maps of a size; x has half of it if it can.

    Raises:
        MismatchError: the score fails at this size, whatever the size of x.
    """
    generator = torch.Generator().manual_seed(seed)
    channels = masker.scorer.x_channels
    if masker.probe is not None:
        channels = calibrated_shapes(masker)[0][0]
    y_hat = torch.rand(count, masker.card.channels, *size, generator=generator)
    maps = masker.scorer.cue_channels
    cues = (torch.rand(count, maps, *size, generator=generator),) if maps else ()
    half_size = tuple((side + 1) // 2 for side in size)
    for x_size in (half_size, size):
        x = torch.rand(count, channels, *x_size, generator=generator)
        try:
            return check_scorable(masker, x, y_hat, *cues)
        except MismatchError as error:
            last_error = error
    raise last_error


def check_scorable(
    masker: Masker, x: Images, y_hat: Images, cues: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Return the images, and the maps if there are any, if they can be scored.

    Raises:
        MismatchError: the score fails on them.
    """
    try:
        score_of(masker.scorer, x, y_hat, cues=cues)
    except Exception as error:  # a user's own code may raise anything
        size = tuple(y_hat.shape[2:])
        raise MismatchError(f"the score fails on images of {size}: {first_line(error)}") from error
    return (x, y_hat) if cues is None else (x, y_hat, cues)


def translate(masker: Masker, kind: type[Graph] | type[AtLambda] = Graph, opset: int = OPSET) -> "ModelProto":
    """Translate the graph to ONNX, with sizes and batch as open as the network permits.

    Raises:
        MismatchError: the network or the family cannot be exported; the message quotes torch.
    """
    x, y_hat, *cues = _example(masker)
    example_inputs = (*(x, y_hat, torch.ones(2, dtype=torch.float64))[: len(kind.inputs)], *cues)
    dynamic_axes = tuple(
        {axis: Dim.AUTO for axis in range(tensor.ndim) if axis != 1} for tensor in example_inputs
    )
    with warnings.catch_warnings(action="ignore"), torch.no_grad():
        try:
            graph = kind(masker).eval()
            program = torch.export.export(graph, example_inputs, dynamic_shapes=dynamic_axes, strict=False)
            exported = torch.onnx.export(
                program,
                input_names=(*kind.inputs, *[CUES] * len(cues)),
                output_names=kind.outputs,
                opset_version=opset,
                optimize=False,  # torch would take 1 + 1e-6 for 1; onnxruntime optimises exactly
                verbose=False,
            )
            model = cast("ONNXProgram", exported).model_proto
        except ConformaskError:
            raise
        except Exception as error:  # torch's own share no type
            raise MismatchError(
                f"{masker.scorer.name!r} cannot be exported to ONNX; torch reports: {first_line(error)}"
            ) from error
    return name_axes(without_traces(model))


def _example(masker: Masker) -> tuple[Tensor, ...]:
    """Return images for the translation; no layer is one pixel wide, which torch would take for fixed."""
    size = masker.card.sizes[0]
    if max(size) <= (SMALL if len(size) == 2 else SMALL_DEEP):
        with suppress(MismatchError):
            return noise(masker, 2, tuple(2 * side for side in size))
    return noise(masker, 2, size)


def without_traces(model: "ModelProto") -> "ModelProto":
    """Remove the source code lines, and their paths, that torch records at each node and value."""
    del model.graph.value_info[:]
    for part in (model.graph, *model.graph.node):
        del part.metadata_props[:]
    return model


def name_axes(model: "ModelProto") -> "ModelProto":
    """Name the axes of x and y_hat, the first two inputs, in place of torch's symbols."""
    x_dims, y_hat_dims = (tensor.type.tensor_type.shape.dim for tensor in model.graph.input[:2])
    names: dict[str, str] = {y_hat_dims[0].dim_param: "n"}
    for (_, _, *sides), suffix in ((y_hat_dims, ""), (x_dims, "x")):
        for side, name in zip(sides, SIDES[-len(sides) :], strict=True):
            names.setdefault(side.dim_param, f"{name}{suffix}")
    for tensor in (*model.graph.input, *model.graph.output):
        for dim in tensor.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = replace_symbols(dim.dim_param, names)
    return model


def replace_symbols(expression: str, names: Mapping[str, str]) -> str:
    """Replace each symbol of the expression by its name."""
    return re.sub(r"\w+", lambda symbol: names.get(symbol[0], symbol[0]), expression)


def first_line(error: BaseException) -> str:
    """Return the error's message, in one line, from its first cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
