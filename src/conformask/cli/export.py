"""conformask export: a masker as one ONNX file, or as a folder for a model zoo."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from conformask import names
from conformask.cli.options import AsJson, NetworkName, OtherNetwork
from conformask.cli.output import bad_usage, facts, show, sizes_text

if TYPE_CHECKING:
    from conformask.exporting.export import Export
    from conformask.exporting.folder import ExportedFolder
    from conformask.masker.masker import Masker


def export(
    run: Path,
    out: Path,
    /,
    *,
    format: Annotated[
        names.Export,
        Parameter(
            help="What to write: an ONNX file, or a model folder for bioimage.io or the Hugging Face Hub.",
        ),
    ] = "onnx",
    predictor: Annotated[
        Path | None,
        Parameter(
            help="Your network, an ONNX file: the export then takes x alone, and returns y_hat, mask and "
            "score.",
        ),
    ] = None,
    network: NetworkName = None,
    allow_network_mismatch: OtherNetwork = False,
    author: Annotated[
        tuple[str, ...],
        Parameter(show_default=False, help="For a folder: its author; repeat the option to name several."),
    ] = (),
    license: Annotated[
        str | None, Parameter(help="For a folder: its licence, an SPDX identifier such as CC-BY-4.0.")
    ] = None,
    cite: Annotated[
        str | None, Parameter(help="For a folder: the citation, ending with a DOI or an address.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Write a masker as one ONNX file, or as a model folder for bioimage.io or the Hugging Face Hub.

    Parameters
    ----------
    run
        A calibrated run folder or a saved masker.
    out
        The file to write, whose name ends with .onnx; with --format bioimageio or huggingface, a new folder.
    """
    from conformask.exporting.bioimageio import export_bioimageio
    from conformask.exporting.export import export as export_onnx
    from conformask.exporting.folder import Credits
    from conformask.exporting.huggingface import export_huggingface
    from conformask.masker.load import load

    credits = Credits(author, license, cite)
    if format == "onnx" and credits != Credits():
        bad_usage(
            "--author, --license and --cite describe a folder: add --format bioimageio or --format "
            "huggingface"
        )
    if format == "huggingface" and predictor is not None:
        bad_usage("--predictor puts a network into an ONNX file: use --format onnx or --format bioimageio")
    loaded = load(run)
    if format == "huggingface":
        _show_folder(loaded, export_huggingface(loaded, out, credits=credits), as_json=json)
    elif format == "bioimageio":
        folder = export_bioimageio(
            loaded,
            out,
            credits=credits,
            predictor=predictor,
            network=network,
            allow_network_mismatch=allow_network_mismatch,
        )
        _show_folder(loaded, folder, as_json=json)
    else:
        file = export_onnx(
            loaded, out, predictor=predictor, network=network, allow_network_mismatch=allow_network_mismatch
        )
        _show_file(loaded, file, as_json=json)


def _show_folder(masker: "Masker", done: "ExportedFolder", *, as_json: bool) -> None:
    from conformask.wording.promises import promised_here

    record = {
        "out": str(done.path),
        "sentence": masker.sentence,
        "missing": done.missing,
        "caveat": done.caveat,
    }
    text = [promised_here(masker.sentence, done.caveat), f"Written: {done.path}"]
    if done.missing:
        options = {"authors": "--author", "license": "--license", "cite": "--cite"}
        left = ", ".join(f"{name} ({options[name]})" for name in done.missing)
        text.append(f"Missing, because only you know it: {left}. Nothing was made up instead.")
    show(record, *text, as_json=as_json)


def _show_file(masker: "Masker", done: "Export", *, as_json: bool) -> None:
    from conformask.exporting.check import TOLERANCE
    from conformask.wording.promises import promised_here

    difference, sizes = done.agreement.difference, done.agreement.sizes
    lam = f"depends on the {', '.join(sorted(masker.rule.needs))}" if done.lam is None else f"{done.lam:.6g}"
    rows = [
        ("file", f"{done.path} ({done.path.stat().st_size / 1e6:.1f} MB)"),
        ("lambda", lam),
        ("checked on", sizes_text(sizes)),
        ("largest difference", f"{max(vars(difference).values()):.1g} of {TOLERANCE:g} allowed"),
    ]
    record = {
        "out": str(done.path),
        "sentence": masker.sentence,
        "lambda": done.lam,
        "sizes": sizes,
        "difference": asdict(difference),
        "tolerance": TOLERANCE,
        "caveat": done.caveat,
    }
    show(record, promised_here(masker.sentence, done.caveat), facts(rows), as_json=as_json)
