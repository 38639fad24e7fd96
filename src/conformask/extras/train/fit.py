"""Training of a score network on triplets, and its comparison with scores that need no training."""

import contextlib
import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from conformask.arithmetic import full_precision, resized, seeded
from conformask.background import DEFAULT_DEVICES, Compute, main_process, tracked
from conformask.errors import ImageError, InvalidArgumentError
from conformask.extras.train import DEFAULT_TRAINING, FROM_SCRATCH, NetworkOptions, TrainingConfig
from conformask.extras.train.training import CachedReader, Objective, TensorBatch, fit
from conformask.images.layers import batched
from conformask.images.scan import DatasetSummary, scan
from conformask.images.triplets import Triplets, refuse_others
from conformask.losses import AnyLoss, code_of
from conformask.losses import loss as loss_from
from conformask.losses.base import Loss
from conformask.masks.critical import GRID_POINTS
from conformask.masks.families import FAMILIES, family
from conformask.masks.family import Family
from conformask.records import names
from conformask.records.files import exclusive_folder, places, refuse_unclaimed
from conformask.records.geometry import Size
from conformask.records.reading import check_network
from conformask.records.selection import is_quantile, level_of, threshold_in_loss
from conformask.records.sentence import rounded_share
from conformask.scores.benchmark import ScoreBenchmark, warn_if_useless
from conformask.scores.given import SAMPLE
from conformask.scores.network_scorer import Head, NetworkScorer, ScorerCard, head, network_input, ready
from conformask.scores.networks import (
    AnyChannels,
    SliceWise,
    UNet,
    channels_of,
    halvings_for,
    levels_for,
    settings_of,
)
from conformask.scores.scoring import selection_record, unmasked_losses
from conformask.scores.steps import for_loss
from conformask.scores.untrained import NETWORKS, packaged_hashes

CROP = 2**15
"""Largest number of pixels in a crop of a volume."""
THICK = 16
"""Largest number of slices in a crop of a volume."""


class TripletDataset(torch.utils.data.Dataset[tuple[Tensor, ...]]):
    """(x at y_hat's size, y_hat, y), maps if asked for, the noise of y if known; crops of one size.

    An index stands for an image, modulo their number, and for a random crop of it: indices count on from
    epoch to epoch. A volume gives as many crops as would fill the smallest volume.
    """

    def __init__(self, triplets: Triplets, smallest: Size, seed: int = 0, *, cues: bool = False) -> None:
        self.seed = seed
        self._cues = cues
        self.crop = crop_of(smallest)
        self._n = len(triplets)
        self._crops = math.ceil(math.prod(smallest) / math.prod(self.crop))
        self._triplets = triplets
        self._read = CachedReader(self._tensors)

    def __len__(self) -> int:
        return self._n * self._crops

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        images = self._read(index % self._n)
        generator = np.random.default_rng((self.seed, index))
        sides = zip(images[1].shape[1:], self.crop, strict=True)
        starts = [int(generator.integers(side - crop + 1)) for side, crop in sides]
        part = tuple(slice(s, s + crop) for s, crop in zip(starts, self.crop, strict=True))
        return tuple(image[:, *part] for image in images)

    def _tensors(self, index: int) -> tuple[Tensor, ...]:
        triplet = self._triplets[index]
        x, y_hat, y = map(torch.from_numpy, (triplet.x, triplet.y_hat, triplet.truth()))
        more = [triplet.layers["cues"] if self._cues else None, batched(triplet).get("noise")]
        others = [torch.from_numpy(image) for image in more if image is not None]
        return resized(x[None], y_hat[None])[0], y_hat, y, *others


