import pytest

from conformask.errors import InvalidArgumentError
from conformask.promises.promise import GUARANTEES, SIZES, Promise, plan


def test_the_smallest_sets_of_the_literature() -> None:
    assert plan(Promise("marginal", 0.95)).n_calibration == 19
    assert plan(Promise("pac", 0.95, 0.05)).n_calibration == 59
    assert plan(Promise("ltt", 0.9, 0.1)).n_calibration == 22
    assert plan(Promise("expected"), 0.02, 1.0).n_calibration == 49
    assert plan(Promise("groups", 0.9)).n_calibration == 9


def test_units() -> None:
    units = {name: Promise(name).plural for name in GUARANTEES}
    assert units["groups"] == "groups"
    assert units["categories"] == "images of each category"
    assert units["weighted"] == "effective images"
    assert units["marginal"] == units["rcps"] == "images"


@pytest.mark.parametrize(
    ("name", "sizes"), [("marginal", (9, 19, 49, 99, 199, 499)), ("pac", (29, 46, 89, 154))]
)
def test_coverage_narrows_with_more_images(name: str, sizes: tuple[int, ...]) -> None:
    """At the smallest sizes of each rank (of pac those of Wilks, 1941).

    Of 9, 18 and 45 images the lower end fell from the second to the third.
    """
    made = plan(Promise(name, 0.9))
    assert tuple(prospect.n for prospect in made.prospects[: len(sizes)]) == sizes
    lows, highs = zip(*(prospect.coverage for prospect in made.prospects), strict=True)
    assert len(lows) == len(SIZES)
    assert list(highs) == sorted(highs, reverse=True)
    if name == "pac":
        assert min(lows) >= 0.9
    else:
        assert list(lows) == sorted(lows)


def test_a_size_of_ones_own() -> None:
    (only,) = plan(Promise("marginal", 0.9), n=1000).prospects
    assert only.n == 1000
    assert only.coverage == pytest.approx((0.884, 0.915), abs=0.002)
    assert plan(Promise("rcps"), 0.1, 1.0, n=50).prospects[0].coverage is None


@pytest.mark.parametrize("name", ["expected", "conditional_mean", "rcps", "rcps_hb"])
def test_a_promise_about_a_mean_asks_for_the_threshold(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="give one"):
        plan(Promise(name), None, 1.0)
    assert plan(Promise(name), 0.1, 1.0).n_calibration > 1
