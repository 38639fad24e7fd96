"""Training of a score network on triplets, and the record of the selection images for later choices."""

import contextlib
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from conformask import names
from conformask.arithmetic import full_precision
from conformask.calibration import GRID_POINTS
from conformask.data.reach import with_reach
from conformask.data.scan import DatasetSummary, scan
from conformask.data.triplets import Triplets, refuse_others
from conformask.errors import ImageError, InvalidArgumentError
from conformask.losses import AnyLoss, code_of
from conformask.losses import loss as loss_from
from conformask.losses.masked_distance import MaskedDistance
from conformask.masks import FAMILIES, family
from conformask.masks.mask_family import Family
from conformask.networks import settings_of
from conformask.progress import main_process, tracked
from conformask.records.network import check_network
from conformask.records.selection import CROSS_FITTED
from conformask.records.sentence import rounded_share
from conformask.records.size import Size
from conformask.records.threshold import is_quantile, level_of, threshold_in_loss
from conformask.scorers.benchmark import ScoreBenchmark, warn_if_useless
from conformask.scorers.choice import FOLDS, best_score, cross_fitted, is_cross_fitted
from conformask.scorers.dataset import TripletDataset
from conformask.scorers.given import SAMPLE
from conformask.scorers.heads import Head, head
from conformask.scorers.initial_network import NetworkOptions, is_packaged, network_for, rate_for
from conformask.scorers.network_scorer import NetworkScorer, ScorerCard, network_input, ready
from conformask.scorers.scoring import selection_record, unmasked_losses
from conformask.scorers.smoothed import for_loss
from conformask.scorers.untrained import packaged_hashes
from conformask.storage.claims import places, refuse_unclaimed
from conformask.storage.exclusive import exclusive_folder
from conformask.training.fit import DEFAULT_TRAINING, TrainingConfig, fit
from conformask.training.module import Objective, TensorBatch
from conformask.training.processes import ALL_DEVICES, Compute
from conformask.types import Images, Loss

