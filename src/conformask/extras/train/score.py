"""What a score network learns from and for: crops of triplets, its layers, its objective."""

import contextlib
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from conformask.arrays import full_precision, resized, seeded
from conformask.background import tracked
from conformask.errors import ImageError, InvalidArgumentError
from conformask.extras.train import BATCH_SIZE, FROM_SCRATCH, NetworkOptions
from conformask.extras.train.training import CachedReader, Objective, TensorBatch
from conformask.images.layers import batched
from conformask.images.scan import DatasetSummary
from conformask.images.triplets import Triplets
from conformask.losses.base import Loss
from conformask.losses.masked_distance import code_of
from conformask.records.numbers import rounded_share
from conformask.records.reading import Size
from conformask.scores.benchmark import ScoreBenchmark
from conformask.scores.network_scorer import Head, NetworkScorer, ScorerCard, head, network_input
from conformask.scores.networks import (
    AnyChannels,
    SliceWise,
    UNet,
    channels_of,
    halvings_for,
    levels_for,
    settings_of,
)
from conformask.scores.untrained import NETWORKS, SAMPLE, packaged_hashes, packaged_network

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


FROM_IT = ("laplace", "mask", "error")
"""Scorers that are trained from the packaged network."""
FROM_PACKAGED = 1e-2
"""Learning rate from it."""
FEWEST_A_STEP, PIXELS_A_STEP = 4, 2**14
"""Images and pixels of a step from it, at least: many small steps order pixels better, but its batch norms
need some values at their deepest."""
WIDTH, LEVELS = 32, 4
"""Width and levels of a U-Net from scratch; a larger field of view memorises how hard training images are."""


def steps_for(packaged: bool, size: Size) -> tuple[float, int]:
    """Return the usual learning rate and number of images, of this size, per step."""
    if not packaged:
        return FROM_SCRATCH, BATCH_SIZE
    filling = -(-PIXELS_A_STEP // math.prod(size))
    return FROM_PACKAGED, min(BATCH_SIZE, max(FEWEST_A_STEP, filling))


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
    if used_head.name in NETWORKS:
        return NETWORKS[used_head.name](seen.x_channels, seen.channels, dimensions, more)
    with seeded(seed):
        if used_head.name in FROM_IT and options.fits_packaged(seen.channels):
            shifts = used_head.name == "laplace"
            return packaged_network(seen.x_channels, seen.channels, dimensions, more, shifts=shifts)
        outputs = used_head.outputs(seen.channels, options.per_channel)
        return unet_for(seen, outputs, options, used_head.start, more)


def head_for(scorer: str | None, loss: Loss, options: NetworkOptions, channels: int) -> Head:
    """Return the head that is asked for; by default laplace, where it suits the loss and the network."""
    packaged = options.fits_packaged(channels)
    if scorer == "laplace" and not packaged:
        raise InvalidArgumentError(
            "scorer 'laplace' is trained from the packaged network, with a mask of one channel: leave out "
            "the other network, or use scorer 'mask' or 'error'"
        )
    return head("laplace" if scorer is None and packaged and loss.traits.learns_differences else scorer, loss)


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


ENDS = (0.001, 0.999)
"""The quantiles of a map that become 0 and 1 for a network."""


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


def start_of(
    used_head: Head,
    loss: Loss,
    options: NetworkOptions,
    seed: int,
    images: tuple[Triplets, Triplets],
    surveys: tuple[DatasetSummary, DatasetSummary],
    *,
    trains: bool,
) -> NetworkScorer:
    """Return the scorer before it is trained, if it `trains`: on the first images; the second ones select.

    `surveys` are what one pass over each of them said.
    """
    (train, selection), (seen, held_out) = images, surveys
    if (seen.channels, seen.x_channels) != (held_out.channels, held_out.x_channels):
        raise ImageError("the selection images and the training images have different channels")
    learnt_from = surveys if trains else (held_out,)
    image_ids = {trace for each in learnt_from for trace in each.image_ids}
    ranges = cue_ranges(train) if trains and train.has_cues and selection.has_cues else ()
    module = network_for(seen, used_head, options, seed, 2 * len(ranges))
    card = ScorerCard(
        scorer=used_head.name,
        loss=loss,
        channels=seen.channels,
        x_channels=seen.x_channels,
        per_channel=options.per_channel,
        sizes=seen.sizes if trains else (),
        reading=train.reading,
        unet=settings_of(module),
        trained_on=tuple(sorted(image_ids | {*train.provenance.trained_on})),
        network=train.network,
        distance_code=code_of(loss),
        cue_ranges=ranges,
    )
    hashes = [packaged_hashes()] if is_packaged(module) else []
    hashes += [each.perceptual_hashes for each in learnt_from]
    return NetworkScorer(module, used_head, card, perceptual_hashes=np.concatenate(hashes))


def check_loss(loss: Loss, used_head: Head, shape: tuple[int, ...]) -> None:
    """Refuse losses that would only fail after hours of training: weights, image size, no gradient.

    `shape` is that of y_hat, (C, *space).
    """
    zeros = torch.zeros(1, *shape)
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


def objective_of(used_head: Head, ranges: Sequence[tuple[float, float]]) -> Objective:
    """Return the training objective of a score network on batches; see TripletDataset."""

    def objective(network: nn.Module, batch: TensorBatch) -> Tensor:
        x, y_hat, y, *others = batch
        cues = others.pop(0) if ranges else None
        output = network(network_input(x, y_hat, cues, ranges)).float()
        with full_precision(y_hat):
            return used_head.loss(output, y, y_hat, *others)

    return objective


def status(benchmark: ScoreBenchmark, start: NetworkScorer, network: nn.Module) -> str:
    """Return how much a network in training hides."""
    best = "" if benchmark.oracle is None else f", best {rounded_share(benchmark.oracle)}"
    hidden = benchmark.hidden(replace(start, network=network))
    return f"hides {rounded_share(hidden.share)}{best}"
