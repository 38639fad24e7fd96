"""Predictors in ONNX, made node by node."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")

FREE = ("n", 1, "h", "w")


def saved(path, nodes, *, weights=None, given=FREE, kind=onnx.TensorProto.FLOAT, inputs=("x",), opset=11):
    """From x to mask, names that the masker's graph has, too."""
    arrays = [onnx.numpy_helper.from_array(values, name) for name, values in (weights or {}).items()]
    graph = onnx.helper.make_graph(
        nodes,
        "predictor",
        [onnx.helper.make_tensor_value_info(name, kind, given) for name in inputs],
        [onnx.helper.make_tensor_value_info("mask", kind, None)],
        arrays,
    )
    opsets = [onnx.helper.make_opsetid("", opset)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=6), path)
    return path


def blurring(path, channels=3, gain=2.0, **more):
    """A mean over 3 x 3 pixels, times a gain, so that some of it lies above 1."""
    weights = {"lam": np.full((channels, 1, 3, 3), gain / 9, np.float32)}
    node = onnx.helper.make_node("Conv", ["x", "lam"], ["mask"], pads=[1, 1, 1, 1])
    return saved(path, [node], weights=weights, **more)


def enlarging(path, factor, channels):
    """Each pixel factor x factor times."""
    weights = {"score": np.array([1, 1, factor, factor], np.float32)}
    node = onnx.helper.make_node("Resize", ["x", "", "score"], ["mask"], mode="nearest")
    return saved(path, [node], weights=weights, given=("n", channels, "h", "w"), opset=13)
