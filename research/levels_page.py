"""Writes research/results/levels.md from research/results/levels.json."""

import json
from pathlib import Path
from statistics import mean
from typing import Any

RESULTS = Path(__file__).parent / "results" / "levels.json"
PAGE = RESULTS.with_suffix(".md")
WITHOUT, OF_A_TASK = RESULTS.with_name("levels_without.json"), 150
COUNT, TRAINED, EPOCHS = "40", ", trained", 12
TRAINED_ON = ("nuclei", "photographs", "MR slices", "eyes")
"""Beginnings of the names of tasks whose images the packaged network was trained on."""
TEXT = """# How far from the best masks

What separates masks from the best possible ones, those of the truth? One λ for all images hides as much of
easy images as hard ones need; and a score puts some pixels in the wrong order. Written by
`research/levels_page.py` from runs of `research/levels.py`; nothing but the words around the tables is
typed by hand.

L1 over the image, the default masks, confidence 0.9; the threshold is the 0.1-quantile of the losses of the
selection images without a mask, or their median. Ten divisions of each task into selection (whole groups),
calibration and test. *One λ* is `--level one`; *a level* is the [default](../../docs/promises.md), fitted on
the selection images; *own best λ* gives each image the largest λ with which it is within the threshold, by
the same score; *best possible* are the smallest masks of the truth. These two leave no image out, the others
one in ten.

## Hidden share

With {count} selection images, at the 0.1-quantile:

{hidden}

At the median:

{median}

In brackets is the ratio of the hidden shares with a level and with one λ, both calibrated on the same images
for the same promise: mean and standard error over the divisions. Twice the error to either side is an
interval of about 95 %.

The packaged network was trained on most images of the first five tasks, nuclei to eyes, with random
degradations: on new ones masks may hide more. Over the other tasks, of images that it has not seen, the mean
ratio is {unseen} at the 0.1-quantile and {unseen_median} at the median.

## Level or order

The distance from one λ to the best possible masks has two parts: from one λ to each image's own best one
the **level** costs, from there to the best masks the **order** of the pixels. Before is with one λ, after
with a level:

{parts}

A level cannot help beyond the second column; the last one takes a better score.

## How many selection images

The ratio of the hidden shares with a level and with one λ, by the number of selection images:

{counts}

A level is used where its error without an image's group is at most 0.8 times that of one value; smaller gains
may be chance. {excluded}

## Without images of your own

Could a level come with the packaged score, for those who have fewer than 20 selection images? Fitted on
{some} images of each of the other five tasks, with logarithms of λ relative to the mean of their task
(`research/levels.py --without-user-images`), it hides about as much as one λ: {others} times on average at
the 0.1-quantile, {others_median} at the median, up to {worst} times on a task. Which images of a task are
hard is not learnt from other tasks in this way, so no such level is packaged.

{without}

## Coverage

Of all test images, which is what is promised, and of the tenth with the largest losses without a mask, of
which nothing is:

{coverage}

## Trained scores

{trained}
"""
TRAINED_TEXT = """The same with a score that `train` ends with, {epochs} epochs on 160 other images, at the
0.1-quantile; the other tasks have too few groups for training and a level. At the median the mean ratio is
{median}.

{hidden}

**What training is worth** once images have a level: by how much less the masks hide than with the packaged
score, both with a level from {count} images. A level is worth most where a score is least; with a trained one
it still pays where images differ in noise or blur.

{worth}

Level and order:

{parts}

Coverage of all test images, and of the hardest tenth:

{coverage}"""


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def hidden(results: dict[str, Any], quantile: str) -> str:
    rows = []
    for name, task in results.items():
        found = task[quantile][COUNT]
        ratio = f"({found['ratio']:.2f} ± {found['standard error']:.2f})"
        shares = (found[f"{key}"] for key in ("one hidden", "level hidden", "own best", "best"))
        one, level, own, best = map(percent, shares)
        rows.append([name, one, f"{level} {ratio}", own, best])
    rows.append(["**mean ratio**", "", f"**{mean_ratio(results, quantile):.2f}**", "", ""])
    return table(["task", "one λ", "a level", "own best λ", "best possible"], rows)


def parts(results: dict[str, Any]) -> str:
    rows = []
    for name, task in results.items():
        found = task["0.1"][COUNT]
        one, level, own, best = (found[key] for key in ("one hidden", "level hidden", "own best", "best"))
        rows.append([name, *map(percent, (one - best, one - own, level - own, own - best))])
    return table(["task", "one λ to best", "level, before", "level, after", "order"], rows)


