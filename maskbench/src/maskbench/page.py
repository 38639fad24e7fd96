"""The tables and the picture of all cells."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from maskbench import methods, tasks
from maskbench.splits import SPLITS

Cell = Mapping[str, Any]
Cells = Mapping[tuple[str, str], Cell]
"""By task and method."""
BASE = "gradient"
SHOWN = (
    "conformask_all", "conformask_100", "conformask_packaged", "residual_head", "gaussian_head",
    "quantile_head", "paper", "gradient",
)  # fmt: skip
"""Methods in the picture."""
HEADS = (
    "method", "hidden / oracle", "hidden / gradient", "coverage", "hardest tenth", "worst slab", "area",
    "s / megapixel", "images", "minutes", "tasks",
)  # fmt: skip
EXPLAINED = ("conformask_one_lambda", "conformask_packaged", "conformask_all")
"""Methods whose distance to the best possible masks is divided into level and order."""
INTRODUCTION = """# MaskBench

Which method hides least of an image at the same promise? Written by `maskbench page` from the cells in
`results/`; [README.md](README.md) says what a task and a method are, and how to enter one.

The promise of every row, for every task: **in at least 9 of 10 new images, the mean over all pixels of
m |y - y_hat| is at most the threshold**, m the mask (0 or 1), and the threshold the 0.1-quantile of this mean
without a mask over the images to learn from. The benchmark finds lambda by split conformal prediction on
exact critical lambdas, the same for all, and divides calibration and test images {splits} times by groups. So
methods differ in how much they hide, for whom, and in what they cost.
"""


def cells_of(results: Path) -> Cells:
    """Return all cells of a folder."""
    return {
        (path.parent.name, path.stem): json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(results.glob("*/*.json"))
    }


def written(cells: Cells, out: Path) -> None:
    """Write RESULTS.md and results.svg."""
    parts = [INTRODUCTION.format(splits=SPLITS), *sections(cells)]
    (out / "RESULTS.md").write_text("\n".join(parts), encoding="utf-8")
    picture(cells, out / "results.svg")


def sections(cells: Cells) -> Iterator[str]:
    """Yield the parts of the page."""
    scores = {key: cell for key, cell in cells.items() if "own best" in cell}
    emitted = {key: cell for key, cell in cells.items() if "own best" not in cell}
    names, everywhere = complete(scores)
    ranked = sorted({method for _, method in scores}, key=lambda method: over_oracle(scores, method, names))
    yield "## Methods\n"
    yield (
        "Methods are ranked by the first number: how many times as much as the exact oracle, the smallest\n"
        "masks of the truth, they hide; the mean over the tasks. *hardest tenth* and *worst slab* are the\n"
        "coverage of the tenth of test images with the largest losses, and of the least covered fifth along\n"
        "any direction of five simple features; *area* that under the share of the error left against the\n"
        "share hidden; seconds are those of one core for a megapixel, *images* those with a truth that it\n"
        "learnt from, at most, and *minutes* how long that took.\n"
    )
    some = [method for method in ranked if method not in everywhere]
    yield table(HEADS, (row_of_method(scores, method, names) for method in everywhere))
    if some:
        yield (
            "Not on all tasks, since the network has no map or cells are not measured yet; means over\n"
            "other tasks do not compare, the columns of the next table do:\n"
        )
        yield table(HEADS, (row_of_method(scores, method, names) for method in some))
    yield sources(ranked)
    yield "## Hidden share, task by task\n"
    yield "In percent, and half the range of 95 % of the splits. The least of each column is bold.\n"
    letters = [chr(ord("A") + at) for at in range(len(names))]
    yield table(["method", *letters], rows_of_shares(scores, ranked, names))
    yield "## Tasks\n"
    yield table(
        ["", "task", "network", "x", "licence", "images", "groups", "threshold"],
        (row_of_task(letter, name, scores[name, BASE]) for letter, name in zip(letters, names, strict=True)),
    )
    yield "## Where the loss lies: level or order\n"
    yield (
        "From one lambda for all images to each image's own best lambda, with the same score, the **level**\n"
        "costs; from there to the oracle, the **order** of the pixels. The oracle and the own best lambda\n"
        "leave no image out, the others one in ten. In percent of the pixels.\n"
    )
    explained = [method for method in EXPLAINED if method in ranked]
    heads = [head for method in explained for head in (f"{methods.method(method).TITLE}: level", "order")]
    yield table(["task", *heads], rows_of_gaps(scores, explained, names))
    if emitted:
        yield "## Masks with a calibration of their own\n"
        yield "Judged by the same sentence; a coverage below 90 % breaks it.\n"
        yield table(
            ["method", "task", "hidden / oracle", "hidden", "coverage", "hardest tenth"],
            rows_of_emitted(emitted),
        )


def complete(cells: Cells) -> tuple[list[str], list[str]]:
    """Return the names of the tasks, and of the methods that all of them have, the best first."""
    names = [name for name in tasks.names() if (name, BASE) in cells]
    everywhere = {method for _, method in cells if all((name, method) in cells for name in names)}
    scores = (method for method in everywhere if all("own best" in cells[name, method] for name in names))
    return names, sorted(scores, key=lambda method: over_oracle(cells, method, names))


def over_oracle(cells: Cells, method: str, names: Iterable[str]) -> float:
    """Return the mean ratio of what a method and the oracle hide, over the tasks that it has."""
    own = [cells[name, method] for name in names if (name, method) in cells]
    return float(np.mean([cell["hidden"] / cell["oracle"] for cell in own])) if own else float("inf")


def row_of_method(cells: Cells, method: str, names: Sequence[str]) -> list[str]:
    """Return the row of a method in the first table."""
    own = {name: cells[name, method] for name in names if (name, method) in cells}
    module = methods.method(method)

    def mean(key: str) -> float:
        return float(np.mean([cell[key] for cell in own.values()]))

    beside = np.mean([cell["hidden"] / cells[name, BASE]["hidden"] for name, cell in own.items()])
    return [
        module.TITLE,
        f"**{over_oracle(cells, method, names):.2f}**",
        f"{beside:.2f}",
        *(f"{mean(key):.3f}" for key in ("coverage", "hardest tenth", "worst slab", "area")),
        f"{mean('seconds per megapixel'):.2f}",
        f"{module.IMAGES}",
        f"{mean('minutes'):.1f}",
        f"{len(own)}",
    ]


def sources(ranked: Sequence[str]) -> str:
    """Return where the methods are from, in a line each."""
    modules = [methods.method(method) for method in ranked]
    lines = [f"- {module.TITLE}: {module.PAPER}\n" for module in modules if module.PAPER]
    return "Where they are from:\n\n" + "".join(lines)


def rows_of_shares(cells: Cells, ranked: Sequence[str], names: Sequence[str]) -> Iterator[list[str]]:
    """Yield the rows of the second table; the oracle's first."""
    yield ["oracle", *(f"{100 * cells[name, BASE]['oracle']:.1f}" for name in names)]
    least = {name: min(cell["hidden"] for (task, _), cell in cells.items() if task == name) for name in names}
    for method in ranked:
        row = [methods.method(method).TITLE]
        for name in names:
            cell = cells.get((name, method))
            if cell is None:
                row.append("")
                continue
            low, high = cell["interval"]
            text = f"{100 * cell['hidden']:.1f} ± {50 * (high - low):.1f}"
            row.append(f"**{text}**" if cell["hidden"] == least[name] else text)
        yield row


