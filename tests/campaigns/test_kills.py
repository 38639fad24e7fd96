"""Every verb killed before each of its writes: a reader sees the old or the new, and the command goes on.

A child process runs the verb and dies, without any clean-up, just before its k-th change of a file or folder;
this is repeated for each k. CONFORMASK_KILLS sets at most how many k of a verb are tried; 0 tries all.
"""

import itertools
import json
import os
import shutil
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
import pytest

import conformask as cm
from conformask.cli import main
from conformask.errors import ConformaskError
from conformask.extras.make.predictors import NetworkPredictor
from conformask.extras.noise.repeats import RECORD
from conformask.images.read import read_image, write_image
from conformask.images.triplets import Triplets
from conformask.masker.folder import MaskFolder
from conformask.masker.run_folder import CARD, read_promise
from conformask.records.evaluation import Evaluation
from conformask.records.record import MARK, read_json, refuse_unfinished
from conformask.scores.network_scorer import load_scorer
from warm import import_everything

MOST = int(os.environ.get("CONFORMASK_KILLS", "2"))
SIZE = 16
FAILED = 70
WRITES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
KILLED = 9

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks")


def changes(event, arguments, folder):
    """Whether an audit event is about to change something in the folder."""
    if event not in WRITES or not isinstance(arguments[0], str | os.PathLike):
        return False
    if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
        return False
    return os.path.abspath(arguments[0]).startswith(folder)


def in_child(folder, action, watch=None):
    """Act in a child process that calls watch before each change in the folder; its exit status."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def hook(event, arguments):
        if watch is not None and changes(event, arguments, str(folder)):
            watch(f"{event} {os.path.relpath(arguments[0], folder)}")

    said = os.open(folder.with_name("said"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(said, stream)
    if watch is not None:
        sys.addaudithook(hook)
    try:
        action(folder)
    except SystemExit as stop:
        os._exit(int(stop.code or 0))
    except BaseException:
        traceback.print_exc()
        os._exit(FAILED)
    os._exit(0)


def done(folder, action):
    """Act in a child process, to the end; its changes in their order."""
    log = folder.with_name("changes")
    log.unlink(missing_ok=True)
    with log.open("a") as file:
        status = in_child(folder, action, lambda change: print(change, file=file, flush=True))
    assert status == 0, folder.with_name("said").read_text()
    return log.read_text().splitlines()


def killed_at(point, folder, action):
    """Act in a child process that dies before its point-th change."""
    changes = itertools.count(1)

    def watch(_):
        if next(changes) == point:
            os._exit(KILLED)

    assert in_child(folder, action, watch) == KILLED


def command(*words):
    """A command whose words name paths below the folder by a leading slash."""

    def action(folder):
        main([f"{folder}{word}" if word.startswith("/") else word for word in words])

    return action


def triplets_of(name):
    def look(folder):
        return [(t.name, float(t.y_hat.sum())) for t in Triplets.from_folder(folder / name)]

    return look


def parts_of_counts(folder):
    record = folder / "parts" / RECORD
    refuse_unfinished(record, read_json(record))
    parts = [path for path in (folder / "parts").rglob("*.tif") if not path.name.startswith(MARK)]
    return sorted((path.name, float(read_image(path, COUNTED).sum())) for path in parts)


def scorer(folder):
    return load_scorer(folder / "new").fingerprint


def predictor(folder):
    return NetworkPredictor.load(folder / "net").fingerprint


def promise(folder):
    """All that is promised, but for the time; what is on paper has to be the same."""
    card, _ = read_promise(folder / "run")
    paper = folder / "run" / CARD
    assert not paper.exists() or card.sentence in paper.read_text(encoding="utf-8")
    masker = cm.load(folder / "run")
    assert masker.sentence == card.sentence
    return card.sentence, card.rule.lam, masker.critical_lambdas.tolist()


def evaluation(folder):
    found = Evaluation.load(folder / "run")
    assert float(np.mean(found.images.loss)) == pytest.approx(found.mean_loss)
    return found.card.sentence, found.n_test, found.mean_loss


def masks(folder):
    """Whatever sizes.csv says of an image, its mask lies there."""
    new = MaskFolder(folder / "new")
    for name, line in new.lines().items():
        mask = read_image(new.path / "masks" / f"{name}.png")
        assert float(1 - mask.mean()) == pytest.approx(line.mask_size, abs=1e-4)
    return sorted(new.lines())


def exported(folder):
    path = folder / "masker.onnx"
    return path.is_file() and len(onnxruntime.InferenceSession(path).get_inputs())


@dataclass(frozen=True)
class Verb:
    """A command, what a reader sees of its result, and how it is repeated after it was killed."""

    action: Callable[[Path], None]
    look: Callable[[Path], object]
    again: Callable[[Path], None] | None = None
    once: bool = False
    """Whether it is refused when its result is there."""
    slow: bool = False
    """Tried at one point only, unless at all."""
    grows: bool = False
    """Whether a reader may see a part of the result, image by image."""


COUNTED = cm.Reading((0, 255))
TILES = ("--task", "super_resolution", "--size", "16", "--stride", "16", "--split", "tile")
NET = ("predictor", "/images", "/net", *TILES, "--epochs", "1", "--width", "2")
TRAIN = ("train", "/train", "/new", "--epochs", "1", "--width", "2")
VERBS = {
    "triplets with a task": Verb(
        command("triplets", "/images", "/made", "--predictor", "bicubic", *TILES),
        triplets_of("made"),
        once=True,
    ),
    "triplets of a network": Verb(
        command("triplets", "/inputs", "--predictor", "/own.onnx"), triplets_of("inputs")
    ),
    "split-counts": Verb(command("split-counts", "/counts", "/parts"), parts_of_counts),
    "predictor": Verb(command(*NET), predictor, command(*NET, "--resume")),
    "train": Verb(command(*TRAIN), scorer, command(*TRAIN, "--resume")),
    "calibrate": Verb(command("calibrate", "/run", "/other", "--threshold", "0.03"), promise),
    "recalibrate": Verb(command("recalibrate", "/run", "--confidence", "0.6"), promise),
    "evaluate": Verb(command("evaluate", "/run", "/test", "--report", "/report.html"), evaluation),
    "mask": Verb(command("mask", "/run", "/test", "/new"), masks, grows=True),
    "export": Verb(command("export", "/run", "/masker.onnx"), exported, slow=True),
}


def prepared(folder):
    """What lies there before each verb; all modules are imported, and kernels compiled, for the children."""
    rng = np.random.default_rng(0)
    for index in range(8):
        write_image(folder / "images" / f"{index}.png", rng.random((3, 32, 32)).astype(np.float32))
        counts = rng.poisson(20, (1, 16, 16)) / 255
        write_image(folder / "counts" / f"{index}.png", counts.astype(np.float32))
    for name, count in (("train", 12), ("first", 25), ("other", 25), ("test", 6), ("inputs", 4)):
        for index in range(count):
            y = rng.random((1, SIZE, SIZE)).astype(np.float32)
            y_hat = np.clip(y + 0.2 * (rng.random(y.shape) - 0.5), 0, 1).astype(np.float32)
            for role, image in (("x", y_hat), ("y_hat", y_hat), ("y", y)):
                write_image(folder / name / role / f"{index}.png", image)
    shutil.rmtree(folder / "inputs" / "y_hat")
    _halving(folder / "own.onnx")
    import_everything()
    train = (*TRAIN[:2], "/run", *TRAIN[3:])
    for words in (train, ("calibrate", "/run", "/first", "--threshold", "0.02")):
        done(folder, command(*words))
    cm.write_masks(cm.load(folder / "run"), Triplets.from_folder(folder / "test"), folder.with_name("warm"))
    return folder


def _halving(path):
    shape = ["n", "c", "h", "w"]
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in "xy")
    half = onnx.helper.make_tensor("half", onnx.TensorProto.FLOAT, [1], [0.5])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Mul", ["x", "half"], ["y"])], "half", [x], [y], [half]
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def seen(look, folder):
    """What a reader sees; None where it is told that there is nothing, or nothing whole."""
    try:
        return look(folder)
    except ConformaskError:
        return None


def kills(before, folder, verb):
    """Kill a verb again and again, and return how often; whatever is lost ends it with an AssertionError."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(before, folder)
    old = seen(verb.look, folder)
    points = done(folder, verb.action)
    new = seen(verb.look, folder)
    assert new != old
    most = min(len(points), (1 if verb.slow else MOST) if MOST else len(points))
    tried = np.unique(np.linspace(len(points), 1, most).astype(int))
    for point in tried.tolist():
        shutil.rmtree(folder)
        shutil.copytree(before, folder)
        killed_at(point, folder, verb.action)
        told = f"killed before change {point}, {points[point - 1]}"
        found = seen(verb.look, folder)
        part = verb.grows and set(found) <= set(new)
        assert part or found in (old, new), f"{told}: a reader sees {found}"
        if not (verb.once and found == new):
            done(folder, verb.again or verb.action)
        assert seen(verb.look, folder) == new, f"{told}: it ends with something else"
        assert not list(folder.rglob(f"{MARK}*")), f"{told}: unfinished files stay"
    return len(tried)


