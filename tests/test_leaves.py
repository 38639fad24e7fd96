"""A leaf of extras/ that is deleted from a copy of the tree leaves all else running; see `make leaves`."""

import tomllib

import pytest

import conformask
from leaves import EXTRAS, LEAVES, ROOT, python, without

LEAF_OF = {name: home.split(".")[1] for name, home in conformask._HOMES.items() if home.startswith("extras.")}
"""The leaf of each public name that is of one."""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PAIRS = {
    tuple(module.split(".")[2] for module in pair.split(" -> "))
    for contract in PROJECT["tool"]["importlinter"]["contracts"]
    for pair in contract.get("ignore_imports", ())
}
"""The pairs of leaves of which the first imports the second."""
RUNS = """
import sys
from contextlib import suppress
from pathlib import Path
import numpy as np
import tifffile
import conformask as cm
from conformask.cli import main

gone, others = (set(filter(None, names.split(","))) for names in sys.argv[1:])
with suppress(SystemExit):
    main(["--help"])
for name in others:
    getattr(cm, name)
for name in gone:
    try:
        getattr(cm, name)
    except AttributeError as error:
        assert f"conformask.{name} needs conformask.extras." in str(error), error
    else:
        raise AssertionError(f"{name} is still there")
generator = np.random.default_rng(0)
for part, n in (("old", 30), ("new", 1)):
    for role in ("x", "y_hat", "y"):
        Path(part, role).mkdir(parents=True)
        for k in range(n):
            tifffile.imwrite(Path(part, role, f"{k}.tif"), (generator.random((32, 32)) * 255).astype("u1"))
main("check old".split())
main("calibrate old --scorer residual --threshold 0.2 --loss l1 --out run".split())
main("recalibrate run --threshold 0.3".split())
main("mask run new masks".split())
assert Path("masks", "masks", "0.tif").is_file()
"""


def verbs_of(leaf):
    verbs = PROJECT["project"]["entry-points"]["conformask.commands"]
    return {verb for verb, place in verbs.items() if place.startswith(f"conformask.extras.{leaf}.")}


def needing(leaf):
    """A leaf, and those that import it."""
    return {leaf} | {one for one, other in PAIRS if other == leaf}


@pytest.mark.thorough
@pytest.mark.parametrize("leaf", LEAVES)
def test_without_a_leaf_the_heart_runs(leaf, tmp_path):
    tree = without(tmp_path, leaf)
    gone = [name for name, home in LEAF_OF.items() if home == leaf]
    others = [name for name in conformask._HOMES if LEAF_OF.get(name) not in needing(leaf)]
    done = python(tree, "-c", RUNS, ",".join(gone), ",".join(others))
    assert done.returncode == 0, done.stderr
    shown = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("│ ")}
    assert "calibrate" in shown
    assert not verbs_of(leaf) & shown


@pytest.mark.thorough
def test_without_any_leaf_the_heart_runs_and_its_tests_are_found(tmp_path):
    tree = without(tmp_path, *LEAVES)
    assert [path.name for path in (tree / EXTRAS).rglob("*.py")] == ["__init__.py"]
    done = python(tree, "-c", RUNS, "", ",".join(conformask._HOMES.keys() - LEAF_OF.keys()))
    assert done.returncode == 0, done.stderr
    assert "demo" not in done.stdout
    found = python(tree, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider", *HEART)
    assert found.returncode == 0, found.stdout[-2000:]


HEART = [
    f"tests/{name}"
    for name in ("cli", "images", "losses", "masker", "masks", "promises", "records", "scores")
]


def test_a_verb_whose_leaf_needs_one_that_is_gone_says_which(tmp_path):
    tree = without(tmp_path, "view")
    call = "from conformask.cli import main; main(['look', 'x', 'y_hat', 'y'])"
    done = python(tree, "-c", call)
    assert done.returncode == 1
    said = "conformask: this needs conformask.extras.view, which is not there: install conformask again"
    assert done.stderr.strip() == said
