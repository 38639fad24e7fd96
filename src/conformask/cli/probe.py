"""conformask probe: a blank test of a network."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from conformask.cli.options import AS_FILES_SAY, AsJson, Read
from conformask.cli.output import show, table


def probe(
    *,
    predictor: Annotated[
        str,
        Parameter(
            help="Your network, as for conformask triplets without --task. It is code: run only what you "
            "would run as a program."
        ),
    ],
    images: Annotated[
        Path | None,
        Parameter(
            help="A folder of its inputs, or with x/ in it: the middles of the first three are shifted, and "
            "their outputs are its input; if not given, a smooth texture."
        ),
    ] = None,
    out: Annotated[Path, Parameter(help="The page with pictures: .html, or .png for a sheet.")] = Path(
        "probe.html"
    ),
    read: Read = AS_FILES_SAY,
    json: AsJson = False,
) -> None:
    """Show what a network makes of flat fields, noise, its own output and shifted inputs; needs no truth."""
    from conformask.blank_test import probe as probed
    from conformask.predictors.custom import custom_predictor
    from conformask.report.strip import check_strip_file

    check_strip_file(out)
    network = custom_predictor(predictor, read.data_range)
    found = probed(network, images, reading=read.reading())
    written = found.save(out)
    rows = [
        ("" if place else row.test, value, what)
        for row in found.rows
        for place, (what, value) in enumerate(row.facts)
    ]
    record = {"out": str(written), "sentence": found.sentence, **found.to_json()}
    text = found.sentence, "", table(("test", "", ""), rows), "", f"Written: {written}"
    show(record, *text, as_json=json)
