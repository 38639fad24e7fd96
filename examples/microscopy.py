# %% [markdown]
# # Microscopy: which structures in a restored image can be trusted?
#
# Run it as `python examples/microscopy.py [FOLDER]`, or cell by cell in an editor or a notebook. FOLDER
# holds sharp images of your own (TIFF or PNG, one grey channel); say with `--data-range LOW HIGH` which
# values are black and white where the file type does not. Without a folder, fields of fluorescent cells are
# drawn by a seeded generator: the images below are synthetic, and nothing is downloaded.

# %%
import argparse
import csv
import sys
from pathlib import Path

import numpy as np
import tifffile
import torch
from scipy.ndimage import gaussian_filter

import conformask as cm
from conformask.extras.make.triplets import TrueImages
from conformask.scores.networks import UNet

parser = argparse.ArgumentParser()
parser.add_argument("folder", nargs="?", type=Path, help="a folder of sharp images")
parser.add_argument("--data-range", nargs=2, type=float, help="values of black and white in the files")
parser.add_argument("--out", type=Path, default=Path("examples/out/microscopy"))
parser.add_argument("--epochs", type=int, default=16, help="how long each of the two networks is trained")
options = parser.parse_args([] if "ipykernel" in sys.modules else None)
TILE, FIELD, FIELDS = 64, 128, 100
CAMERA = (0, 4095)
generator = np.random.default_rng(1)

# %% [markdown]
# ## 1. Fields
#
# A camera of 12 bits writes its counts into 16-bit TIFF files. The type of the file says 0 to 65535, so the
# range has to be told: `data_range=(0, 4095)`. It is never guessed from the content of an image.


# %%
def field(size: int) -> np.ndarray:
    """Counts of one field: nuclei with a rough texture, thin fibres between them, and a few bright spots."""
    rows, columns = np.mgrid[:size, :size]
    image = np.zeros((size, size))
    for _ in range(generator.integers(3, 12)):
        (row, column), (long, short) = generator.uniform(0, size, 2), generator.uniform(6, 13, 2)
        angle, bright = generator.uniform(0, np.pi), generator.uniform(0.3, 0.7)
        along = (rows - row) * np.cos(angle) + (columns - column) * np.sin(angle)
        across = (columns - column) * np.cos(angle) - (rows - row) * np.sin(angle)
        inside = 1 / (1 + np.exp(8 * (np.hypot(along / long, across / short) - 1)))
        texture = gaussian_filter(generator.normal(0, 1, image.shape), 1.2)
        image = np.maximum(image, bright * inside * (1 + 0.8 * texture))
    for _ in range(generator.integers(4, 16)):
        steps = np.cumsum(generator.normal(0, 0.12, 80)) + generator.uniform(0, 2 * np.pi)
        path = generator.uniform(0, size, (2, 1)) + np.cumsum([np.sin(steps), np.cos(steps)], axis=1)
        row, column = path.astype(int)
        seen = (row >= 0) & (row < size) & (column >= 0) & (column < size)
        image[row[seen], column[seen]] += generator.uniform(0.3, 0.8)
    spots = generator.integers(0, size, (2, generator.integers(5, 30)))
    image[tuple(spots)] += generator.uniform(1, 4, spots.shape[1])
    return gaussian_filter(image, 0.8).clip(0, 1) * 0.9 + 0.03


folder, data_range = options.folder, options.data_range and tuple(options.data_range)
if folder is None:
    folder, data_range = options.out / "fields", CAMERA
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(FIELDS):
        counts = np.rint(field(FIELD) * CAMERA[1]).astype(np.uint16)
        tifffile.imwrite(folder / f"field{index:03d}.tif", counts)

# %% [markdown]
# Each field is cut into tiles. Tiles of one field resemble each other, so they are no independent images:
# whole fields go to training, selection, calibration or test, and the name of its field is the group of
# each tile.

# %%
tiles = TrueImages.from_folder(folder, TILE, TILE, split="file", data_range=data_range)
part_of = {source.name: source.part for source in tiles.sources}
group_of = {source.name: source.group for source in tiles.sources}
sharp = {source.name: image for source, image in tiles}
print(f"{len(tiles)} tiles of {len(set(tiles.groups))} fields")


