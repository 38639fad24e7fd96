"""Export of a masker to an ONNX file, written wholly or not at all."""

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from conformask.errors import InvalidArgumentError, MismatchError, MissingFileError, expect
from conformask.exporting.export_format import Exported, ExportFormat, ExportOptions
from conformask.extensions import pip_install
from conformask.masker.masker import Masker
from conformask.plugins.onnx.check import TOLERANCE, ExportCheck, check_file
from conformask.plugins.onnx.graph import constant_lambda, translate
from conformask.plugins.onnx.predictor_graph import PredictorGraph, append_masker, predictor_graph
from conformask.records.network import Caveat
from conformask.storage.as_json import to_jsonable
from conformask.storage.atomic import atomic_write
from conformask.storage.claims import check_output
from conformask.wording.promises import formula_here, network_label, promised_here

if TYPE_CHECKING:
    from onnx import ModelProto

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OF_IMAGE = frozenset({"category", "weight"})
"""Facts of an image that a user knows without conformask."""


@dataclass(frozen=True)
class Export:
    """Summary of an exported file."""

    path: Path
    lam: float | None
    """Calibrated lambda; None where it depends on the image."""
    agreement: ExportCheck
    caveat: Caveat | None = None
    """Caveat if the promise may not be about outputs of the predictor; else None."""


def export(
    masker: Masker,
    path: str | Path,
    *,
    predictor: str | Path | None = None,
    network: str | None = None,
    allow_network_mismatch: bool = False,
) -> Export:
    """Write a masker as one ONNX file that needs onnxruntime only; see docs/how-to/export.md.

    Inputs: x (N, Cx, *space) and y_hat (N, C, *space), float32 in [0, 1], lam (N,) float64. Outputs: mask
    (N, 1 or C, *space) and score, float32. Where the score is read from maps beside y_hat, they are one more
    input, cues (N, K, *space), float32, with the values of the files. Lambda is an input, so that
    recalibration needs no new export. The mask of an image is 0 where PyTorch would raise: values outside
    [0, 1], NaN, a negative lambda. The file's metadata hold the calibration. Before the file appears,
    onnxruntime's scores and masks are compared with PyTorch's.

    With a predictor the file takes x alone and returns y_hat, in [0, 1], mask and score, at the calibrated
    lambda, which is part of the file.

    Args:
        masker: from calibrate() or load().
        path: ends with .onnx.
        predictor: your network, an ONNX file with one input (N, C, *space) in [0, 1]; its first output, with
            the shape of y_hat, is used.
        network: the name of the predictor at the calibration, if that recorded no fingerprint; by default
            the name of its file.
        allow_network_mismatch: use another network than the calibration's.

    Raises:
        InvalidArgumentError: another suffix, a promise whose lambda only conformask can find or, with a
            predictor, is not the same for all images, or one about whole images scored by tiles; a predictor
            where the score is read from maps.
        MissingFileError: there is no such predictor, or onnx, onnxscript or onnxruntime is not installed.
        MismatchError: the network cannot be exported, onnxruntime differs from PyTorch, or the predictor
            takes or makes other images, or is another network than the calibration's.
        ImageError: the predictor returns values far outside [0, 1].
        OutputError: the file cannot be written, or another lies there.

    Examples:
        >>> import numpy as np
        >>> import conformask as cm
        >>> y = np.random.default_rng(0).random((30, 16, 16), dtype=np.float32)
        >>> images = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> scorer = cm.Heuristic(cm.residual, channels=1)
        >>> masker = cm.calibrate(scorer, images, threshold=0.05, loss="l1")
        >>> cm.export(masker, "masker.onnx").path.name
        'masker.onnx'
    """
    path = Path(path)
    if path.suffix.lower() != ".onnx":
        raise InvalidArgumentError(f"{path}: the name of an exported masker must end with .onnx")
    check_output(path)
    expect(masker, Masker, "masker", "what calibrate() or load() returned")
    if predictor is not None:
        expect(predictor, str | Path, "predictor", "the path of an ONNX file, as torch.onnx.export writes it")
    refuse(masker)
    front, caveat = load_predictor(masker, predictor, network, allow_network_mismatch=allow_network_mismatch)
    model = translate(masker) if front is None else append_masker(masker, front)
    with atomic_write(path) as temporary:
        agreement = write_checked(temporary, masker, model, front, caveat)
    return Export(path, constant_lambda(masker), agreement, caveat)


def load_predictor(
    masker: Masker, predictor: str | Path | None, network: str | None, *, allow_network_mismatch: bool
) -> tuple[PredictorGraph | None, Caveat | None]:
    """Return a predictor for a masker, with a caveat if the promise may not be about its outputs.

    Raises:
        InvalidArgumentError: lambda depends on the image, or the score is read from maps.
        MismatchError: it does not fit, or is another network than the calibration's; see `front_of`.
    """
    if predictor is None:
        return None, None
    refuse_further_inputs(masker)
    front = predictor_graph(masker, Path(predictor), network)
    return front, masker.card.check_network(front.network, allow_network_mismatch=allow_network_mismatch)


