"""Writes research/results/losses.md from research/results/losses.json: python research/losses_page.py."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "losses.json"
PAGE = RESULTS.with_suffix(".md")
Row = Mapping[str, Any]
DEFAULTS = {
    "image": ("mean error", "water_filling -0.25"),
    "trusted": ("mean error", "trusted_mean -0.25"),
    "window": ("mean error", "reciprocal"),
    "missed": ("probability of wrong", "water_filling 1"),
    "wrong": ("mean error", "trusted_mean -0.25"),
    "ssim_map": ("1 - SSIM", "water_filling -0.25"),
}
"""What conformask takes for each loss: what the score learns, and the family."""
TITLES = {
    "image": "l1 over the image",
    "trusted": "trusted: the mean error of what is shown",
    "window": "window: the largest mean error of what is shown in 9 x 9 pixels",
    "missed": "missed: the share of the pixels with an error above 0.1 that is shown",
    "wrong": "wrong: the share of what is shown that has an error above 0.1",
    "ssim_map": "ssim_map: the mean over the image of 1 - SSIM at each pixel",
}
TEXT = """# The smallest masks for each loss

For every loss: what should the score learn, and which family should make masks of it? Written by
`research/losses_page.py` from a run of `research/losses.py`; nothing but the words around the tables is typed
by hand. Regressors for super-resolution, colorization and completion of photographs and for super-resolution
of cells, at 96 pixels; one network beside each with an output for everything that a score could learn, so
that nothing else differs; confidence 0.9. These are grey masks, as `--grey` gives them; binary ones differ
from water_filling and trusted_mean at the pixels of one score. window is called `masked_window` now.

{summary}

The last two columns are ratios of hidden shares on the selection images: to a simple baseline (the paper's
reciprocal family on the same score; for window a threshold on the smoothed score, as Adame et al. 2025 do),
and to a score that learns nothing, the local spread of the output, with the family of the default.

## On images that no choice has seen

Mean hidden share of at most 200 test images, calibrated on at most 200 others; in brackets the share of test
images that kept the threshold, and of the hardest fifth by the score. The oracle knows the truth: exact, but
for window, where it is the reciprocal family on the true local means. *Unmasked* is the share of images that
keep the threshold without a mask.

{tables}

## What was chosen by

Mean hidden share on the selection images alone, dealt 50 times to two halves: the mean of size / size of the
default, over all settings and thresholds at which the default hides something and not all. Below 1 would be
better than what conformask takes.

{choices}

## What it says

- **The family decides.** For trusted and wrong the best masks show the pixels of smallest score; how many of
  them differs from image to image, and trusted_mean shows as many as keep the expected error of what is
  shown. A budget for the image (water_filling) or one threshold for all images hides more, and under
  reciprocal the mean over what is shown hardly depends on lambda: it is of no use.
- **For window reciprocal is the best**: it bounds m * s at each pixel, which is nearly what the loss asks
  for. Learning the local mean, or its upper quantile, instead of the error gains nothing.
- **For missed a budget that grows with the image's own score** (kappa = 1), since the loss is a share of the
  image's own wrong pixels; and the probability of being wrong as the score.
- **One score of l1 serves image, trusted, window and wrong.** The probability of being wrong loses where the
  surest pixels count: among those that are hardly ever wrong it no longer tells which is surer.
- **trusted and wrong are hard promises.** The pixels that look best must be right on nine of ten images:
  where a score cannot tell, all is hidden. window asks for less and says more about each place.
"""


def cell(found: Row | None) -> str:
    if found is None:
        return "–"
    return f"{found['size']:.3f} ({found['coverage']:.2f}, {found['hardest']:.2f})"


def table(loss: str, results: Mapping[str, Row]) -> str:
    score, family = DEFAULTS[loss]
    columns = {
        "default": f"{score}|{family}",
        "reciprocal": f"{score}|reciprocal",
    }
    if loss == "window":
        columns = {"default": columns["default"], "Adame's way": "mean error, smoothed|threshold"}
    columns["local spread"] = f"local spread|{family}"
    head = ["setting", "threshold", *columns, "oracle", "unmasked"]
    lines = [f"### {TITLES[loss]}", "", f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for key, row in results.items():
        setting, of, threshold = key.split("|")
        if of == loss:
            cells = [cell(row.get(name)) for name in columns.values()]
            facts = f"{row['oracle']:.3f}", f"{row['unmasked']:.2f}"
            lines.append(f"| {' | '.join([setting.replace('_', '-'), threshold, *cells, *facts])} |")
    return "\n".join(lines)


def ratios(loss: str, results: Mapping[str, Row]) -> dict[str, float]:
    """Of every score with every family: the mean of its size by that of the default, best first.

    Where the default hides nothing or all there is nothing to choose.
    """
    default, sums = "|".join(DEFAULTS[loss]), {}
    rows = [row for key, row in results.items() if key.split("|")[1] == loss]
    rows = [row for row in rows if 0.01 < row[default]["chosen by"] < 0.99]
    for name in (name for name in rows[0] if "|" in name):
        parts = [row[name]["chosen by"] / row[default]["chosen by"] for row in rows]
        sums[name] = sum(parts) / len(parts)
    return dict(sorted(sums.items(), key=lambda item: item[1]))


def choices(loss: str, results: Mapping[str, Row]) -> str:
    scores: dict[str, dict[str, float]] = {}
    for name, ratio in ratios(loss, results).items():
        score, family = name.split("|")
        scores.setdefault(score, {})[family] = ratio
    families = list(next(iter(scores.values())))
    order = sorted(families, key=lambda family: next(iter(scores.values()))[family])
    lines = [f"### {loss}", "", f"| score | {' | '.join(order)} |", "| --- " * (len(order) + 1) + "|"]
    lines += [
        f"| {score} | {' | '.join(f'{of[family]:.2f}' for family in order)} |" for score, of in scores.items()
    ]
    return "\n".join(lines)


def summary(results: Mapping[str, Row]) -> str:
    lines = [
        "| loss | the score learns | family | hidden / reciprocal | hidden / local spread |",
        "| --- | --- | --- | --- | --- |",
    ]
    for loss, (score, family) in DEFAULTS.items():
        found = ratios(loss, results)
        rival = "mean error, smoothed|threshold" if loss == "window" else f"{score}|reciprocal"
        name = f"{1 / found[rival]:.2f}" + (" (Adame's way)" if loss == "window" else "")
        lines.append(f"| {loss} | {score} | {family} | {name} | {1 / found[f'local spread|{family}']:.2f} |")
    return "\n".join(lines)


def main() -> None:
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    parts = {
        "summary": summary(results),
        "tables": "\n\n".join(table(loss, results) for loss in DEFAULTS),
        "choices": "\n\n".join(choices(loss, results) for loss in DEFAULTS),
    }
    PAGE.write_text(TEXT.format(**parts), encoding="utf-8")


if __name__ == "__main__":
    main()
