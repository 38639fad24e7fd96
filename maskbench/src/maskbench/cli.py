"""The command line: `maskbench run`, `page`, `add` and `list`."""

import json
import warnings
from pathlib import Path

import cyclopts

from conformask.records.record import atomic_write
from maskbench import methods, tasks

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
TEMPLATE = '''"""What the method does, in one line."""

from pathlib import Path

from maskbench.aim import Aim
from maskbench.methods import Score
from maskbench.triplets import Floats, Maps, Triplets

TITLE, PAPER, IMAGES = "{title}", "where the method is from", 0


def fit(learn: Triplets, aim: Aim, work: Path) -> Score:
    """Learn from the images; what takes long is kept in work."""

    def score(x: Floats, y_hat: Floats, cues: Maps) -> Floats:
        return abs(y_hat - y_hat.mean(axis=(1, 2), keepdims=True)).mean(axis=3)

    return score
'''
app = cyclopts.App(name="maskbench", help=__doc__, version_flags=[])


@app.command
def run(
    data: Path,
    work: Path,
    *,
    task: list[str] | None = None,
    method: list[str] | None = None,
    results: Path = RESULTS,
) -> None:
    """Measure every cell that is not there yet; a stopped run goes on where it was.

    Args:
        data: the folder of folders of images.
        work: the folder for triplets and trained networks.
        task: names of tasks; all of them if not given.
        method: names of methods; all of them if not given.
        results: the folder of the cells, one JSON each.
    """
    from maskbench.cell import measured  # loads torch

    warnings.simplefilter("ignore")
    failed = []
    for task_name in task or tasks.names():
        for name in method or methods.names():
            path = results / task_name / f"{name}.json"
            if path.exists():
                continue
            try:
                record = measured(task_name, name, data, work)
            except Exception as error:  # of one method: the others go on
                print(f"{task_name}: {name} failed: {error!r}", flush=True)
                failed.append(f"{task_name}/{name}")
                continue
            if record is None:
                continue
            with atomic_write(path) as unfinished:
                unfinished.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            hidden, coverage = (100 * record[key] for key in ("hidden", "coverage"))
            print(f"{task_name}: {name} hides {hidden:.1f} %, keeps {coverage:.1f} %", flush=True)
    if failed:
        raise SystemExit(f"{len(failed)} cells failed: {', '.join(failed)}")


@app.command
def page(results: Path = RESULTS, out: Path = ROOT, repository: Path = ROOT.parent) -> None:
    """Write the table, and its picture, of all cells, and their numbers into the documentation.

    Args:
        results: the folder of the cells.
        out: the folder for RESULTS.md and results.svg.
        repository: the folder of README.md and docs/ of conformask.
    """
    from maskbench.documents import update  # loads matplotlib
    from maskbench.page import cells_of, written

    cells = cells_of(results)
    written(cells, out)
    update(repository, cells)


@app.command
def add(name: str) -> None:
    """Start a method from a template.

    Args:
        name: of the new file.
    """
    path = Path(methods.__file__).parent / f"{name}.py"
    if not name.isidentifier() or path.exists():
        raise SystemExit(
            f"{name}: choose a name of letters, digits and _ that no method has: {', '.join(methods.names())}"
        )
    path.write_text(TEMPLATE.format(title=name.replace("_", " ")), encoding="utf-8")
    print(f"Write the method in {path}, then: maskbench run DATA WORK --method {name}; maskbench page")


@app.command(name="list")
def listed() -> None:
    """Name all tasks and methods."""
    for kind, module in (("task", tasks.task), ("method", methods.method)):
        for name in (tasks if kind == "task" else methods).names():
            print(f"{kind:8}{name:26}{module(name).TITLE}")


def main() -> None:
    """Run the command line."""
    app()
