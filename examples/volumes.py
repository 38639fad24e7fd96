# %% [markdown]
# # Volumes: which voxels of a denoised MR scan can be trusted?
#
# Run it as `python examples/volumes.py`, or cell by cell in an editor or a notebook. `--data FOLDER` takes
# NIfTI volumes of yours, one or several for each patient; say with `--pattern` which files, and with
# `--patient` what in their names says whose they are. Without it, small heads are made up by a seeded
# generator: two scans of each of 100 patients, and nothing is downloaded. It takes
# `pip install 'conformask[nifti]'`.

# %%
import argparse
import sys
from pathlib import Path

import nibabel
import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation
from skimage.restoration import denoise_tv_chambolle

import conformask as cm

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, help="a folder of NIfTI volumes")
parser.add_argument("--pattern", default="*_t1.nii.gz", help="which files of it")
parser.add_argument("--patient", default="^([^_]+)", help="a regular expression for their names")
parser.add_argument("--out", type=Path, default=Path("examples/out/volumes"))
parser.add_argument("--epochs", type=int, default=12, help="how long the scorer is trained")
options = parser.parse_args([] if "ipykernel" in sys.modules else None)
PATIENTS, SCANS, SIZE, SPACING = 100, 2, (52, 60, 16), (3.2, 3.2, 7.5)
NOISE, STRENGTH = 0.1, 0.1

# %% [markdown]
# ## 1. Scans
#
# Thick slices that stand oblique in the scanner, as NIfTI: the affine says where each voxel lies in the
# patient. Two scans of one patient share the anatomy, but not the lesions and the shading of the coil.


# %%
def smooth(generator: np.random.Generator, width: float) -> np.ndarray:
    """A random field with mean 0 and standard deviation 1."""
    field = gaussian_filter(generator.standard_normal(SIZE), width)
    return (field - field.mean()) / field.std()


def head(patient: int, scan: int) -> np.ndarray:
    """Skin, fluid, grey and white matter, ventricles, and lesions, brighter towards the coil."""
    anatomy, today = np.random.default_rng([patient]), np.random.default_rng([patient, scan])
    axes = np.stack(np.meshgrid(*(np.linspace(-1, 1, side) for side in SIZE), indexing="ij"), axis=-1)
    radius = np.linalg.norm(axes / anatomy.uniform(0.8, 0.95, 3), axis=-1) + 0.02 * smooth(anatomy, 4)
    folds = radius + anatomy.uniform(0.04, 0.08) * smooth(anatomy, 1.5)
    ventricles = np.linalg.norm((abs(axes) - (0.12, 0, 0)) / (0.1, 0.35, 0.3), axis=-1)
    image = np.select(
        [radius > 1, radius > 0.9, folds > 0.8, folds > 0.62, ventricles < 1], [0, 0.8, 0.15, 0.5, 0.15], 0.75
    )
    lesions = (smooth(today, 1) > today.uniform(2.2, 3)) & (folds < 0.62)
    image = np.where(lesions, 0.35, image) * (1 + 0.08 * smooth(anatomy, 0.7))
    return 1000 * gaussian_filter(image, 0.5) * (1 + 0.1 * smooth(today, 15))


scans, pattern = options.data, options.pattern
if scans is None:
    scans, pattern = options.out / "scans", "*_t1.nii.gz"
    scans.mkdir(parents=True, exist_ok=True)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xz", (14, 6), degrees=True).as_matrix() * SPACING
    affine[:3, 3] = (-80.5, -101.25, -47)
    for patient in range(PATIENTS):
        for scan in range(SCANS):
            volume = nibabel.Nifti1Image(head(patient, scan).astype(np.float32), affine)
            volume.to_filename(scans / f"sub-{patient:02d}_ses-{scan + 1}_t1.nii.gz")

# %% [markdown]
# ## 2. Triplets
#
# `y` is the scan, `x` has noise, and `y_hat` is what your network makes of `x`. Total variation, in three
# dimensions, stands in for it here. MR has no unit, so each scan is divided by its own bright end, and 0 and
# 1 become black and white. All three are written with the header of the scan: conformask refuses images that
# lie in different places.

