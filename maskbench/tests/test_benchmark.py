"""The benchmark's promise is conformask's, its columns are what they say, and cells are complete."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import conformask as cm
from maskbench import cell, cli, methods, tasks
from maskbench.aim import Aim, unmasked_losses
from maskbench.calibration import READINGS, Scored, smallest_masks
from maskbench.documents import NUMBER, pages, updated
from maskbench.methods import gradient
from maskbench.page import cells_of, written
from maskbench.slabs import worst_slab
from maskbench.splits import deals, learn_and_pool
from maskbench.triplets import Triplets

SIDE = 12


def world(n=120, seed=0, groups=None):
    """Ramps with noise that grows along them, by a factor of each image."""
    generator = np.random.default_rng(seed)
    ramp = np.broadcast_to(np.linspace(0.05, 0.9, SIDE), (n, SIDE, SIDE))[..., None]
    ramp = ramp + 0.1 * generator.random(ramp.shape)  # no ties
    factor = np.exp(generator.normal(-3, 0.5, (n, 1, 1, 1)))
    y = (ramp + factor * ramp * generator.standard_normal(ramp.shape)).clip(0, 1).astype(np.float32)
    names = np.array([str(at if groups is None else at % groups) for at in range(n)])
    return Triplets(ramp.astype(np.float32), ramp.astype(np.float32), y, names)


def flat(maps):
    return maps.reshape(len(maps), -1)


@pytest.mark.parametrize(
    ("reading", "family"),
    [("threshold", {"name": "binary", "bounds": "largest", "kappa": 0.0}), ("budget", None)],
)
def test_lambda_and_masks_are_those_of_conformask(reading, family):
    images = world()
    calibration, test = images.take(range(80)), images.take(range(80, 120))
    made = cm.Triplets.from_arrays(*map(list, (calibration.x, calibration.y_hat, calibration.y)))
    scorer = cm.Heuristic(lambda x, y_hat: y_hat + 0.01, channels=1)
    masker = cm.calibrate(scorer, made, threshold=0.02, loss="l1", family=family)
    given = [torch.from_numpy(each).movedim(3, 1) for each in (test.x, test.y_hat)]
    hidden = 1 - masker(*given).double().mean(dim=(1, 2, 3)).numpy()
    scored, of_test = (
        Scored(READINGS[reading](flat(part.y_hat + 0.01)), flat(part.errors), 0.02)
        for part in (calibration, test)
    )
    lam = cell._split_conformal(scored.critical_lambdas, Aim(0.02))
    assert 0.1 < hidden.mean() < 0.9
    np.testing.assert_allclose(of_test.hidden_shares(np.array([lam]))[:, 0], hidden, atol=1.01 / SIDE**2)


@pytest.mark.parametrize("digits", [1, 16])
def test_the_oracle_is_the_smallest_mask_of_all(digits):
    """Of equal errors, as of images with few grey values, it shows as many as fit."""
    errors = np.random.default_rng(0).random((20, 10)).round(digits)
    best = smallest_masks(errors, 0.2)
    subsets = ((np.arange(2**10)[:, None] >> np.arange(10)) & 1).astype(float)
    within = errors @ subsets.T / 10 <= 0.2 + 1e-9
    np.testing.assert_allclose(best, 1 - np.where(within, subsets.mean(axis=1), 0).max(axis=1))


@pytest.mark.parametrize("rank", [0, 2])
def test_nine_of_ten_new_images_keep_the_threshold(rank):
    """With an order statistic two too far, they do not: the test can fail."""
    kept = []
    for seed in range(300):
        images = world(40, seed)
        critical = Scored(flat(images.y_hat), flat(images.errors), 0.01).critical_lambdas
        lam = cell._split_conformal(critical[:19], Aim(0.01))
        lam = np.sort(critical[:19])[np.searchsorted(np.sort(critical[:19]), lam) + rank]
        kept.append((critical[19:] >= lam).mean())
    standard_error = np.std(kept) / np.sqrt(len(kept))
    assert (np.mean(kept) > 0.9 - 3 * standard_error) == (rank == 0)


def test_no_group_is_in_two_parts():
    images = world(400, groups=100)
    learn, pool = learn_and_pool(images)
    assert not set(learn.groups) & set(pool.groups)
    assert len(learn) + len(pool) == 400
    assert 100 < len(learn) <= 160
    for calibration, test in list(deals(pool.groups))[:5]:
        assert not set(pool.groups[calibration]) & set(pool.groups[test])
        assert len(set(pool.groups[calibration])) == len(calibration)


def test_few_groups_are_divided_image_by_image():
    groups = np.array(["a", "b"] * 50)
    calibration, test = next(iter(deals(groups)))
    assert sorted([*calibration, *test]) == list(range(100))


def test_the_worst_slab_is_found():
    generator = np.random.default_rng(0)
    features = generator.standard_normal((2000, 2))
    kept = (features[:, 0] < 1) | (generator.random(2000) < 0.1)
    assert worst_slab(features, kept, 0) < 0.5
    assert worst_slab(features, generator.random(2000) < 0.9, 0) > 0.8


@pytest.fixture
def small_bench(tmp_path, monkeypatch):
    """A task of the world above, and three methods: one of them emits masks, one needs a map."""
    monkeypatch.setattr(tasks, "names", lambda: ["toy"])
    monkeypatch.setattr(tasks, "triplets_of", lambda name, data, work: world())
    monkeypatch.setattr(
        tasks, "task",
        lambda name: SimpleNamespace(TITLE="toy", NETWORK="none", DEGRADATION="noise", LICENCE="none"),
    )  # fmt: skip
    of_names = {
        "gradient": gradient,
        "ramp": SimpleNamespace(
            TITLE="ramp", PAPER="", IMAGES=0, fit=lambda *_: lambda x, y_hat, cues: y_hat[..., 0]
        ),
        "all": SimpleNamespace(
            TITLE="all shown", PAPER="", IMAGES=0,
            masks=lambda *_: lambda x, y_hat, cues: np.ones(y_hat.shape[:3]),
        ),
        "needy": SimpleNamespace(TITLE="needy", PAPER="", IMAGES=0, CUE="network"),
        "wrong": SimpleNamespace(
            TITLE="wrong", PAPER="", IMAGES=0, fit=lambda *_: lambda x, y_hat, cues: y_hat
        ),
    }  # fmt: skip
    monkeypatch.setattr(methods, "method", of_names.__getitem__)
    monkeypatch.setattr(methods, "names", lambda: ["gradient", "ramp", "all", "needy"])
    return tmp_path


def test_cells_pages_and_what_is_there_already(small_bench, capsys):
    results = small_bench / "results"
    cli.run(Path(), small_bench, results=results)
    assert sorted(path.stem for path in results.glob("toy/*.json")) == ["all", "gradient", "ramp"]
    ramp, everything = (
        json.loads((results / "toy" / f"{name}.json").read_text()) for name in ("ramp", "all")
    )
    assert ramp["oracle"] < ramp["hidden"] < 1
    assert ramp["coverage"] == pytest.approx(0.9, abs=0.04)
    assert len(ramp["hidden of splits"]) == 200
    pool = learn_and_pool(world())[1]
    assert everything["hidden"] == 0
    within = float((unmasked_losses(pool) <= everything["threshold"]).mean())
    assert everything["coverage"] == pytest.approx(within, abs=0.05)
    capsys.readouterr()
    cli.run(Path(), small_bench, results=results)
    assert capsys.readouterr().out == ""
    written(cells_of(results), small_bench)
    page = (small_bench / "RESULTS.md").read_text()
    assert f"| ramp | **{ramp['hidden'] / ramp['oracle']:.2f}** |" in page
    assert f"| all shown | toy | 0.00 | 0.0 | {everything['coverage']:.3f} |" in page
    assert (small_bench / "results.svg").stat().st_size > 1000


def test_scores_of_another_shape_are_refused(small_bench):
    with pytest.raises(ValueError, match="one value for each pixel"):
        cell.measured("toy", "wrong", Path(), small_bench)


def test_triplets_survive_the_disk(tmp_path):
    images = world(3)
    images.save(tmp_path / "t.npz")
    again = Triplets.load(tmp_path / "t.npz")
    assert again.fingerprint == images.fingerprint
    np.testing.assert_allclose(again.y, images.y, atol=0.5 / 255 + 1e-6)


def test_a_method_is_started_by_one_file(tmp_path, monkeypatch):
    folder = tmp_path / "methods"
    shutil.copytree(Path(methods.__file__).parent, folder)
    monkeypatch.setattr(methods, "__file__", str(folder / "__init__.py"))
    cli.add("mine")
    scope: dict = {}
    exec((folder / "mine.py").read_text(), scope)
    images = world(2)
    score = scope["fit"](images, Aim(0.1), tmp_path)
    assert score(images.x, images.y_hat, {}).shape == (2, SIDE, SIDE)
    with pytest.raises(SystemExit, match="no method has"):
        cli.add("mine")


@pytest.mark.parametrize("name", methods.names())
def test_every_method_says_what_it_is(name):
    module = methods.method(name)
    assert module.TITLE
    assert module.IMAGES >= 0
    assert hasattr(module, "fit") != hasattr(module, "masks")


@pytest.mark.parametrize("name", tasks.names())
def test_every_task_says_what_it_is(name):
    module = tasks.task(name)
    assert all((module.TITLE, module.NETWORK, module.DEGRADATION, module.LICENCE, module.VERSION))


CELLS = cells_of(cli.RESULTS)


def test_the_committed_table_is_that_of_the_cells(tmp_path):
    written(CELLS, tmp_path)
    committed = (cli.ROOT / "RESULTS.md").read_text(encoding="utf-8")
    assert (tmp_path / "RESULTS.md").read_text(encoding="utf-8") == committed


@pytest.mark.parametrize("path", pages(cli.ROOT.parent), ids=lambda path: path.stem)
def test_numbers_of_the_documentation_are_those_of_the_cells(path):
    """After new cells: `maskbench page`."""
    text = path.read_text(encoding="utf-8")
    assert updated(text, CELLS, cli.ROOT.parent) == text


def test_there_are_such_numbers_and_a_wrong_one_is_put_right():
    text = "".join(path.read_text(encoding="utf-8") for path in pages(cli.ROOT.parent))
    assert len(NUMBER.findall(text)) > 10
    hidden = CELLS["nuclei_noise", "conformask_all"]["hidden"]
    mark = "<!--nuclei_noise/conformask_all/hidden-->"
    wrong, right = (f"{each}{mark} or {each}{mark} %" for each in ("1.0", f"{100 * hidden:.1f}"))
    assert updated(wrong, CELLS, cli.ROOT.parent) == right