def campaign(names):
    """Print what came of killing each verb, a line of JSON each."""
    with TemporaryDirectory() as folder:
        before = prepared(Path(folder).resolve() / "before")
        for name in names:
            try:
                outcome = {"kills": kills(before, before.with_name("work"), VERBS[name])}
            except Exception:
                outcome = {"wrong": traceback.format_exc()}
            print(json.dumps({"verb": name, **outcome}), flush=True)


def told_by(script, works, warm=None):
    """What a campaign tells of each of its works, none of which is wrong.

    In a process of its own, which forks; the types of all arguments need not be checked there.
    """
    if warm is None:
        command = [sys.executable, script, *works]
        here = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(script).parents[1])}
        told = subprocess.run(command, env=here, capture_output=True, text=True, check=False)
    else:
        started = "import runpy, sys\nsys.path.insert(0, {!r})\nrunpy.run_path({!r}, run_name='__main__')"
        told = warm.run(started.format(str(Path(script).parent), script), Path.cwd(), *works)
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert [line["verb"] for line in lines] == list(works), told.stderr[-2000:]
    wrong = [f"{line['verb']}: {line['wrong']}" for line in lines if "wrong" in line]
    assert not wrong, "\n".join(wrong)
    return lines


def in_two(some, works):
    """Run a campaign on some of its works, and on the others where time does not matter."""
    others = pytest.param([name for name in works if name not in some], marks=pytest.mark.slow)
    return pytest.mark.parametrize("works", [list(some), others], ids=["some", "others"])


@pytest.mark.thorough
@in_two(["calibrate", "mask"], VERBS)
def test_nothing_is_lost_by_a_kill(works, warm):
    lines = told_by(__file__, works, warm)
    assert sum(line["kills"] for line in lines) >= len(works)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    campaign(sys.argv[1:] or list(VERBS))
