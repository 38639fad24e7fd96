"""conformask export: a masker as one ONNX file, or as a folder for a model zoo."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from conformask.cli.options import AsJson, NetworkName, OtherNetwork
from conformask.cli.output import bad_usage, facts, show
from conformask.cli.verb import Verb


def export(
    run: Path,
    out: Path,
    /,
    *,
    format: Annotated[
        str,
        Parameter(
            help="What to write: an ONNX file (onnx), a model folder for bioimage.io (bioimageio) or the "
            "Hugging Face Hub (huggingface), or what an installed package adds."
        ),
    ] = "onnx",
    predictor: Annotated[
        Path | None,
        Parameter(
            help="Your network, an ONNX file: the export then takes x alone, and returns y_hat, mask and "
            "score."
        ),
    ] = None,
    network: NetworkName = None,
    allow_network_mismatch: OtherNetwork = False,
    author: Annotated[
        tuple[str, ...], Parameter(help="For a folder: its author; repeat the option to name several.")
    ] = (),
    license: Annotated[
        str | None, Parameter(help="For a folder: its licence, an SPDX identifier such as CC-BY-4.0.")
    ] = None,
    cite: Annotated[
        str | None, Parameter(help="For a folder: the citation, ending with a DOI or an address.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Write a masker as one ONNX file that needs only onnxruntime, or as a folder for a model zoo.

    Lambda is an input of the graph, so recalibration needs no new export. The file's metadata hold the
    calibrated lambda, the promise and the whole calibration. Before the file appears, its masks from
    onnxruntime are compared with PyTorch's. Promises by category or weight can be exported too: you pass
    each image's own lambda. The guarantee adaptive, and expected and conditional_mean with l1 or l2, are
    refused, because only conformask can find their lambda.

    With your network (--predictor), the file takes x alone and returns y_hat, mask and score, at the
    calibrated lambda. --format bioimageio and --format huggingface write a folder that the libraries of these
    sites read.

    Parameters
    ----------
    run
        A calibrated run folder or a saved masker.
    out
        The file to write, whose name ends with .onnx; with --format bioimageio or huggingface, a new folder.
    """
    from conformask.extras.export.folders import EXPORTS, Credits, ExportOptions
    from conformask.masker.load import load

    credits = Credits(author, license, cite)
    if format not in EXPORTS:
        bad_usage(f"--format {format}: choose from {', '.join(EXPORTS)}")
    kind = EXPORTS[format]
    if not kind.takes_credits and credits != Credits():
        bad_usage(
            "--author, --license and --cite describe a folder: add --format bioimageio or --format "
            "huggingface"
        )
    if not kind.takes_predictor and predictor is not None:
        bad_usage("--predictor puts a network into an ONNX file: use --format onnx or --format bioimageio")
    masker = load(run)
    done = kind.write(masker, out, ExportOptions(credits, predictor, network, allow_network_mismatch))
    promise = {"sentence": masker.sentence, "formula": masker.formula}
    record = {"out": str(done.path), **promise, **done.record, "caveat": done.caveat}
    rows = [facts(done.rows)] if done.rows else []
    sentence = masker.card.sentence_here(done.caveat)
    formula = masker.card.formula_here(done.caveat)
    show(record, sentence, *rows, *done.notes, *formula, as_json=json)


EXPORT = Verb(
    export,
    group="Use",
    order=3,
    example="export runs/first masker.onnx",
    common=("--format", "--predictor"),
    renamed={"--as": "--format", "--with": "--predictor"},
)
