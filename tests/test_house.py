"""A ratchet on how the house hangs together: what is measured here may only get better.

A commit that lowers a number lowers it here too; one that raises it says why, in a comment beside it.
"""

import ast
import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import conformask
from conformask.losses.base import Loss

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "conformask"
FILES = sorted(SOURCE.rglob("*.py"))
MOST = {
    "entries of the first level": 16,  # __main__, for python -m conformask
    "own imports of a file": 19,  # look
    "getattr and hasattr": 27,
}
ENTERED = {
    "files of calibrate": 54,  # request, case and resolve; extent, truth and words of a loss
    "functions of calibrate": 380,  # each guard is a function, in the list of its stage
    "files of mask": 59,  # the parts of a loss
    "functions of mask": 478,  # the contract of verbs
}
LOSS = 16
"""Members of the contract of losses."""
REACH = """
import os, sys, threading
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
import numpy as np
import conformask as cm
from conformask.cli import main

home, entered = os.path.dirname(cm.__file__), set()

def note(frame, event, argument):
    code = frame.f_code
    if event == "call" and code.co_filename.startswith(home) and not code.co_name.startswith("<"):
        entered.add((code.co_filename, code.co_name, code.co_firstlineno))

def reach(work):
    entered.clear()
    threading.setprofile(note)
    sys.setprofile(note)
    work()
    sys.setprofile(None)
    threading.setprofile(None)
    return len({file for file, *_ in entered}), len(entered)

y = np.random.default_rng(0).random((30, 16, 16), dtype=np.float32)
images, scorer = cm.Triplets.from_arrays(y**2, y**1.5, y), cm.Heuristic(cm.residual, channels=1)
generator = np.random.default_rng(1)
for part, n, roles in (("old", 30, ("x", "y_hat", "y")), ("new", 1, ("x", "y_hat"))):
    for role in roles:
        Path(part, role).mkdir(parents=True)
        for k in range(n):
            np.save(Path(part, role, f"{k}.npy"), (generator.random((32, 32)) * 255).astype(np.uint8))
with redirect_stdout(StringIO()):  # the first call of each imports and compiles
    main("calibrate old --scorer residual --threshold 0.2 --loss l1 --out run".split())
    main("mask run new warm".split())
    of_calibrate = reach(lambda: cm.calibrate(scorer, images, threshold=0.05, loss="l1"))
    of_mask = reach(lambda: main("mask run new masks".split()))
print(*of_calibrate, *of_mask)
"""


def own_imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("conformask"):
            yield node.module or ""


def test_the_house_does_not_grow():
    first = list(SOURCE.glob("*.py"))
    first += [path for path in SOURCE.iterdir() if path.is_dir() and any(path.rglob("*.py"))]
    trees = {file: ast.parse(file.read_text(encoding="utf-8")) for file in FILES}
    imports = {file: len(set(own_imports(tree))) for file, tree in trees.items() if file.parent != SOURCE}
    calls = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.Call)]
    measured = {
        "entries of the first level": len(first),
        "own imports of a file": max(imports.values()),
        "getattr and hasattr": sum(getattr(call.func, "id", "") in ("getattr", "hasattr") for call in calls),
    }
    assert {name: n for name, n in measured.items() if n > MOST[name]} == {}


def subclasses(kind):
    return {each for child in kind.__subclasses__() for each in {child, *subclasses(child)}}


def members(kind):
    """Return the members of a contract and its parents, but for those that every class has."""
    own = [parent for parent in kind.__mro__ if parent.__module__.startswith("conformask.")]
    names = {name for parent in own for name in {*vars(parent), *vars(parent).get("__annotations__", {})}}
    return {name for name in names if not name.startswith(("__", "_abc"))}


def test_the_contract_of_losses_is_small_and_has_no_member_for_one_guest():
    for module in pkgutil.walk_packages(conformask.__path__, "conformask."):
        if module.name.startswith(
            ("conformask.losses.", "conformask.extras.noise.", "conformask.extras.objects.")
        ):
            importlib.import_module(module.name)
    below = [kind for kind in subclasses(Loss) if kind.__module__.startswith("conformask.")]
    files = {name: {kind.__module__ for kind in below if name in vars(kind)} for name in members(Loss)}
    of_base = {name for kind in below if kind.__module__ == Loss.__module__ for name in vars(kind)}
    assert len(files) <= LOSS
    assert {name: where for name, where in files.items() if len(where) == 1 and name not in of_base} == {}


@pytest.mark.thorough
def test_a_calibration_and_a_mask_enter_no_more(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-c", REACH]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    entered = dict(zip(ENTERED, map(int, done.stdout.split()), strict=True))
    assert {name: n for name, n in entered.items() if n > ENTERED[name]} == {}
