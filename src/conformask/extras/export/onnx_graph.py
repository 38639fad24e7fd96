"""Graphs in ONNX: those of predictors, run by onnxruntime, and that of a masker, alone or behind a predictor.

Needs the extra onnx.
"""

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from conformask.arrays import Images, PerImage, per_image
from conformask.errors import ConformaskError, InvalidArgumentError, MismatchError, one_line
from conformask.extensions import required
from conformask.extras.make.predictors import FAR, CustomPredictor, NetworkFormat, Outputs, Run, existing_file
from conformask.masks.family import Family, refuse_unrelated
from conformask.promises.order import SLACK, ImageCovariates
from conformask.records.reading import Network, Size
from conformask.records.record import hash_of, path_hash
from conformask.scores.scorer import score_of

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto
    from torch.onnx import ONNXProgram

    from conformask.masker.components import Shape
    from conformask.masker.masker import Masker


def open_onnx(name: str, providers: Sequence[str] | None = None) -> CustomPredictor:
    """Open the network of a file; its fingerprint covers the files that the file names for its weights."""
    run, path = onnx_run(name, providers), Path(name)
    files = (path, *sorted(_weight_files(path)))
    return CustomPredictor(run, path.name, hash_of([path_hash(file) for file in files]))


def onnx_run(name: str, providers: Sequence[str] | None = None) -> Run:
    """Return a function that runs an ONNX file, on the best provider that onnxruntime has, or on these."""
    path = existing_file(name)
    onnxruntime = required("onnxruntime", name, "onnx")
    try:
        usable_providers = providers or onnxruntime.get_available_providers()
        session = onnxruntime.InferenceSession(path, providers=usable_providers)
    except Exception as error:  # onnxruntime's own errors share no type
        raise MismatchError(
            f"{name} is damaged, or is not an ONNX file ({one_line(error)}): copy it or export it again"
        ) from error
    input_info, *others = session.get_inputs()
    if others:
        raise MismatchError(f"{name} takes {1 + len(others)} inputs; it must take one, (N, C, H, W)")
    kind, single = np.float16 if "float16" in input_info.type else np.float32, input_info.shape[:1] == [1]

    def run(x: Images) -> Outputs:
        parts = torch.split(x, 1 if single else len(x))
        made = [session.run(None, {input_info.name: part.cpu().numpy().astype(kind)}) for part in parts]
        first, *others = (
            torch.from_numpy(np.concatenate(each).astype(np.float32))
            for each in zip(*made, strict=True)
            if each[0].ndim == x.ndim
        )
        return (first, *others) if others else first

    return run


def _weight_files(path: Path) -> set[Path]:
    from google.protobuf.message import Message
    from onnx import TensorProto, load

    def locations(message: Any) -> Iterator[str]:
        if isinstance(message, TensorProto):
            yield from (entry.value for entry in message.external_data if entry.key == "location")
            return
        for field, value in message.ListFields():
            if field.message_type is not None:
                for entry in [value] if isinstance(value, Message) else value:
                    yield from locations(entry)

    return {path.parent / place for place in locations(load(path, load_external_data=False))}


ONNX = NetworkFormat(lambda path, data_range: open_onnx(path))


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

    def __init__(self, masker: "Masker") -> None:
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

    def __init__(self, masker: "Masker") -> None:
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
    """Return the function that computes a family's masks; they are 0 where lambda is 0, negative or NaN."""
    refuse_unrelated(family)
    # a family without a level in the graph is refused here, before the work of an export
    family.level_in_graph(torch.ones(1, 1, 1, 1), torch.ones(1, dtype=torch.float64))

    def apply_masks(score: Images, lam: PerImage) -> Images:
        mask = family.apply(score, family.level_in_graph(score, lam))
        return torch.where(per_image(lam > 0, score), mask, 0.0)

    return apply_masks


def constant_lambda(masker: "Masker") -> float | None:
    """Return the calibrated lambda; None where it depends on the image."""
    return None if masker.rule.needs else float(masker.rule(ImageCovariates(n=1))[0])


def calibrated_shapes(masker: "Masker") -> "tuple[Shape, Shape]":
    """Return the shapes of x and y_hat of a calibration image, (C, *space)."""
    if masker.probe is None:
        raise MismatchError("conformask 0.1 did not record the shape of x: calibrate again")
    x, y_hat = (tuple(shape) for shape in masker.probe["shape"].tolist())
    return x, y_hat


