"""conformask export: a masker as one ONNX file."""

from dataclasses import asdict
from pathlib import Path

from conformask.cli.options import AsJson
from conformask.cli.output import facts, show, sizes_text


def export(masker: Path, out: Path, /, *, json: AsJson = False) -> None:
    """Write a masker as one ONNX file.

    Parameters
    ----------
    masker
        A calibrated run folder or a saved masker.
    out
        The file to write; its name ends with .onnx.
    """
    from conformask.exporting.check import TOLERANCE
    from conformask.exporting.export import export as exported
    from conformask.masker.load import load

    loaded = load(masker)
    done = exported(loaded, out)
    difference, sizes = done.agreement.difference, done.agreement.sizes
    lam = f"depends on the {', '.join(sorted(loaded.rule.needs))}" if done.lam is None else f"{done.lam:.6g}"
    rows = [
        ("file", f"{out} ({out.stat().st_size / 1e6:.1f} MB)"),
        ("lambda", lam),
        ("checked on", sizes_text(sizes)),
        ("largest difference", f"{max(vars(difference).values()):.1g} of {TOLERANCE:g} allowed"),
    ]
    record = {
        "out": str(out),
        "promise": loaded.promise,
        "lambda": done.lam,
        "sizes": sizes,
        "difference": asdict(difference),
        "tolerance": TOLERANCE,
    }
    show(record, loaded.promise, facts(rows), as_json=json)
