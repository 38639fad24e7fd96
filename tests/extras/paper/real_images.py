"""The real images that lie beside the repository."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[4] / "shared"
WEIGHTS = SHARED / "weights" / "torch"
PHOTOS, CELLS = 80, 12


@dataclass(frozen=True)
class Folders:
    """Images of both kinds."""

    photos: Path
    cells: Path


def some(kind: str, count: int, out: Path) -> Path:
    source = SHARED / "data" / kind
    if not source.is_dir():
        pytest.skip(f"no images at hand: {source} does not exist")
    out.mkdir(parents=True)
    for path in sorted(source.iterdir())[:count]:
        shutil.copy(path, out / path.name)
    return out
