"""Stages of the reproduction of the paper: their folders, settings and results."""

import re
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from conformask.errors import InvalidArgumentError
from conformask.extras.paper import METHODS, PRESETS, ROWS, rows_of
from conformask.extras.paper.reproduce import Display
from conformask.extras.paper.stages import Cache, Stage, plan_row, unique
from real_images import SHARED

SMOKE = PRESETS["smoke"]


def planned(number, preset=SMOKE, files="a"):
    return plan_row(ROWS[number - 1], preset, Stage("images", "photos", {"files": files}))


def fingerprints(plan):
    found: dict[str, set[str]] = {}
    for stage in plan.stages():
        found.setdefault(stage.kind, set()).add(stage.fingerprint)
    return found


def changed(before, after):
    a, b = fingerprints(before), fingerprints(after)
    return {kind for kind in a if a[kind] != b[kind]}


def test_fingerprints_follow_the_settings_that_a_stage_depends_on():
    plan = planned(10)
    everything = set(fingerprints(plan))
    assert changed(plan, planned(10)) == set()
    assert changed(plan, planned(10, files="b")) == everything
    longer = replace(SMOKE, predictor=replace(SMOKE.predictor, epochs=2))
    assert changed(plan, planned(10, longer)) == everything - {"images"}
    wider = replace(SMOKE, scorer=replace(SMOKE.scorer, width=8))
    assert changed(plan, planned(10, wider)) == {"scorer", "calibration", "evaluation"}
    assert changed(plan, planned(10, replace(SMOKE, resplits=10))) == {"evaluation"}
    assert changed(plan, planned(10, replace(SMOKE, opt_images=3))) == {"opt", "evaluation"}


def test_a_grid_of_ssim_is_no_business_of_l1():
    assert changed(planned(9), planned(9, replace(SMOKE, ssim_points=9))) == set()
    assert changed(planned(10), planned(10, replace(SMOKE, ssim_points=9))) == {
        "scorer", "calibration", "evaluation",
    }  # fmt: skip


def test_rows_of_one_network_share_it_and_its_quantile_scorer():
    plans = [planned(row.number) for row in ROWS]
    counts: dict[str, int] = {}
    for stage in unique(stage for plan in plans for stage in plan.stages()):
        counts[stage.kind] = counts.get(stage.kind, 0) + 1
    # photos and cells have one Stage of images here, so that super_resolution is told apart by name only
    assert counts["scorer"] == 8 + 16 + 16
    assert counts["predictor"] == counts["triplets"] == 8
    assert counts["opt"] == 16
    assert counts["calibration"] == counts["evaluation"] == 16 * len(METHODS)


def test_a_stage_is_done_once(tmp_path):
    cache, stage, calls = Cache(tmp_path), Stage("opt", "some", {"a": 1}), []

    def make(folder):
        folder.mkdir(parents=True)
        calls.append(folder)

    assert not cache.done(stage)
    assert cache.run(stage, make) == cache.run(stage, make) == calls[0]
    assert len(calls) == 1
    assert cache.done(stage)
    assert not cache.done(Stage("opt", "some", {"a": 2}))


@pytest.mark.parametrize("kind", ["scorer", "evaluation"])
def test_what_was_killed_is_made_again_in_its_folder(tmp_path, kind):
    cache, stage = Cache(tmp_path), Stage(kind, "some")

    def killed(folder):
        folder.mkdir(parents=True)
        (folder / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.run(stage, killed)
    assert not cache.done(stage)
    found = []
    cache.run(stage, lambda folder: found.append((folder / "half").exists()))
    assert found == [True], "nothing is removed that no record claims"
    assert cache.done(stage)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_of_stages_breaks_no_word(tmp_path, width):
    display = Display([planned(number) for number in (1, 16)], Cache(tmp_path))
    pages = {}
    for columns in (width, 1000):
        page = StringIO()
        Console(width=columns, file=page).print(display.matrix())
        pages[columns] = page.getvalue()
    assert max(map(len, pages[width].splitlines())) <= width
    assert sorted(pages[width].split()) == sorted(pages[1000].split())
    assert " predictor 0/1, triplets 0/1, " in pages[1000]


EACH = {"Regression": "regressor", "GAN": "gan"}
BLOCKS = (("completion", "photos"), ("super_resolution", "cells"), ("super_resolution", "photos"))


def test_sixteen_rows_in_the_order_of_the_table():
    assert [row.number for row in ROWS] == list(range(1, 17))
    blocks = [BLOCKS[i // 4] if i < 12 else ("colorization", "photos") for i in range(16)]
    assert [(row.task, row.data) for row in ROWS] == blocks
    assert {row.distance for row in ROWS if row.task == "completion"} == {"l1", "lpips"}
    assert {row.distance for row in ROWS if row.task == "super_resolution"} == {"l1", "ssim"}
    assert {row.distance for row in ROWS if row.task == "colorization"} == {"l1", "l2"}


def test_published_numbers_are_those_of_the_paper():
    paper = SHARED / "docs" / "paper.md"
    if not paper.is_file():
        pytest.skip("the paper is not at hand")
    table = re.findall(r"^(Regression|GAN)\t(\w+)\t(.+)$", paper.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(table) == len(ROWS)
    for row, (network, distance, cells) in zip(ROWS, table, strict=True):
        numbers = [float(text) for text in re.findall(r"\d\.\d+", cells)]
        assert (row.network, row.distance) == (EACH[network], distance.lower())
        assert list(vars(row.published).values()) == numbers


def test_the_paper_preset_is_the_papers():
    paper = PRESETS["paper"]
    assert (paper.size, paper.stride) == (256, 32)
    assert paper.photos.calibration == paper.cells.calibration == 1000
    for how, batch in ((paper.predictor, 50), (paper.scorer, 25)):
        assert (how.width, how.epochs, how.learning_rate, how.batch_size) == (64, 10, 1e-5, batch)
        assert how.paper_form
    assert set(METHODS) == {"mask", "quantile", "default"}


def test_only_the_default_learns_l2_as_l1():
    images = Stage("images", "photos")
    plans = [plan_row(row, PRESETS["cpu"], images).scorers for row in rows_of([15, 16])]
    of_l1, of_l2 = ({name: stage.settings["scorer"] for name, stage in each.items()} for each in plans)
    assert of_l1 == {"mask": "mask", "quantile": "quantile", "default": "mask"}
    assert of_l2 == {"mask": "mask", "quantile": "quantile", "default": "error"}


def test_rows_by_number():
    assert [row.number for row in rows_of([5, 2, 5])] == [2, 5]
    assert len(rows_of(None)) == 16
    for wrong in ([17], [0], []):
        with pytest.raises(InvalidArgumentError, match="rows 1 to 16"):
            rows_of(wrong)
