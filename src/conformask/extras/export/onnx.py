"""Export of a masker to one ONNX file, compared with PyTorch before it appears. Needs the extra onnx."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from conformask.arrays import Images, image_means, per_image
from conformask.background import tracked
from conformask.errors import InvalidArgumentError, MismatchError, MissingFileError, expect
from conformask.extensions import pip_install
from conformask.extras.export.folders import Exported, ExportFormat, ExportOptions
from conformask.extras.export.onnx_graph import (
    PredictorGraph,
    append_masker,
    check_scorable,
    constant_lambda,
    noise,
    predictor_graph,
    translate,
)
from conformask.images.rows import Provenance
from conformask.images.triplets import Triplets
from conformask.masker.admission import limits_of_means
from conformask.masker.masker import Masker
from conformask.records.reading import PERCENTILES, Caveat, Size
from conformask.records.record import atomic_write, check_output, to_jsonable
from conformask.records.words import network_label
from conformask.scores.scorer import score_of

if TYPE_CHECKING:
    from onnx import ModelProto

TOLERANCE = 1e-4
"""Largest difference allowed for an exported file, in each part of `Difference`."""
LAMBDA_TOLERANCE = 1e-4
"""Relative tolerance of lambda. A mask may be that of a lambda this close: sums are rounded differently, and
one partly open pixel, at the boundary between shown and hidden, takes the rest of a sum."""
FACTORS = (0.0, 0.5, 1.0, 2.0, math.inf)
"""Multiples of the calibrated lambda at which a file that takes lambda is compared."""


@dataclass(frozen=True)
class Difference:
    """The largest differences between the exported file and PyTorch."""

    score: float = 0.0
    """Difference of a pixel's score, as a share of the image's largest score."""
    mask: float = 0.0
    """Difference of a pixel's mask from the masks at lambdas within LAMBDA_TOLERANCE, for the same score."""
    size: float = 0.0
    """End-to-end difference of an image's mask size."""
    output: float = 0.0
    """Difference of a pixel's y_hat from the predictor run by itself; 0 without a predictor."""

    def __or__(self, other: "Difference") -> "Difference":
        """Return the larger of each difference."""
        return Difference(*map(max, astuple(self), astuple(other)))


@dataclass(frozen=True)
class ExportCheck:
    """Result of a successful check."""

    difference: Difference
    sizes: tuple[Size, ...]
    """Sizes of y_hat on which it was checked: one if the network takes no other."""


@dataclass(frozen=True)
class Case:
    """Images (N, C, *space), a lambda for each, and the maps from which their score is read."""

    x: Images
    y_hat: Images
    lam: Tensor
    cues: Tensor | None = None

    @property
    def layers(self) -> dict[str, Tensor]:
        """The layers that the scorer takes."""
        return {} if self.cues is None else {"cues": self.cues}


