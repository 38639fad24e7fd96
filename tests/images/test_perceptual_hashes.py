"""Copies are found and other images are not, on packaged photographs and on real data of several kinds."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from conformask.images.read import Image
from conformask.images.scan import find_copies, perceptual_hash
from photographs import packaged_photographs

SIDE = 96
DATA = Path(__file__).parents[2].parent / "shared" / "data"


def scenes() -> list[Image]:
    """Tiles of photographs that show different things, and anything at all, (3, H, W)."""
    tiles = []
    for pixels in packaged_photographs().values():
        image = np.moveaxis(pixels.astype(np.float32) / 255, -1, 0)
        tiles += [image[:, :SIDE, :SIDE], image[:, -SIDE:, -SIDE:]]
    return [tile for tile in tiles if tile.std() > 0.05]


def pillow(image: Image) -> Pillow.Image:
    return Pillow.fromarray(np.rint(255 * np.moveaxis(image, 0, -1).clip(0, 1)).astype(np.uint8).squeeze())


def array(image: Pillow.Image) -> Image:
    return np.moveaxis(np.atleast_3d(np.asarray(image, np.float32) / 255), -1, 0)


def saved_again(image: Image) -> Image:
    buffer = io.BytesIO()
    pillow(image).save(buffer, "JPEG", quality=50)
    return array(Pillow.open(buffer))


def halved(image: Image) -> Image:
    picture = pillow(image)
    return array(picture.resize((picture.width // 2, picture.height // 2), Pillow.Resampling.BICUBIC))


def noisy(image: Image) -> Image:
    return (image + np.random.default_rng(0).normal(0, 0.04, image.shape)).clip(0, 1).astype(np.float32)


def cropped(image: Image, share: float = 0.95) -> Image:
    height, width = (round(share * side) for side in image.shape[1:])
    top, left = (image.shape[1] - height) // 3, image.shape[2] - width
    return image[:, top : top + height, left : left + width]


CHANGES: dict[str, Callable[[Image], Image]] = {
    "the same": lambda image: image,
    "saved again": saved_again,
    "mirrored": lambda image: image[:, :, ::-1],
    "upside down": lambda image: image[:, ::-1],
    "turned": lambda image: np.rot90(image, axes=(1, 2)),
    "turned back and mirrored": lambda image: np.rot90(image, 3, axes=(1, 2))[:, ::-1],
    "halved": halved,
    "grey": lambda image: image.mean(axis=0, keepdims=True),
    "brightened": lambda image: 0.7 * image + 0.15,
    "noisy": noisy,
    "cropped": cropped,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_copies_are_found_from_either_side_and_nothing_else(change: Callable[[Image], Image]) -> None:
    perceptual_hashes = np.stack([perceptual_hash(image) for image in scenes()])
    changed = np.stack([perceptual_hash(np.ascontiguousarray(change(image))) for image in scenes()])
    same = [(place, place) for place in range(len(perceptual_hashes))]
    assert find_copies(changed, perceptual_hashes) == same
    assert find_copies(perceptual_hashes, changed) == same


def test_empty_fields_are_no_copies_of_each_other() -> None:
    generator = np.random.default_rng(0)
    empty = [np.full((1, 64, 64), level) + generator.normal(0, 1e-3, (1, 64, 64)) for level in (0.1, 0.5)]
    black = np.zeros((1, 64, 64))
    perceptual_hashes = np.stack(
        [perceptual_hash(image.astype(np.float32)) for image in (*empty, black, black)]
    )
    assert find_copies(perceptual_hashes, perceptual_hashes) == []


def test_shading_that_all_images_share_makes_no_copies() -> None:
    generator = np.random.default_rng(0)
    shade = np.linspace(0, 0.7, 64)[None, :, None]
    perceptual_hashes = np.stack(
        [perceptual_hash(shade + 0.3 * generator.random((1, 64, 64))) for _ in range(40)]
    )
    assert find_copies(perceptual_hashes, perceptual_hashes) == [(place, place) for place in range(40)]


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (64, 64), (500, 70)])
def test_any_size_has_a_look(size: tuple[int, int]) -> None:
    look = perceptual_hash(np.random.default_rng(1).random((3, *size), dtype=np.float32))
    assert look.shape == (28, 32)
    assert look.dtype == np.uint8


REAL = {"photos": "*.jpg", "nuclei": "*.png", "cells": "*.png", "oct": "*_clean.png"}


@pytest.mark.thorough
@pytest.mark.parametrize("kind", REAL)
def test_real_images(kind: str) -> None:
    """Of 200 images of a kind copies are found, and at most one pair of others (nuclei repeat a field)."""
    files = sorted((DATA / kind).glob(REAL[kind]))[:200]
    if not files:
        pytest.skip(f"{DATA / kind} is not there")
    images = [array(Pillow.open(file).convert("L")) for file in files]
    perceptual_hashes = np.stack([perceptual_hash(image) for image in images])
    others = [(a, b) for a, b in find_copies(perceptual_hashes, perceptual_hashes) if a < b]
    assert len(others) <= 1
    for name in ("saved again", "mirrored", "turned", "halved", "brightened", "cropped"):
        changed = [perceptual_hash(np.ascontiguousarray(CHANGES[name](image))) for image in images[::4]]
        found = sum(
            bool(find_copies(look[None], perceptual_hashes[4 * k : 4 * k + 1]))
            for k, look in enumerate(changed)
        )
        assert found >= 0.95 * len(changed), name
