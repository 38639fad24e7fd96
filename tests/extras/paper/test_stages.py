from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from conformask.extras.paper.reproduce import Display
from conformask.extras.paper.settings import METHODS, PRESETS, ROWS, PaperPreset
from conformask.extras.paper.stages import Cache, RowPlan, Stage, plan_row, unique

SMOKE = PRESETS["smoke"]


def planned(number: int, preset: PaperPreset = SMOKE, files: str = "a") -> RowPlan:
    return plan_row(ROWS[number - 1], preset, Stage("images", "photos", {"files": files}))


def fingerprints(plan: RowPlan) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for stage in plan.stages():
        found.setdefault(stage.kind, set()).add(stage.fingerprint)
    return found


def changed(before: RowPlan, after: RowPlan) -> set[str]:
    a, b = fingerprints(before), fingerprints(after)
    return {kind for kind in a if a[kind] != b[kind]}


def test_fingerprints_follow_the_settings_that_a_stage_depends_on() -> None:
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


def test_a_grid_of_ssim_is_no_business_of_l1() -> None:
    assert changed(planned(9), planned(9, replace(SMOKE, ssim_points=9))) == set()
    assert changed(planned(10), planned(10, replace(SMOKE, ssim_points=9))) == {
        "scorer", "calibration", "evaluation",
    }  # fmt: skip


def test_rows_of_one_network_share_it_and_its_quantile_scorer() -> None:
    plans = [planned(row.number) for row in ROWS]
    counts: dict[str, int] = {}
    for stage in unique(stage for plan in plans for stage in plan.stages()):
        counts[stage.kind] = counts.get(stage.kind, 0) + 1
    # photos and cells have one Stage of images here, so that super_resolution is told apart by name only
    assert counts["scorer"] == 8 + 16 + 16
    assert counts["predictor"] == counts["triplets"] == 8
    assert counts["opt"] == 16
    assert counts["calibration"] == counts["evaluation"] == 16 * len(METHODS)


def test_a_stage_is_done_once(tmp_path: Path) -> None:
    cache, stage, calls = Cache(tmp_path), Stage("opt", "some", {"a": 1}), []

    def make(folder: Path) -> None:
        folder.mkdir(parents=True)
        calls.append(folder)

    assert not cache.done(stage)
    assert cache.run(stage, make) == cache.run(stage, make) == calls[0]
    assert len(calls) == 1
    assert cache.done(stage)
    assert not cache.done(Stage("opt", "some", {"a": 2}))


@pytest.mark.parametrize("kind", ["scorer", "evaluation"])
def test_what_was_killed_is_made_again_in_its_folder(tmp_path: Path, kind: str) -> None:
    cache, stage = Cache(tmp_path), Stage(kind, "some")

    def killed(folder: Path) -> None:
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
def test_the_table_of_stages_breaks_no_word(tmp_path: Path, width: int) -> None:
    display = Display([planned(number) for number in (1, 16)], Cache(tmp_path))
    pages = {}
    for columns in (width, 1000):
        page = StringIO()
        Console(width=columns, file=page).print(display.matrix())
        pages[columns] = page.getvalue()
    assert max(map(len, pages[width].splitlines())) <= width
    assert sorted(pages[width].split()) == sorted(pages[1000].split())
    assert " predictor 0/1, triplets 0/1, " in pages[1000]
