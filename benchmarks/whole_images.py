"""Whole images: megapixels a second beside the bare network, memory at 20,000 x 20,000, and seams."""

import argparse
import json
import tempfile
import threading
import time
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import zarr
from PIL import Image

from conformask.extras.make.predictors import Bicubic
from conformask.extras.make.tasks import task
from conformask.extras.make.triplets import TrueImages, predicted
from conformask.extras.train import NetworkOptions, TrainingConfig
from conformask.extras.train.fit import fit_scorer
from conformask.extras.train.score import LEVELS
from conformask.images.triplets import Triplets
from conformask.losses import loss
from conformask.losses.means import Mean
from conformask.masker.masker import Masker
from conformask.masker.write import write_masks
from conformask.masks.families import family
from conformask.promises.promise import Promise
from conformask.promises.rules import ConstantLambda
from conformask.records.card import CalibrationCard
from conformask.scores.network_scorer import NetworkScorer, ScorerCard, head, network_input
from conformask.scores.networks import UNet
from conformask.scores.scorer import Tiled

OUT = Path(__file__).parent / "results" / "whole_images.json"
CHUNK = 1024
BARE_TILES = 4


def scorer_of(width: int, levels: int) -> NetworkScorer:
    """An untrained score network: its scores mean nothing, its cost is that of a trained one."""
    torch.manual_seed(0)
    network = UNet(2, 1, width=width, levels=levels, residual=True).to(memory_format=torch.channels_last)
    network.eval().requires_grad_(False)
    card = ScorerCard(
        scorer="mask", loss=Mean("l1"), channels=1, x_channels=1, per_channel=False,
        sizes=((256, 256),), unet=network.settings, trained_on=(),
    )  # fmt: skip
    return NetworkScorer(network, head("mask", loss("l1")), card)


def masker_of(scorer: NetworkScorer) -> Masker:
    """Water-filling, which reads the whole score before it opens a pixel."""
    chosen = family("water_filling")
    card = CalibrationCard(
        threshold=0.02, promise=Promise(), claim="", loss=Mean("l1"),
        family=chosen.settings(), rule=ConstantLambda(0.05), exact=True, exploratory=False, thresholds=None,
        n_calibration=1, n_groups=None, n_effective=None, channels=1, sizes=((256, 256),), population=None,
        calibrated="", calibrated_on=(), tiles=(1024, 64),
    )  # fmt: skip
    return Masker(Tiled(scorer), loss("l1"), chosen, ConstantLambda(0.05), card, np.ones(1), None)


def write_zarr(path: Path, side: int, seed: int) -> None:
    """A grey OME-Zarr image of 8 bits: blobs with some noise, chunk by chunk."""
    image = {
        "axes": [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}],
        "datasets": [{"path": "0"}],
    }
    group = zarr.create_group(path, attributes={"ome": {"version": "0.5", "multiscales": [image]}})
    array = group.create_array("0", shape=(side, side), chunks=(CHUNK, CHUNK), dtype="uint8")
    generator = np.random.default_rng(seed)
    for top in range(0, side, CHUNK):
        rows = np.arange(top, min(top + CHUNK, side))
        waves = 100 + 60 * np.outer(np.sin(rows / 37), np.cos(np.arange(side) / 53))
        array[rows[0] : rows[-1] + 1] = (waves + generator.integers(0, 20, waves.shape)).astype(np.uint8)


def data_of(folder: Path, side: int) -> Triplets:
    for seed, role in enumerate(("x", "y_hat")):
        write_zarr(folder / role / "image.ome.zarr", side, seed)
    return Triplets.from_folder(folder)


class PeakMemory:
    """The most anonymous memory (RssAnon: not the pages of files) of this process, in bytes."""

    def __enter__(self) -> "PeakMemory":
        self.start = self.peak = anonymous()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            self.peak = max(self.peak, anonymous())

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def anonymous() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def memory(side: int) -> dict[str, float]:
    """Mask an image from zarr to zarr, with a small network."""
    with tempfile.TemporaryDirectory() as told:
        folder = Path(told)
        triplets, masker = data_of(folder, side), masker_of(scorer_of(4, 3))
        write_masks(masker, data_of(folder / "small", 1100), folder / "first")  # compiles the kernels
        with PeakMemory() as seen:
            started = time.perf_counter()
            write_masks(masker, triplets, folder / "out")
            seconds = time.perf_counter() - started
    return {
        "side": side,
        "seconds": seconds,
        "anonymous_at_start_mb": seen.start / 1e6,
        "anonymous_peak_mb": seen.peak / 1e6,
        "score_mb": 4 * side**2 / 1e6,
    }


def bare(scorer: NetworkScorer) -> float:
    """Megapixels a second of the network alone, on one tile of 1024 after another."""
    tiles = [torch.rand(1, 1, 1024, 1024) for _ in range(2)]
    with torch.no_grad():
        started = time.perf_counter()
        for _ in range(BARE_TILES):
            scorer.network(network_input(*tiles))
    return BARE_TILES * 1024**2 / 1e6 / (time.perf_counter() - started)


