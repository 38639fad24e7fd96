"""Training of a score network on triplets, and the record of the selection images for later choices."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from conformask import names
from conformask.arithmetic import full_precision
from conformask.calibration import GRID_POINTS
from conformask.data.scan import DatasetSummary, scan
from conformask.data.triplets import Triplets, refuse_others
from conformask.errors import ImageError, InvalidArgumentError
from conformask.losses import Chosen, code_of, where
from conformask.losses import loss as loss_by_name
from conformask.losses.masked import Masked
from conformask.masks import FAMILIES, family
from conformask.masks.mask_family import Family
from conformask.networks.stored import settings_of
from conformask.progress import main_process
from conformask.records.network import check_network
from conformask.records.threshold import is_quantile, level_of
from conformask.report.benchmark import standing_text
from conformask.scorers.benchmark import CLEARLY, ScoreBenchmark, warn_if_useless
from conformask.scorers.dataset import TripletDataset
from conformask.scorers.heads import Head, head
from conformask.scorers.initial_network import (
    FROM_SCRATCH,
    NetworkOptions,
    is_packaged,
    network_for,
    rate_for,
)
from conformask.scorers.network_scorer import NetworkScorer, ScorerCard, network_input, ready
from conformask.scorers.packaged import packaged_hashes
from conformask.scorers.selection import selection_record, unmasked_losses
from conformask.storage.claims import places, refuse_unclaimed
from conformask.storage.exclusive import exclusive_folder
from conformask.training.fit import TrainingConfig, default_epochs, fit
from conformask.training.module import Objective, TensorBatch
from conformask.training.progress import StatusCallback
from conformask.types import Images, Loss

HELD_OUT = 0.1
"""Share of the training images held out for selection where no selection images are given."""


def fit_scorer(
    train: Triplets,
    *,
    selection: Triplets | None = None,
    distance: Chosen = "l1",
    over: names.Over | None = None,
    window: int | str | None = None,
    tolerance: float | None = None,
    out: str | Path,
    scorer: names.Scorer | None = None,
    per_channel: bool = False,
    network: nn.Module | None = None,
    width: int | None = None,
    by: names.By | None = None,
    paper_form: bool = False,
    scratch: bool = False,
    threshold: float | str = "q0.1",
    epochs: int | None = None,
    max_minutes: float | None = None,
    patience: int | None = None,
    batch_size: int = 16,
    learning_rate: float | None = None,
    seed: int = 0,
    devices: int | str = "auto",
    nodes: int = 1,
    resume: bool = False,
    grid_points: int = GRID_POINTS,
) -> NetworkScorer:
    """Train a score network on (x, y_hat, y) and write a run folder.

    Args:
        train: the triplets to learn from; images of different sizes are cropped to the smallest.
        selection: triplets for every choice (best epoch, grids, q-thresholds); a tenth of train if None.
        distance: a name, an object or a callable, as `conformask.losses.loss` takes it; the scorer is fitted
            for it ("quantile" ignores it in training, and uses it for the record of the selection images).
        over: how an error map is aggregated under a mask: image, trusted, window, missed or wrong.
        window: for over="window", its side in pixels, or a length such as "5mm" where images have a spacing.
        tolerance: the error above which a pixel is wrong, where over counts wrong pixels.
        out: the run folder.
        scorer: "mask" (the paper's mask network, equation 6), "error" (least squares of the error map, for
            missed of whether a pixel is wrong) or "quantile" (the paper's baseline); "packaged", "residual"
            (|x - y_hat|), "gradient" and "spread" (of y_hat, between neighbours and in a window) train
            nothing; if None "error" for losses of error maps, "mask" for l1 and for distances of the paper's
            form.
        per_channel: a score with the channels of y_hat instead of one.
        network: a module from 2 * (x, y_hat) - 1 on the channel axis to 1 or C channels, for "quantile"
            to 2 * C; it is trained on images and their mirror images, built-in ones on all flips and turns.
            The default, for one-channel scores of mask or error, is the packaged network with its weights;
            else a U-Net of four levels with residual blocks, from scratch.
        width: channels of the first level of that U-Net, 32 if None; if given, the U-Net is used.
        by: how the network sees volumes: "slices" (one after the other, from scratch each with its
            neighbours) or "volume" (in three dimensions, from scratch; an axis is not halved while its step
            is more than twice that of the finest); "slices" if None.
        paper_form: the U-Net of the paper, of up to eight levels and with transposed convolutions.
        scratch: start from random weights.
        threshold: the threshold at which the score is judged on the selection images; as for calibrate.
        epochs: how long to train; if neither this nor max_minutes nor patience is given 30, or as many as it
            takes to see 6400 images.
        max_minutes: how long to train, in minutes.
        patience: stop when the selection loss has not improved for this many epochs.
        batch_size: images per step, on each device.
        learning_rate: the peak rate; if None 5e-4 from scratch and 1e-2 from the packaged weights. It
            falls as a cosine, or with patience is reduced when that runs out.
        seed: decides weights and order.
        devices: passed to Lightning, which starts this program again for each device; all of them run it
            to its end, and the first writes.
        nodes: passed to Lightning.
        resume: resume a run that was stopped, or make a finished one longer by other epochs, max_minutes or
            patience; the run must then be calibrated again.
        grid_points: lambdas at which curves of the selection images are known, those of the scorer's own
            family and, for lp distances, of all others.

    Warns:
        UserWarning: time ran out while the loss was still falling; no epoch improved on the initial network;
        or, on the selection images, an untrained or constant score does about as well.

    Raises:
        InvalidArgumentError: an argument outside what is allowed, or triplets without truth.
        ImageError: an image that cannot be used.
        MismatchError: out holds another run.
    """
    refuse_others(train, selection)
    out, used = Path(out), loss_by_name(distance, over, train.window(window), tolerance)
    asked = NetworkOptions(per_channel, width, by, paper_form, scratch)
    is_quantile(threshold)
    rate = FROM_SCRATCH if learning_rate is None else learning_rate
    epochs = default_epochs(epochs, max_minutes, patience, len(train))
    plan = TrainingConfig(epochs, max_minutes, batch_size, rate, seed, devices, nodes, patience)
    if selection is None:
        train, selection = train.holdout(HELD_OUT, seed)
    used = used if isinstance(used, Masked) else where(used, selection.has_regions)
    used_head = head(scorer, used)
    _check_loss(used, used_head, train)
    check_network(train.network, selection.network, "training", other_network=False)
    seen, held_out = scan(train), scan(selection, "reading selection images")
    _check_channels(seen, held_out)
    trains = used_head.name not in names.UNTRAINED
    surveys = [seen, held_out] if trains else [held_out]
    card = _card(used_head.name, used, per_channel, seen, surveys, train)
    own = network is None and not paper_form
    network = network_for(seen, used_head, asked, seed) if network is None else network
    plan = plan if learning_rate is not None else replace(plan, learning_rate=rate_for(network))
    card = replace(card, unet=settings_of(network), sizes=seen.sizes if trains else ())
    objective = objective_of(used_head)
    datasets = (
        TripletDataset(train, seen.smallest, seed),
        TripletDataset(selection, held_out.smallest, seed),
    )
    identity, families = dict(vars(card)), _families(used_head, used)
    with exclusive_folder(out):
        refuse_unclaimed(places(out, "training.json", "scorer.json"))
        unmasked = unmasked_losses(selection, used)
        benchmark = ScoreBenchmark.on(selection, used, families[0], level_of(threshold, unmasked))
        status_callback, is_worse_than_start = (
            (None, None) if benchmark is None else looks_at(benchmark, used_head, card)
        )
        if trains:
            fit(
                network, objective, *datasets, out, plan,
                title="scorer", identity=identity, turns=own, resume=resume, status_callback=status_callback,
                is_worse_than_start=is_worse_than_start if is_packaged(network) else None,
            )  # fmt: skip
        known = [packaged_hashes()] if is_packaged(network) else []
        perceptual_hashes = np.concatenate([*known, *(each.perceptual_hashes for each in surveys)])
        fitted = NetworkScorer(ready(network), used_head, card, perceptual_hashes=perceptual_hashes)
        record = selection_record(fitted, selection, used, families, grid_points, unmasked)
        comparison = None if benchmark is None else benchmark.compare(fitted)
        fitted = replace(fitted, selection=replace(record, comparison=comparison))
        if main_process():
            fitted.save(out)
    if comparison is not None and trains and main_process():
        warn_if_useless(comparison, used_head.name)
    return fitted


def looks_at(
    benchmark: ScoreBenchmark, used_head: Head, card: ScorerCard
) -> tuple[StatusCallback, Callable[[nn.Module], bool]]:
    """Return callables: a status text for a network in training, and whether it hides clearly more."""

    packaged = benchmark.others["packaged"].share

    def share(network: nn.Module) -> float:
        return benchmark.share(NetworkScorer(network, used_head, card))

    def status_callback(network: nn.Module) -> str:
        return standing_text(share(network), benchmark.oracle)

    return status_callback, lambda network: share(network) > CLEARLY * packaged


def _families(used_head: Head, loss: Loss) -> list[Family]:
    """Return the family that suits; where the kernels serve the loss, all others too, at little cost."""
    suited = family(loss.family or used_head.family, loss.exponent or 1.0)
    others = [] if loss.exponent is None else [family(name, loss.exponent) for name in FAMILIES]
    return [suited, *(other for other in others if other.name != suited.name)]


def objective_of(used_head: Head) -> Objective:
    """Return the training objective of a score network on batches (x at y_hat's size, y_hat, y)."""

    def objective(network: nn.Module, batch: TensorBatch) -> Tensor:
        x, y_hat, y = batch
        output = network(network_input(x, y_hat))
        with full_precision(y_hat):
            return used_head.loss(output.float(), y, y_hat)

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
        **vars(loss.terms),
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
        raise InvalidArgumentError(f"distance {loss.terms.loss_name!r} is not 0 between two empty images")
    by_itself = used_head.fitted_for is not None and loss.errors is None
    if by_itself and not _differentiable(loss, zeros):
        raise InvalidArgumentError(
            f"distance {loss.terms.loss_name!r} has no gradient in torch, which scorer {used_head.name!r} "
            "needs for training: use scorer 'quantile', which is fitted for no distance"
        )


def _differentiable(loss: Loss, images: Images) -> bool:
    with contextlib.suppress(RuntimeError):  # such as .numpy() on a tensor that requires a gradient
        return loss.on(images, images, None, 1).of(images[:, :1].clone().requires_grad_()).requires_grad
    return False


def _check_channels(seen: DatasetSummary, held_out: DatasetSummary) -> None:
    if (seen.channels, seen.x_channels) != (held_out.channels, held_out.x_channels):
        raise ImageError("the selection images and the training images have different channels")