def lie_within(images: Images, low: float, high: float) -> Tensor:
    """Return, for each image, (N,), whether all its values lie in [low, high]; NaN does not."""
    return ((images >= low) & (images <= high)).flatten(1).all(dim=1)


def noise(masker: "Masker", count: int, size: Size, seed: int = 0) -> tuple[Tensor, ...]:
    """Return random x, y_hat and, if the scorer takes any, maps of a size; x has half of it if it can."""
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
    masker: "Masker", x: Images, y_hat: Images, cues: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Return the images, and the maps if there are any, if they can be scored."""
    try:
        score_of(masker.scorer, x, y_hat, layers={} if cues is None else {"cues": cues})
    except Exception as error:  # a user's own code may raise anything
        size = tuple(y_hat.shape[2:])
        raise MismatchError(f"the score fails on images of {size}: {first_line(error)}") from error
    return (x, y_hat) if cues is None else (x, y_hat, cues)


def translate(
    masker: "Masker", kind: type[Graph] | type[AtLambda] = Graph, opset: int = OPSET
) -> "ModelProto":
    """Translate the graph to ONNX, with sizes and batch as open as the network permits."""
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
    # torch records source code lines, with their paths, at each node and value
    del model.graph.value_info[:]
    for part in (model.graph, *model.graph.node):
        del part.metadata_props[:]
    return name_axes(model)


def _example(masker: "Masker") -> tuple[Tensor, ...]:
    """Return images for the translation; no layer is one pixel wide, which torch would take for fixed."""
    size = masker.card.sizes[0]
    if max(size) <= (SMALL if len(size) == 2 else SMALL_DEEP):
        with suppress(MismatchError):
            return noise(masker, 2, tuple(2 * side for side in size))
    return noise(masker, 2, size)


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
                dim.dim_param = re.sub(r"\w+", lambda symbol: names.get(symbol[0], symbol[0]), dim.dim_param)
    return model


def first_line(error: BaseException) -> str:
    """Return the error's message, in one line, from its first cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


X, OUTPUT = "front/x", "front/output"
"""Names by which the two graphs are joined."""


@dataclass(frozen=True)
class PredictorGraph:
    """A predictor whose outputs a masker takes."""

    predictor: CustomPredictor
    """The predictor, on the CPU, where the exported file is checked."""
    network: Network
    model: "ModelProto"
    x: "Shape"
    """Shape of x of a calibration image, (Cx, *space)."""

    def images(self, count: int, width_factor: int = 1) -> tuple[Images, Images]:
        """Return random x of the calibration's size, or some times as wide, and the predictor's outputs."""
        shape = (*self.x[:-1], width_factor * self.x[-1])
        x = torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))
        try:
            return x, self.predictor(x)
        except ConformaskError:
            raise
        except Exception as error:  # onnxruntime's own errors share no type
            raise MismatchError(f"{self.predictor.name} fails on x of {shape}: {one_line(error)}") from error


def predictor_graph(masker: "Masker", path: Path, network: str | None = None) -> PredictorGraph:
    """Load the predictor in a file, if the masker takes its outputs for images like the calibration's.

    Args:
        masker: the masker whose calibration gives the shapes of x and y_hat.
        path: a model from (N, C, *space) in [0, 1] to the same, with one input; its first output is used.
        network: its name at the calibration, if that recorded no fingerprint; by default that of the file.
    """
    import onnx

    if path.suffix.lower() != ".onnx":
        raise InvalidArgumentError(
            f"predictor {str(path)!r}: give a predictor in ONNX (.onnx) to put it into the file"
        )
    predictor = open_onnx(str(path), ["CPUExecutionProvider"])
    x, y_hat = calibrated_shapes(masker)
    network_record = Network(network or predictor.name, predictor.fingerprint)
    front = PredictorGraph(predictor, network_record, onnx.load(path), x)
    _refuse_other_inputs(path.name, _input(front.model), x)
    y_shape = tuple(front.images(1)[1].shape[1:])
    if y_shape != y_hat:
        raise MismatchError(
            f"{path.name} makes y_hat of shape {y_shape} (C, *space) from x of shape {x}, but y_hat of the "
            f"calibration has {y_hat}"
        )
    return front


