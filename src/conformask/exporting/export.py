"""Export: one file, whole or not at all."""

import json
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from conformask.conformal.facts import Facts
from conformask.errors import InvalidArgumentError, MismatchError, MissingFileError
from conformask.exporting.check import TOLERANCE, Agreement, checked
from conformask.exporting.graph import translated
from conformask.masker.masker import Masker
from conformask.storage.as_json import plain
from conformask.storage.whole import whole_file

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OF_IMAGE = frozenset({"category", "weight"})
"""What a user knows of an image without conformask."""


@dataclass(frozen=True)
class Export:
    """What was written."""

    path: Path
    lam: float | None
    """The calibrated lambda; None where it depends on the image."""
    agreement: Agreement


def export(masker: Masker, path: str | Path) -> Export:
    """Write a masker as one ONNX file that needs onnxruntime only; see docs/how-to/export.md.

    Inputs: x (N, Cx, *space) and y_hat (N, C, *space), float32 in [0, 1], lam (N,) float64. Outputs: mask
    (N, 1 or C, *space) and score, float32. Lambda is an input, so that recalibration needs no new export. The
    mask of an image is 0 where PyTorch would raise: values outside [0, 1], NaN, a negative lambda. The file's
    metadata hold the calibration. Before the file appears, onnxruntime's scores and masks are compared with
    PyTorch's.

    Args:
        masker: from calibrate() or load().
        path: ends with .onnx.

    Raises:
        InvalidArgumentError: another ending, a promise whose lambda only conformask can find, or one about
            whole images scored by tiles.
        MissingFileError: onnx, onnxscript or onnxruntime is not installed.
        MismatchError: the network cannot be exported, or onnxruntime differs from PyTorch.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    _refuse(masker, path)
    model = translated(masker)
    for key, text in metadata(masker).items():
        model.metadata_props.add(key=key, value=text)
    try:
        content = model.SerializeToString()
    except ValueError as error:
        raise MismatchError(f"the network is too large for one ONNX file of 2 GB ({error})") from error
    with whole_file(path) as aside:
        aside.write_bytes(content)
        agreement = checked(masker, aside)
    return Export(path, _constant(masker), agreement)


def metadata(masker: Masker) -> dict[str, str]:
    """What the file says of itself; every value a text, numbers and records in JSON."""
    lam = _constant(masker)
    stated = {
        "conformask": version("conformask"),
        "promise": masker.promise,
        "fingerprint": masker.fingerprint,
        "calibration": json.dumps(plain(dict(vars(masker.card)))),
        "scorer": masker.scorer.name,
        "tolerance": repr(TOLERANCE),
    }
    if lam is None:
        return stated | {"lambda_depends_on": ", ".join(sorted(masker.rule.needs))}
    return stated | {"lambda": repr(lam)}


def _constant(masker: Masker) -> float | None:
    return None if masker.rule.needs else float(masker.rule(Facts(n=1))[0])


def _refuse(masker: Masker, path: Path) -> None:
    """Before minutes of work."""
    if path.suffix.lower() != ".onnx":
        raise InvalidArgumentError(f"{path}: the name of an exported masker ends with .onnx")
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise MissingFileError(f"export needs {', '.join(missing)}: pip install 'conformask[onnx]'")
    if masker.card.tiles is not None:
        raise InvalidArgumentError(
            "this promise is about whole images scored by tiles, and a graph scores in one pass: calibrate "
            "without --whole, or use conformask mask"
        )
    unknown = masker.rule.needs - OF_IMAGE
    if unknown:
        raise InvalidArgumentError(
            f"the {masker.card.guarantee} promise finds each image's lambda from its {', '.join(unknown)}, "
            "which a graph alone cannot: export a marginal one (conformask calibrate RUN --guarantee "
            "marginal), or use conformask mask"
        )
