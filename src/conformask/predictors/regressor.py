"""A U-Net that recovers y from x, trained with the L1 loss."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from conformask.data.images import is_constant, pixel_hash
from conformask.data.sources import TrueImages
from conformask.networks.unet import UNet, levels_for
from conformask.predictors.pairs import PairDataset, Pairs
from conformask.progress import tracked
from conformask.results import Json, read_json, write_json
from conformask.tasks import task as task_by_name
from conformask.training.fit import Plan, fit, seeded
from conformask.training.losses import straight_through_clip, without_autocast
from conformask.training.module import TensorBatch
from conformask.training.record import load_into, save_weights
from conformask.types import Images, Task


@dataclass(frozen=True)
class Regressor:
    """A trained network for a task, and the hashes of the images that it was trained on."""

    network: UNet
    task: Task
    size: int
    trained_on: tuple[str, ...] = ()
    name = "regressor"

    @torch.no_grad()
    def __call__(self, x: Images) -> Images:
        """y_hat, in [0, 1], in float32."""
        return restore(self.network, self.task, x)

    def save(self, folder: Path) -> None:
        """Write predictor.safetensors and predictor.json."""
        save_weights(self.network.state_dict(), folder / "predictor.safetensors")
        card: dict[str, Json] = {
            "task": self.task.name,
            "size": self.size,
            "network": self.network.settings,
            "trained_on": self.trained_on,
        }
        write_json(folder / "predictor.json", card)

    @classmethod
    def load(cls, folder: Path) -> "Regressor":
        """Read what save wrote."""
        card = read_json(folder / "predictor.json", ("task", "size", "network", "trained_on"))
        network = UNet(**card["network"])
        load_into(network, folder / "predictor.safetensors")
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.eval().requires_grad_(False)
        return cls(network, task_by_name(card["task"]), card["size"], tuple(card["trained_on"]))


def restore(network: nn.Module, task: Task, x: Images) -> Images:
    """y_hat of a network that keeps the size."""
    output: Images = network(2 * task.enlarge(x) - 1)
    with without_autocast(x):
        return task.compose(x, straight_through_clip(output.float() + 0.5))


def fit_predictor(
    train: TrueImages,
    selection: TrueImages,
    *,
    task: Task,
    size: int,
    out: Path,
    plan: Plan,
    width: int = 32,
    resume: bool = False,
) -> Regressor:
    """Train a U-Net on the true images' pairs; out receives a run folder that a killed run resumes from."""
    pairs, held_out = (PairDataset(Pairs(images, task)) for images in (train, selection))
    truths = [pairs[index][1].numpy() for index in tracked(range(len(pairs)), "reading images", len(pairs))]
    channels = len(task.enlarge(pairs[0][0][None])[0])
    with seeded(plan.seed):
        network = UNet(channels, len(truths[0]), width=width, levels=levels_for(size)).start_at(0.0)

    def l1(network: nn.Module, batch: TensorBatch) -> Tensor:
        x, y = batch
        return (y - restore(network, task, x)).abs().mean(dim=(1, 2, 3))

    trained_on = tuple(pixel_hash(y) for y in truths if not is_constant(y))
    identity: dict[str, Json] = {"task": task.name, "size": size, "width": width, "trained_on": trained_on}
    fit(network, l1, pairs, held_out, out, plan, title="predictor", identity=identity, resume=resume)
    regressor = Regressor(network, task, size, trained_on)
    regressor.save(out)
    return regressor
