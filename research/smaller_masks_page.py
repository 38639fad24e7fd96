"""research/results/smaller-masks.md, from smaller_masks.py, loss_of_l2.py and a finished `conformask paper`.

    python research/smaller_masks_page.py RUN [--preset long] [--photos DIR] [--cells DIR]

With another preset than long, the tables of that run alone: research/results/smaller-masks-PRESET.md. RUN's
calibration and test images are dealt 200 times anew to sets of the same sizes, from the critical lambdas and
sizes that the run stored: mean mask sizes, coverage, and coverage by tenth of difficulty (the mean score of
the row's mask network, for all methods alike).
"""

import argparse
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kept_rows import calibrated
from loss_of_l2 import DEFAULT, KAPPAS, LOSSES, SEEDS
from loss_of_l2 import RESULTS as OF_L2
from smaller_masks import AS_DEFAULT, DEALS, KAPPA, RESULTS, run_options, shops

from conformask.extras.paper.rows import RESPLITS, Row
from conformask.extras.paper.settings import CONFIDENCE, METHODS, ROWS
from conformask.masks.families import family
from conformask.promises.order import marginal_rank, smallest
from conformask.records.evaluation import Evaluation
from conformask.records.record import Array, read_arrays

PAGES = Path(__file__).parent / "results"
LONG = "long"
"""The preset of which the page tells."""
KAPPA_L2 = f"{family('water_filling', 2.0).settings()['kappa']:g}"
TENTHS, SEED, NAMES = 10, 0, {"mask": "paper's", "quantile": "Quantile", "default": "default"}


@dataclass(frozen=True)
class Confirmed:
    """A row on images that no choice has seen."""

    number: int
    sizes: dict[str, Array]
    """Mean size over each deal, for each method."""
    tenths: dict[str, Array]
    """Coverage by tenth of difficulty, mean over deals."""
    coverage: dict[str, float]
    oracle: float
    correlations: dict[str, tuple[float, float]]


def confirmed(given: argparse.Namespace) -> Iterator[Confirmed]:
    """The finished rows of the run."""
    with (given.run / "paper.csv").open() as file:
        table = {(int(line["row"]), line["method"]): line for line in csv.DictReader(file)}
    for shop in shops(given):
        if not shop.cache.missing(shop.plan.goals()):
            yield _confirmed(shop, table)


def _confirmed(shop: Row, table: dict[tuple[int, str], dict[str, str]]) -> Confirmed:
    number, folder = shop.row.number, shop.cache.folder
    stored = {name: vars(Evaluation.load(folder(shop.plan.evaluations[name])).images) for name in METHODS}
    curves = {name: calibrated(folder(shop.plan.calibrations[name])) for name in METHODS}
    found = {
        name: read_arrays(folder(shop.plan.evaluations[name]) / f"{RESPLITS}.npz")["size"] for name in METHODS
    }
    difficulty = np.r_[np.exp(curves["mask"]["features"][:, 0]), stored["mask"]["difficulty"]]
    dealt = {
        name: _dealt(curves[name]["critical_lambda"], stored[name]["critical_lambda"], difficulty)
        for name in METHODS
    }
    oracle = table[number, "exact" if table[number, "exact"]["mask_size"] else "opt"]
    told = {
        name: (float(table[number, name]["c_size_distance"]), float(table[number, name]["c_size_opt"]))
        for name in METHODS
    }
    return Confirmed(
        number,
        found,
        {name: tenths for name, (_, tenths) in dealt.items()},
        {name: coverage for name, (coverage, _) in dealt.items()},
        float(oracle["mask_size"]),
        told,
    )


def _dealt(calibration: Array, test: Array, difficulty: Array) -> tuple[float, Array]:
    """(coverage, coverage by tenth of difficulty), means over deals to as many images as there were."""
    critical, generator = np.r_[calibration, test], np.random.default_rng(SEED)
    found = []
    for _ in range(DEALS):
        first, rest = np.split(generator.permutation(len(critical)), [len(calibration)])
        met = critical[rest] >= smallest(critical[first], marginal_rank(len(first), CONFIDENCE))
        tenths = np.array_split(met[np.argsort(difficulty[rest])], TENTHS)
        found.append([met.mean(), *(tenth.mean() for tenth in tenths)])
    means = np.mean(found, axis=0)
    return float(means[0]), means[1:]