def low_light(y: np.ndarray) -> np.ndarray:
    """The field in little light: photons come at random, and the camera adds noise of its own."""
    return (generator.poisson(30 * y) / 30 + generator.normal(0, 0.03, y.shape)).clip(0, 1).astype(np.float32)


noisy = {name: low_light(y) for name, y in sharp.items()}

# %% [markdown]
# ## 2. The restoration network
#
# This is the network that your laboratory has already: here a small U-Net, trained for a minute on the
# training fields. conformask does not care what it is or how good it is.

# %%
torch.manual_seed(0)
network = UNet(1, 1, width=8, levels=4)
optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
training = [name for name, part in part_of.items() if part == "train"]
for _ in range(options.epochs):
    for chosen in np.array_split(generator.permutation(training), max(1, len(training) // 16)):
        x, y = (torch.from_numpy(np.stack([images[name] for name in chosen])) for images in (noisy, sharp))
        loss = (network(x) - y).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
print(f"the network's error on its training tiles: {loss.item():.3f}")

network.eval()
with torch.no_grad():
    restored = {name: network(torch.from_numpy(x)[None])[0].clamp(0, 1).numpy() for name, x in noisy.items()}

# %% [markdown]
# ## 3. Triplets on disk
#
# `x`, `y_hat` and `y` as 16-bit TIFF and a `manifest.csv` that names the group and the part of each: a
# folder that every command of conformask takes. If you have such files, this is where you begin.


# %%
def write(path: Path, image: np.ndarray) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, np.rint(image[0] * CAMERA[1]).astype(np.uint16))
    return str(path.relative_to(data))


data = options.out / "data"
rows = []
for name in sharp:
    files = {"x": noisy[name], "y_hat": restored[name], "y": sharp[name]}
    paths = {role: write(data / role / f"{name}.tif", image) for role, image in files.items()}
    rows.append({"name": name, **paths, "group": group_of[name], "split": part_of[name]})
with (data / "manifest.csv").open("w", newline="") as file:
    writer = csv.DictWriter(file, rows[0])
    writer.writeheader()
    writer.writerows(rows)
split = cm.Triplets.from_folder(data, data_range=CAMERA).split()
print(split.calibration)

# %% [markdown]
# ## 4. Score, threshold, promise
#
# The guarantee `groups` is about a tile of a new field, and counts fields, not tiles. For a confidence of 0.9
# it needs at least nine fields for selection and nine for calibration: about a hundred in all. Most of a
# field is background, so we take the threshold that hides about a seventh of a tile.

# %%
scorer = cm.fit_scorer(
    split.train,
    selection=split.selection,
    loss="l1",
    training=cm.TrainingConfig(epochs=options.epochs, resume=True),
    network=cm.NetworkOptions(width=8),
    out=options.out / f"scorer-{options.epochs}-epochs",
)
choices = cm.threshold_choices(scorer, promise=cm.Promise("groups", confidence=0.9))
threshold = min(choices, key=lambda choice: abs(choice.mask_size - 0.15)).threshold
masker = cm.calibrate(
    scorer, split.calibration, threshold=threshold, promise=cm.Promise("groups", confidence=0.9)
)
masker.save(options.out / "masker")
print("promise:", masker.sentence)
masker

# %% [markdown]
# ## 5. Was the promise kept?

# %%
evaluation = cm.evaluate(masker, split.test, out=options.out)
cm.write_report(evaluation, options.out / "report.html")
fields = len(set(split.test.groups))
print(f"coverage on {evaluation.n_test} test images: {evaluation.coverage:.1%}, promised 90%")
print(f"they are tiles of {fields} fields; mean mask size {evaluation.mask_size:.2f}")
evaluation

# %% [markdown]
# ## 6. Look
#
# Bright in the mask is trusted. What the network has smoothed away, faint fibres and spots, should be
# hatched. The masker takes numbers of the camera; batches hold them in [0, 1]. The last tile is that
# of the largest loss in the test.

# %%
images = evaluation.images
within = np.flatnonzero(images.passed)
easy_to_hard = within[np.argsort(images.size[within])]
places = (len(within) * np.array([0.4, 0.6, 0.8])).astype(int)
batch = next(split.test.select([*easy_to_hard[places], images.loss.argmax()]).batches(4))
figure = cm.show(masker, *(CAMERA[1] * image for image in (batch.x, batch.y_hat, batch.y)))
figure.save(options.out / "figure.png")
figure
