"""Numbers of the documentation that are measured: written into the pages, and compared with them by a test.

In a page, a number of a cell is followed by where it is from, in a comment that readers do not see:

    30<!--nuclei_noise/conformask_all/hidden--> %

is what a method hides on a task; `mean` for the task is the mean over all tasks. What is hidden is in
percent, and so is any number before " %". Beside the fields of cells there are `over oracle` and `over
METHOD`, what is hidden in ratio to the best masks or to another method. `<!--
benchmarks/whole_images/throughput/ratio-->` is a value of benchmarks/results/whole_images.json, and records
of research are named alike. A number keeps its decimals. A table stands between `<!--cells: NAME-->` and
`<!--end-->`.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from maskbench import methods, tasks
from maskbench.page import Cells, complete, row_of_method, table

NUMBER = re.compile(r"\d+(?P<decimals>\.\d+)?(?P<comment><!--(\w+)/(\w+)/([\w ./]+)-->)(?P<percent> %)?")
BLOCK = re.compile(r"(?<=<!--cells: )(\w+)-->\n.*?(?=<!--end-->)", re.DOTALL)
RECORDS = ("benchmarks", "research")
"""Folders with other records, in results/NAME.json."""
MOST = 8
"""Methods in the table of the documentation; RESULTS.md has them all."""
STEPS = (
    "gradient",
    "conformask_packaged",
    "conformask_40",
    "conformask_100",
    "conformask_all",
)
"""Columns of the table of tasks: each takes more of a user than the one before."""


def pages(repository: Path) -> list[Path]:
    """Return the pages that may have numbers of cells."""
    return [repository / "README.md", *sorted((repository / "docs").rglob("*.md"))]


def updated(text: str, cells: Cells, repository: Path) -> str:
    """Return a page with the numbers and tables that cells and records give.

    Tasks whose first and last step are not measured yet are left out, so that means are over the same ones.
    """
    cells = {
        key: cell for key, cell in cells.items() if {(key[0], STEPS[0]), (key[0], STEPS[-1])} <= set(cells)
    }

    def number(match: re.Match[str]) -> str:
        decimals = len(match["decimals"] or ".") - 1
        source, name, field = match.group(3, 4, 5)
        factor = 100 if match["percent"] or field == "hidden" else 1
        if source in RECORDS:
            value = of_record(repository / source / "results" / f"{name}.json", field)
        else:
            value = of_cells(cells, source, name, field)
        return f"{factor * value:.{decimals}f}{match['comment']}{match['percent'] or ''}"

    def block(match: re.Match[str]) -> str:
        return f"{match[1]}-->\n\n{TABLES[match[1]](cells)}\n"

    return NUMBER.sub(number, BLOCK.sub(block, text))


def of_record(path: Path, field: str) -> float:
    """Return a number of a JSON file, by its keys with / between them."""
    value: Any = json.loads(path.read_text(encoding="utf-8"))
    for key in field.split("/"):
        value = value[int(key)] if isinstance(value, list) else value[key]
    return float(value)


def of_cells(cells: Cells, task: str, method: str, field: str) -> float:
    """Return the value of a field, of one cell or the mean over the tasks."""
    other = field.removeprefix("over ")
    names = complete(cells)[0] if task == "mean" else [task]
    own = {name: cells[name, method] for name in names}
    if field == other:
        values = [cell[field] for cell in own.values()]
    elif other == "oracle":
        values = [cell["hidden"] / cell["oracle"] for cell in own.values()]
    else:
        values = [cell["hidden"] / cells[name, other]["hidden"] for name, cell in own.items()]
    return float(np.mean(values))


def table_of_methods(cells: Cells) -> str:
    """Return those of all tasks that hide least, and the base."""
    names, ranked = complete(cells)
    chosen = [method for method in ranked if method in ranked[:MOST] or method == STEPS[0]]
    heads = ["method", "hidden / best possible", "coverage", "hardest tenth", "images", "minutes"]

    def rows() -> Iterator[list[str]]:
        for method in chosen:
            _, hidden, _, coverage, hardest, _, _, _, images, minutes, _ = row_of_method(cells, method, names)
            yield [methods.method(method).TITLE, hidden, coverage, hardest, images, minutes]

    return table(heads, rows())


def table_of_tasks(cells: Cells) -> str:
    """Return what is hidden on each task by each step, and by masks of images whose truth is known."""
    names, _ = complete(cells)
    steps = [method for method in STEPS if all((name, method) in cells for name in names)]
    titles = [methods.method(method).TITLE.removeprefix("conformask, ") for method in steps]
    heads = ["task", *titles, "own best lambda", "best possible"]

    def rows() -> Iterator[list[str]]:
        for name in names:
            last = cells[name, steps[-1]]
            shares = [*(cells[name, method]["hidden"] for method in steps), last["own best"], last["oracle"]]
            yield [tasks.task(name).TITLE, *(f"{100 * share:.0f}" for share in shares)]

    return table(heads, rows())


TABLES: Mapping[str, Callable[[Cells], str]] = {"methods": table_of_methods, "tasks": table_of_tasks}


def update(repository: Path, cells: Cells) -> None:
    """Write numbers and tables into all pages."""
    for path in pages(repository):
        before = path.read_text(encoding="utf-8")
        after = updated(before, cells, repository)
        if after != before:
            path.write_text(after, encoding="utf-8")