def _input(model: "ModelProto") -> "ValueInfoProto":
    """Return the input that is not a weight; old files list weights, too."""
    weights = {weight.name for weight in model.graph.initializer}
    return next(value for value in model.graph.input if value.name not in weights)


def _refuse_other_inputs(name: str, value_info: "ValueInfoProto", x: "Shape") -> None:
    """Raise if the declared input does not fit x, with more detail than onnxruntime's error."""
    from onnx import TensorProto

    kind, dims = value_info.type.tensor_type.elem_type, value_info.type.tensor_type.shape.dim
    if kind != TensorProto.FLOAT:
        raise MismatchError(
            f"{name} takes {TensorProto.DataType.Name(kind).lower()}; in one file, it must take float "
            "in [0, 1]"
        )
    if not dims:
        return
    if len(dims) != 1 + len(x):
        raise MismatchError(
            f"{name} takes {len(dims)} axes, but x of the calibration has {1 + len(x)}, (N, C, *space)"
        )
    channels, *sides = (dim.dim_value for dim in dims[1:])
    if channels and channels != x[0]:
        raise MismatchError(f"{name} takes {channels} channels, but x of the calibration has {x[0]}")
    if any(size_text and size_text != side for size_text, side in zip(sides, x[1:], strict=True)):
        size_text = " x ".join(str(side or "any") for side in sides)
        raise MismatchError(
            f"{name} takes only images of {size_text} pixels, but x of the calibration has "
            f"{' x '.join(map(str, x[1:]))}: export it with dynamic sides"
        )


def append_masker(masker: "Masker", front: PredictorGraph) -> "ModelProto":
    """Return the graph x -> (y_hat, mask, score): the predictor, then the masker at its calibrated lambda."""
    from onnx import compose, version_converter

    opsets = [entry.version for entry in front.model.opset_import if entry.domain in ("", "ai.onnx")]
    opset = max([OPSET, *opsets])
    masker_model = translate(masker, AfterPredictor, opset)
    try:
        predictor_model = _expose_input(version_converter.convert_version(front.model, opset), front.x)
        masker_model = compose.add_prefix(masker_model, "masker/", rename_outputs=False)
        for entry in [entry for entry in masker_model.opset_import if entry in predictor_model.opset_import]:
            masker_model.opset_import.remove(entry)  # both lists go into the joined file
        predictor_model.ir_version = masker_model.ir_version = max(
            predictor_model.ir_version, masker_model.ir_version
        )
        return compose.merge_models(
            predictor_model, masker_model, [(X, "masker/x"), (OUTPUT, "masker/output")]
        )
    except Exception as error:  # onnx's own share no type
        raise MismatchError(
            f"{front.predictor.name} cannot be joined with the masker ({one_line(error)}): export it with "
            f"opset {OPSET}"
        ) from error


def _expose_input(model: "ModelProto", x: "Shape") -> "ModelProto":
    """Return the model x -> (x, first output), float32, with names that the masker does not use."""
    from onnx import TensorProto, compose, helper

    model = compose.add_prefix(model, "predictor/")
    graph, value_info = model.graph, _input(model)
    names = ("n", x[0], *(f"{side}x" for side in SIDES[-len(x[1:]) :]))
    declared_sizes = [dim.dim_value for dim in value_info.type.tensor_type.shape.dim] or [0] * len(names)
    shape = [declared or name for declared, name in zip(declared_sizes, names, strict=True)]
    nodes = [
        helper.make_node("Identity", ["x"], [X]),
        helper.make_node("Identity", ["x"], [value_info.name]),
        *graph.node,
        helper.make_node("Cast", [graph.output[0].name], [OUTPUT], to=TensorProto.FLOAT),
    ]
    exposed_graph = helper.make_graph(
        nodes,
        "predictor",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None) for tensor in (X, OUTPUT)],
        initializer=graph.initializer,
        sparse_initializer=graph.sparse_initializer,
    )
    return helper.make_model(
        exposed_graph,
        opset_imports=model.opset_import,
        functions=model.functions,
        ir_version=model.ir_version,
    )
