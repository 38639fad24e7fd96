"""conformask demo: a first look, at packaged photographs and what a network made of them."""

from pathlib import Path

from conformask.cli.look import NoView, tell, view
from conformask.cli.options import AsJson
from conformask.cli.view import Port


def demo(
    *, out: Path = Path("demo"), no_view: NoView = False, port: Port = 8000, json: AsJson = False
) -> None:
    """Look at photographs that Real-ESRGAN enlarged: conformask look on packaged images; no download.

    Parameters
    ----------
    out
        The folder for the images in data/, the run and report.html.
    """
    from conformask.data.provenance import Provenance
    from conformask.demo import PINNED, write_crops
    from conformask.look import look
    from conformask.records.reading import Reading

    data = out / "data"
    folders = write_crops(data)
    found = look(
        folders,
        out,
        are_groups=lambda count, example: False,  # the promise is about crops of these photographs
        reading=Reading(),
        provenance=Provenance.load(data),
        pinned=PINNED,
    )
    x, y_hat, y = folders.values()
    tell(found, out, "The same for three folders of yours:", f"conformask look {x} {y_hat} {y}", as_json=json)
    if not (no_view or json):
        view(found, out, port)