def which(rows: Sequence[Confirmed]) -> str:
    """The rows in words."""
    numbers = [row.number for row in rows]
    left = [str(row.number) for row in ROWS if row.number not in numbers]
    return f"all but rows {', '.join(left)}, which are still to be run" if left else "all sixteen rows"


def confirmation(rows: Sequence[Confirmed]) -> str:
    """Sizes and ratios, one line a row."""
    columns = ("row", "paper's", "Quantile", "default", "default / paper's", "default / Quantile", "/ oracle")
    lines = []
    for row in rows:
        ours, quantile, own = (row.sizes[name] for name in METHODS)
        told = [_range(own / ours), _range(own / quantile), f"{np.mean(own) / row.oracle:.2f}"]
        lines.append([_title(row.number), *(f"{np.mean(size):.3f}" for size in (ours, quantile, own)), *told])
    means = [
        np.mean([np.mean(row.sizes["default"]) / np.mean(row.sizes[other]) for row in rows])
        for other in ("mask", "quantile")
    ]
    lines.append(["mean", "", "", "", *(f"**{mean:.2f}**" for mean in means), ""])
    return _table(columns, lines)


def by_difficulty(rows: Sequence[Confirmed]) -> str:
    """Coverage by tenth of difficulty, rows pooled."""
    columns = (
        "method",
        *(f"{k + 1}" for k in range(TENTHS)),
        "all",
        "rows whose hardest tenth is below 0.85",
    )
    lines = []
    for name, title in NAMES.items():
        pooled = np.mean([row.tenths[name] for row in rows], axis=0)
        low = [str(row.number) for row in rows if row.tenths[name][-1] < CONFIDENCE - 0.05]
        whole = np.mean([row.coverage[name] for row in rows])
        lines.append([title, *(f"{value:.2f}" for value in pooled), f"{whole:.3f}", ", ".join(low) or "none"])
    return _table(columns, lines)


def correlations(rows: Sequence[Confirmed]) -> str:
    """C(M, D) and C(M, M_opt), one line a row."""
    columns = ("row", *(f"{c} {title}" for c in ("C(M, D)", "C(M, M_opt)") for title in NAMES.values()))
    lines = [
        [str(row.number), *(f"{row.correlations[name][k]:.2f}" for k in range(2) for name in METHODS)]
        for row in rows
    ]
    return _table(columns, lines)


def _explored(folder: Path = RESULTS) -> dict[int, dict[str, dict[str, dict[str, object]]]]:
    files = sorted(folder.glob("row-*.json"), key=lambda path: int(path.stem[4:]))
    return {int(path.stem[4:]): json.loads(path.read_text()) for path in files}


def crossed(explored: dict[int, dict[str, dict[str, dict[str, object]]]], *distances: str) -> str:
    """Every score with every family, where they were crossed: size, and coverage of the hardest fifth."""
    rows = {
        number: found
        for number, found in explored.items()
        if ROWS[number - 1].distance in distances and "reciprocal" in found.get("mask", {})
    }
    cells: dict[tuple[str, str], dict[int, dict[str, object]]] = {}
    for number, found in rows.items():
        for score in found:
            if "reciprocal" in found[score]:
                for family, result in found[score].items():
                    cells.setdefault((score, family), {})[number] = result
    columns = ("score", "family, kappa", *(_title(number) for number in rows), "size / paper's method")
    lines = []
    for (score, family), results in cells.items():
        if len(results) < len(rows):
            continue
        sizes = np.array([results[number]["size"] for number in rows], dtype=float)
        first = np.array([rows[number]["mask"]["reciprocal"]["size"] for number in rows], dtype=float)
        told = [_cell(results[number]) for number in rows]
        lines.append([score, family, *told, f"{np.mean(sizes / first):.2f}"])
    return _table(columns, lines)


