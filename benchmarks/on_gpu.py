"""The same work on this machine's GPU and on its CPU, and whether the masks agree: see on_gpu.sh.

Crops of scikit-image's photographs, reduced to a quarter and enlarged by bicubic interpolation. Each device
works in a process of its own, the CPU's with the GPU hidden: training the paper's network, scores of the
packaged network, a calibration, masks from disk to disk, and the exported ONNX. The GPU also runs one row of
the paper's table, as long as PAPER_SECONDS. Masks agree as far as an exported file has to agree with PyTorch
(`conformask.extras.export.onnx`). Without a GPU both processes use the CPU. Writes one JSON.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import onnxruntime
import torch
from torch.nn.functional import interpolate

import conformask as cm
from conformask.arrays import Batch, best_device
from conformask.extras.export.onnx import TOLERANCE, Case, Difference, difference
from conformask.extras.make.demonstration import packaged_photographs
from conformask.images.read import write_image
from conformask.records.record import write_json
from conformask.scores.network_scorer import network_input, ready
from conformask.scores.scorer import score_of
from conformask.scores.untrained import packaged_network

RESULTS = Path(__file__).parent / "results" / "on_gpu.json"
PAPER_SECONDS = 600
OUTPUTS = "outputs.pt"
COMPARED = 8
"""Images whose masks are compared, and that the exported file masks."""


@dataclass(frozen=True)
class Scale:
    """How much is done."""

    side: int
    images: int
    width: int
    """Channels of the first level of the paper's network."""
    batch: int
    preset: str
    """Preset of the paper's row."""


FULL = Scale(side=256, images=1400, width=64, batch=25, preset="paper")
SMALL = Scale(side=32, images=60, width=4, batch=8, preset="smoke")


def crop(photograph: np.ndarray, side: int, generator: np.random.Generator) -> np.ndarray:
    """A random square of a photograph at a random scale: (3, side, side) in [0, 1]."""
    largest = min(photograph.shape[:2])
    length = int(generator.integers(min(side, largest), largest + 1))
    top, left = (int(generator.integers(0, span - length + 1)) for span in photograph.shape[:2])
    square = photograph[top : top + length, left : left + length].transpose(2, 0, 1) / np.float32(255)
    shrunk = interpolate(torch.from_numpy(square)[None], (side, side), mode="bilinear", antialias=True)
    return shrunk[0].numpy()


def write_crops(folder: Path, scale: Scale) -> None:
    generator = np.random.default_rng(0)
    photographs = list(packaged_photographs().values())
    for index in range(scale.images):
        y = crop(photographs[index % len(photographs)], scale.side, generator)
        small = interpolate(torch.from_numpy(y)[None], scale_factor=0.25, mode="area")
        y_hat = interpolate(small, (scale.side, scale.side), mode="bicubic").clamp(0, 1)[0].numpy()
        for role, image in (("x", y_hat), ("y_hat", y_hat), ("y", y)):
            write_image(folder / role / f"{index:05d}.png", image)


def seconds(action: Callable[[], object]) -> float:
    started = perf_counter()
    action()
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return perf_counter() - started


def training_rate(split: cm.Splits, scale: Scale, out: Path) -> float:
    """Images per second of the paper's network, from the end of the first epoch to the end of the second."""
    network = cm.NetworkOptions(width=scale.width, paper_form=True)
    config = cm.TrainingConfig(epochs=2, batch_size=scale.batch)
    cm.fit_scorer(split.selection, out=out, network=network, training=config, compute=cm.Compute(1))
    rows = list(csv.DictReader((out / "metrics.csv").open()))
    steps = int(rows[-1]["step"]) - int(rows[0]["step"])
    return steps * scale.batch / (float(rows[-1]["seconds"]) - float(rows[0]["seconds"]))


def scoring_rate(scale: Scale) -> float:
    """Megapixels per second of the packaged network."""
    network = ready(packaged_network(3, 3, 2)).to(best_device())
    x, y_hat = torch.rand(2, scale.batch, 3, scale.side, scale.side, device=best_device())
    with torch.no_grad():
        network(network_input(x, y_hat))
        taken = seconds(lambda: network(network_input(x, y_hat)))
    return scale.batch * scale.side**2 / 1e6 / taken


def onnx_seconds(masker: cm.Masker, batch: Batch, path: Path) -> tuple[str, float]:
    """The provider, and seconds per image, of the exported file."""
    cm.export(masker, path)
    usable = set(onnxruntime.get_available_providers())
    providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in usable]
    session = onnxruntime.InferenceSession(str(path), providers=providers)
    lam = np.full(len(batch.x), reference(masker))
    given = {"x": batch.x.numpy(), "y_hat": batch.y_hat.numpy(), "lam": lam}
    session.run(None, given)
    return session.get_providers()[0], seconds(lambda: session.run(None, given)) / len(batch.x)


def reference(masker: cm.Masker) -> float:
    return float(np.median(masker.critical_lambdas))