HELD_OUT = 0.1
"""Share of the training images held out for selection where no selection images are given."""
FOLDS_IN, MINUTES_OF_LAST = "cross-fitting", 0.5
"""Folder of the networks that are cross-fitted, and the share of max_minutes for the one that is kept."""
ENDS = (0.001, 0.999)
"""The quantiles of a map that become 0 and 1 for a network."""


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
    compute: Compute = ALL_DEVICES,
) -> NetworkScorer:
    """Train a score network on (x, y_hat, y) and write a run folder.

    Args:
        train: the triplets to learn from; images of different sizes are cropped to the smallest.
        out: the run folder.
        selection: triplets for every choice (best epoch, grids, q-thresholds); a tenth of train if None.
        loss: a loss such as `Local("l1", 9)`, or what `conformask.losses.loss` takes; the scorer is fitted
            for it ("quantile" ignores it in training, and uses it for the record of the selection images).
        scorer: "mask" (the paper's mask network, equation 6), "error" (least squares of the error map, for
            a miss rate of whether a pixel is wrong) or "quantile" (the paper's baseline); "packaged",
            "residual" (|x - y_hat|), "gradient" and "spread" (of y_hat, between neighbours and in a window)
            train nothing. If None, "error" is trained for losses of error maps and "mask" for l1 and for
            distances of the paper's form, and the run ends with it only where it hides less than all that
            train nothing and than the maps of the images (`cues`).
        network: `NetworkOptions`, or a module from 2 * (x, y_hat) - 1 on the channel axis to 1 channel; maps
            beside y_hat lie between x and y_hat, each as it is and upside down. The
            default, for one-channel scores of mask or error, is the packaged network with its weights; else a
            U-Net of four levels with residual blocks, from scratch.
        threshold: the threshold at which the score is judged on the selection images; as for calibrate.
        training: how long to train, and its settings.
        compute: the devices; all processes run this program to its end, and the first writes.

    Warns:
        ConformaskWarning: the time was up while the loss still fell; no epoch was better than the start; on
            the selection images one value everywhere hides hardly more; or a score without training hides as
            little, and is taken unless `scorer` is given.

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
        >>> scorer.name, scorer.loss.terms.name
        ('mask', 'l1')
    """
    refuse_others(train, selection)
    out, used = Path(out), loss_from(loss).with_pixels(train.window)
    refuse_unclaimed(places(out, "training.json", "scorer.json"))
    options = network if isinstance(network, NetworkOptions) else NetworkOptions(module=network)
    threshold = threshold_in_loss(threshold, used.terms, train.values)
    is_quantile(threshold)
    seed, per_channel = training.seed, options.per_channel
    train, selection = train.without_objects(), selection and selection.without_objects()
    everything = train
    if used.terms.of_objects:
        raise InvalidArgumentError(
            "a score is trained for the errors of pixels, such as loss='l1', and promises objects "
            "afterwards: calibrate(scorer, images, loss=Objects(...))"
        )
    if selection is None:
        train, selection = train.holdout(HELD_OUT, seed)
    used = used if isinstance(used, MaskedDistance) else used.in_regions(selection.has_regions)
    for part in (train, selection) if used.terms.subtracts_noise else ():
        part.reference.refuse_unknown_noise()
    used = with_reach(used, selection)
    used_head = head(scorer, used)
    _check_loss(used, used_head, train)
    check_network(train.network, selection.network, "training", allow_network_mismatch=False)
    seen, held_out = scan(train), scan(selection, "reading selection images")
    _check_channels(seen, held_out)
    trains = used_head.name not in names.UNTRAINED
    chooses = scorer is None and not per_channel
    surveys = [seen, held_out] if trains else [held_out]
    ranges = cue_ranges(train) if trains and train.has_cues and selection.has_cues else ()
    module = network_for(seen, used_head, options, seed, 2 * len(ranges))
    card = replace(
        _card(used_head.name, used, per_channel, seen, surveys, train),
        unet=settings_of(module),
        sizes=seen.sizes if trains else (),
        cue_ranges=ranges,
    )
    known = [packaged_hashes()] if is_packaged(module) else []
    start = NetworkScorer(
        module, used_head, card,
        perceptual_hashes=np.concatenate([*known, *(each.perceptual_hashes for each in surveys)]),
    )  # fmt: skip
    crossed = chooses and is_cross_fitted(everything, selection)
    training = training.resolved(len(everything), rate_for(module))
    fitting = Fitting(start, training, compute, turns=options.module is None and not options.paper_form)
    with exclusive_folder(out):
        unmasked = unmasked_losses(selection, used)
        usual = _families(used_head, used)[0]
        benchmark = ScoreBenchmark.on(selection, used, usual, level_of(threshold, unmasked))
        sizes = seen.smallest, held_out.smallest
        share = MINUTES_OF_LAST if crossed else 1.0
        fitted = (
            fitting.run(train, selection, sizes, out, share, benchmark=benchmark)
            if trains
            else replace(start, network=ready(module))
        )
        comparison, judged = None, None
        if crossed:
            level = level_of(threshold, unmasked_losses(everything, used))
            judged = cross_fitted(everything, used, usual, level, partial(fitting.of_fold, sizes, out))
        elif chooses and benchmark is not None:
            judged = benchmark, benchmark.hidden(benchmark.items(fitted))
        if judged is not None:
            fitted, comparison = best_score(fitted, *judged, CROSS_FITTED if crossed else "selection")
        elif benchmark is not None:
            comparison = benchmark.compare(fitted)
        record = selection_record(
            for_loss(fitted, used), selection, used, _families(fitted.head, used),
            training.grid_points or GRID_POINTS, unmasked,
        )  # fmt: skip
        fitted = replace(fitted, selection=replace(record, comparison=comparison))
        if main_process():
            fitted.save(out)
    if comparison is not None and fitted.head is used_head and trains and main_process():
        warn_if_useless(comparison, used_head.name)
    return fitted


@dataclass(frozen=True)
class Fitting:
    """The training of score networks from one start with the same settings."""

    start: NetworkScorer
    """The network before training, its head, and what it is about."""
    training: TrainingConfig
    compute: Compute
    turns: bool

    def run(
        self,
        train: Triplets,
        selection: Triplets,
        sizes: tuple[Size, Size],
        out: Path,
        minutes: float = 1.0,
        title: str = "scorer",
        benchmark: ScoreBenchmark | None = None,
    ) -> NetworkScorer:
        """Return the scorer with a trained copy of the network.

        `sizes` are those of the crops of training and selection images, `minutes` the share of max_minutes,
        `benchmark` the images on which the hidden share is shown meanwhile.
        """
        card, config = self.start.card, self.training
        network = deepcopy(self.start.network)
        cues = bool(card.cue_ranges)
        datasets = (
            TripletDataset(train, sizes[0], config.seed, cues=cues),
            TripletDataset(selection, sizes[1], config.seed, cues=cues),
        )
        if config.max_minutes is not None:
            config = replace(config, max_minutes=minutes * config.max_minutes)
        identity = {name: value for name, value in vars(card).items() if name != "cue_ranges" or value}
        fit(
            network, objective_of(self.start.head, card.cue_ranges), *datasets, out, config, self.compute,
            title=title, identity=identity, turns=self.turns,
            status_callback=None if benchmark is None else partial(self._status, benchmark),
        )  # fmt: skip
        return replace(self.start, network=ready(network))

    def of_fold(self, sizes: tuple[Size, Size], out: Path, others: Triplets, fold: int) -> NetworkScorer:
        """Return the scorer of a fold, trained on the images of the others."""
        smallest: Size = tuple(map(min, *sizes))
        return self.run(
            *others.holdout(HELD_OUT, self.training.seed), (smallest, smallest),
            out / FOLDS_IN / str(fold + 1), (1 - MINUTES_OF_LAST) / FOLDS,
            f"scorer, {fold + 1} of {FOLDS} to compare",
        )  # fmt: skip

    def _status(self, benchmark: ScoreBenchmark, network: nn.Module) -> str:
        """Return how much a network in training hides."""
        best = "" if benchmark.oracle is None else f", best {rounded_share(benchmark.oracle)}"
        return f"hides {rounded_share(benchmark.share(replace(self.start, network=network)))}{best}"