def varied(explored: dict[int, dict[str, dict[str, dict[str, object]]]]) -> str:
    """The mask network with the default family, trained otherwise."""
    rows = {number: found for number, found in explored.items() if "as it is" in found}
    titles = list(
        dict.fromkeys(
            title
            for found in rows.values()
            for title, each in found.items()
            if "default" in each and "slower" not in each["default"]
        )
    )
    columns = ("", *(_title(number) for number in rows), *(f"if lambda were known, {n}" for n in rows))
    lines = []
    for title in titles:
        found = [each.get(title, {}).get("default") for each in rows.values()]
        known = [f"{one['size_if_lambda_were_known']:.3f}" if one else "-" for one in found]
        lines.append([title, *(_cell(one) if one else "-" for one in found), *known])
    return _table(columns, lines)


def networks(explored: dict[int, dict[str, dict[str, dict[str, object]]]]) -> str:
    """Other networks for the score of the mask network, with what they cost."""
    columns = (
        "row",
        "network",
        "mask size",
        "if lambda were known",
        "spread on training images",
        "spread on selection images",
        "parameters",
        "time of a step",
    )
    lines = []
    for number, found in explored.items():
        for title, result in ((title, each["default"]) for title, each in found.items() if "default" in each):
            if "slower" in result:
                known, parameters = result["size_if_lambda_were_known"], int(str(result["parameters"])) / 1e6
                spread = [f"{result[f'spread_{part}']:.2f}" for part in ("train", "selection")]
                costs = f"{parameters:.1f} million", f"{result['slower']:.1f}"
                lines.append([str(number), title, _cell(result), f"{known:.3f}", *spread, *costs])
    return _table(columns, lines)


def networks_of_the_run(explored: dict[int, dict[str, dict[str, dict[str, object]]]]) -> str:
    """The U-Net and the default's network on all rows, with one family."""
    columns = (
        "row",
        "U-Net",
        "default",
        "default / U-Net",
        "U-Net, if lambda were known",
        "default, if lambda were known",
    )
    lines, ratios = [], []
    for number, found in explored.items():
        both = list(found["networks of the run"].values())
        sizes = np.array([each["size"] for each in both], dtype=float)
        known = [f"{each['size_if_lambda_were_known']:.3f}" for each in both]
        ratios.append(sizes[1] / sizes[0])
        lines.append([_title(number), *map(_cell, both), f"{ratios[-1]:.2f}", *known])
    lines.append(["mean", "", "", f"**{np.mean(ratios):.2f}**", "", ""])
    return _table(columns, lines)


def losses(found: dict[int, dict[str, dict[str, dict[str, object]]]]) -> str:
    """The default's network for L2 trained with each loss, with the default's kappa, one line a predictor."""
    first, *others = LOSSES
    columns = ("predictor", first, *(column for loss in others for column in (loss, "ratio")))
    lines, ratios = [], []
    for number, trained in found.items():
        means = {loss: _mean_of_seeds(trained, loss, KAPPA_L2) for loss in LOSSES}
        ratios.append([means[loss]["size"] / means[first]["size"] for loss in others])
        pairs = zip(others, ratios[-1], strict=True)
        compared = [cell for loss, ratio in pairs for cell in (_cell(means[loss]), f"{ratio:.2f}")]
        lines.append([_predictor(number), _cell(means[first]), *compared])
    overall = [cell for ratio in np.mean(ratios, axis=0) for cell in ("", f"**{ratio:.2f}**")]
    return _table(columns, [*lines, ["mean", "", *overall]])


def kappas(found: dict[int, dict[str, dict[str, dict[str, object]]]]) -> str:
    """The default for L2 with each kappa, one line a predictor."""
    tried = [f"{kappa:g}" for kappa in KAPPAS]
    lines = [
        [_predictor(number), *(_cell(_mean_of_seeds(trained, DEFAULT, kappa)) for kappa in tried)]
        for number, trained in found.items()
    ]
    return _table(("predictor", *(f"kappa = {kappa}" for kappa in tried)), lines)


