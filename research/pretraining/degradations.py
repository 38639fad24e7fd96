"""What is done to true images: x from y, both (N, C, H, W) in [0, 1] and of one size."""

import io
from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from conformask.extras.make.tasks import luma

Generator = np.random.Generator
Degradation = Callable[[torch.Tensor, Generator], torch.Tensor]


def smaller(y: torch.Tensor, generator: Generator) -> torch.Tensor:
    """Super-resolution: made 2, 3, 4 or 6 times smaller, by one of three kernels."""
    sides = [max(8, round(side / float(generator.choice([2, 3, 4, 4, 6])))) for side in y.shape[-2:]]
    kernel = generator.choice(["area", "bicubic", "nearest"])
    if kernel == "nearest":
        small = F.interpolate(blurred(y, generator.uniform(0.5, 1.5)), size=sides, mode="nearest")
    elif kernel == "bicubic":
        small = F.interpolate(y, size=sides, mode="bicubic", antialias=True)
    else:
        small = F.interpolate(y, size=sides, mode="area")
    if generator.random() < 0.25:
        small = small + generator.uniform(0.005, 0.04) * normal(small, generator)
    return F.interpolate(small.clamp(0, 1), size=y.shape[-2:], mode="bilinear")


def noisy(y: torch.Tensor, generator: Generator) -> torch.Tensor:
    """Gaussian, Poisson, multiplied, or smooth noise; or single pixels that are black or white."""
    kind, sigma = generator.integers(5), float(np.exp(generator.uniform(np.log(0.02), np.log(0.25))))
    if kind == 0:
        return (y + sigma * normal(y, generator)).clamp(0, 1)
    if kind == 1:
        peak = float(np.exp(generator.uniform(np.log(5), np.log(300))))
        return torch.from_numpy(generator.poisson(y.numpy() * peak) / peak).float().clamp(0, 1)
    if kind == 2:
        return (y * (1 + 1.5 * sigma * normal(y, generator))).clamp(0, 1)
    if kind == 3:
        smooth = blurred(normal(y, generator), 1.0)
        return (y + sigma * smooth / smooth.std()).clamp(0, 1)
    drawn = torch.from_numpy(generator.random(y[:, :1].shape))
    return torch.where(drawn < sigma / 2, 0.0, torch.where(drawn < sigma, 1.0, y))


def blurry(y: torch.Tensor, generator: Generator) -> torch.Tensor:
    """A Gaussian blur and a little noise."""
    x = blurred(y, generator.uniform(0.7, 3.0))
    return (x + generator.uniform(0, 0.02) * normal(y, generator)).clamp(0, 1)


def holed(y: torch.Tensor, generator: Generator) -> torch.Tensor:
    """Holes, most of them black: boxes, a cross, strokes, or all around."""
    value = 0.0 if generator.random() < 0.7 else float(generator.random())
    return torch.where(hole_like(y, generator), value, y)


def grey(y: torch.Tensor, generator: Generator) -> torch.Tensor:
    """Without colours."""
    return luma(y).expand_as(y)


def compressed(y: torch.Tensor, generator: Generator) -> torch.Tensor:
    """As JPEG of quality 5 to 60."""
    return torch.stack([_compressed(image, int(generator.integers(5, 60))) for image in y])


def shaken(y: torch.Tensor, generator: Generator) -> torch.Tensor:
    """Blurred along a line, as by a camera that moves, and a little noise."""
    length, angle = int(generator.integers(5, 16)), generator.uniform(0, np.pi)
    steps = np.linspace(-(length - 1) / 2, (length - 1) / 2, 2 * length)
    moved = [_moved(y, step * np.sin(angle), step * np.cos(angle)) for step in steps]
    x = torch.stack(moved).mean(dim=0)
    return (x + generator.uniform(0, 0.02) * normal(y, generator)).clamp(0, 1)


def striped(y: torch.Tensor, generator: Generator) -> torch.Tensor:
    """Rows or columns brighter and darker, as scanning detectors have them."""
    sigma = generator.uniform(0.02, 0.15)
    shape = (len(y), 1, y.shape[-2], 1) if generator.random() < 0.5 else (len(y), 1, 1, y.shape[-1])
    stripes = torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))
    return (y * (1 + sigma * stripes)).clamp(0, 1)


