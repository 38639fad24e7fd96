"""Writes research/results/minute.md from research/results/minute.json and known_world.json."""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import geometric_mean
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAGE = RESULTS / "minute.md"
COUNTS, SIMPLE = (30, 100, 300, 800), ("local spread", "gradient", "change")
EPOCHS, FULL, NEAR = (2, 4, 8, 15), 30, 1.05
"""Of trainings on the largest count; a size is near the final one up to this factor."""
TEXT = """# Masks in a minute

How many triplets, and how many minutes of training, until masks are small? Written by
`research/minute_page.py` from a run of `research/minute.py`; nothing but the words around the tables is
typed by hand.

The tasks, networks and images are none of those that [the packaged score
network](../../src/conformask/scores/packaged.md) has learnt from: three networks whose weights come
inside packages, on photographs of a camera with its real noise (PolyU); thick slices of hippocampi that
cubic splines fill in; and sections of an electron microscope with three pixels of four missing, or out of
focus. Whole scenes, subjects and sections go to training and selection; tiles of the others are divided
between calibration and test. All scores are calibrated on the same tiles, by water-filling, at the
0.1-quantile of the selection images' L1 and confidence 0.9; *hidden* is the mean mask size over {deals}
resplits of calibration and test.

## Hidden share

{sizes}

*Fine-tuned* is `conformask train --scorer mask` on that many triplets; *scratch* is the same with
`--from-scratch`. Where a simpler score hides less, training says so ([training on few
triplets](cues.md)). The best simple score is the smallest of local spread, the length of y_hat's gradient,
and |x - y_hat|.

{ratios}

## Minutes of one core

{minutes}

{soon}
## Coverage over the resplits

{coverage}

## Beside the best possible score

A world whose errors are known: tiles of photographs by Real-CUGAN get another truth, y_hat and Laplace noise
of a scale that y_hat tells, times a factor of each image that nothing tells (`research/known_world.py`). The
mean error to be expected of each pixel is known there, and no score of pixels is better. Hidden share, and
how many times as large it is as under the known score:

{known}
"""


SOON = """## How soon masks are within 5 % of their final size

Trainings on 800 triplets that were asked to end after fewer epochs.

"""


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def size(row: Mapping[str, Any], key: str) -> float | None:
    score = row["scores"].get(key)
    return None if score is None else score["resplits"]["mask_size"]


def text(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def best_simple(row: Mapping[str, Any]) -> float:
    return min(size(row, key) or 1.0 for key in SIMPLE)


def sizes(results: Mapping[str, Any]) -> str:
    trained = [f"{how} {count}" for how in ("fine-tuned", "scratch") for count in COUNTS]
    rows = [
        [
            name,
            text(row["scores"]["packaged"]["oracle"]),
            text(best_simple(row)),
            text(size(row, "packaged")),
            *(text(size(row, key)) for key in trained),
        ]
        for name, row in results.items()
    ]
    return table(["task", "exact oracle", "best simple", "packaged", *trained], rows)


def ratios(results: Mapping[str, Any]) -> str:
    """The means that were asked for, of the pairs where both sides are known."""
    wanted = (
        ("packaged", "scratch 800", 1.3),
        ("fine-tuned 100", "scratch 800", 1.05),
        ("fine-tuned 800", "scratch 800", 0.97),
    )
    rows = []
    for ours, other, bar in wanted:
        quotients = {
            name: size(row, ours) / size(row, other)  # type: ignore[operator]
            for name, row in results.items()
            if size(row, ours) is not None and size(row, other) is not None
        }
        if quotients:
            worst = max(quotients, key=lambda name: quotients[name])
            rows.append(
                [f"{ours} / {other}", f"{geometric_mean(quotients.values()):.2f}", f"{bar}",
                 f"{quotients[worst]:.2f} ({worst})"]
            )  # fmt: skip
    beaten = [name for name, row in results.items() if (size(row, "packaged") or 1.0) < best_simple(row)]
    return (
        table(["hidden by", "mean of the tasks", "wanted at most", "largest"], rows)
        + f"\n\nThe packaged score hides less than every simple one on {len(beaten)} of {len(results)} tasks"
        + (f": {'; '.join(beaten)}." if beaten else ".")
    )


def minutes(results: Mapping[str, Any]) -> str:
    keys = [f"{how} {count}" for how in ("fine-tuned", "scratch") for count in COUNTS]
    rows = [
        [name, *(text(row["scores"].get(key, {}).get("minutes"), 1) for key in keys)]
        for name, row in results.items()
    ]
    return table(["task", *keys], rows)


def soon(results: Mapping[str, Any]) -> str:
    """Sizes by epochs, and the minutes of the shortest training that is near the longest."""
    rows = []
    for name, row in results.items():
        for how in ("fine-tuned", "scratch"):
            keys = [*(f"{how} {COUNTS[-1]}, {epochs} epochs" for epochs in EPOCHS), f"{how} {COUNTS[-1]}"]
            measured = [size(row, key) for key in keys]
            if None in measured:
                continue
            near = next(key for key in keys if size(row, key) <= NEAR * measured[-1])  # type: ignore[operator]
            rows.append([name, how, *map(text, measured), text(row["scores"][near]["minutes"], 1)])
    heads = [f"{epochs} epochs" for epochs in (*EPOCHS, FULL)]
    return SOON + table(["task", "", *heads, "minutes of a core to within 5 %"], rows) + "\n" if rows else ""


def coverage(results: Mapping[str, Any]) -> str:
    keys = ["packaged", "fine-tuned 100", "scratch 800"]
    rows = []
    for name, row in results.items():
        kept = {key: row["scores"][key]["resplits"] for key in keys if key in row["scores"]}
        law = f"{next(iter(kept.values()))['law_mean']:.3f}"
        rows.append([name, law, *(text(kept.get(key, {}).get("coverage")) for key in keys)])
    return table(["task", "the law says", *keys], rows)


def beside_known(worlds: Mapping[str, Any]) -> str:
    """Sizes in the known world, and their quotients."""
    keys = ("packaged", "fine-tuned 800", "scratch 800")
    rows = []
    for unseen, scores in worlds.items():
        best = scores["known"]["resplits"]["mask_size"]
        hidden = [scores[key]["resplits"]["mask_size"] for key in keys]
        rows.append([unseen, text(best), *(f"{each:.3f} ({each / best:.2f})" for each in hidden)])
    return table(["sd of log error that nothing tells", "known", *keys], rows)


def main() -> None:
    results = json.loads((RESULTS / "minute.json").read_text())
    parts = {
        "sizes": sizes(results),
        "soon": soon(results),
        "ratios": ratios(results),
        "minutes": minutes(results),
        "coverage": coverage(results),
        "known": beside_known(json.loads((RESULTS / "known_world.json").read_text())),
    }
    PAGE.write_text(TEXT.format(deals=200, **parts))


if __name__ == "__main__":
    main()
