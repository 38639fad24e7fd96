"""A conditional GAN whose generator is the U-Net (Isola et al. 2017)."""

from torch import nn

from conformask.networks.patchgan import PatchGAN
from conformask.networks.unet import UNet
from conformask.predictors.network_predictor import restore
from conformask.training.adversarial import Adversarial
from conformask.training.fit import FROM_SCRATCH, TrainingConfig
from conformask.training.module import TensorBatch
from conformask.types import Images, Task


def adversarial(network: UNet, task: Task, training: TrainingConfig) -> Adversarial:
    """Pair the U-Net with a PatchGAN twice as wide that sees x and y, or x and y_hat as the task composes it.

    The part of y that x contains is thus the same in both, and only the rest is judged.
    """

    def generate(network: nn.Module, batch: TensorBatch) -> tuple[Images, Images, Images]:
        x, y = batch
        return task.enlarge(x), restore(network, task, x), y

    channels = network.settings["in_channels"] + network.settings["out_channels"]
    discriminator = PatchGAN(channels, width=2 * network.settings["width"])
    rate = training.learning_rate or FROM_SCRATCH
    return Adversarial(network, discriminator, generate, learning_rate=rate, seed=training.seed)
