"""A user's predictor in ONNX, in front of a masker's graph: one file from x to y_hat, mask and score."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from conformask.errors import ConformaskError, InvalidArgumentError, MismatchError, one_line
from conformask.masker.integrity import Shape
from conformask.masker.masker import Masker
from conformask.plugins.onnx.graph import OPSET, SIDES, AfterPredictor, calibrated_shapes, translate
from conformask.plugins.onnx.predictor import open_onnx
from conformask.predictors.custom import CustomPredictor
from conformask.records.network import Network
from conformask.types import Images

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

X, OUTPUT = "front/x", "front/output"
"""Names by which the two graphs are joined."""


@dataclass(frozen=True)
class PredictorGraph:
    """A predictor whose outputs a masker takes."""

    predictor: CustomPredictor
    """The predictor, on the CPU, where the exported file is checked."""
    network: Network
    model: "ModelProto"
    x: Shape
    """Shape of x of a calibration image, (Cx, *space)."""

    def images(self, count: int, width_factor: int = 1) -> tuple[Images, Images]:
        """Return random x of the calibration's size, or some times as wide, and the predictor's outputs.

        Raises:
            MismatchError: the predictor fails on them; the message quotes onnxruntime.
        """
        shape = (*self.x[:-1], width_factor * self.x[-1])
        x = torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))
        try:
            return x, self.predictor(x)
        except ConformaskError:
            raise
        except Exception as error:  # onnxruntime's own errors share no type
            raise MismatchError(f"{self.predictor.name} fails on x of {shape}: {one_line(error)}") from error


def predictor_graph(masker: Masker, path: Path, network: str | None = None) -> PredictorGraph:
    """Load the predictor in a file, if the masker takes its outputs for images like the calibration's.

    Args:
        masker: the masker whose calibration gives the shapes of x and y_hat.
        path: a model from (N, C, *space) in [0, 1] to the same, with one input; its first output is used.
        network: its name at the calibration, if that recorded no fingerprint; by default that of the file.

    Raises:
        InvalidArgumentError: the name does not end with .onnx.
        MissingFileError: there is no such file.
        MismatchError: it is damaged, takes or returns other images, or the calibration is of conformask 0.1.
        ImageError: it returns values far outside [0, 1].
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


def _refuse_other_inputs(name: str, value_info: "ValueInfoProto", x: Shape) -> None:
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


def append_masker(masker: Masker, front: PredictorGraph) -> "ModelProto":
    """Return the graph x -> (y_hat, mask, score): the predictor, then the masker at its calibrated lambda.

    Raises:
        MismatchError: the masker's network cannot be exported, or the graphs cannot be joined.
    """
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


def _expose_input(model: "ModelProto", x: Shape) -> "ModelProto":
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