class InferenceSession:
    """An exported file in onnxruntime, on the CPU."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own errors share no type
            raise MismatchError(f"onnxruntime cannot read the exported graph: {error}") from error
        self.inputs: Mapping[str, Sequence[int | str]] = {
            node.name: node.shape for node in self._session.get_inputs()
        }
        """Shapes of the inputs by name; an axis of any length has a name."""

    def __call__(self, case: Case) -> dict[str, Tensor]:
        """Return the outputs by name."""
        inputs = {name: vars(case)[name].numpy() for name in self.inputs}
        try:
            outputs = self._session.run(None, inputs)
        except Exception as error:
            raise MismatchError(f"onnxruntime cannot run the exported graph: {error}") from error
        names = (node.name for node in self._session.get_outputs())
        return dict(zip(names, map(torch.from_numpy, outputs), strict=True))


def check_file(masker: Masker, path: Path, front: PredictorGraph | None = None) -> ExportCheck:
    """Compare on random images of two sizes and batch sizes; at several lambdas if the file takes lambda.

    Args:
        masker: the exported masker.
        path: the exported file.
        front: the predictor inside the file; None if the file takes y_hat.
    """
    run = InferenceSession(path)
    cases, largest = list(cases_of(masker, run.inputs, front)), Difference()
    for case in tracked(cases, "checking against PyTorch", len(cases)):
        largest = largest | difference(masker, run, case)
    if not max(astuple(largest)) <= TOLERANCE:
        in_output = f", {largest.output:.2g} in y_hat" if front else ""
        raise MismatchError(
            f"onnxruntime differs from PyTorch by {largest.score:.2g} in the score, {largest.mask:.2g} in "
            f"the mask, {largest.size:.2g} in the mask size{in_output}; {TOLERANCE:g} is allowed. Nothing "
            "was written: use conformask mask, or another version of torch or onnxruntime"
        )
    return ExportCheck(largest, tuple(dict.fromkeys(tuple(case.y_hat.shape[2:]) for case in cases)))


def cases_of(
    masker: Masker, inputs: Mapping[str, Sequence[int | str]], front: PredictorGraph | None
) -> Iterator[Case]:
    """Yield images and lambdas; a second size, twice as wide, only if the network takes it."""
    deployed = None if "lam" in inputs else constant_lambda(masker)
    reference = reference_lambda(masker)
    for count, width_factor in ((1 if inputs["x"][0] == 1 else 2, 1), (1, 2)):
        try:
            x, y_hat, *cues = _images(masker, front, count, width_factor)
        except MismatchError:
            if width_factor == 1:
                raise
            return
        if cues:  # maps have any range, which that of noise need not meet
            reference = float(score_of(masker.scorer, x, y_hat, layers={"cues": cues[0]}).map.median())
        lambdas = [reference * factor for factor in FACTORS] if deployed is None else [deployed]
        for lam in lambdas:
            yield Case(x, y_hat, torch.full((count,), lam, dtype=torch.float64), *cues)


def _images(
    masker: Masker, front: PredictorGraph | None, count: int, width_factor: int
) -> tuple[Tensor, ...]:
    if front is not None:
        return check_scorable(masker, *front.images(count, width_factor))
    *sides, last = masker.card.sizes[0]
    return noise(masker, count, (*sides, width_factor * last), seed=1)


def reference_lambda(masker: Masker) -> float:
    """Return the calibrated lambda; if it varies with the image or is inf, a median of critical lambdas."""
    critical = masker.critical_lambdas
    finite = critical[(critical > 0) & np.isfinite(critical)]
    deployed = constant_lambda(masker)
    if deployed is not None and math.isfinite(deployed):
        return deployed
    return float(np.median(finite)) if finite.size else 1.0


def difference(masker: Masker, run: InferenceSession, case: Case) -> Difference:
    """Return the differences of one batch; NaN counts as infinite."""
    outputs, family = run(case), masker.family
    mask, score = outputs["mask"], outputs["score"]
    expected_score = score_of(masker.scorer, case.x, case.y_hat, layers=case.layers).map
    lower, upper = (
        family.apply(score, family.level(score, case.lam * (1 + sign * LAMBDA_TOLERANCE))) for sign in (-1, 1)
    )
    expected_mask = family.apply(expected_score, family.level(expected_score, case.lam))
    scale = expected_score.flatten(1).amax(1).clamp(min=1e-30)
    sizes = (image_means(mask, torch.float64) - image_means(expected_mask, torch.float64)).abs()
    output = (outputs.get("y_hat", case.y_hat) - case.y_hat).abs()
    outside = torch.maximum(lower - mask, mask - upper).clamp(min=0)
    gaps = ((score - expected_score).abs() / per_image(scale, score), outside, sizes, output)
    return Difference(*(float(gap.nan_to_num(math.inf).max()) for gap in gaps))


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
    any_network: bool = False,
) -> Export:
    """Write a masker as one ONNX file that needs onnxruntime only; see docs/how-to/deploy.md.

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
        any_network: use another network than the calibration's.

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
    front, caveat = load_predictor(masker, predictor, network, any_network=any_network)
    model = translate(masker) if front is None else append_masker(masker, front)
    with atomic_write(path) as temporary:
        agreement = write_checked(temporary, masker, model, front, caveat)
    return Export(path, constant_lambda(masker), agreement, caveat)


def load_predictor(
    masker: Masker, predictor: str | Path | None, network: str | None, *, any_network: bool
) -> tuple[PredictorGraph | None, Caveat | None]:
    """Return a predictor for a masker, with a caveat if the promise may not be about its outputs."""
    if predictor is not None and masker.card.read.has_own_range:
        raise InvalidArgumentError(
            "with data_range 'image', x and y_hat are scaled once y_hat is known: export without "
            "--predictor, and scale both (docs/how-to/deploy.md)"
        )
    if predictor is None:
        return None, None
    refuse_further_inputs(masker)
    front = predictor_graph(masker, Path(predictor), network)
    outputs = Triplets((), provenance=Provenance(network=front.network, any_network=any_network))
    return front, masker.admit(outputs).caveat


def refuse_further_inputs(masker: Masker) -> None:
    """Raise for a masker that needs more of an image than x and y_hat: maps, or its own lambda."""
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
    """Write a graph with its metadata, and compare it with the masker."""
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
        "promise": masker.card.sentence_here(caveat),
        "fingerprint": masker.fingerprint,
        "calibration": json.dumps(to_jsonable(masker.card.to_json())),
        "scorer": masker.scorer.name,
        "tolerance": repr(TOLERANCE),
        "limits_of_means": json.dumps(limits_of_means(masker.card, masker.curves)),
    }
    for formula in masker.card.formula_here(caveat):
        entries["formula"] = formula
    if role := masker.card.read.source_of_range:
        low, high = PERCENTILES
        entries["range"] = f"x and y_hat are clipped to the {low} and {high} percentile of {role}, 0 and 1"
    if masker.scorer.cue_channels:
        entries["cues"] = masker.card.cues_made or "given"
    if lam is None:
        return entries | {"lambda_depends_on": ", ".join(sorted(masker.rule.needs))}
    return entries | {"lambda": repr(lam)}


def refuse(masker: Masker) -> None:
    """Raise for a masker that cannot become a graph, before minutes of work."""
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
        any_network=options.any_network,
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
