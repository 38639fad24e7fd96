"""Training of a score network on triplets, and its comparison with scores that need no training."""

from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import nn

from conformask.background import DEFAULT_DEVICES, Compute, main_process
from conformask.extras.train import DEFAULT_TRAINING, NetworkOptions, TrainingConfig
from conformask.extras.train.score import (
    TripletDataset,
    check_loss,
    crop_of,
    head_for,
    is_packaged,
    objective_of,
    start_of,
    status,
    steps_for,
)
from conformask.extras.train.training import fit
from conformask.images.scan import scan
from conformask.images.triplets import Triplets, refuse_others
from conformask.losses import AnyLoss, loss as loss_from
from conformask.losses.base import fitted_loss
from conformask.masks.families import families_for
from conformask.records import names
from conformask.records.record import exclusive_folder, places, refuse_unclaimed
from conformask.records.selection import is_quantile, level_of, threshold_in_loss
from conformask.scores.benchmark import ScoreBenchmark
from conformask.scores.network_scorer import NetworkScorer, ready
from conformask.scores.scorer import for_loss, score_of_batch
from conformask.scores.scoring import selection_record, unmasked_losses

HELD_OUT = 0.1
"""Share of the training images held out for selection where no selection images are given."""


def fit_scorer(
    train: Triplets,
    *,
    out: str | Path,
    selection: Triplets | None = None,
    loss: AnyLoss = "l1",
    scorer: names.Scorer | None = None,
    network: nn.Module | NetworkOptions | None = None,
    threshold: float | str = "q0.1",
    training: TrainingConfig = DEFAULT_TRAINING,
    compute: Compute = DEFAULT_DEVICES,
) -> NetworkScorer:
    """Train a score network on (x, y_hat, y) and write a run folder.

    Args:
        train: the triplets to learn from; images of different sizes are cropped to the smallest.
        out: the run folder.
        selection: triplets for every choice (best epoch, grids, q-thresholds); a tenth of train if None.
        loss: a loss such as `Local("l1", 9)`, or what `conformask.losses.loss` takes; the scorer is fitted
            for it ("quantile" ignores it in training, and uses it for the record of the selection images).
        scorer: "laplace" (how y lies around y_hat: a Laplace law at each pixel, from the packaged network),
            "mask" (the paper's mask network, equation 6), "error" (least squares of the error map, for a miss
            rate of whether a pixel is wrong) or "quantile" (the paper's baseline); "packaged", "residual"
            (|x - y_hat|), "gradient" and "spread" (of y_hat, between neighbours and in a window) train
            nothing. If None, "laplace" is trained for losses of |y - y_hat|^p, where the network is not
            another one; else "error" for losses of error maps and "mask" for distances of the paper's form.
        network: `NetworkOptions`, or a module from 2 * (x, y_hat) - 1 on the channel axis to 1 channel; maps
            beside y_hat lie between x and y_hat, each as it is and upside down. The default, for one-channel
            scores of laplace, mask or error, is the packaged network with its weights; else a U-Net of four
            levels with residual blocks, from scratch.
        threshold: the threshold at which the score is judged on the selection images; as for calibrate.
        training: how long to train, and its settings.
        compute: the devices; all processes run this program to its end, and the first writes.

    Warns:
        ConformaskWarning: the time was up while the loss still fell; no epoch was better than the start; on
            the selection images one value everywhere hides hardly more; or a score without training hides
            less, and is named.

    Raises:
        InvalidArgumentError: an argument outside what is allowed, or triplets without truth.
        ImageError: an image that cannot be used.
        MismatchError: out holds another run.

    Examples:
        >>> import numpy as np
        >>> import conformask as cm
        >>> y = np.random.default_rng(0).random((30, 16, 16), dtype=np.float32)
        >>> images = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> training = cm.TrainingConfig(epochs=1)
        >>> scorer = cm.fit_scorer(images, out="run", scorer="mask", training=training)
        >>> scorer.name, scorer.loss.name
        ('mask', 'l1')
    """
    refuse_others(train, selection)
    out, used = Path(out), loss_from(loss).prepared(train)
    refuse_unclaimed(places(out, "training.json", "scorer.json"))
    options = network if isinstance(network, NetworkOptions) else NetworkOptions(module=network)
    threshold = threshold_in_loss(threshold, used, train.values)
    is_quantile(threshold)
    seed = training.seed
    train, selection = train.in_training(), selection and selection.in_training()
    count = len(train)
    used.extent.refuse("training")
    if selection is None:
        train, selection = train.holdout(HELD_OUT, seed)
    used = used.in_regions(selection.has_regions and used.traits.takes_regions)
    for part in (train, selection) if used.traits.truth.subtracts_noise else ():
        part.reference.refuse_unknown_noise()
    used = fitted_loss(used, selection, selection.reference)
    first = train[0].y_hat
    used_head = head_for(scorer, used, options, len(first))
    check_loss(used, used_head, first.shape)
    selection.check_made_by(train.network, "training")
    seen, held_out = scan(train), scan(selection, "reading selection images")
    trains = used_head.name not in names.UNTRAINED
    start = start_of(used_head, used, options, seed, (train, selection), (seen, held_out), trains=trains)
    training = training.resolved(count, *steps_for(is_packaged(start.network), crop_of(seen.smallest)))
    if options.module is not None:  # one that does not fit fails now, before hours of work
        untrained = replace(start, network=ready(deepcopy(start.network)))
        score_of_batch(untrained, next(train.select([0]).batches(1)))
    turns = options.module is None and not options.paper_form
    with exclusive_folder(out):
        unmasked = unmasked_losses(selection, used)
        families = families_for(used.traits.family or used_head.family, used.traits.exponent)
        benchmark = ScoreBenchmark.on(selection, used, families[0], level_of(threshold, unmasked))
        with_cues = bool(start.card.cue_ranges)
        learnt = TripletDataset(train, seen.smallest, seed, cues=with_cues)
        judged = TripletDataset(selection, held_out.smallest, seed, cues=with_cues)
        fitted = (
            _trained(start, learnt, judged, out, training, compute, benchmark, turns=turns)
            if trains
            else replace(start, network=ready(start.network))
        )
        comparison = None if benchmark is None else benchmark.compare(fitted)
        record = selection_record(
            for_loss(fitted, used), selection, used, families, training.grid_points, unmasked
        )
        fitted = replace(fitted, selection=replace(record, comparison=comparison))
        if main_process():
            fitted.save(out)
    if comparison is not None and trains and main_process():
        comparison.warn_if_useless(used_head.name)
    return fitted


def _trained(
    start: NetworkScorer,
    train: TripletDataset,
    selection: TripletDataset,
    out: Path,
    training: TrainingConfig,
    compute: Compute,
    benchmark: ScoreBenchmark | None,
    *,
    turns: bool,
) -> NetworkScorer:
    """Return the scorer with a trained copy of its network; `benchmark` shows meanwhile what it hides."""
    card, network = start.card, deepcopy(start.network)
    identity = {name: value for name, value in card.to_json().items() if name != "cue_ranges" or value}

    fit(
        network, objective_of(start.head, card.cue_ranges), train, selection, out, training, compute,
        title="scorer", identity=identity, turns=turns,
        status_callback=None if benchmark is None else partial(status, benchmark, start),
    )  # fmt: skip
    return replace(start, network=ready(network))
