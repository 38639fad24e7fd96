"""A trained network that recovers y from x."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from conformask.arithmetic import full_precision
from conformask.networks.unet import UNet
from conformask.results import Json, read_json, write_json
from conformask.tasks import task as task_by_name
from conformask.training.losses import straight_through_clip
from conformask.training.record import load_into, save_weights
from conformask.types import Images, Task


@dataclass(frozen=True)
class NetworkPredictor:
    """A trained network for a task, and the hashes of the images that it was trained on."""

    network: UNet
    task: Task
    size: int
    trained_on: tuple[str, ...] = ()
    kind: str = "regressor"
    """How it was trained: regressor or gan."""

    @property
    def name(self) -> str:
        """Its kind."""
        return self.kind

    @torch.no_grad()
    def __call__(self, x: Images) -> Images:
        """y_hat, in [0, 1], in float32; on the device of x."""
        self.network.to(x.device)
        return restore(self.network, self.task, x)

    def save(self, folder: Path) -> None:
        """Write predictor.safetensors and predictor.json."""
        save_weights(self.network.state_dict(), folder / "predictor.safetensors")
        card: dict[str, Json] = {
            "kind": self.kind,
            "task": self.task.name,
            "size": self.size,
            "network": self.network.settings,
            "trained_on": self.trained_on,
        }
        write_json(folder / "predictor.json", card)

    @classmethod
    def load(cls, folder: Path) -> "NetworkPredictor":
        """Read what save wrote.

        Raises:
            MissingFileError: no such run folder.
            MismatchError: the files are damaged.
        """
        card = read_json(folder / "predictor.json", ("task", "size", "network", "trained_on"))
        network = UNet(**card["network"])
        load_into(network, folder / "predictor.safetensors")
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.eval().requires_grad_(False)
        task, kind = task_by_name(card["task"]), card.get("kind", "regressor")
        return cls(network, task, card["size"], tuple(card["trained_on"]), kind)


def restore(network: nn.Module, task: Task, x: Images) -> Images:
    """y_hat of a network that keeps the size."""
    output: Images = network(2 * task.enlarge(x) - 1)
    with full_precision(x):
        return task.compose(x, straight_through_clip(output.float() + 0.5))
