"""What is promised about denoised tomograms, and what a missing wedge and the wrong half leave unpromised?

    python research/tomograms.py  # five minutes of a core

Writes research/results/tomograms.json and the picture of docs/how-to/tomograms.md. Specimens are simulated:
shells and grains in a volume, without the Fourier coefficients between 60 and 90 degrees of tilt. Three parts
a, b and c of the exposure have independent noise. The output is a Gaussian filter of a, of the mean of b and
c, or of the mean of all; b and c are the repeats.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

import conformask as cm

ROOT = Path(__file__).parents[1]
RECORD, PICTURE = ROOT / "research" / "results" / "tomograms.json", ROOT / "docs" / "images" / "tomograms.png"
SIZE, TILT, NOISE, SMOOTH = (32, 64, 64), 60, 0.35, 1.0
RANGE = (-4, 5)
N = {"selection": 20, "calibration": 60, "test": 200}
THRESHOLD = 0.00007
ZOOM, GAP, HIDDEN = 3, 8, (235, 225, 205)


def specimen(generator: np.random.Generator) -> np.ndarray:
    """Return density from 0 to about 1: eight shells and thirty grains."""
    z, y, x = np.indices(SIZE)
    density = np.zeros(SIZE)
    for radius, width in [*((generator.uniform(5, 11), 1.2) for _ in range(8)), *((1.5, 1.5),) * 30]:
        centre = [generator.uniform(0, side) for side in SIZE]
        distance = np.sqrt((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2)
        density = np.maximum(density, np.exp(-(((distance - radius * (radius > 2)) / width) ** 2)))
    return density


def seen(volume: np.ndarray) -> np.ndarray:
    """Return the volume without the coefficients that no tilt about y up to TILT measures."""
    kz, _, kx = np.meshgrid(*(np.fft.fftfreq(side) for side in SIZE), indexing="ij")
    measured = np.abs(kz) <= np.tan(np.deg2rad(TILT)) * np.abs(kx) + (kx == 0) * (kz == 0) * 1e-9
    return np.fft.ifftn(np.fft.fftn(volume) * measured).real


def world(n: int, seed: int) -> dict[str, np.ndarray]:
    """Return specimens, what an endless exposure would show of them, and three parts of a real one."""
    generator = np.random.default_rng(seed)
    truths = [specimen(generator) for _ in range(n)]
    parts = [
        [seen(truth + NOISE * np.sqrt(3) * generator.standard_normal(SIZE)) for truth in truths]
        for _ in "abc"
    ]
    images = {
        "specimen": truths,
        "clean": [seen(truth) for truth in truths],
        **dict(zip("abc", parts, strict=True)),
    }
    return {name: unit(np.stack(stack)).astype(np.float32) for name, stack in images.items()}


def unit(values: np.ndarray) -> np.ndarray:
    return (values - RANGE[0]) / (RANGE[1] - RANGE[0])


def denoised(*parts: np.ndarray) -> np.ndarray:
    return np.stack([gaussian_filter(volume, SMOOTH) for volume in np.mean(parts, axis=0)])


def triplets(images: dict[str, np.ndarray], made_of: str) -> cm.Triplets:
    y_hat = denoised(*(images[name] for name in made_of))
    x = images["a"]
    return cm.Triplets.from_arrays(
        x[:, None],
        y_hat[:, None],
        images["b"][:, None],
        repeats=images["c"][:, None],
        reading=cm.Reading(axes="CZYX"),
    )


def measured(made_of: str, parts: dict[str, dict[str, np.ndarray]]) -> dict[str, float]:
    """Calibrate on outputs made of these parts; return what is hidden, and how often the error is within."""
    sets = {name: triplets(images, made_of) for name, images in parts.items()}
    masker = cm.calibrate(
        cm.Heuristic(cm.residual, channels=1),
        sets["calibration"],
        threshold=THRESHOLD,
        loss=cm.CleanMean("l2"),
        selection=sets["selection"],
    )
    test, masks = parts["test"], [masker(triplet) for triplet in sets["test"]]
    y_hat = [triplet.y_hat[0] for triplet in sets["test"]]
    rows = {"hidden": float(np.mean([1 - mask.mean() for mask in masks])), "n": len(masks)}
    for name in ("clean", "specimen"):
        errors = [float((m * (y - o) ** 2).mean()) for m, y, o in zip(masks, test[name], y_hat, strict=True)]
        rows[f"within_{name}"] = float(np.mean(np.array(errors) <= THRESHOLD))
    if made_of == "a":
        draw(test, y_hat, masks)
    return rows


def draw(test: dict[str, np.ndarray], y_hat: list[np.ndarray], masks: list[np.ndarray]) -> None:
    """Write the XZ plane through the middle of a test tomogram."""
    middle = SIZE[1] // 2
    planes = [volume[0][:, middle] for volume in (test["specimen"], test["clean"], test["a"], y_hat)]
    grey = [np.clip((plane - unit(np.array(-0.5))) / (1.6 / (RANGE[1] - RANGE[0])), 0, 1) for plane in planes]
    tiles = [np.repeat(np.uint8(255 * plane)[..., None], 3, axis=-1) for plane in grey]
    tiles.append(np.where(masks[0][:, middle, :, None] > 0, tiles[-1], np.array(HIDDEN, np.uint8)))
    height, width = ZOOM * SIZE[0], ZOOM * SIZE[2]
    canvas = Image.new("RGB", (len(tiles) * (width + GAP) - GAP, height), "white")
    for place, tile in enumerate(tiles):
        picture = Image.fromarray(tile).resize((width, height), Image.Resampling.NEAREST)
        canvas.paste(picture, (place * (width + GAP), 0))
    canvas.quantize(128).save(PICTURE, optimize=True)


def main() -> None:
    parts = {name: world(n, seed) for seed, (name, n) in enumerate(N.items())}
    record = {"threshold": THRESHOLD} | {made: measured(made, parts) for made in ("a", "bc", "abc")}
    RECORD.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