def row_of_task(letter: str, name: str, cell: Cell) -> list[str]:
    """Return the row of a task."""
    module, n = tasks.task(name), cell["n"]
    images = f"{n['learn']} + {n['calibration and test']}"
    return [
        letter, module.TITLE, module.NETWORK, module.DEGRADATION, module.LICENCE, images, f"{n['groups']}",
        f"{cell['threshold']:.4f}",
    ]  # fmt: skip


def rows_of_gaps(cells: Cells, explained: Sequence[str], names: Sequence[str]) -> Iterator[list[str]]:
    """Yield how much of the distance to the oracle is level, and how much order."""
    for name in names:
        row = [tasks.task(name).TITLE]
        for method in explained:
            cell = cells.get((name, method))
            if cell is None:
                row += ["", ""]
            else:
                gaps = cell["hidden"] - cell["own best"], cell["own best"] - cell["oracle"]
                row += [f"{100 * gap:.1f}" for gap in gaps]
        yield row


def rows_of_emitted(cells: Cells) -> Iterator[list[str]]:
    """Yield the rows of the methods that find their masks themselves."""
    for (name, method), cell in sorted(cells.items(), key=lambda each: (each[0][1], each[0][0])):
        yield [
            methods.method(method).TITLE, tasks.task(name).TITLE, f"{cell['hidden'] / cell['oracle']:.2f}",
            f"{100 * cell['hidden']:.1f}", f"{cell['coverage']:.3f}", f"{cell['hardest tenth']:.3f}",
        ]  # fmt: skip


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def picture(cells: Cells, path: Path) -> None:
    """Draw how many times as much as the oracle some methods hide, task by task."""
    names = [name for name in tasks.names() if (name, BASE) in cells]
    shown = [method for method in SHOWN if any((name, method) in cells for name in names)]
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(names) + 1.4))
    for method, colour in zip(shown, plt.get_cmap("viridis")(np.linspace(0, 0.95, len(shown))), strict=True):
        places = [at for at, name in enumerate(names) if (name, method) in cells]
        ratios = [cells[names[at], method]["hidden"] / cells[names[at], method]["oracle"] for at in places]
        axes.plot(ratios, places, "o", color=colour, label=methods.method(method).TITLE, markersize=6)
    axes.set_yticks(range(len(names)), [tasks.task(name).TITLE for name in names])
    axes.invert_yaxis()
    axes.axvline(1, color="0.7", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axes.set_xlabel("hidden share, times that of the smallest masks of the truth")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.92")
    figure.legend(loc="upper center", ncols=3, frameon=False, fontsize=8)
    figure.tight_layout(rect=(0, 0, 1, 0.84))
    matplotlib.rcParams["svg.hashsalt"] = "maskbench"
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
