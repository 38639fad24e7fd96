"""Networks that come inside packages, and own ones, for tasks."""

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from conformask.records.record import atomic_write
from maskbench.triplets import BYTE, Floats, as_bytes

CPU = -1
PHOTOGRAPHS = "non-commercial (PolyU, Xu et al. 2018)"


def package(name: str) -> Any:
    """Import a package with a network, or say how to get it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise SystemExit(f"{error}: run `pip install 'maskbench[networks]'` for {name}") from None


def kept(path: Path, make: Callable[[], Floats]) -> Floats:
    """Return an array of values in [0, 1] that is made once and kept as float16, exact enough for bytes."""
    if not path.exists():
        with atomic_write(path) as unfinished:
            np.save(unfinished, make().astype(np.float16))
    return np.load(path).astype(np.float32)


def on_pictures(network: Callable[[Image.Image], Image.Image]) -> Callable[[Floats], Floats]:
    """Return a network on pictures as one on values in [0, 1]."""
    return lambda x: np.asarray(network(Image.fromarray(as_bytes(x))), np.float32) / BYTE


def photographs_of_camera(data: Path) -> Iterator[tuple[str, Path]]:
    """Yield the scene of each photograph and the path of the clean one."""
    for path in sorted((data / "polyu").glob("*_clean.jpg")):
        yield path.name.rpartition("_clean")[0].rpartition("_")[0], path


def reduced(path: Path, factor: int) -> tuple[Floats, Floats]:
    """Return a photograph at half its size, where it is sharp, as y, and means of its pixels as x."""
    y = Image.open(path).convert("RGB").reduce(2)
    return tuple(np.asarray(image, np.float32) / BYTE for image in (y.reduce(factor), y))  # type: ignore[return-value]


def over_turns(x: Floats, network: Callable[[Floats], Floats]) -> tuple[Floats, Floats]:
    """Return a network's output, and its standard deviation over the eight flips and quarter turns of x."""
    outputs = []
    for flip in (1, -1):
        for turns in range(4):
            made = network(np.ascontiguousarray(np.rot90(x[:, ::flip], turns)))
            outputs.append(np.rot90(made, -turns)[:, ::flip])
    spread = np.std(outputs, axis=0)
    return outputs[0], spread.mean(axis=2) if spread.ndim == 3 else spread


def on_planes(network: nn.Module) -> Callable[[Floats], Floats]:
    """Return a network on batches as one on an image (h, w), of values in [0, 1]."""

    @torch.inference_mode()
    def of_plane(x: Floats) -> Floats:
        made: Floats = network(torch.from_numpy(x)[None, None])[0, 0].clamp(0, 1).numpy()
        return made

    return of_plane


def trained(network: nn.Module, path: Path, train: Callable[[], None]) -> nn.Module:
    """Return the network with the weights that lie at the path; train it first where there are none."""
    if not path.exists():
        train()
        with atomic_write(path) as unfinished:
            torch.save(network.state_dict(), unfinished)
    network.load_state_dict(torch.load(path))
    return network.eval()


def crops(
    images: Sequence[tuple[Floats, ...]], count: int, side: int, generator: np.random.Generator
) -> list[Tensor]:
    """Return random crops (count, 1, side, side), at the same places of all images of a tuple."""
    drawn = []
    for _ in range(count):
        chosen = images[int(generator.integers(len(images)))]
        top, left = (generator.integers(length - side + 1) for length in chosen[0].shape)
        flip = generator.choice([1, -1])
        drawn.append([image[top : top + side, left : left + side][:, ::flip] for image in chosen])
    return [torch.from_numpy(np.stack(role))[:, None] for role in zip(*drawn, strict=True)]


def stepped(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take a step down the gradient of the loss."""
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