def counts(results: dict[str, Any]) -> str:
    numbers = sorted({count for task in results.values() for count in task["0.1"]}, key=int)
    rows = [
        [name, *(f"{task['0.1'][n]['ratio']:.2f}" if n in task["0.1"] else "" for n in numbers)]
        for name, task in results.items()
    ]
    return table(["task", *numbers], rows)


def without(results: dict[str, Any]) -> str:
    rows = []
    for name, task in results.items():
        cells = [percent(task["0.1"]["others"]["one hidden"])]
        for quantile in ("0.1", "0.5"):
            others, own = (task[quantile][key] for key in ("others", "own"))
            cells += [f"{others['ratio']:.2f} ± {others['standard error']:.2f}", f"{own['ratio']:.2f}"]
        rows.append([name, *cells])
    head = ["task", "one λ hides", "level of other tasks", f"of {COUNT} own images"]
    return table([*head, "at the median, of other tasks", "of own"], rows)


def coverage(results: dict[str, Any]) -> str:
    ways = ("one", "level", "adaptive")
    rows = []
    for name, task in results.items():
        found = task["0.1"][COUNT]
        of_ways = [f"{found[f'{way} kept']:.2f}, {found[f'{way} kept of the hardest']:.2f}" for way in ways]
        rows.append([name, *of_ways, percent(found["adaptive hidden"])])
    return table(["task", "one λ", "a level", "adaptive", "adaptive hides"], rows)


def mean_unseen(results: dict[str, Any], quantile: str) -> str:
    unseen = {name: task for name, task in results.items() if not name.startswith(TRAINED_ON)}
    return f"{mean_ratio(unseen, quantile):.2f}"


def without_level(results: dict[str, Any], excluded: list[str]) -> str:
    ratios = [task["0.1"][COUNT]["ratio"] for task in results.values()] + [1.0] * len(excluded)
    names = "\nand ".join(f"*{name}*" for name in excluded)
    return (
        f"The groups of\n{names}\nare too few to fit one, and keep one λ: with a ratio of 1 for these, the "
        f"mean over all tasks is {sum(ratios) / len(ratios):.2f}."
    )


def with_trained(results: dict[str, Any], packaged: dict[str, Any]) -> str:
    return TRAINED_TEXT.format(
        epochs=EPOCHS,
        count=COUNT,
        hidden=hidden(results, "0.1"),
        median=f"{mean_ratio(results, '0.5'):.2f}",
        worth=worth(results, packaged),
        parts=parts(results),
        coverage=coverage(results),
    )


def worth(trained: dict[str, Any], packaged: dict[str, Any]) -> str:
    rows = []
    for name in trained:
        shares = [of[name]["0.1"][COUNT]["level hidden"] for of in (packaged, trained)]
        rows.append([name, *map(percent, shares), f"{shares[1] / shares[0]:.2f}"])
    return table(["task", "packaged score", "trained score", "ratio"], rows)


def mean_ratio(results: dict[str, Any], quantile: str) -> float:
    return float(sum(task[quantile][COUNT]["ratio"] for task in results.values())) / len(results)


def main() -> None:
    results, of_others = (json.loads(path.read_text()) for path in (RESULTS, WITHOUT))
    ratios = {
        quantile: [task[quantile]["others"]["ratio"] for task in of_others.values()]
        for quantile in ("0.1", "0.5")
    }
    packaged, trained = (
        {
            name.removesuffix(TRAINED): task
            for name, task in results.items()
            if name.endswith(TRAINED) == is_trained and COUNT in task.get("0.1", {})
        }
        for is_trained in (False, True)
    )
    excluded = [name for name in results if not name.endswith(TRAINED) and name not in packaged]
    PAGE.write_text(
        TEXT.format(
            count=COUNT,
            hidden=hidden(packaged, "0.1"),
            median=hidden(packaged, "0.5"),
            parts=parts(packaged),
            counts=counts(packaged),
            some=OF_A_TASK,
            others=f"{mean(ratios['0.1']):.2f}",
            others_median=f"{mean(ratios['0.5']):.2f}",
            worst=f"{max(ratios['0.1'] + ratios['0.5']):.2f}",
            without=without(of_others),
            coverage=coverage(packaged),
            unseen=mean_unseen(packaged, "0.1"),
            unseen_median=mean_unseen(packaged, "0.5"),
            excluded=without_level(packaged, excluded),
            trained=with_trained(trained, packaged),
        )
    )


if __name__ == "__main__":
    main()
