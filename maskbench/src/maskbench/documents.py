"""Numbers of the documentation that cells give: written into the pages, and compared with them by a test.

In a page, a number of a cell is followed by where it is from, in a comment that readers do not see:

    30<!--nuclei_noise/conformask_all/hidden--> %

is what a method hides on a task, in percent; `mean` for the task is the mean over all tasks that the method
has. Beside the fields of cells there are `over oracle` and `over METHOD`, what is hidden in ratio to the best
masks or to another method. A number keeps its decimals. A table stands between `<!--cells: NAME-->` and
`<!--end-->`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from maskbench import methods, tasks
from maskbench.page import BASE, Cells, complete, over_oracle, row_of_method, table

NUMBER = re.compile(r"\d+(?P<decimals>\.\d+)?(?P<comment><!--(\w+)/(\w+)/([\w ]+)-->)(?P<percent> %)?")
BLOCK = re.compile(r"(?<=<!--cells: )(\w+)-->\n.*?(?=<!--end-->)", re.DOTALL)
MOST = 8
"""Methods in the table of the documentation; RESULTS.md has them all."""
STEPS = ("gradient", "conformask_one_lambda", "conformask_packaged", "conformask_100", "conformask_all")
"""Columns of the table of tasks: each takes more of a user than the one before."""


def pages(repository: Path) -> list[Path]:
    """Return the pages that may have numbers of cells."""
    return [repository / "README.md", *sorted((repository / "docs").rglob("*.md"))]


def updated(text: str, cells: Cells) -> str:
    """Return a page with the numbers and tables that the cells give."""

    def number(match: re.Match[str]) -> str:
        decimals = len(match["decimals"] or ".") - 1
        factor = 100 if match["percent"] else 1
        value = factor * of_cells(cells, *match.group(3, 4, 5))
        return f"{value:.{decimals}f}{match['comment']}{match['percent'] or ''}"

    def block(match: re.Match[str]) -> str:
        return f"{match[1]}-->\n\n{TABLES[match[1]](cells)}\n"

    return NUMBER.sub(number, BLOCK.sub(block, text))


def of_cells(cells: Cells, task: str, method: str, field: str) -> float:
    """Return the value of a field, of one cell or the mean over the tasks."""
    other = field.removeprefix("over ")
    wanted = [name for name in tasks.names() if (name, method) in cells] if task == "mean" else [task]
    own = {name: cells[name, method] for name in wanted}
    if other == field:
        values = [cell[field] for cell in own.values()]
    elif other == "oracle":
        values = [cell["hidden"] / cell["oracle"] for cell in own.values()]
    else:
        both = [name for name in own if task != "mean" or (name, other) in cells]
        values = [own[name]["hidden"] / cells[name, other]["hidden"] for name in both]
    return float(np.mean(values))


def table_of_methods(cells: Cells) -> str:
    """Return those of all tasks that hide least, and the base."""
    names, ranked = complete(cells)
    chosen = [method for method in ranked if method in ranked[:MOST] or method == BASE]
    heads = ["method", "hidden / best possible", "coverage", "hardest tenth", "images", "minutes"]
    rows = {method: row_of_method(cells, method, names) for method in chosen}
    return table(
        heads,
        ([methods.method(key).TITLE, *(row[at] for at in (1, 3, 4, 8, 9))] for key, row in rows.items()),
    )


def table_of_tasks(cells: Cells) -> str:
    """Return what is hidden on each task, the more, the less is known; at the end, the best with each score."""
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
        after = updated(before, cells)
        if after != before:
            path.write_text(after, encoding="utf-8")
