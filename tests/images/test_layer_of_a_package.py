"""A kind of layer that another package adds: found, read, batched, tiled and scored without a change here."""

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

import conformask as cm
from conformask.errors import ImageError, MismatchError
from conformask.images.read import read_image
from conformask.masker.write import write_masks
from conformask.scores.scorer import Scorer
from installed import install
from synthetic_triplets import arrays

MODULE = "from conformask.images.layers import LayerKind\n\nDEPTH = LayerKind('depth')\n"
SIDE = 32


class ByDepth(Scorer):
    """The depth itself, as a score."""

    name = "by depth"
    channels = 1
    layers = ("depth",)

    def __call__(self, x, y_hat, *layers):
        (depth,) = layers
        return cm.Score(depth)


class Items(Dataset):
    """Items with all images by name."""

    def __init__(self, columns):
        self.columns = columns

    def __len__(self):
        return len(self.columns["x"])

    def __getitem__(self, index):
        return {role: torch.from_numpy(images[index])[None] for role, images in self.columns.items()}


@pytest.fixture
def columns(tmp_path, found_in):
    install(
        tmp_path / "site",
        "depth-of-images",
        {"conformask.layers": {"depth": "depth_of_images:DEPTH"}},
        MODULE,
    )
    found_in(tmp_path / "site")
    x, y_hat, y = (images[..., 0] for images in arrays(30, 0, (SIDE, SIDE)))
    images = {"x": x, "y_hat": y_hat, "y": y}
    return images | {"depth": 5 + 100 * np.abs(images["y"] - images["y_hat"])}


def write(folder, columns):
    for role, images in columns.items():
        (folder / role).mkdir(parents=True)
        for index, image in enumerate(images):
            np.save(folder / role / f"{index:03d}.npy", image)
    return folder


def test_all_ways_to_give_it_read_the_same(tmp_path, columns):
    data = write(tmp_path / "data", columns)
    lines = [f"{role}/{{0:03d}}.npy" for role in columns]
    manifest = data.parent / "manifest.csv"
    rows = [",".join(f"data/{line.format(index)}" for line in lines) for index in range(30)]
    manifest.write_text("\n".join([",".join(columns), *rows]))
    x, y_hat, y, depth = columns.values()
    given = (
        cm.Triplets.from_folder(data),
        cm.Triplets.from_manifest(manifest),
        cm.Triplets.from_arrays(x, y_hat, y, layers={"depth": depth}),
        cm.Triplets.from_dataset(Items(columns)),
    )
    for triplets in given:
        assert triplets.has("depth")
        np.testing.assert_array_equal(triplets[7].layers["depth"][0], depth[7])
        (batch,) = triplets.select(range(3)).batches()
        assert batch.to(torch.device("cpu")).layers["depth"].shape == (3, 1, SIDE, SIDE)


def test_faults_name_it(tmp_path, columns):
    data = write(tmp_path / "data", columns)
    np.save(data / "depth" / "003.npy", columns["depth"][3][:5])
    with pytest.raises(ImageError, match=r"depth/003.npy has 5 x 32 pixels, but y_hat has 32 x 32"):
        cm.Triplets.from_folder(data)[3]
    np.save(data / "depth" / "003.npy", np.full((SIDE, SIDE), np.nan, np.float32))
    with pytest.raises(ImageError, match=r"depth/003.npy holds NaN"):
        cm.Triplets.from_folder(data)[3]


def test_a_score_takes_it_in_one_pass_and_by_tiles(tmp_path, columns):
    x, y_hat, y, depth = columns.values()
    images = cm.Triplets.from_arrays(x, y_hat, y, layers={"depth": depth})
    masker = cm.calibrate(ByDepth(), images, threshold=0.02, loss="l1", family="binary", level="one")
    shown = masker(images[0]) == 1
    assert depth[0][shown].max() < depth[0][~shown].min(), "the score is the depth"
    bare = cm.Triplets.from_arrays(x, y_hat)
    with pytest.raises(MismatchError, match="comes without the depth that its score needs"):
        masker(bare[0])

    large = {role: np.tile(of_role[:1], (1, 40, 3)) for role, of_role in columns.items() if role != "y"}
    new = cm.Triplets.from_folder(write(tmp_path / "new", large))
    with pytest.warns(cm.ConformaskWarning, match="scored by tiles"):
        write_masks(masker, new, tmp_path / "masks")
    (path,) = (tmp_path / "masks" / "masks").iterdir()
    np.testing.assert_array_equal(read_image(path)[0], np.tile(shown, (40, 3)))
