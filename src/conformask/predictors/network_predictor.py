"""A trained network that recovers y from x."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from conformask.arithmetic import best_device, full_precision, to_channels_last
from conformask.networks import stored_unet
from conformask.networks.unet import UNet
from conformask.storage.as_json import Json, claim, read_json, refuse_unfinished, write_json
from conformask.storage.claims import BESIDE
from conformask.storage.typed import from_dict
from conformask.tasks import task as task_by_name
from conformask.training.clip import straight_through_clip
from conformask.training.weights import hash_of_state, load_into, save_weights
from conformask.types import Images, Task


@dataclass(frozen=True)
class PredictorCard:
    """Content of predictor.json."""

    task: str
    size: int
    network: Mapping[str, Json]
    """Settings of the U-Net."""
    trained_on: tuple[str, ...]
    kind: str = "regressor"


@dataclass(frozen=True)
class NetworkPredictor:
    """A trained network for a task, and the hashes of the images that it was trained on."""

    network: UNet
    task: Task
    size: int
    trained_on: tuple[str, ...] = ()
    kind: str = "regressor"
    """Way it was trained: regressor or gan."""

    @property
    def name(self) -> str:
        """Kind of the network."""
        return self.kind

    @property
    def fingerprint(self) -> str:
        """Hash of the network's weights."""
        return hash_of_state(self.network.state_dict())

    @torch.no_grad()
    def __call__(self, x: Images) -> Images:
        """Return y_hat, in [0, 1], in float32; on the device of x."""
        self.network.to(x.device)
        return restore(self.network, self.task, x)

    def save(self, folder: Path) -> None:
        """Write predictor.safetensors and predictor.json."""
        claim(folder / "predictor.json", {"finished": False}, BESIDE["predictor.json"])
        save_weights(self.network.state_dict(), folder / "predictor.safetensors")
        card = PredictorCard(self.task.name, self.size, self.network.settings, self.trained_on, self.kind)
        write_json(folder / "predictor.json", dict(vars(card)))

    @classmethod
    def load(cls, folder: Path) -> "NetworkPredictor":
        """Read a predictor that save wrote.

        Raises:
            MissingFileError: no such run folder.
            MismatchError: the files are damaged.
        """
        path = folder / "predictor.json"
        record = read_json(path)
        refuse_unfinished(path, record)
        card = from_dict(PredictorCard, record, path)
        network = stored_unet(card.network, path)
        load_into(network, folder / "predictor.safetensors")
        to_channels_last(network).eval().requires_grad_(False)
        return cls(network, task_by_name(card.task), card.size, card.trained_on, card.kind)


def restore(network: nn.Module, task: Task, x: Images) -> Images:
    """Return y_hat from a network that keeps the size."""
    output: Images = network(2 * task.enlarge(x) - 1)
    with full_precision(x):
        return task.compose(x, straight_through_clip(output.float() + 0.5))


class Accelerated(NetworkPredictor):
    """A trained network on the accelerator that takes and returns images on the CPU."""

    def __call__(self, x: Images) -> Images:
        """Return the network's output, back on the CPU."""
        return super().__call__(x.to(best_device())).cpu()
