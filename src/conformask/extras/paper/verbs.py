"""conformask paper: repeat the paper's experiments on any folders of images."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from conformask.cli.options import DEFAULT_DEVICES, AsJson, Devices, WeightsPath
from conformask.cli.output import show
from conformask.cli.verb import Verb


def paper(
    *,
    out: Path,
    preset: Annotated[
        Literal["smoke", "cpu", "long", "paper"],
        Parameter(
            help="smoke: minutes, to check that everything works; cpu: 128 pixels, about two hours on two "
            "cores; long: as cpu, but each network trains until it no longer improves; paper: the paper's "
            "settings, for GPUs."
        ),
    ] = "cpu",
    photos: Annotated[
        Path | None, Parameter(help="A folder of photographs, such as Places365; subfolders are included.")
    ] = None,
    cells: Annotated[
        Path | None, Parameter(help="A folder of micrographs, which are cut into tiles.")
    ] = None,
    rows: Annotated[
        str | None, Parameter(help="Rows of the table to run, such as 1,2,5; all 16 if not given.")
    ] = None,
    split: Annotated[
        Literal["within", "paper"],
        Parameter(
            help="within keeps whole fields of cells for training; paper splits all their tiles at random, "
            "although they overlap."
        ),
    ] = "within",
    weights_path: WeightsPath = None,
    devices: Devices = DEFAULT_DEVICES,
    json: AsJson = False,
) -> None:
    """Reproduce the paper's experiments on your images.

    Runs all sixteen rows of its Table 1 (predictors, masks, baselines and oracles) and makes the table and
    the figures. To resume a stopped run, repeat the command.

    Parameters
    ----------
    out
        The folder for paper.csv, paper.md, the figures and the finished stages.
    """
    from conformask.extras.paper.reproduce import reproduce
    from conformask.extras.paper.table import lines

    done = reproduce(
        out,
        preset=preset,
        photos=photos,
        cells=cells,
        rows=_numbers(rows),
        split=split,
        compute=devices,
        weights_path=weights_path,
    )
    files = [str(path) for path in done.files]
    record = {"out": str(out), "preset": preset, "seconds": round(done.seconds, 1), "files": files}
    table = [vars(line) for line in lines(done.finished)]
    text = f"{len(done.finished)} rows are done: see {out / 'paper.md'} and {out / 'paper.csv'}"
    show({**record, "rows": table}, text, as_json=json)


PAPER = Verb(
    paper,
    group="Research",
    order=0,
    example="paper --photos photographs --out runs/paper --rows 9",
    resumes="",
)


def _numbers(rows: str | None) -> list[int] | None:
    from conformask.errors import InvalidArgumentError

    if rows is None:
        return None
    try:
        return [int(number) for number in rows.split(",")]
    except ValueError:
        raise InvalidArgumentError(
            f"--rows {rows}: give numbers separated by commas, such as 1,2,5"
        ) from None