def outputs(masker: cm.Masker, batch: Batch) -> dict[str, torch.Tensor]:
    """Scores and masks of the device."""
    here = batch.to(best_device())
    score = score_of(masker.scorer, here.x, here.y_hat).map
    lam = torch.full((len(here.x),), reference(masker), dtype=torch.float64, device=score.device)
    mask = masker.family.apply(score, masker.family.level(score, lam))
    return {"score": score.cpu(), "mask": mask.cpu()}


def measure(data: Path, folder: Path, scale: Scale) -> dict[str, object]:
    """All that one device does; its masker and its masks stay in its folder."""
    split = cm.Triplets.from_folder(data).split()
    scorer = cm.packaged_scorer()
    calibrated: list[cm.Masker] = []
    calibration = seconds(lambda: calibrated.append(cm.calibrate(scorer, split.calibration, threshold=0.02)))
    (masker,) = calibrated
    masking = seconds(lambda: cm.write_masks(masker, split.test, folder / "masks"))
    batch = first_batch(data)
    provider, onnx = onnx_seconds(masker, batch, folder / "masker.onnx")
    masker.save(folder / "masker")
    torch.save(outputs(masker, batch), folder / OUTPUTS)
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "threads": torch.get_num_threads(),
        "training_images_per_s": training_rate(split, scale, folder / "run"),
        "scoring_megapixels_per_s": scoring_rate(scale),
        "calibration_images_per_s": len(split.calibration) / calibration,
        "masks_from_disk_to_disk_per_s": len(split.test) / masking,
        "onnx_provider": provider,
        "onnx_images_per_s": 1 / onnx,
        "lambda": reference(masker),
    }


def first_batch(data: Path) -> Batch:
    return next(iter(cm.Triplets.from_folder(data).batches(COMPARED)))


def agreement(masker: cm.Masker, batch: Batch, found: dict[str, torch.Tensor]) -> Difference:
    """How far scores and masks of another device are from those of this one."""
    lam = torch.full((len(batch.x),), reference(masker), dtype=torch.float64)
    return difference(masker, lambda _: found, Case(batch.x, batch.y_hat, lam))


def in_a_process(data: Path, folder: Path, *, small: bool, hidden: bool) -> dict[str, object]:
    """What a device measures, alone in its process; the GPU is hidden from the CPU's."""
    command = [sys.executable, __file__, "--measure", str(data), str(folder), *(["--small"] if small else [])]
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if hidden else {})
    subprocess.run(command, env=environment, check=True)
    found: dict[str, object] = json.loads((folder / "measured.json").read_text())
    return found


def paper_row(data: Path, folder: Path, scale: Scale) -> dict[str, object]:
    """Seconds of one row of the paper's table: the GPU's, if it is done in time."""
    command = [str(Path(sys.executable).with_name("conformask")), "paper", "--photos", str(data / "y")]
    command += ["--rows", "9", "--preset", scale.preset, "--out", str(folder)]
    started = perf_counter()
    try:
        subprocess.run(command, check=True, timeout=PAPER_SECONDS)
    except subprocess.TimeoutExpired:
        return {"preset": scale.preset, "unfinished_after_s": PAPER_SECONDS}
    return {"preset": scale.preset, "seconds": perf_counter() - started}


def compared(folder: Path, *, small: bool) -> dict[str, object]:
    scale, data = SMALL if small else FULL, folder / "data"
    write_crops(data, scale)
    gpu = in_a_process(data, folder / "gpu", small=small, hidden=False)
    cpu = in_a_process(data, folder / "cpu", small=small, hidden=True)
    rates = [name for name in gpu if name.endswith("_per_s")]
    difference = agreement(
        cm.load(folder / "gpu" / "masker"), first_batch(data), torch.load(folder / "gpu" / OUTPUTS)
    )
    return {
        "machine": {"cores": os.cpu_count(), "torch": torch.__version__, "scale": asdict(scale)},
        "gpu": gpu,
        "cpu": cpu,
        "times_faster": {name.removesuffix("_per_s"): gpu[name] / cpu[name] for name in rates},
        "lambdas_differ_by": abs(gpu["lambda"] / cpu["lambda"] - 1),
        "masks_differ_by": asdict(difference),
        "allowed": TOLERANCE,
        "masks_agree": max(asdict(difference).values()) <= TOLERANCE,
        "paper_row": paper_row(data, folder / "paper", scale),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a few small images, to see that it runs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--measure", type=Path, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.measure:
        data, folder = options.measure
        write_json(folder / "measured.json", measure(data, folder, SMALL if options.small else FULL))
        return
    with tempfile.TemporaryDirectory() as folder:
        results = compared(Path(folder), small=options.small)
    write_json(options.out, results)
    print(json.dumps(results, indent=2))
    if not results["masks_agree"]:
        raise SystemExit("the masks of the GPU are not those of the CPU")


if __name__ == "__main__":
    main()