def _mean_of_seeds(
    trained: dict[str, dict[str, dict[str, object]]], loss: str, kappa: str
) -> dict[str, Array]:
    found = [trained[f"{loss}, {seed}"][kappa] for seed in SEEDS]
    return {what: np.mean([each[what] for each in found], axis=0) for what in ("size", "by_fifth")}


def limits(explored: dict[int, dict[str, dict[str, dict[str, object]]]]) -> str:
    """The default with less, and at other widths."""
    lines = []
    for number, found in explored.items():
        told = {title: each["limit"] for title, each in found.items() if "limit" in each}
        if told:
            told = {"as it is": found[AS_DEFAULT]["default"]} | told
            for title, result in told.items():
                known = f"{result['size_if_lambda_were_known']:.3f}"
                lines.append([str(number), title, _cell(result), known])
    return _table(("row", "default", "mask size", "if lambda were known"), lines)


def known_world(explored: dict[int, dict[str, dict[str, dict[str, object]]]]) -> str:
    """Learnt against known scores."""
    columns = (
        "sd of log error that nothing tells",
        "learnt",
        "known",
        "learnt / known",
        "known, if lambda were",
    )
    lines = []
    for found in explored.values():
        for title in sorted(title for title in found if title.startswith("known world")):
            learnt, known = found[title]["learnt"], found[title]["known"]
            ratio = float(str(learnt["size"])) / float(str(known["size"]))
            best = f"{known['size_if_lambda_were_known']:.3f}"
            lines.append([title.split(", ")[1], _cell(learnt), _cell(known), f"{ratio:.2f}", best])
    return _table(columns, lines)


def _cell(result: Mapping[str, object]) -> str:
    return f"{result['size']:.3f} ({result['by_fifth'][-1]:.2f})"  # type: ignore[index]


def _title(number: int) -> str:
    return f"{number}: {_predictor(number)}, {ROWS[number - 1].distance}"


def _predictor(number: int) -> str:
    row = ROWS[number - 1]
    return f"{row.task.replace('_', '-')}, {row.data}, {row.network}"


def _range(ratios: Array) -> str:
    low, high = np.quantile(ratios, (0.025, 0.975))
    return f"{np.mean(ratios):.2f} ({low:.2f} to {high:.2f})"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def told(name: str, **tables: str) -> str:
    """The words of a file around tables."""
    return (Path(__file__).parent / f"{name}.md").read_text(encoding="utf-8").format(**tables)


def main() -> None:
    given = run_options().parse_args()
    rows, explored, of_l2 = list(confirmed(given)), _explored(), _explored(OF_L2)
    text = told(
        "smaller_masks_confirmed",
        rows=which(rows),
        confirmation=confirmation(rows),
        by_difficulty=by_difficulty(rows),
        correlations=correlations(rows),
    )
    page = PAGES / f"smaller-masks-{given.preset}.md"
    head = (
        f"# The smallest masks at the preset {given.preset}\n\n"
        f"What was tried, and the tables of the preset `{LONG}`, are [here](smaller-masks.md).\n\n"
    )
    if given.preset == LONG:
        page, head = PAGES / "smaller-masks.md", ""
        text = told(
            "smaller_masks",
            confirmed=text.rstrip("\n"),
            crossed_l1=crossed(explored, "l1"),
            crossed_l2=crossed(explored, "l2"),
            crossed_others=crossed(explored, "ssim", "lpips"),
            varied=varied(explored),
            networks=networks(explored),
            losses=losses(of_l2),
            kappas=kappas(of_l2),
            limits=limits(explored),
            networks_of_the_run=networks_of_the_run(explored),
            known_world=known_world(explored),
            kappa=f"{KAPPA:g}",
            kappa_l2=KAPPA_L2,
        )
    page.write_text(head + text, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
