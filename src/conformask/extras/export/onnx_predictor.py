"""Predictors in ONNX, run by onnxruntime. Needs the extra onnx."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from conformask.arrays import Images
from conformask.errors import MismatchError, one_line
from conformask.extensions import required
from conformask.extras.make.predictors import CustomPredictor, NetworkFormat, Outputs, Run, existing_file
from conformask.records.record import hash_of, path_hash


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
