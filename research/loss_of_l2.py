"""With which loss is a score for L2 learnt best?

    python research/loss_of_l2.py RUN --photos DIR --cells DIR [--rows 1,9] [--preset cpu]

RUN is the folder of a `conformask paper`. On its predictors, which its rows of L1 stand for, the network of
the default is trained with each, from several first weights, and judged by L2 on the selection images, as
research/smaller_masks.py judges. Writes research/results/loss_of_l2/row-N.json after each training, and
goes on there; research/smaller_masks_page.py makes a table of it.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from contenders import LargerMu
from smaller_masks import (
    EPOCHS,
    Notebook,
    data_of,
    default_network,
    judge_of,
    run_options,
    scored,
    shops,
    whole,
)

from conformask.extras.paper.measures import threshold_of
from conformask.extras.paper.rows import Row
from conformask.losses import loss as loss_by_name
from conformask.masks.families import WaterFilling
from conformask.masks.kernels import KAPPA
from conformask.scores.network_scorer import ErrorNetwork, MaskNetwork

RESULTS = Path(__file__).parent / "results" / "loss_of_l2"
DEFAULT = "l1, squared"
LOSSES = {"l2, mu = 2": MaskNetwork, DEFAULT: ErrorNetwork, "l2, mu = 100": LargerMu}
SEEDS = range(3)
"""What the first weights are drawn from."""
KAPPAS = (0.0, KAPPA / 2, KAPPA)


def explore(shop: Row) -> None:
    """Every training with each loss, with each kappa."""
    l2, data = loss_by_name("l2"), shop.data()
    threshold = threshold_of(l2, data.part("selection"))
    judge = replace(judge_of(shop), loss=l2, threshold=threshold)
    train, held = data_of(whole(data.part("train"))), data_of(judge.batch)
    notebook = Notebook(RESULTS / f"row-{shop.row.number}.json")

    def told(loss: str, seed: int) -> dict[str, object]:
        head = LOSSES[loss](l2)
        score = scored(default_network(head, train, EPOCHS, seed=seed), head, held)
        found = judge.curves(score, WaterFilling(2.0, kappa=0.0))
        return {f"{kappa:g}": judge.judged(score, found, kappa) for kappa in KAPPAS}

    print(f"\n{shop.row.task} of {shop.row.data}, {shop.row.network}", flush=True)
    for seed in SEEDS:
        for loss in LOSSES:
            notebook.once(f"{loss}, {seed}", partial(told, loss, seed))


def main() -> None:
    for shop in shops(run_options().parse_args()):
        if shop.distance.exponent == 1.0:
            explore(shop)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
