# %% [markdown]
# # Your own ONNX network: masks for it without reading its source
#
# Run it as `python examples/own_onnx.py [DATA] [--model NET.onnx]`, or cell by cell in an editor or a
# notebook. DATA holds `x/`, the inputs of your network, and `y/`, the truths, matched by name. Without
# them, blurred tiles of the photographs that scikit-image packages are used, and a small network that is
# trained and exported here stands in for yours. It needs `pip install 'conformask[onnx]'`.

# %%
import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

import conformask as cm
from conformask.extras.make.demonstration import packaged_photographs
from conformask.extras.make.predictors import custom_predictor
from conformask.extras.make.triplets import TrueImages, add_outputs
from conformask.images.read import write_image
from conformask.images.rows import Provenance
from conformask.records.record import write_json

parser = argparse.ArgumentParser()
parser.add_argument("data", nargs="?", type=Path, help="a folder with x/ and y/")
parser.add_argument("--model", type=Path, help="an .onnx file, (N, C, H, W) in [0, 1] to the same")
parser.add_argument("--out", type=Path, default=Path("examples/out/own_onnx"))
parser.add_argument("--epochs", type=int, default=16, help="how long each of the two networks is trained")
options = parser.parse_args([] if "ipykernel" in sys.modules else None)
TILE, BLUR = 64, 1.5
LEARNT_FROM = ("astronaut", "ihc")
generator = np.random.default_rng(0)

# %% [markdown]
# ## 1. A stand-in for your network
#
# It sharpens blurred colour photographs, was trained on two photographs that are not in DATA, and ends as
# a file. Skip this cell with `--model`.


# %%
class Sharpener(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, 16, 5, padding=2), nn.ReLU()),
            *(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()),
            nn.Conv2d(16, 3, 3, padding=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)


def blurred(y: np.ndarray, blur: float = BLUR) -> np.ndarray:
    soft = gaussian_filter(y, blur, axes=(-2, -1)) + generator.normal(0, 0.01, y.shape)
    return soft.clip(0, 1).astype(np.float32)


def tiles_of(chosen: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {source.name: image for source, image in TrueImages.from_arrays(chosen, TILE, TILE)}


photographs = packaged_photographs()
model = options.model
if model is None:
    torch.manual_seed(0)
    learnt_from = np.stack(list(tiles_of({name: photographs[name] for name in LEARNT_FROM}).values()))
    network = Sharpener()
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(options.epochs):
        for places in np.array_split(generator.permutation(len(learnt_from)), max(1, len(learnt_from) // 8)):
            y = torch.from_numpy(learnt_from[places])
            loss = (network(torch.from_numpy(blurred(learnt_from[places]))) - y).abs().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    model = options.out / "network.onnx"
    model.parent.mkdir(parents=True, exist_ok=True)
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        network.eval(),
        (y,),
        model,
        dynamo=True,
        dynamic_shapes=({0: batch},),
        external_data=False,
        verbose=False,
    )

# %% [markdown]
# ## 2. Your images
#
# A folder with `x/` and `y/`. The promise will be about new images like these; where they are tiles of a
# few photographs, it is about new tiles of these photographs, and `Provenance` lets every later sentence
# say so.

# %%
data = options.data
if data is None:
    data = options.out / "data"
    mine = tiles_of({name: image for name, image in photographs.items() if name not in LEARNT_FROM})
    for name, y in mine.items():
        write_image(data / "x" / f"{name}.png", blurred(y))
        write_image(data / "y" / f"{name}.png", y)
    Provenance(population="new tiles of these photographs").save(data)

# %% [markdown]
# ## 3. Run the network
#
# `add_outputs` is `conformask triplets DATA --predictor NET.onnx`: it runs the file on every `x` and writes
# `y_hat`. A TorchScript file or a function, `custom_predictor("package.module:function")`, do as well.

# %%
predictor = custom_predictor(str(model))
print(add_outputs(data, predictor), "outputs of", predictor.name)
triplets = cm.Triplets.from_folder(data)
split = triplets.split(seed=1)
print(triplets)

# %% [markdown]
# ## 4. Score, threshold, promise

# %%
scorer = cm.fit_scorer(
    split.train,
    selection=split.selection,
    loss="l1",
    training=cm.TrainingConfig(epochs=options.epochs, resume=True),
    network=cm.NetworkOptions(width=8),
    out=options.out / f"scorer-{options.epochs}-epochs",
)
choices = cm.threshold_choices(scorer, promise=cm.Promise(confidence=0.9))
threshold = min(choices, key=lambda choice: abs(choice.mask_size - 0.25)).threshold
masker = cm.calibrate(scorer, split.calibration, threshold=threshold, promise=cm.Promise(confidence=0.9))
masker.save(options.out / "masker")
print("promise:", masker.sentence)
masker

# %%
evaluation = cm.evaluate(masker, split.test, out=options.out)
print(f"coverage on {evaluation.n_test} test images: {evaluation.coverage:.1%}, promised 90%")
print(f"mean mask size {evaluation.mask_size:.2f}")
evaluation

# %%
images = evaluation.images
within = np.flatnonzero(images.passed)
easy_to_hard = within[np.argsort(images.size[within])]
places = (len(within) * np.array([0.4, 0.8])).astype(int)
batch = next(split.test.select([*easy_to_hard[places], images.loss.argmax()]).batches(3))
figure = cm.show(masker, batch.x, batch.y_hat, batch.y)
figure.save(options.out / "figure.png")
figure

# %% [markdown]
# ## 5. A new image
#
# From a saved masker, with no truth and no training: this is all that runs in your program.

# %%
masker = cm.load(options.out / "masker")
x = next(iter(split.test)).x
y_hat = predictor(torch.from_numpy(x)[None])[0].numpy()
x, y_hat = (np.moveaxis(image, 0, -1) for image in (x, y_hat))
mask = masker(x, y_hat)
print(f"a new image: {1 - mask.mean():.0%} of it is masked out")
cm.show(masker, x, y_hat).save(options.out / "new-image.png")

# %% [markdown]
# ## 6. Does the promise still apply?
#
# It is about images like those of the calibration. `cm.monitor` compares new ones with them, before any
# truth is known. The test images should pass; the same images darker and with twice the blur should not.

# %%
truths = [triplet.truth() for triplet in split.test]
darker = [blurred(0.5 * y, 2 * BLUR) for y in truths]
outputs = predictor(torch.from_numpy(np.stack(darker))).numpy()
shifted = cm.Triplets.from_arrays(
    *([np.moveaxis(image, 0, -1) for image in images] for images in (darker, outputs))
)
found = {"unshifted": cm.monitor(masker, split.test), "shifted": cm.monitor(masker, shifted)}
for name, monitoring in found.items():
    verdict = "calibrate again" if monitoring.shifted else "like the calibration images"
    print(f"{name}: p = {monitoring.p_value:.2g}, {verdict}")
write_json(options.out / "monitoring.json", {name: each.p_value for name, each in found.items()})
