"""Writes research/results/cues.md from research/results/cues/*.json."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAGE = RESULTS / "cues.md"
SIMPLE, COUNTS = ("residual", "gradient", "spread"), (30, 100, 300)
TEXT = """# Training on few triplets, and what a map is worth

From how many triplets on does a trained network hide less than a simple score? And what does a map beside
y_hat bring, as a score or as one more input? Written by `research/cues_page.py` from runs of
`research/cues.py`; nothing but the words around the tables is typed by hand.

{pairs}

Whole groups go to training and selection; tiles of the others are divided between calibration and test.
All scores are calibrated on the same tiles, with the default masks, at the 0.1-quantile of the
selection images' L1 and confidence 0.9; *hidden* is the mean hidden share over 200 resplits of
calibration and test.

## Hidden share

{sizes}

*With* is with the map as an input of the network, and among the simple scores. When this was measured,
training ended with a simple score, in brackets, unless the network hid clearly less. Today
`conformask train` says where one hides less, and `--scorer` takes it. 1.000 hides everything. A sampler
has 220 images for training, which stand for 300.

## What a map is worth

{worth}

## Coverage over the resplits

{coverage}
"""


def hidden(score: Any) -> float:
    return 1.0 if score is None else float(score["resplits"]["mask_size"])


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    escaped = [[cell.replace("|", r"\|") for cell in cells] for cells in lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in escaped)


def titles_of(results: list[dict[str, Any]]) -> list[str]:
    """Titles of the trainings that were measured on any pair."""
    titles = [f"train {count}{way}" for count in COUNTS for way in ("", ", with the map")]
    return [title for title in titles if any(title in result["scores"] for result in results)]


def cell(scores: dict[str, Any], title: str) -> str:
    if title not in scores:
        return "-"
    ended = scores[title]["ended with"] if scores[title] else None
    return f"{hidden(scores[title]):.3f}" + ("" if ended in (None, "mask", "error") else f" ({ended})")


def ratio(scores: dict[str, Any], title: str, other: str) -> str:
    """How many times as much one score hides as the other."""
    if title not in scores or other not in scores:
        return "-"
    return f"{hidden(scores[title]) / hidden(scores[other]):.3f}"


def best_simple(scores: dict[str, Any]) -> str:
    return min(SIMPLE, key=lambda name: hidden(scores[name]))


def main() -> None:
    results = [json.loads(path.read_text()) for path in sorted((RESULTS / "cues").glob("*.json"))]
    trained = titles_of(results)
    PAGE.write_text(
        TEXT.format(
            pairs=table(
                ["pair", "map", "images for training, selection, calibration, test"],
                [[r["pair"], r["map"], ", ".join(str(n) for n in r["n"].values())] for r in results],
            ),
            sizes=sizes(results, trained),
            worth=worth(results, trained),
            coverage=coverage(results, trained),
        )
    )


def sizes(results: list[dict[str, Any]], trained: list[str]) -> str:
    rows = []
    for result in results:
        scores = result["scores"]
        best = best_simple(scores)
        oracle = f"{scores['packaged']['oracle']:.3f}" if scores["packaged"] else "-"
        rows.append(
            [
                result["pair"],
                oracle,
                f"{hidden(scores[best]):.3f} ({best})",
                f"{hidden(scores['given']):.3f}",
                f"{hidden(scores['packaged']):.3f}",
                *(cell(scores, title) for title in trained),
            ]
        )
    heads = [title.removeprefix("train ").replace(", with the map", " with") for title in trained]
    return table(["pair", "exact oracle", "best simple", "the map", "packaged", *heads], rows)


def worth(results: list[dict[str, Any]], trained: list[str]) -> str:
    rows = []
    plain = [title for title in trained if "map" not in title]
    for result in results:
        scores = result["scores"]
        ratios = [ratio(scores, f"{title}, with the map", title) for title in plain]
        rows.append([result["pair"], result["map"], *ratios])
    head = ["pair", "map", *(f"{title}, with the map / without" for title in plain)]
    return table(head, rows)


def coverage(results: list[dict[str, Any]], trained: list[str]) -> str:
    names = ["given", "packaged", *trained[:4]]
    rows = []
    for result in results:
        scores = result["scores"]
        law = next(score["resplits"]["law_mean"] for score in scores.values() if score)
        measured = [f"{scores[n]['resplits']['coverage']:.3f}" if scores.get(n) else "-" for n in names]
        rows.append([result["pair"], f"{law:.3f}", *measured])
    return table(["pair", "the law says", "the map", *names[1:]], rows)


if __name__ == "__main__":
    main()