def crop_of(smallest: Size) -> Size:
    """Return the size of a training crop: whole planes; of volumes at most THICK slices and CROP pixels."""
    if len(smallest) == 2:
        return smallest
    depth = min(smallest[0], THICK)
    side = math.isqrt(CROP // depth) // 8 * 8
    height, width = (min(length, side) for length in smallest[1:])
    return depth, min(smallest[1], CROP // (depth * width)), min(smallest[2], CROP // (depth * height))


FROM_PACKAGED = 1e-2
"""Learning rate from the packaged network."""
WIDTH, LEVELS = 32, 4
"""Width and levels of a U-Net from scratch; a larger field of view memorises how hard training images are."""


def network_for(
    seen: DatasetSummary, used_head: Head, options: NetworkOptions, seed: int, more: int = 0
) -> nn.Module:
    """Return the user's network, else the packaged one where it fits, else one from scratch.

    `more` is the number of channels between x and y_hat, of maps beside y_hat.
    """
    module: nn.Module | None = options.module
    if module is not None:
        return module
    dimensions = len(seen.smallest)
    if options.volume_mode is not None and dimensions == 2:
        raise InvalidArgumentError(
            f"volume_mode {options.volume_mode!r} is for volumes, but these images are planes: leave it out"
        )
    outputs = used_head.outputs(seen.channels, options.per_channel)
    name = "packaged" if options.fits_packaged(used_head.name, outputs) else used_head.name
    if name in NETWORKS:
        return NETWORKS[name](seen.x_channels, seen.channels, dimensions, more)
    with seeded(seed):
        return unet_for(seen, outputs, options, used_head.start, more)


def is_packaged(network: nn.Module) -> bool:
    """Return whether it is the packaged network, or one trained from it."""
    return isinstance(network.planes if isinstance(network, SliceWise) else network, AnyChannels)


def unet_for(
    seen: DatasetSummary, outputs: int, options: NetworkOptions, start: float, more: int = 0
) -> UNet | SliceWise:
    """Make a U-Net whose initial output is `start` everywhere; `more` as in `network_for`."""
    volumes, channels = len(seen.smallest) == 3, seen.x_channels + more + seen.channels
    width = WIDTH if options.width is None else options.width
    unet = partial(UNet, width=width, paper_form=options.paper_form, residual=not options.paper_form)
    if options.volume_mode == "volume":
        spacing = None if seen.geometry is None else seen.geometry.spacing
        halvings = halvings_for(crop_of(seen.smallest), spacing, LEVELS)
        return unet(channels, outputs, halvings=halvings).start_at(start)
    levels = levels_for(min(crop_of(seen.smallest)[-2:]))
    levels = levels if options.paper_form else min(LEVELS, levels)
    planes = unet(channels_of(channels) if volumes else channels, outputs, levels=levels)
    planes.start_at(start)
    return SliceWise(planes) if volumes else planes


HELD_OUT = 0.1
"""Share of the training images held out for selection where no selection images are given."""
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
    compute: Compute = DEFAULT_DEVICES,
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
            distances of the paper's form.
        network: `NetworkOptions`, or a module from 2 * (x, y_hat) - 1 on the channel axis to 1 channel; maps
            beside y_hat lie between x and y_hat, each as it is and upside down. The
            default, for one-channel scores of mask or error, is the packaged network with its weights; else a
            U-Net of four levels with residual blocks, from scratch.
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
    out, used = Path(out), loss_from(loss).with_pixels(train.window)
    refuse_unclaimed(places(out, "training.json", "scorer.json"))
    options = network if isinstance(network, NetworkOptions) else NetworkOptions(module=network)
    threshold = threshold_in_loss(threshold, used, train.values)
    is_quantile(threshold)
    seed, per_channel = training.seed, options.per_channel
    train, selection = train.in_training(), selection and selection.in_training()
    count = len(train)
    used.check_training()
    used.check_values(train.values)
    if selection is None:
        train, selection = train.holdout(HELD_OUT, seed)
    used = used.in_regions(selection.has_regions and used.takes_regions)
    for part in (train, selection) if used.subtracts_noise else ():
        part.reference.refuse_unknown_noise()
    used = used.fitted_to(selection, selection.reference)
    used_head = head(scorer, used)
    _check_loss(used, used_head, train)
    check_network(train.network, selection.network, "training", allow_network_mismatch=False)
    seen, held_out = scan(train), scan(selection, "reading selection images")
    if (seen.channels, seen.x_channels) != (held_out.channels, held_out.x_channels):
        raise ImageError("the selection images and the training images have different channels")
    trains = used_head.name not in names.UNTRAINED
    surveys = [seen, held_out] if trains else [held_out]
    ranges = cue_ranges(train) if trains and train.has_cues and selection.has_cues else ()
    module = network_for(seen, used_head, options, seed, 2 * len(ranges))
    card = replace(
        _card(used_head.name, used, per_channel, seen, surveys, train),
        unet=settings_of(module),
        sizes=seen.sizes if trains else (),
        cue_ranges=ranges,
    )
    known, rate = ([packaged_hashes()], FROM_PACKAGED) if is_packaged(module) else ([], FROM_SCRATCH)
    start = NetworkScorer(
        module, used_head, card,
        perceptual_hashes=np.concatenate([*known, *(each.perceptual_hashes for each in surveys)]),
    )  # fmt: skip
    training = training.resolved(count, rate)
    turns = options.module is None and not options.paper_form
    with exclusive_folder(out):
        unmasked = unmasked_losses(selection, used)
        usual = _families(used_head, used)[0]
        benchmark = ScoreBenchmark.on(selection, used, usual, level_of(threshold, unmasked))
        sizes = seen.smallest, held_out.smallest
        fitted = (
            _trained(start, train, selection, sizes, out, training, compute, benchmark, turns=turns)
            if trains
            else replace(start, network=ready(module))
        )
        comparison = None if benchmark is None else benchmark.compare(fitted)
        record = selection_record(
            for_loss(fitted, used), selection, used, _families(fitted.head, used),
            training.grid_points or GRID_POINTS, unmasked,
        )  # fmt: skip
        fitted = replace(fitted, selection=replace(record, comparison=comparison))
        if main_process():
            fitted.save(out)
    if comparison is not None and trains and main_process():
        warn_if_useless(comparison, used_head.name)
    return fitted


def _trained(
    start: NetworkScorer,
    train: Triplets,
    selection: Triplets,
    sizes: tuple[Size, Size],
    out: Path,
    training: TrainingConfig,
    compute: Compute,
    benchmark: ScoreBenchmark | None,
    *,
    turns: bool,
) -> NetworkScorer:
    """Return the scorer with a trained copy of its network.

    `sizes` are those of the crops of training and selection images; on the images of `benchmark` the hidden
    share is shown meanwhile.
    """
    card, network = start.card, deepcopy(start.network)
    train_dataset, selection_dataset = (
        TripletDataset(part, size, training.seed, cues=bool(card.cue_ranges))
        for part, size in zip((train, selection), sizes, strict=True)
    )
    identity = {name: value for name, value in card.to_json().items() if name != "cue_ranges" or value}
    fit(
        network, objective_of(start.head, card.cue_ranges), train_dataset, selection_dataset, out, training,
        compute, title="scorer", identity=identity, turns=turns,
        status_callback=None if benchmark is None else partial(_status, benchmark, start),
    )  # fmt: skip
    return replace(start, network=ready(network))


def _status(benchmark: ScoreBenchmark, start: NetworkScorer, network: nn.Module) -> str:
    """Return how much a network in training hides."""
    best = "" if benchmark.oracle is None else f", best {rounded_share(benchmark.oracle)}"
    return f"hides {rounded_share(benchmark.share(replace(start, network=network)))}{best}"


def cue_ranges(train: Triplets) -> tuple[tuple[float, float], ...]:
    """Return for each map beside y_hat the values that become 0 and 1: its quantiles at .001 and .999."""
    samples = []
    for cues in tracked(map(partial(train.layer, "cues"), range(len(train))), "reading maps", len(train)):
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
        loss=loss,
        channels=seen.channels,
        x_channels=seen.x_channels,
        per_channel=per_channel,
        sizes=(),
        reading=train.reading,
        unet=None,
        trained_on=tuple(sorted(image_ids | {*train.provenance.trained_on})),
        network=train.network,
        distance_code=code_of(loss),
    )


def _check_loss(loss: Loss, used_head: Head, train: Triplets) -> None:
    """Refuse losses that would only fail after hours of training: weights, image size, no gradient."""
    zeros = torch.zeros(1, *train[0].y_hat.shape)
    if not float(loss.on(zeros, zeros, None, 1).of(zeros[:, :1])) <= 1e-6:
        raise InvalidArgumentError(f"distance {loss.name!r} is not 0 between two empty images")
    if used_head.fitted_for is None or loss.error_map is not None:
        return
    has_gradient = False
    with contextlib.suppress(RuntimeError):  # such as .numpy() on a tensor that requires a gradient
        has_gradient = loss.on(zeros, zeros, None, 1).of(zeros[:, :1].clone().requires_grad_()).requires_grad
    if not has_gradient:
        raise InvalidArgumentError(
            f"distance {loss.name!r} has no gradient in torch, which scorer {used_head.name!r} "
            "needs for training: use scorer 'quantile', which is fitted for no distance"
        )