def throughput(side: int, width: int, rounds: int) -> dict[str, float]:
    """Whole images from zarr to zarr beside the bare network, in turn, the best of each."""
    scorer = scorer_of(width, LEVELS)
    masker, alone, whole = masker_of(scorer), [], []
    with tempfile.TemporaryDirectory() as told:
        folder = Path(told)
        triplets = data_of(folder, side)
        write_masks(masker, data_of(folder / "small", 1100), folder / "first")
        for place in range(rounds):
            alone.append(bare(scorer))
            started = time.perf_counter()
            write_masks(masker, triplets, folder / f"out{place}")
            whole.append(side**2 / 1e6 / (time.perf_counter() - started))
    alone.append(bare(scorer))
    tile, overlap = masker.card.tiles or (0, 0)
    covered = sum(span.stop - span.start for span in Tiled(scorer, tile, overlap).spans(side))
    return {
        "side": side,
        "width": width,
        "threads": torch.get_num_threads(),
        "bare_megapixels_per_s": max(alone),
        "whole_megapixels_per_s": max(whole),
        "ratio": max(whole) / max(alone),
        "ratio_that_the_overlap_allows": (side / covered) ** 2,
    }


def seams(cells: Path) -> dict[str, float]:
    """A small scorer of cell images, trained on tiles of 128: its scores by tiles of 256 against one pass."""
    images = TrueImages.from_folder(cells, 128, 256, split="tile")
    images = images.select(range(min(len(images), 160)))
    sr = task("super_resolution")
    made = [triplet for _, triplet in predicted(images, sr, Bicubic(sr))]
    stacks = ([np.moveaxis(getattr(t, role), 0, -1) for t in made] for role in ("x", "y_hat", "y"))
    train, held = Triplets.from_arrays(*stacks).holdout(0.1)
    with tempfile.TemporaryDirectory() as told:
        scorer = fit_scorer(
            train,
            selection=held,
            loss="l1",
            training=TrainingConfig(epochs=6),
            network=NetworkOptions(width=8),
            out=told,
        )
    whole = TrueImages.from_folder(cells, 1020, 1020)
    _, cell = next(iter(predicted(whole.select([len(whole) - 1]), sr, Bicubic(sr))))
    x, y_hat = torch.from_numpy(cell.x)[None], torch.from_numpy(cell.y_hat)[None]
    tiled = Tiled(scorer, 256, 64)
    one, many = scorer(x, y_hat).map[0, 0].numpy(), tiled(x, y_hat).map[0, 0].numpy()
    chosen, lam = family("water_filling"), torch.tensor([0.3 * float(one.mean() ** 1.25)]).double()
    masks = [chosen.apply(s, chosen.level(s, lam)).numpy()[0] for s in map(_images, (one, many))]
    _picture(masks, one, many)
    borders = np.zeros(y_hat.shape[-1] - 1, bool)
    for span, after in pairwise(tiled.spans(y_hat.shape[-1], 4)):
        middle = (span.stop + after.start) // 2
        borders[middle - 17 : middle + 16] = True
    return {
        "mean_difference_over_mean_score": float(np.abs(one - many).mean() / one.mean()),
        "masks_differ_by": float(np.abs(masks[0] - masks[1]).mean()),
        "step_at_borders_over_elsewhere_tiles": _steps(many, borders),
        "step_at_borders_over_elsewhere_one_pass": _steps(one, borders),
    }


def _images(score: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(score)[None, None]


def _steps(score: np.ndarray, borders: np.ndarray) -> float:
    """The mean step between neighbouring pixels where tiles are blended, over that elsewhere; both ways."""
    steps = [np.abs(np.diff(side, axis=1)) for side in (score, score.T)]
    at, elsewhere = (np.mean([s[:, where].mean() for s in steps]) for where in (borders, ~borders))
    return float(at / elsewhere)


def _picture(masks: list[np.ndarray], one: np.ndarray, many: np.ndarray) -> None:
    """One pass left, tiles right; masks above, scores below."""
    top = max(float(one.max()), float(many.max()))
    rows = [np.concatenate([mask[0] for mask in masks], 1), np.concatenate([one, many], 1) / top]
    Image.fromarray((255 * np.concatenate(rows)).astype(np.uint8)).save(OUT.with_suffix(".png"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=20_000, help="of the image whose memory is measured")
    parser.add_argument("--throughput-side", type=int, default=8192)
    parser.add_argument("--width", type=int, default=32, help="of the network whose throughput is measured")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--cells", type=Path, help="a folder of grey images of 1022 pixels or more")
    parser.add_argument("--only", choices=["memory", "throughput", "seams"])
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    record = json.loads(OUT.read_text()) if OUT.is_file() else {}
    if given.only in (None, "throughput"):
        record["throughput"] = throughput(given.throughput_side, given.width, given.rounds)
    if given.only in (None, "memory"):
        record["memory"] = memory(given.side)
    if given.only in (None, "seams") and given.cells is not None:
        record["seams"] = seams(given.cells)
    OUT.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
