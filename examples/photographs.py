# %% [markdown]
# # Photographs: which details of an enlarged picture can be trusted?
#
# Run it as `python examples/photographs.py [FOLDER]`, or cell by cell in an editor or a notebook. FOLDER
# holds your photographs; without one, those that scikit-image packages are used and nothing is downloaded.

# %%
import argparse
import sys
from pathlib import Path

import numpy as np

import conformask as cm
from conformask.extras.make.demonstration import packaged_photographs
from conformask.extras.make.predictors import Bicubic
from conformask.extras.make.tasks import task
from conformask.extras.make.triplets import TrueImages, write_triplets

parser = argparse.ArgumentParser()
parser.add_argument("folder", nargs="?", type=Path, help="a folder of photographs")
parser.add_argument("--out", type=Path, default=Path("examples/out/photographs"))
parser.add_argument("--epochs", type=int, default=16, help="how long the scorer is trained")
options = parser.parse_args([] if "ipykernel" in sys.modules else None)
TILE, STRIDE = 64, 80

# %% [markdown]
# ## 1. Triplets
#
# Everything starts from triplets: `x`, the small picture; `y_hat`, what your network makes of it; `y`, the
# truth. Here the task makes `x` from `y` (four times smaller), and bicubic interpolation stands in for your
# network: put your own in its place, or bring triplets that you have (`examples/own_onnx.py` does).
#
# Tiles of the photographs are dealt to training, selection, calibration and test, so the promise below is
# about new tiles of these photographs, not about the photographs of somebody else; `population` says so.

# %%
if options.folder:
    photographs = TrueImages.from_folder(options.folder, TILE, STRIDE, split="tile", seed=1, colour=True)
else:
    photographs = TrueImages.from_arrays(packaged_photographs(), TILE, STRIDE, split="tile", seed=1)
super_resolution = task("super_resolution")
data = options.out / "data"
if not (data / "manifest.csv").exists():
    write_triplets(
        photographs,
        data,
        task=super_resolution,
        predictor=Bicubic(super_resolution),
        population="new tiles of these photographs",
    )
split = cm.Triplets.from_folder(data).split()
print(split.train)

# %% [markdown]
# ## 2. A score of distrust
#
# A small network learns where the enlargement is usually wrong. The loss says what "wrong" means to you: here
# the mean absolute error of a pixel; `loss="ssim"` would ask for structure instead.

# %%
scorer = cm.fit_scorer(
    split.train,
    selection=split.selection,
    loss="l1",
    training=cm.TrainingConfig(epochs=options.epochs, resume=True),
    network=cm.NetworkOptions(width=8),
    out=options.out / f"scorer-{options.epochs}-epochs",
)

# %% [markdown]
# ## 3. Choose a threshold
#
# A threshold is a matter of taste: how much difference do you accept in what stays visible? The selection
# images, which the promise does not rest on, say what each choice would cost. We take the one that
# hides about a quarter of a picture.

# %%
choices = cm.threshold_choices(scorer, promise=cm.Promise(confidence=0.9))
for choice in choices:
    print(f"L1 <= {choice.threshold:.3f}: {choice.pass_rate:4.0%} pass unmasked, size {choice.mask_size:.2f}")
threshold = min(choices, key=lambda choice: abs(choice.mask_size - 0.25)).threshold

# %% [markdown]
# ## 4. Calibrate
#
# From here on the masks keep a promise, in finite samples and whatever the network does.

# %%
masker = cm.calibrate(scorer, split.calibration, threshold=threshold, promise=cm.Promise(confidence=0.9))
masker.save(options.out / "masker")
print("promise:", masker.sentence)
masker  # a notebook shows what holds and what does not

# %% [markdown]
# ## 5. Was the promise kept?
#
# The test tiles took part in no choice. `report.html` holds all figures; `evaluation.table()` gives one
# row for each image, `evaluation.to_frame()` a DataFrame.

# %%
evaluation = cm.evaluate(masker, split.test, out=options.out)
cm.write_report(evaluation, options.out / "report.html")
worst = max(evaluation.table(), key=lambda record: record["loss"])
print(f"coverage on {evaluation.n_test} test images: {evaluation.coverage:.1%}, promised 90%")
print(f"mean mask size {evaluation.mask_size:.2f}; the largest loss under a mask is that of {worst['name']}")
evaluation

# %% [markdown]
# ## 6. Look
#
# `cm.show` takes one image or a batch. Give it the truth, where you have it, to see the error too; in daily
# use there is none, and `cm.show(masker, x, y_hat)` or `masker(x, y_hat)` is all you call. Three tiles
# within the threshold, easy ones first, and last the one of the largest loss in the test.

# %%
images = evaluation.images
within = np.flatnonzero(images.passed)
easy_to_hard = within[np.argsort(images.size[within])]
places = (len(within) * np.array([0.4, 0.6, 0.8])).astype(int)
batch = next(split.test.select([*easy_to_hard[places], images.loss.argmax()]).batches(4))
figure = cm.show(masker, batch.x, batch.y_hat, batch.y)
figure.save(options.out / "figure.png")
figure

# %% [markdown]
# ## 7. Another promise from the same images
#
# The curves of the calibration images are kept, so that a stricter promise takes milliseconds and no
# images. Its card says `exploratory`: we looked at the evaluation before we asked for it.

# %%
stricter = masker.recalibrate(confidence=0.95)
print("promise:", stricter.sentence)
cm.show(stricter, batch.x, batch.y_hat, batch.y).save(options.out / "stricter.png")