def cue_ranges(train: Triplets) -> tuple[tuple[float, float], ...]:
    """Return for each map beside y_hat the values that become 0 and 1: its quantiles at .001 and .999.

    Raises:
        InvalidArgumentError: images with other numbers of maps, or a map with one value nearly everywhere.
    """
    samples = []
    for cues in tracked(map(train.cues, range(len(train))), "reading maps", len(train)):
        flat = cues.reshape(len(cues), -1)
        samples.append(flat[:, :: max(1, flat.shape[1] // SAMPLE)])
    counts = sorted({len(sample) for sample in samples})
    if len(counts) > 1:
        raise InvalidArgumentError(f"the images come with {counts} maps: give each of them the same number")
    lows, highs = np.quantile(np.concatenate(samples, axis=1), ENDS, axis=1)
    for place in np.flatnonzero(lows == highs):
        raise InvalidArgumentError(
            f"map {place + 1} holds {lows[place]:.6g} at nearly every pixel of the training images, so that "
            "nothing can be learnt from it: leave it out"
        )
    return tuple(zip(lows.tolist(), highs.tolist(), strict=True))


def _families(used_head: Head, loss: Loss) -> list[Family]:
    """Return the family that suits; where the kernels serve the loss, all others too, at little cost."""
    suited = family(loss.family or used_head.family, loss.exponent or 1.0)
    others = [] if loss.exponent is None else [family(name, loss.exponent) for name in FAMILIES]
    return [suited, *(other for other in others if other.name != suited.name)]


def objective_of(used_head: Head, ranges: Sequence[tuple[float, float]]) -> Objective:
    """Return the training objective of a score network on batches; see TripletDataset."""

    def objective(network: nn.Module, batch: TensorBatch) -> Tensor:
        x, y_hat, y, *others = batch
        cues = others.pop(0) if ranges else None
        output = network(network_input(x, y_hat, cues, ranges)).float()
        with full_precision(y_hat):
            return used_head.loss(output, y, y_hat, *others)

    return objective


def _card(
    scorer: str,
    loss: Loss,
    per_channel: bool,
    seen: DatasetSummary,
    learnt_from: Sequence[DatasetSummary],
    train: Triplets,
) -> ScorerCard:
    image_ids = {trace for each in learnt_from for trace in each.image_ids}
    return ScorerCard(
        scorer=scorer,
        loss=loss.terms,
        channels=seen.channels,
        x_channels=seen.x_channels,
        per_channel=per_channel,
        sizes=(),
        **train.reading.kept,
        unet=None,
        trained_on=tuple(sorted(image_ids | {*train.provenance.trained_on})),
        network=train.network,
        distance_code=code_of(loss),
    )


def _check_loss(loss: Loss, used_head: Head, train: Triplets) -> None:
    """Refuse losses that would only fail after hours of training: weights, image size, no gradient."""
    zeros = torch.zeros(1, *train[0].y_hat.shape)
    if not float(loss.on(zeros, zeros, None, 1).of(zeros[:, :1])) <= 1e-6:
        raise InvalidArgumentError(f"distance {loss.terms.name!r} is not 0 between two empty images")
    by_itself = used_head.fitted_for is not None and loss.errors is None
    if by_itself and not _differentiable(loss, zeros):
        raise InvalidArgumentError(
            f"distance {loss.terms.name!r} has no gradient in torch, which scorer {used_head.name!r} "
            "needs for training: use scorer 'quantile', which is fitted for no distance"
        )


def _differentiable(loss: Loss, images: Images) -> bool:
    with contextlib.suppress(RuntimeError):  # such as .numpy() on a tensor that requires a gradient
        return loss.on(images, images, None, 1).of(images[:, :1].clone().requires_grad_()).requires_grad
    return False


def _check_channels(seen: DatasetSummary, held_out: DatasetSummary) -> None:
    if (seen.channels, seen.x_channels) != (held_out.channels, held_out.x_channels):
        raise ImageError("the selection images and the training images have different channels")
