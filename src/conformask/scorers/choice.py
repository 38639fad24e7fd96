"""The score that training ends with: the trained network, or a simpler score that hides as little.

A trained score may hide more than |x - y_hat| where images or scenes are few. Which of them hides least is
measured on images of as many groups as there are; where the selection images are of few, on all images, each
scored by a network that was trained without its group (cross-fitting). research/choice.py tries the rule.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import nn

from conformask.calibration import ScoredBatch
from conformask.data.splits import uniform
from conformask.data.triplets import Triplets
from conformask.errors import ConformaskWarning
from conformask.masks import family
from conformask.masks.binary import Binary
from conformask.masks.mask_family import Family
from conformask.networks import settings_of
from conformask.records.selection import ScoreComparison
from conformask.scorers.benchmark import CONSTANT, HiddenShares, ScoreBenchmark
from conformask.scorers.given import BY_VALUE
from conformask.scorers.heads import head
from conformask.scorers.network_scorer import NetworkScorer, ready
from conformask.scorers.scorer import Scorer
from conformask.scorers.scoring import scored_batches
from conformask.scorers.simple import Simple, SimpleNetwork, map_names
from conformask.scorers.smoothed import for_loss
from conformask.scorers.untrained import NETWORKS
from conformask.types import Loss
from conformask.wording.scores import label_of, times

ENOUGH = 20
"""Number of groups that selection images need for scores to be compared on them."""
FEW = 400
"""Largest number of training images with which networks are cross-fitted: training on more takes long."""
FOLDS = 3
"""Number of networks that are cross-fitted."""
SURE = 0.7
"""Share of resampled sets in which a score has to hide less than a simpler one to be taken instead.

With 30 images to look at, more of them forgo what training brings; with fewer, one choice in ten hides 7 %
more than the best simple score where training brings nothing (docs/results/cues.md).
"""
TRAINED = "trained"
"""Name of the trained score among others."""


def is_cross_fitted(train: Triplets, selection: Triplets) -> bool:
    """Return whether the selection images are of too few groups, and training is short enough to repeat."""
    groups = len(set(train.groups))
    return len(set(selection.groups)) < ENOUGH and groups >= FOLDS and len(train) <= FEW


def cross_fitted(
    images: Triplets, loss: Loss, usual: Family, threshold: float, fit_on: Callable[[Triplets, int], Scorer]
) -> tuple[ScoreBenchmark, HiddenShares] | None:
    """Return a benchmark on these images, and mask sizes by scores that `fit_on` trained on other groups.

    None where images are too few for the promise, or the threshold is 0.
    """
    in_order = sorted(set(images.groups), key=lambda group: uniform(0, "fold", group))
    fold_of = {group: place % FOLDS for place, group in enumerate(in_order)}

    def part(some: Triplets, fold: int, *, without: bool = False) -> Triplets:
        return some.select(
            place for place, group in enumerate(some.groups) if (fold_of[group] == fold) is not without
        )

    by_fold = images.select(sorted(range(len(images)), key=lambda place: fold_of[images.groups[place]]))
    benchmark = ScoreBenchmark.on(by_fold, loss, usual, threshold)
    if benchmark is None:
        return None
    items: list[ScoredBatch] = []
    for fold in range(FOLDS):
        scorer = for_loss(fit_on(part(images, fold, without=True), fold), loss)
        items += scored_batches(scorer, part(benchmark.images, fold))
    return benchmark, benchmark.hidden(items)


def best_score(
    trained: NetworkScorer, benchmark: ScoreBenchmark, hidden: HiddenShares, part: str
) -> tuple[NetworkScorer, ScoreComparison]:
    """Return the score to take, see `winner`, and its comparison with the others.

    `hidden` has the mask sizes under trained scores, and `part` says which images the benchmark has.

    Warns:
        ConformaskWarning: it is not the trained one.
    """
    loss = benchmark.loss
    maps = {name: simpler(name, trained, loss) for name in map_names(trained.cue_channels)}
    masks = family(BY_VALUE) if isinstance(benchmark.family, Binary) else benchmark.family
    of_maps = replace(benchmark, family=masks)
    shares = {
        **{name: shares for name, shares in benchmark.others.items() if name != CONSTANT},
        **{name: of_maps.hidden(of_maps.items(scorer)) for name, scorer in maps.items()},
        TRAINED: hidden,
    }
    name = winner(shares)
    benchmark = replace(benchmark, others={**shares, CONSTANT: benchmark.others[CONSTANT]})
    comparison = replace(benchmark.comparison(name, shares[name]), part=part)
    if name == TRAINED:
        return trained, comparison
    warnings.warn(
        f"the run uses {label_of(name)} for the score: on {comparison.n} {part} images the trained network "
        f"would hide {times(hidden.share, comparison)}. More triplets, of more scenes or patients, "
        "may help; --scorer (scorer=) takes one whatever it hides",
        category=ConformaskWarning,
        stacklevel=3,
    )
    return simpler(name, trained, loss), comparison


def winner(shares: Mapping[str, HiddenShares], sure: float = SURE) -> str:
    """Return the name of the score to take: the simple one that hides least, or packaged, or trained.

    Each of the last two has to hide less than what is simpler, and so in a share `sure` of resampled sets.
    """
    best = min((name for name in shares if name not in ("packaged", TRAINED)), key=lambda n: shares[n].share)
    for name in ("packaged", TRAINED):
        if name in shares and shares[name].is_less(shares[best], sure):
            best = name
    return best


def simpler(name: str, trained: NetworkScorer, loss: Loss) -> NetworkScorer:
    """Return a score without training in the place of a trained one: about the same images."""
    card = trained.card
    if name in NETWORKS:
        network: nn.Module = NETWORKS[name](card.x_channels, card.channels, len(card.sizes[0]))
        used_head, ranges = head(name, loss), card.cue_ranges[:0]
    else:
        network, ranges = SimpleNetwork(name, card.channels, len(card.cue_ranges)), card.cue_ranges
        used_head = Simple(name)
    return replace(
        trained,
        network=ready(network),
        head=used_head,
        card=replace(
            card,
            scorer=name,
            sizes=(),
            unet=settings_of(network),
            cue_ranges=ranges,
            cues=card.cues if ranges else None,
        ),
    )
