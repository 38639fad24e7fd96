"""Files of conformask's own, damaged on purpose: each says what it said, or is refused with an error of ours.

CONFORMASK_RECORDS sets how many damaged versions of each file are tried.
"""

import json
import os
import shutil
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from test_fuzz_readers import CHANGES

import conformask as cm
from conformask.cli.look_at import info
from conformask.errors import ConformaskError
from conformask.extras.make.predictors import NetworkPredictor, custom_predictor
from conformask.extras.make.regressor import fit_predictor
from conformask.extras.make.tasks import task
from conformask.extras.make.triplets import TrueImages
from conformask.extras.train import TrainingConfig
from conformask.images.read import write_image
from conformask.images.rows import Provenance
from conformask.records.evaluation import Evaluation
from conformask.scores.network_scorer import load_scorer
from synthetic_triplets import triplets

REMADE = "new/sizes.csv"
"""Lines that cannot be read are made again."""
PER_FILE = int(os.environ.get("CONFORMASK_RECORDS", "6"))
WRONG = (None, True, -1, 0, 2**70, 1e308, "", "x", "inf", [], {}, [[]], [None], {"x": 1}, "0" * 5000)
"""Values that a record may be found to hold instead."""
TEXTS = ("Infinity", "NaN", "-Infinity", "1e999", "[" * 5000, '{"a":' * 5000, '"\\ud800"')
Use = Callable[[Path], object]


SIZE = 8


def fitted(out, *, resume):
    training = TrainingConfig(epochs=1, grid_points=8, resume=resume)
    network = cm.NetworkOptions(width=2)
    return cm.fit_scorer(
        triplets(12, 0), selection=triplets(12, 1), out=out, training=training, network=network
    )


def predictor(out):
    grey = {f"{i}": np.random.default_rng(i).integers(0, 256, (SIZE, SIZE, 3), np.uint8) for i in range(40)}
    images = TrueImages.from_arrays(grey, SIZE, None, split="file", seed=0)
    parts = images.part("train"), images.part("selection")
    return fit_predictor(
        *parts, task=task("completion"), size=SIZE, out=out, training=TrainingConfig(epochs=1), width=2
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with every file that conformask leaves in one, with triplets, masks and networks in it."""
    run = tmp_path_factory.mktemp("run")
    masker = cm.calibrate(
        fitted(run, resume=False), triplets(30, 2), threshold=0.02, promise=cm.Promise(confidence=0.8)
    ).save(run)
    cm.evaluate(masker, triplets(12, 3), out=run)
    cm.write_masks(masker, triplets(3, 4), run / "new")
    predictor(run / "predictor")
    online = cm.OnlineMasker(masker)
    online.mask("one", *(np.zeros((8, 8), np.float32) for _ in range(2)))
    online.save(run / "stream")
    torch.jit.trace(torch.nn.Conv2d(1, 1, 1), torch.zeros(1, 1, SIZE, SIZE)).save(str(run / "own.pt"))
    Provenance(trained_on=("a",), population="tiles").save(write_data(run / "data"))
    return run


def write_data(folder):
    for role in ("x", "y_hat", "y"):
        write_image(folder / role / "a.png", np.zeros((1, SIZE, SIZE), np.float32))
    return folder


def masker_as_saved(run):
    return cm.load(run).fingerprint


def scorer_alone(run):
    """As before a calibration: nothing seals the scorer's files."""
    return load_scorer(run).name


def told(run):
    with suppress(SystemExit):  # where a seal is broken, which it says
        info(run)
    return


def stream(run):
    online = cm.OnlineMasker.load(cm.load(run), run / "stream")
    return [online.lam, *(online.learn(name, np.zeros((8, 8), np.float32)) for name in list(online.waiting))]


def masks_again(run):
    return len(cm.write_masks(cm.load(run), triplets(3, 4), run / "new").sizes)


USES: dict[str, tuple[Use, ...]] = {
    "calibration.json": (masker_as_saved, told),
    "curves-*.npz": (masker_as_saved,),
    "critical-*.npz": (masker_as_saved,),
    "probe-*.npz": (masker_as_saved,),
    "scorer.json": (masker_as_saved, scorer_alone, told),
    "scorer.safetensors": (masker_as_saved, scorer_alone),
    "selection.npz": (masker_as_saved, scorer_alone),
    "looks.npz": (masker_as_saved, scorer_alone),
    "evaluation.json": (Evaluation.load, told),
    "training.json": (lambda run: fitted(run, resume=True).name, told),
    "checkpoints/last.ckpt": (lambda run: fitted(run, resume=True).name,),
    "checkpoints/best.safetensors": (lambda run: fitted(run, resume=True).name,),
    "new/masks.json": (masks_again,),
    "new/sizes.csv": (masks_again,),
    "data/triplets.json": (lambda run: len(cm.Triplets.from_folder(run / "data")),),
    "predictor/predictor.json": (lambda run: NetworkPredictor.load(run / "predictor").kind,),
    "predictor/predictor.safetensors": (lambda run: NetworkPredictor.load(run / "predictor").kind,),
    "stream/online.json": (stream,),
    "stream/waiting-*.npz": (stream,),
    "own.pt": (lambda run: custom_predictor(str(run / "own.pt")).trained_on,),
}


@pytest.mark.quick(3)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("pattern", USES)
def test_damaged_records_are_refused_or_say_the_same(run, tmp_path, pattern):
    (path,) = run.glob(pattern)
    others = [file.read_bytes() for file in sorted(run.rglob("*.*")) if file.is_file()]
    for use in USES[pattern]:
        right, refused = use(_copied(run, tmp_path / "whole")), 0
        for index in range(PER_FILE):
            rng = np.random.default_rng([zlib.crc32(pattern.encode()), index])
            copy = _copied(run, tmp_path / "copy")
            (copy / path.relative_to(run)).write_bytes(damaged(path.read_bytes(), others, rng))
            try:
                found = use(copy)
            except ConformaskError:
                refused += 1
            except Exception as error:
                raise AssertionError(f"{pattern}, {index}: {type(error).__name__}: {error}") from error
            else:
                assert use is not masker_as_saved or found == right, f"{pattern}, {index}"
        assert refused or use is told or pattern == REMADE, "nothing was refused: is it damaged at all?"


def _copied(run, to):
    shutil.rmtree(to, ignore_errors=True)
    return shutil.copytree(run, to)


def damaged(content, others, rng):
    if content.startswith(b"{") and rng.random() < 0.7:
        return rewritten(json.loads(content), rng)
    for _ in range(rng.integers(1, 4)):
        content = CHANGES[rng.integers(len(CHANGES))](content, others, rng)
    return content


def rewritten(record, rng):
    """JSON in which a value is another, of a wrong type, or what no JSON holds."""
    places = list(_places(record))
    holder, key = places[rng.integers(len(places))]
    kind = rng.integers(4)
    if kind == 0:
        del holder[key]
    else:
        holder[key] = WRONG[rng.integers(len(WRONG))] if kind < 3 else "WRONG"
    return json.dumps(record).replace('"WRONG"', TEXTS[rng.integers(len(TEXTS))]).encode()


def _places(value):
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list) and value[key]:
            yield from _places(value[key])