def refuse_further_inputs(masker: Masker) -> None:
    """Raise for a masker that needs more of an image than x and y_hat: maps, or its own lambda.

    Raises:
        InvalidArgumentError: it needs them.
    """
    if masker.scorer.cue_channels:
        raise InvalidArgumentError(
            "the score is read from maps beside y_hat, but this file would take no maps: export RUN OUT.onnx "
            "without a predictor, and pass the maps of each image"
        )
    if constant_lambda(masker) is None:
        raise InvalidArgumentError(
            f"the {masker.card.promise.guarantee} promise derives lambda from each image's "
            f"{', '.join(sorted(masker.rule.needs))}, but this file would contain a single lambda: export "
            "RUN OUT.onnx without a predictor, and pass each image's own lambda"
        )


def write_checked(
    path: Path, masker: Masker, model: "ModelProto", front: PredictorGraph | None, caveat: Caveat | None
) -> ExportCheck:
    """Write a graph with its metadata, and compare it with the masker.

    Raises:
        MismatchError: onnxruntime differs from PyTorch, or the file would be too large.
    """
    model.producer_name, model.producer_version = "conformask", version("conformask")
    entries = metadata(masker, caveat) | (
        {} if front is None else {"predictor": network_label(front.network)}
    )
    for key, text in entries.items():
        model.metadata_props.add(key=key, value=text)
    try:
        path.write_bytes(model.SerializeToString())
    except ValueError as error:
        raise MismatchError(f"the network is too large for one ONNX file of 2 GB ({error})") from error
    return check_file(masker, path, front)


def metadata(masker: Masker, caveat: Caveat | None) -> dict[str, str]:
    """Return the metadata of the file; every value is a string, with numbers and records in JSON."""
    lam = constant_lambda(masker)
    entries = {
        "conformask": version("conformask"),
        "promise": promised_here(masker.sentence, caveat),
        "fingerprint": masker.fingerprint,
        "calibration": json.dumps(to_jsonable(dict(vars(masker.card)))),
        "scorer": masker.scorer.name,
        "tolerance": repr(TOLERANCE),
        "limits_of_means": json.dumps(masker.limits_of_means),
    }
    for formula in formula_here(masker.formula, caveat):
        entries["formula"] = formula
    if masker.scorer.cue_channels:
        entries["cues"] = masker.card.cues_made or "given"
    if lam is None:
        return entries | {"lambda_depends_on": ", ".join(sorted(masker.rule.needs))}
    return entries | {"lambda": repr(lam)}


def refuse(masker: Masker) -> None:
    """Raise for a masker that cannot become a graph, before minutes of work.

    Raises:
        MissingFileError: onnx, onnxscript or onnxruntime is not installed.
        InvalidArgumentError: a promise whose lambda only conformask can find, or one about whole images
            scored by tiles, or masks in connected parts of a least size.
    """
    missing_packages = [name for name in PACKAGES if find_spec(name) is None]
    if missing_packages:
        raise MissingFileError(f"export needs {', '.join(missing_packages)}: {pip_install('onnx')}")
    if masker.card.tiles is not None:
        raise InvalidArgumentError(
            "this promise is about whole images scored by tiles, but a graph scores in one pass: calibrate "
            "without --tiled, or use conformask mask"
        )
    if masker.card.patches is not None:
        raise InvalidArgumentError(
            f"a graph cannot find the {masker.card.parts} of these masks: calibrate without --patches "
            "(patches=None), or use conformask mask"
        )
    unavailable = masker.rule.needs - OF_IMAGE
    if unavailable:
        raise InvalidArgumentError(
            f"the {masker.card.promise.guarantee} promise derives each image's lambda from its "
            f"{', '.join(unavailable)}, which a graph alone cannot do: export a marginal promise (conformask "
            "recalibrate RUN --guarantee marginal), or use conformask mask"
        )


def _write(masker: Masker, path: Path, options: ExportOptions) -> Exported:
    """Export a masker, and summarise the file."""
    done = export(
        masker,
        path,
        predictor=options.predictor,
        network=options.network,
        allow_network_mismatch=options.allow_network_mismatch,
    )
    difference, sizes = done.agreement.difference, done.agreement.sizes
    lam = f"depends on the {', '.join(sorted(masker.rule.needs))}" if done.lam is None else f"{done.lam:.6g}"
    rows = [
        ("file", f"{path} ({path.stat().st_size / 1e6:.1f} MB)"),
        ("lambda", lam),
        ("checked on", ", ".join("x".join(map(str, size)) for size in sizes)),
        ("largest difference", f"{max(vars(difference).values()):.1g} of {TOLERANCE:g} allowed"),
    ]
    record = {"lambda": done.lam, "sizes": sizes, "difference": asdict(difference), "tolerance": TOLERANCE}
    return Exported(path, done.caveat, record, rows)


ONNX = ExportFormat(_write, takes_predictor=True)