def coarse(y: torch.Tensor, generator: Generator) -> torch.Tensor:
    """Of 4 to 16 grey values."""
    values = float(generator.integers(3, 16))
    return (y * values).round() / values


def other_light(y: torch.Tensor, generator: Generator) -> torch.Tensor:
    """As if by another microscope: grey values bent, turned over and blurred, the same way every time."""
    x = blurred(y.mean(dim=1, keepdim=True).expand_as(y), 1.0)
    return (0.9 - 0.8 * x.clamp(min=1e-4) ** 0.5).clamp(0, 1)


DEGRADATIONS: Mapping[str, Degradation] = {
    "smaller": smaller,
    "noisy": noisy,
    "blurry": blurry,
    "holed": holed,
    "compressed": compressed,
    "grey": grey,
    "shaken": shaken,
    "striped": striped,
    "coarse": coarse,
    "other_light": other_light,
}


def hole_like(y: torch.Tensor, generator: Generator) -> torch.Tensor:
    """(N, 1, H, W), True in the hole."""
    return torch.stack([torch.from_numpy(_hole(*y.shape[-2:], generator))[None] for _ in y])


def _hole(height: int, width: int, generator: Generator) -> np.ndarray:
    hole, kind = np.zeros((height, width), bool), generator.integers(4)
    if kind == 0:
        for _ in range(generator.integers(1, 6)):
            h, w = generator.integers(6, height // 3), generator.integers(6, width // 3)
            top, left = generator.integers(height - h), generator.integers(width - w)
            hole[top : top + h, left : left + w] = True
    elif kind == 1:
        thick = int(generator.integers(4, height // 6))
        top, left = generator.integers(height - thick), generator.integers(width - thick)
        hole[top : top + thick] = hole[:, left : left + thick] = True
    elif kind == 2:
        rows, columns = np.mgrid[:height, :width]
        for _ in range(generator.integers(2, 8)):
            angle, radius = generator.uniform(0, np.pi), generator.uniform(1, 5)
            middle = generator.integers(height), generator.integers(width)
            away = (rows - middle[0]) * np.cos(angle) + (columns - middle[1]) * np.sin(angle)
            along = (columns - middle[1]) * np.cos(angle) - (rows - middle[0]) * np.sin(angle)
            hole |= (abs(away) < radius) & (abs(along) < generator.uniform(10, 60))
    else:
        edge = int(generator.integers(6, height // 5))
        hole[:] = True
        hole[edge:-edge, edge:-edge] = False
    return hole


def blurred(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """By a Gaussian."""
    half = int(3 * sigma + 1)
    weights = torch.exp(-0.5 * (torch.arange(-half, half + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).to(images.dtype)
    planes = F.pad(images.flatten(0, 1)[:, None], (half,) * 4, mode="reflect")
    across = F.conv2d(F.conv2d(planes, weights[None, None, :, None]), weights[None, None, None])
    return across.reshape(images.shape)


def sharp(images: torch.Tensor, by: float, sigma: float) -> torch.Tensor:
    """With so many times what a Gaussian blur takes away added."""
    return (images + by * (images - blurred(images, sigma))).clamp(0, 1)


def _moved(images: torch.Tensor, down: float, right: float) -> torch.Tensor:
    """By parts of pixels, the edge repeated."""
    height, width = images.shape[-2:]
    rows = [[1.0, 0.0, 2 * right / width], [0.0, 1.0, 2 * down / height]]
    shift = torch.tensor([rows], dtype=torch.float32)
    grid = F.affine_grid(shift.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def normal(images: torch.Tensor, generator: Generator) -> torch.Tensor:
    """Independent normal values."""
    return torch.from_numpy(generator.standard_normal(images.shape, dtype=np.float32))


def _compressed(image: torch.Tensor, quality: int) -> torch.Tensor:
    values = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    with io.BytesIO() as file:
        Image.fromarray(values.squeeze()).save(file, "JPEG", quality=quality)
        read = np.asarray(Image.open(file), dtype=np.float32) / 255
    return torch.from_numpy(read.reshape(values.shape)).permute(2, 0, 1)
