import re

import pytest
from real_images import SHARED

from conformask.errors import InvalidArgumentError
from conformask.extras.paper.settings import METHODS, PRESETS, ROWS, rows_of
from conformask.extras.paper.stages import Stage, plan_row

EACH = {"Regression": "regressor", "GAN": "gan"}
BLOCKS = (("completion", "photos"), ("super_resolution", "cells"), ("super_resolution", "photos"))


def test_sixteen_rows_in_the_order_of_the_table() -> None:
    assert [row.number for row in ROWS] == list(range(1, 17))
    blocks = [BLOCKS[i // 4] if i < 12 else ("colorization", "photos") for i in range(16)]
    assert [(row.task, row.data) for row in ROWS] == blocks
    assert {row.distance for row in ROWS if row.task == "completion"} == {"l1", "lpips"}
    assert {row.distance for row in ROWS if row.task == "super_resolution"} == {"l1", "ssim"}
    assert {row.distance for row in ROWS if row.task == "colorization"} == {"l1", "l2"}


def test_published_numbers_are_those_of_the_paper() -> None:
    paper = SHARED / "docs" / "paper.md"
    if not paper.is_file():
        pytest.skip("the paper is not at hand")
    table = re.findall(r"^(Regression|GAN)\t(\w+)\t(.+)$", paper.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(table) == len(ROWS)
    for row, (network, distance, cells) in zip(ROWS, table, strict=True):
        numbers = [float(text) for text in re.findall(r"\d\.\d+", cells)]
        assert (row.network, row.distance) == (EACH[network], distance.lower())
        assert list(vars(row.published).values()) == numbers


def test_the_paper_preset_is_the_papers() -> None:
    paper = PRESETS["paper"]
    assert (paper.size, paper.stride) == (256, 32)
    assert paper.photos.calibration == paper.cells.calibration == 1000
    for how, batch in ((paper.predictor, 50), (paper.scorer, 25)):
        assert (how.width, how.epochs, how.learning_rate, how.batch_size) == (64, 10, 1e-5, batch)
        assert how.paper_form
    assert set(METHODS) == {"mask", "quantile", "default"}


def test_only_the_default_learns_l2_as_l1() -> None:
    images = Stage("images", "photos")
    plans = [plan_row(row, PRESETS["cpu"], images).scorers for row in rows_of([15, 16])]
    of_l1, of_l2 = ({name: stage.settings["scorer"] for name, stage in each.items()} for each in plans)
    assert of_l1 == {"mask": "mask", "quantile": "quantile", "default": "mask"}
    assert of_l2 == {"mask": "mask", "quantile": "quantile", "default": "error"}


def test_rows_by_number() -> None:
    assert [row.number for row in rows_of([5, 2, 5])] == [2, 5]
    assert len(rows_of(None)) == 16
    for wrong in ([17], [0], []):
        with pytest.raises(InvalidArgumentError, match="rows 1 to 16"):
            rows_of(wrong)
