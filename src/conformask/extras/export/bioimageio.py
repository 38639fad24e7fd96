"""A masker as a model folder of bioimage.io: description, weights, test tensors, documentation, cover."""

import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageOps

from conformask.errors import InvalidArgumentError, MismatchError, one_line
from conformask.extensions import required
from conformask.extras.export.folders import (
    NOTHING,
    TAGS,
    Credits,
    Exported,
    ExportedFolder,
    ExportFormat,
    ExportOptions,
    check_free,
    summary_of,
    whole_folder,
)
from conformask.extras.export.onnx import (
    Case,
    InferenceSession,
    load_predictor,
    refuse,
    refuse_further_inputs,
    write_checked,
)
from conformask.extras.export.onnx_graph import AtLambda, append_masker, calibrated_shapes, translate
from conformask.images.pictures import as_bytes, in_colors, overlay
from conformask.masker.card import card_text
from conformask.masker.components import waves
from conformask.masker.masker import Masker
from conformask.records.reading import PERCENTILES, Caveat, Reading
from conformask.records.record import Array, Json

if TYPE_CHECKING:
    from onnx import ModelProto

WEIGHTS, DOCUMENTATION, DESCRIPTION, COVER = "weights.onnx", "README.md", "rdf.yaml", "cover.png"
TOLERANCE = 1e-3
"""Allowed difference of a test output on other machines: relative, and as a share of its largest value."""
HALF = 256
"""Side, in pixels, of each half of the cover, which is twice as wide as high."""
TENSORS = {
    "x": "the input of the network, in [0, 1]",
    "y_hat": "the output of the network, in [0, 1]",
    "mask": "from 0, hidden, to 1, trusted",
    "score": "at least 0; higher = less trusted",
}
"""Descriptions of the tensors."""
CITED = re.compile(r"(?P<text>.+?)[\s,;]+(?:(?:https?://doi\.org/)?(?P<doi>10\.\S+)|(?P<url>https?://\S+))")


def export_bioimageio(
    masker: Masker,
    folder: str | Path,
    *,
    credits: Credits = NOTHING,
    predictor: str | Path | None = None,
    network: str | None = None,
    any_network: bool = False,
) -> ExportedFolder:
    """Write a masker, at its calibrated lambda, as a model folder that bioimageio.spec finds valid.

    Inputs are x and y_hat; with a predictor x alone, and y_hat is an output. Tensors are as in `export`, with
    the size of a calibration image, since the promise covers no other. The test tensors, from which the cover
    is made, are waves: the folder contains none of your images.

    Args:
        masker: from calibrate() or load().
        folder: a new one, or an empty one.
        credits: authors, license and citation; missing ones stay empty.
        predictor: as in `export`, like network and any_network.

    Raises:
        MissingFileError: bioimageio.spec, or what `export` takes, is not installed.
        InvalidArgumentError: a citation without DOI or URL, or a promise whose lambda is not the same for all
            images, or a score that is read from maps beside y_hat.
        MismatchError: as in `export`, or bioimageio.spec finds the folder invalid; the message quotes it.
        OutputError: the folder holds something already, or cannot be written.
    """
    required("bioimageio.spec", "this export", "bioimageio")
    check_free(Path(folder))
    refuse(masker)
    refuse_further_inputs(masker)
    citations = [] if credits.cite is None else [citation(credits.cite)]
    front, caveat = load_predictor(masker, predictor, network, any_network=any_network)
    model = translate(masker, AtLambda) if front is None else append_masker(masker, front)
    with whole_folder(Path(folder)) as target, TemporaryDirectory() as work:
        sources = Path(work)
        write_checked(sources / WEIGHTS, masker, model, front, caveat)
        inputs, outputs = run_on_waves(masker, sources / WEIGHTS)
        for name, tensor in (inputs | outputs).items():
            np.save(sources / f"{name}.npy", tensor)
        cover(inputs | outputs).save(sources / COVER)
        text = documentation(masker, inputs, outputs, caveat)
        (sources / DOCUMENTATION).write_text(text, encoding="utf-8")
        description = describe(model, inputs, outputs) | {
            "description": masker.card.sentence_here(caveat),
            "authors": [{"name": name} for name in credits.authors],
            "license": credits.license,
            "cite": citations,
        }
        package(description, sources, target)
    return ExportedFolder(Path(folder), credits.missing, caveat)


def citation(cite: str) -> dict[str, Json]:
    """Parse a text that ends with a DOI or a URL into bioimage.io's form."""
    match = CITED.fullmatch(cite.strip())
    if match is None:
        raise InvalidArgumentError(
            f"cite {cite!r}: give a text that ends with a DOI or an address, such as 'Doe et al., 2026, "
            "https://doi.org/10.1000/182'"
        )
    return {name: value for name, value in match.groupdict().items() if value}


def run_on_waves(masker: Masker, weights: Path) -> tuple[dict[str, Array], dict[str, Array]]:
    """Run the file on waves, one image of the calibration's size; return inputs and outputs by name."""
    x, y_hat = (waves(shape, place) for place, shape in enumerate(calibrated_shapes(masker)))
    run, case = InferenceSession(weights), Case(x, y_hat, torch.ones(1, dtype=torch.float64))
    inputs = {name: vars(case)[name].numpy() for name in run.inputs}
    return inputs, {name: tensor.numpy() for name, tensor in run(case).items()}


