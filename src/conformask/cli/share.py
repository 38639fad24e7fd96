"""conformask share: one HTML file that shows masks to people without conformask."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from conformask.cli.options import AS_FILES_SAY, WHOLE_NUMBER, AsJson, NetworkName, Read, WeightsPath, loss_of
from conformask.cli.output import show


def share(
    run: Path,
    data: Path,
    /,
    *,
    out: Annotated[Path, Parameter(help="The HTML file.")] = Path("look.html"),
    images: Annotated[int, WHOLE_NUMBER, Parameter(help="Number of images that are shown.")] = 6,
    read: Read = AS_FILES_SAY,
    network: NetworkName = None,
    weights_path: WeightsPath = None,
    json: AsJson = False,
) -> None:
    """Write one HTML file that shows images under their masks, with a threshold that moves, to anybody.

    It needs no installation and no connection. Whoever has the file has the pictures in it.

    Parameters
    ----------
    run
        A calibrated run folder or a saved masker.
    data
        A folder with x/ and y_hat/, and with y/ if the truth is known; its test part is used if it is split.
    """
    from conformask.masker.load import load
    from conformask.storage.claims import check_output
    from conformask.viewer.share import share as write

    check_output(out)
    masker = load(run, loss=loss_of(run, weights_path))
    write(masker, read.triplets(data, network, masker.card), out, images=images)
    show(
        {"out": str(out), "sentence": masker.sentence, "formula": masker.formula},
        masker.sentence,
        f"{out} shows it to anybody with a browser; the pictures are in the file.",
        masker.formula,
        as_json=json,
    )