# %%
data = options.out / "data"
for index, path in enumerate(sorted(scans.glob(pattern))):
    if (data / "y" / path.name).exists():
        continue
    scan = nibabel.load(path)
    values = scan.get_fdata(dtype=np.float32)
    y = (values / np.quantile(values, 0.999)).clip(0, 1)
    x = y + NOISE * np.random.default_rng(index).standard_normal(y.shape).astype(np.float32)
    y_hat = denoise_tv_chambolle(x, weight=STRENGTH).clip(0, 1)
    for role, image in {"x": x, "y_hat": y_hat, "y": y}.items():
        (data / role).mkdir(parents=True, exist_ok=True)
        nibabel.Nifti1Image(image.astype(np.float32), scan.affine).to_filename(data / role / path.name)

# %% [markdown]
# Scans of one patient resemble each other. The file names say whose they are, and whole patients go to
# training, selection, calibration or test, in fixed numbers, since patients tend to be few. Noise takes `x`
# below 0 and above 1: values outside the range are an error unless `clip` says that they are meant.

# %%
triplets = cm.Triplets.from_folder(data, reading=cm.Reading(clip="x"), group_from=options.patient)
split = triplets.split(seed=1, fractions=(0.45, 0.1, 0.25, 0.2))
print(split.calibration)
print(f"voxels of {triplets.geometry(0).text}, {triplets.geometry(0).orientation}")

# %% [markdown]
# ## 3. Score and promise
#
# The scorer sees a volume slice by slice, each with its two neighbours;
# `cm.NetworkOptions(volume_mode="volume")` takes a network in three dimensions. The loss is the largest mean
# error within 15 mm around a voxel that is shown, so that a bad place counts however large the volume, unless
# it is hidden; the threshold is one that a tenth of the selection scans meet without any mask. With
# `unit="group"` the promise is about every scan of a new patient, and takes nine patients.

# %%
scorer = cm.fit_scorer(
    split.train,
    selection=split.selection,
    loss=cm.Local("l1", "15mm"),
    training=cm.TrainingConfig(epochs=options.epochs, resume=True),
    network=cm.NetworkOptions(width=8),
    out=options.out / f"scorer-{options.epochs}-epochs",
)
masker = cm.calibrate(
    scorer, split.calibration, threshold="q0.1", promise=cm.Promise(confidence=0.9, unit="group")
)
masker.save(options.out / "masker")
print("promise:", masker.sentence)
masker

# %% [markdown]
# ## 4. Was the promise kept?

# %%
evaluation = cm.evaluate(masker, split.test, out=options.out)
cm.write_report(evaluation, options.out / "report.html")
patients = len(set(split.test.groups))
print(f"coverage on {evaluation.n_test} test images: {evaluation.coverage:.1%}, promised 90%")
low, high = evaluation.coverage_interval
print(f"it counts {patients} patients: 95% interval {low:.0%} to {high:.0%}")
print(f"mean mask size {evaluation.mask_size:.3f}")
evaluation

# %% [markdown]
# ## 5. Masks beside the scans
#
# A mask of a NIfTI volume is NIfTI with the header of `y_hat`. Open it as an overlay in 3D Slicer, ITK-SNAP
# or FSLeyes, and it lies over the scan.

# %%
masks = options.out / "masks"
cm.write_masks(masker, split.test, masks, overwrite=True)
names = sorted(path.name for path in (masks / "masks").iterdir())
for name in names:
    mask, scan = nibabel.load(masks / "masks" / name), nibabel.load(data / "y_hat" / name)
    assert mask.shape == scan.shape
    assert np.array_equal(mask.affine, scan.affine)
print(f"{len(names)} masks, each with the affine of its scan, such as {names[0]}")

# %% [markdown]
# ## 6. Look
#
# Of a volume three slices: where most is hidden, where the error is largest, and the middle. Near the crown
# and the base tissue changes from slice to slice, and total variation blurs it most.

# %%
hard = int(np.argsort(evaluation.images.size)[int(0.9 * len(split.test))])
volume = next(split.test.select([hard]).batches())
figure = cm.show(masker, volume.x, volume.y_hat, volume.y)
figure.save(options.out / "figure.png")
figure