def describe(
    model: "ModelProto", inputs: Mapping[str, Array], outputs: Mapping[str, Array]
) -> dict[str, Json]:
    """Return the part of the description that follows from the tensors and the weights."""
    from bioimageio.spec.model.v0_5 import ModelDescr

    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    dimensions = inputs["x"].ndim - 2
    single = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    tolerances = [
        {
            "relative_tolerance": TOLERANCE,
            "absolute_tolerance": TOLERANCE * float(tensor.max()),
            "output_ids": [name],
        }
        for name, tensor in outputs.items()
    ]
    return {
        "type": "model",
        "format_version": ModelDescr.implemented_format_version,
        "name": "Masks with a promise",
        "tags": ["conformask", *TAGS, f"{dimensions}d"],
        "documentation": {"source": DOCUMENTATION},
        "covers": [{"source": COVER}],
        "inputs": [_tensor(name, tensor, single) for name, tensor in inputs.items()],
        "outputs": [_tensor(name, tensor, single) for name, tensor in outputs.items()],
        "weights": {"onnx": {"source": WEIGHTS, "opset_version": opset}},
        "config": {"bioimageio": {"reproducibility_tolerance": tolerances}},
    }


def _tensor(name: str, tensor: Array, single: bool) -> dict[str, Json]:
    _, channels, *sides = tensor.shape
    space = zip("zyx"[-len(sides) :], sides, strict=True)
    return {
        "id": name,
        "description": TENSORS[name],
        "axes": [
            {"type": "batch", "size": 1} if single else {"type": "batch"},
            {"type": "channel", "channel_names": [f"channel{index}" for index in range(channels)]},
            *({"type": "space", "id": axis, "size": side} for axis, side in space),
        ],
        "data": {"type": "float32", "range": [0.0, None if name == "score" else 1.0]},
        "test_tensor": {"source": f"{name}.npy"},
    }


def cover(tensors: Mapping[str, Array]) -> Image.Image:
    """Return a picture of the output beside its overlay; for a volume, of the middle plane."""
    planes = {name: tensors[name][0] for name in ("y_hat", "mask")}
    if planes["mask"].ndim == 4:
        planes = {name: volume[:, volume.shape[1] // 2] for name, volume in planes.items()}
    output, mask = (
        np.asarray(ImageOps.fit(Image.fromarray(half).convert("RGB"), (HALF, HALF)))
        for half in (in_colors(planes["y_hat"]), as_bytes(planes["mask"]))
    )
    return Image.fromarray(np.concatenate([output, overlay(output, mask)], axis=1))


def _ends(reading: Reading) -> tuple[object, object]:
    """Return the values that become 0 and 1, in words where they are not numbers."""
    if reading.has_own_range:
        low, high = PERCENTILES
        return f"the {low} percentile of its {reading.source_of_range}", f"the {high} percentile"
    return reading.stated_range or ("black", "white")


def documentation(
    masker: Masker, inputs: Mapping[str, Array], outputs: Mapping[str, Array], caveat: Caveat | None
) -> str:
    """Return the documentation that bioimage.io shows: the card, the tensors, and how to validate it."""
    card = masker.card
    notice = "" if caveat is None else f"**{masker.card.sentence_here(caveat, caveat.text)}**\n\n"
    readings = card.reading.of("y_hat"), card.reading_of("x", np.dtype(np.float32))
    (low, high), (x_low, x_high) = map(_ends, readings)
    rows = "\n".join(
        f"| {'in' if name in inputs else 'out'} | {name} | {' x '.join(map(str, tensor.shape[1:]))} | "
        f"{TENSORS[name]} |"
        for name, tensor in {**inputs, **outputs}.items()
    )
    return f"""{notice}{card_text(card, masker.scorer.name, masker.fingerprint, masker.comparison)}
## Tensors

| | name | size | |
| --- | --- | --- | --- |
{rows}

Scale images like the calibration images: y_hat so that {low} becomes 0 and {high} becomes 1, x so that
{x_low} and {x_high} do. The weights take other sizes if the network does, but the promise does not
cover them.

## Validation

On images with a reference that were used neither for training nor for calibration, compute
{card.loss.words.label} of reference and output under the mask. Up to chance, the result should satisfy
{card.promise.named(card.claim)}; `conformask evaluate` measures it with its interval.
"""


def package(description: Mapping[str, Json], sources: Path, folder: Path) -> None:
    """Validate a description, and write it with the files that it names."""
    from bioimageio.spec import (
        InvalidDescr,
        ValidationContext,
        build_description,
        save_bioimageio_package_as_folder as save,
    )

    with ValidationContext(root=sources, file_name=DESCRIPTION):
        descr = build_description(description)
        if isinstance(descr, InvalidDescr):
            reason = one_line(ValueError(descr.get_reason()))
            raise MismatchError(f"bioimageio.spec finds the description invalid: {reason}")
        save(descr, output_path=folder)


def _write(masker: Masker, folder: Path, options: ExportOptions) -> Exported:
    """Export a masker, and summarise the folder."""
    done = export_bioimageio(
        masker,
        folder,
        credits=options.credits,
        predictor=options.predictor,
        network=options.network,
        any_network=options.any_network,
    )
    return summary_of(done)


BIOIMAGEIO = ExportFormat(_write, takes_credits=True, takes_predictor=True)
