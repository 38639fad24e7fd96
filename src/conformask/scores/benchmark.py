"""Benchmark of a score: its masks on selection images, compared with the best and with other scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from conformask.arrays import Array, Batch, Images
from conformask.background import tracked
from conformask.images.triplets import Triplets
from conformask.losses.base import Loss
from conformask.masks.critical import (
    NO_GRID,
    batch_curves,
    coarse_grid,
    critical_lambdas,
    hidden_curves,
    loss_on,
    mask_size,
)
from conformask.masks.families import Binary, family as family_by_name
from conformask.masks.family import Family
from conformask.promises.intervals import correlation
from conformask.promises.order import first_crossing, marginal_rank, smallest_marginal_set
from conformask.records import names
from conformask.records.extent import IMAGE, REGION
from conformask.records.selection import ANY_SIZE, CONSTANT, ScoreComparison, Selection, level_of
from conformask.scores.network_scorer import NetworkScorer
from conformask.scores.scorer import Heuristic, Patches, Scorer, for_loss, score_of_batch
from conformask.scores.scoring import batches_of, scored, scored_batches, selection_record, spread_over_groups
from conformask.scores.untrained import BY_VALUE, GivenScorer, Untrained

CONFIDENCE = 0.9
"""Confidence of the promise at which scores are compared."""
POINTS = 64
"""Number of grid points with which scores are compared."""
LEAST = 1e-9
"""Hidden share below which nothing is hidden."""
DRAWS, LEVEL = 1000, 0.9
"""Number of resampled sets of images, and the level of the intervals derived from them."""


def constant(x: Images, y_hat: Images) -> Images:
    """Return one value everywhere: all pixels are masked alike."""
    return torch.ones_like(y_hat[:, :1])


@dataclass(frozen=True)
class HiddenShares:
    """Mask sizes of a score, calibrated and measured on the same images."""

    sizes: Array
    """Mask size of each image, (n,)."""
    drawn: Array
    """Mean mask size of each resampled set, calibrated by itself, (DRAWS,)."""

    @property
    def share(self) -> float:
        """The mean mask size over images."""
        return float(self.sizes.mean())

    def ratio_to(self, other: "HiddenShares") -> tuple[float, float]:
        """Return the 90 % interval, over the resampled sets, of what is hidden as a multiple of the other."""
        low, high = np.quantile(self.drawn / np.maximum(other.drawn, LEAST), _TAILS)
        return float(low), float(high)


@dataclass(frozen=True)
class ScoreBenchmark:
    """Selection images, a promise, and the mask sizes of other scores and of the best masks.

    All are calibrated and measured on the same images, those of `spread_over_groups`, with the family of the
    score to be measured; beside maps of a user's, whose masks go by value, with that of the loss.
    """

    images: Triplets
    loss: Loss
    family: Family
    threshold: float
    counts: Array
    """Number of times that each image is in each resampled set, (DRAWS, n); groups are drawn whole."""
    others: Mapping[str, HiddenShares]
    """Mask sizes of scores without training, and of a constant score, by name."""
    unmasked: Array
    """Losses of the images without a mask, (n,)."""
    oracle: float | None
    """The mean size of the best masks, where they are known."""

    @classmethod
    def on(
        cls,
        selection: Triplets,
        loss: Loss,
        family: Family,
        threshold: float,
        known: tuple[str, list[Batch]] | None = None,
    ) -> "ScoreBenchmark | None":
        """Measure the other scores; None where images are too few for the promise or the threshold is 0.

        `known` are the name of a score and its values on the images of `spread_over_groups`.
        """
        first = spread_over_groups(selection)
        if len(first) < smallest_marginal_set(CONFIDENCE) or threshold <= 0:
            return None
        scorers: dict[str, Scorer] = {
            **{name: Untrained(name).of(first, loss) for name in names.UNTRAINED},
            CONSTANT: Heuristic(constant, 1),
        }
        items = {} if known is None else dict([known])
        batches = known[1] if known else list(batches_of(first))
        batches = [replace(batch, known_loss=(loss, loss.of_batch(batch, 1))) for batch in batches]
        for name in [name for name in scorers if name not in items]:
            scorer, title = for_loss(scorers[name], loss), f"comparing {name}"
            scores = (score_of_batch(scorer, batch) for batch in tracked(batches, title, len(first), len))
            items[name] = [batch.with_score(score) for batch, score in zip(batches, scores, strict=True)]
        counts, terms, usual = counts_of(first.groups), (loss, family, threshold), family
        if family.settings() == BY_VALUE and loss.traits.family is not None:
            usual = family_by_name(loss.traits.family, loss.traits.exponent or 1.0)
        # binary masks of one score show or hide whole images; grey ones dim all pixels as much as needed, but
        # no object is shown in part
        grey = usual.grey if isinstance(usual, Binary) and not loss.extent.counts_objects else None
        family_of = {} if grey is None else {CONSTANT: grey}
        family_of |= {} if known is None else {known[0]: family}
        others = {
            name: hidden_of(each, loss, family_of.get(name, usual), threshold, counts)
            for name, each in items.items()
        }
        constants = items[CONSTANT]
        losses = [loss_on(item, loss).of(torch.ones_like(item.score.map)) for item in constants]
        unmasked = torch.cat(losses).cpu().numpy()
        masks = [(loss_on(item, loss).oracle(threshold), loss.extent.weights(item)) for item in constants]
        best = [mask_size(mask, region) for mask, region in masks if mask is not None]
        oracle = float(torch.cat(best).mean()) if best else None
        return cls(first, *terms, counts, others, unmasked, oracle)

    def compare(self, scorer: Scorer) -> ScoreComparison:
        """Compare the hidden share of a score with those of all others, and of itself without patches."""
        if isinstance(scorer, Patches):
            alone = self.others.get(scorer.name) or self.hidden(scorer.scorer)
            beside = replace(self, others={**self.others, ANY_SIZE: alone})
            return beside.comparison(scorer.name, self.hidden(scorer))
        return self.comparison(scorer.name, self.others.get(scorer.name) or self.hidden(scorer))

    def comparison(self, name: str, hidden: HiddenShares) -> ScoreComparison:
        """Compare mask sizes under a score with those under all others."""
        others = {other: shares for other, shares in self.others.items() if other != name}
        low, high = np.quantile(hidden.drawn, _TAILS)
        return ScoreComparison(
            n=len(self.images),
            threshold=self.threshold,
            hidden=hidden.share,
            interval=(float(low), float(high)),
            others={other: shares.share for other, shares in others.items()},
            ratios={other: shares.ratio_to(hidden) for other, shares in others.items() if hidden.share},
            oracle=self.oracle,
            correlation=correlation(hidden.sizes, self.unmasked),
            in_region=self.loss.extent == REGION,
            of_objects=self.loss.extent.counts_objects,
        )

    def hidden(self, scorer: Scorer) -> HiddenShares:
        """Score the images, and return their mask sizes, in their order."""
        items = list(scored_batches(for_loss(scorer, self.loss), self.images))
        return hidden_of(items, self.loss, self.family, self.threshold, self.counts)


_TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


def counts_of(groups: Sequence[str], seed: int = 0) -> Array:
    """Count how often images are drawn with replacement, (DRAWS, n), as many groups as there are."""
    _, of_image = np.unique(groups, return_inverse=True)
    count = int(of_image.max()) + 1
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), DRAWS)
    return np.asarray(draws[:, of_image])


def hidden_of(
    items: list[Batch], loss: Loss, family: Family, threshold: float, counts: Array
) -> HiddenShares:
    """Return mask sizes of scored images, and their means in each resampled set of `counts` (DRAWS, n)."""
    if loss.traits.monotone:
        critical = np.concatenate(
            [critical_lambdas(item, family, loss, NO_GRID, threshold) for item in items]
        )
    else:
        grid = coarse_grid(family, loss, items, POINTS)
        along_grid = [batch_curves(item, family, loss, grid) for item in items]
        critical = first_crossing(grid, np.concatenate([losses for losses, _ in along_grid]), threshold)
    order = np.argsort(critical)
    before = np.concatenate([np.ones((1, len(order)), int), counts[:, order]]).cumsum(axis=1)
    ranks = np.array([marginal_rank(int(n), CONFIDENCE) for n in before[:, -1]])
    used, places = np.unique((before < ranks[:, None]).sum(axis=1), return_inverse=True)
    lambdas = critical[order[used]]
    if loss.traits.monotone or loss.extent != IMAGE or not isinstance(family, Binary):
        along = np.concatenate([hidden_curves(item, family, loss, lambdas) for item in items])
    else:
        # critical lambdas are points of the grid, and sizes of binary masks along it are exact
        along = np.concatenate([sizes for _, sizes in along_grid])[:, np.searchsorted(grid, lambdas)]
    sizes = along[:, places]
    drawn = (counts * sizes[:, 1:].T).sum(axis=1) / before[1:, -1]
    return HiddenShares(sizes[:, 0], np.where(ranks[1:] > 0, drawn, 1.0))


def on_selection(
    scorer: Scorer,
    trained: Scorer,
    selection: Triplets,
    loss: Loss,
    family: Family,
    threshold: float | str,
    *,
    levels: bool,
) -> tuple[Scorer, Selection]:
    """Return the record of given selection images, and the scorer, compared with others where that says more.

    `trained` is the scorer before the steps that loss and patches add. If `levels`, the record is also what a
    level for each image is fitted from.
    """
    some = scored(scorer, spread_over_groups(selection), "grids")
    items = [replace(item, known_loss=(loss, loss_on(item, loss))) for item in some]
    record = selection_record(scorer, selection, loss, [family], levels=levels, items=items)
    is_compared = scorer.name in names.WITHOUT_TRAINING and scorer.patches is None
    if not (isinstance(trained, NetworkScorer | GivenScorer) and is_compared):
        return scorer, record
    stated, known = level_of(threshold, record.unmasked_loss), (trained.name, items)
    benchmark = ScoreBenchmark.on(selection, loss, family, stated, known)
    # none where there are too few images
    comparison = None if benchmark is None else benchmark.compare(trained)
    if comparison is not None:
        comparison.warn_if_useless(trained.name)
    record = replace(record, comparison=comparison)
    return for_loss(replace(trained, selection=record), loss), record


def compared_on_test(
    scorer: Scorer, test: Triplets, loss: Loss, family: Family, threshold: float
) -> ScoreComparison | None:
    """Compare a score that was not compared before the calibration with others, on the test images.

    That is one that needs no training, or whose masks are in connected parts, beside parts of any size; and
    not one by tiles.
    """
    is_compared = scorer.name in names.WITHOUT_TRAINING or scorer.patches is not None
    if not is_compared or scorer.tiles is not None:
        return None
    benchmark = ScoreBenchmark.on(test, loss, family, threshold)
    return None if benchmark is None else replace(benchmark.compare(scorer), part="test")
