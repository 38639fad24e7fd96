"""Training of a U-Net that recovers y from x: with the L1 loss, or as the generator of a conditional GAN."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from conformask.arrays import Images, Task, image_means, seeded
from conformask.background import DEFAULT_DEVICES, Compute, main_process, tracked
from conformask.errors import chosen
from conformask.extras.make.predictors import NetworkPredictor, restore
from conformask.extras.make.triplets import Pairs, TrueImages
from conformask.extras.train import FROM_SCRATCH, TrainingConfig
from conformask.extras.train.training import (
    Adversarial,
    CachedReader,
    NetworkModule,
    TensorBatch,
    TrainingModule,
    fit_module,
)
from conformask.images.read import is_constant, pixel_hash
from conformask.records.record import Json, exclusive_folder, places, refuse_unclaimed
from conformask.scores.networks import PatchGAN, UNet, levels_for


class PairDataset(torch.utils.data.Dataset[tuple[Tensor, ...]]):
    """Pairs for training: (x, y) without batch axis; an index counts modulo their number."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        self._read = CachedReader(lambda index: tuple(image[0] for image in pairs[index][1:]))

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return self._read(index % len(self))


def regression(network: UNet, task: Task, training: TrainingConfig) -> TrainingModule:
    """Return a training that minimises the L1 between y and y_hat."""

    def l1(network: nn.Module, batch: TensorBatch) -> Tensor:
        x, y = batch
        return image_means((y - restore(network, task, x)).abs())

    rate = training.learning_rate or FROM_SCRATCH
    return TrainingModule(network, l1, learning_rate=rate, seed=training.seed)


def adversarial(network: UNet, task: Task, training: TrainingConfig) -> Adversarial:
    """Pair the U-Net with a PatchGAN twice as wide that sees x and y, or x and y_hat as the task composes it.

    The part of y that x contains is thus the same in both, and only the rest is judged (Isola et al. 2017).
    """

    def generate(network: nn.Module, batch: TensorBatch) -> tuple[Images, Images, Images]:
        x, y = batch
        return task.enlarge(x), restore(network, task, x), y

    channels = network.settings["in_channels"] + network.settings["out_channels"]
    discriminator = PatchGAN(channels, width=2 * network.settings["width"])
    rate = training.learning_rate or FROM_SCRATCH
    return Adversarial(network, discriminator, generate, learning_rate=rate, seed=training.seed)


KINDS: Mapping[str, Callable[[UNet, Task, TrainingConfig], NetworkModule]] = {
    "regressor": regression,
    "gan": adversarial,
}


def fit_predictor(
    train: TrueImages,
    selection: TrueImages,
    *,
    task: Task,
    size: int,
    out: Path,
    training: TrainingConfig,
    compute: Compute = DEFAULT_DEVICES,
    kind: str = "regressor",
    width: int = 32,
    paper_form: bool = False,
) -> NetworkPredictor:
    """Train a U-Net on the true images' pairs; out receives a run folder that a killed run resumes from.

    The L1 of the selection images decides which epoch of a regressor is kept, and when patience is lost; of
    a gan (adversarial loss + 20 * L1) the last epoch is kept. The settings of the paper are epochs=10,
    batch_size=50 and learning_rate=1e-5, and paper_form, its U-Net with transposed convolutions.
    """
    make_module = chosen(KINDS, kind, "kind")
    refuse_unclaimed(places(out, "training.json", "predictor.json"))
    pairs, held_out = (PairDataset(Pairs(images, task)) for images in (train, selection))
    indices = tracked(range(len(pairs)), "reading images", len(pairs))
    truths = (pairs[index][1].numpy() for index in indices)
    trained_on = tuple(pixel_hash(truth) for truth in truths if not is_constant(truth))
    x, y = pairs[0]
    channels = len(task.enlarge(x[None])[0])
    with seeded(training.seed):
        network = UNet(channels, len(y), width=width, levels=levels_for(size), paper_form=paper_form)
        module = make_module(network.start_at(0.0), task, training)
    identity: dict[str, Json] = {
        "kind": kind, "task": task.name, "size": size, "width": width, "paper_form": paper_form,
        "trained_on": trained_on,
    }  # fmt: skip
    with exclusive_folder(out):
        fit_module(module, pairs, held_out, out, training, compute, title="predictor", identity=identity)
        predictor = NetworkPredictor(network, task, size, trained_on, kind)
        if main_process():
            predictor.save(out)
    return predictor
