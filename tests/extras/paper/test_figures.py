import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from conformask.errors import OutputError
from conformask.extras.paper import ROWS, RowResult, figures as panels
from conformask.extras.paper.figures import LIGHT, as_svg, figures, render, write_page
from conformask.records.evaluation import Evaluation, Example, ImageRecords
from synthetic_card import card

SVG = "{http://www.w3.org/2000/svg}"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags nest, and collects what the page would load and where its links go."""

    def __init__(self, text):
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        found = {name: value or "" for name, value in attrs}
        self.sources += [found[name] for name in ("src", "srcset") if name in found]
        self.links += [found["href"]] if "href" in found else []
        self.ids += [found["id"]] if "id" in found else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def rows():
    return all_rows()


def clouds(figure, method):
    """The places of a method's marks, (k, 2) in points, for each of its clouds."""
    return [ax.transData.transform(cloud) for ax in figure.axes for cloud in marks(ax, method)]


def marks(ax, method):
    """The values of a method's marks, (k, 2)."""
    colour = LIGHT[method.colour]
    return [
        np.asarray(line.get_xydata())
        for line in ax.lines
        if line.get_color() == colour and line.get_marker() != "None"
    ]


def words_in(figure):
    return "\n".join(re.findall("<text.*?>([^<]*)", as_svg(figure)))


def drawn_alone(panel):
    figure = panels._grid("", [[("", panel)]], panels.HALF)
    assert figure
    return figure.axes[0]


def check_page(results):
    text = render(results, figures(results))
    page = Page(text)
    assert page.open == []
    assert all(re.match("data:image/(png|jpeg|svg.xml);base64,", source) for source in page.sources)
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert len(page.ids) == len(set(page.ids))
    own = re.sub(r"data:[^\"]+", "", text).replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|@import|url\(|\bNone\b|\bnan\b|\binf\b", own)
    return text


def without(result, *methods):
    kept = {key: value for key, value in result.methods.items() if key not in methods}
    return replace(result, methods=kept)


def no_opt(result):
    nothing = np.full(len(result.opt_size), np.nan)
    return replace(result, opt_size=nothing, exact_size=nothing, exact_distance=nothing, opt_distance=nothing)


@pytest.mark.thorough
def test_all_rows(rows):
    drawn = figures(rows)
    assert list(drawn) == [3, *range(5, 14)]
    assert [len(figure.axes) for figure in drawn.values()] == [9, 4, 8, 4, 4, 8, 4, 12, 24, 12]
    assert not any(re.search(r"\bnan\b|\binf\b", words_in(figure)) for figure in drawn.values())
    check_page(list(reversed(rows)))


def test_a_mark_for_each_image(rows):
    drawn = figures(rows)
    for method in panels.RIVALS:
        assert [len(cloud) for cloud in clouds(drawn[5], method)] == [40] * 4
        assert [len(cloud) for cloud in clouds(drawn[11], method)] == [40, 20, 40, 20]
    assert sorted(len(cloud) for cloud in clouds(drawn[5], panels.OPT)) == [20, 20, 40, 40]
    assert "Opt (20)" in words_in(drawn[5])
    assert len(clouds(drawn[3], panels.QUANTILE)) == 6


def test_many_images_are_thinned():
    cloud = clouds(figures([row_result(ROWS[0], 1000)])[5], panels.MASK)[0]
    assert len(cloud) == panels.MOST_POINTS


def test_the_threshold_line_is_at_the_threshold(rows):
    for result in rows:
        ax = drawn_alone(panels.distances(result))
        dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
        assert list(np.asarray(dashed[0].get_ydata())) == [result.threshold] * 2
        distance = result.methods["mask"].images.loss
        missed = distance > result.threshold * (1 + 1e-6)
        assert (marks(ax, panels.MASK)[0][:, 1] > result.threshold).sum() == missed.sum()
        assert f"{100 * missed.mean():.1f}" in ax.get_xticklabels()[1].get_text()


def test_scatter_places(rows):
    """On common axes, an image masked as much as Opt masks it lies on the diagonal."""
    result = rows[0]
    same = replace(result.methods["mask"].images, size=result.opt_size)
    methods = {**result.methods, "mask": replace(result.methods["mask"], images=same)}
    ax = drawn_alone(panels.scatter(replace(result, methods=methods), (panels.MASK,)))
    assert ax.get_legend().get_texts()[0].get_text() == "Mask network, r = 1.00"
    assert ax.get_xlim() == ax.get_ylim()
    x, y = marks(ax, panels.MASK)[0].T
    assert x == pytest.approx(y)


def test_dots_of_a_swarm_do_not_touch(rows):
    dots = clouds(figures(rows[:1])[5], panels.QUANTILE)[0]
    apart = np.hypot(*(dots[:, None] - dots[None]).transpose(2, 0, 1)) + 99 * np.eye(len(dots))
    assert apart.min() > panels.DOT - 0.01


def test_distances_that_dwarf_the_threshold_are_counted():
    result = row_result(ROWS[0])
    far = result.methods["quantile"].images.loss.copy()
    far[:3] = 100.0
    images = replace(result.methods["quantile"].images, loss=far)
    methods = {**result.methods, "quantile": replace(result.methods["quantile"], images=images)}
    figure = figures([replace(result, methods=methods)])[5]
    assert "3 above ↑" in words_in(figure)
    assert len(clouds(figure, panels.QUANTILE)[0]) == 37


@pytest.mark.thorough
def test_no_opt_at_all(rows):
    results = [no_opt(result) for result in rows]
    drawn = figures(results)
    assert list(drawn) == [3, *range(5, 11)]
    assert len(drawn[3].axes) == 6
    assert clouds(drawn[6], panels.OPT) == []
    assert len(clouds(drawn[6], panels.MASK)) == 8
    check_page(results)


def test_one_row_only(tmp_path):
    result = row_result(ROWS[13])
    drawn = figures([result])
    assert list(drawn) == [7, 10, 13]
    assert [len(figure.axes) for figure in drawn.values()] == [1, 1, 3]
    assert drawn[7].get_figwidth() == panels.HALF[0] / 72
    names = [path.name for path in write_page([result], tmp_path)]
    assert names == ["figure-02-row14.svg", "figure-07.svg", "figure-10.svg", "figure-13.svg", "paper.html"]
    assert 'href="#row-14"' in check_page([result])


def test_summary_of_cells_where_photographs_are_not_finished():
    drawn = figures([row_result(ROWS[i]) for i in (4, 6)])
    assert len(drawn[3].axes) == 3
    assert "Row 5 · cells, regressor, L1" in words_in(drawn[3])


def test_methods_and_networks_left_out(rows):
    results = [without(rows[2], "default"), without(rows[3], "mask", "quantile", "default")]
    drawn = figures(results)
    assert len(drawn[5].axes) == 2
    assert len(drawn[8].axes) == 1
    assert len(drawn[11].axes) == 2
    assert clouds(drawn[5], panels.DEFAULT) == []
    check_page(results)


def test_no_rows(tmp_path):
    assert figures([]) == {}
    assert "No row is finished yet" in check_page([])
    assert [path.name for path in write_page([], tmp_path)] == ["paper.html"]


@pytest.mark.thorough
@pytest.mark.parametrize("n", [1, 2])
def test_few_images(n):
    results = [row_result(row, n) for row in ROWS]
    check_page(results)
    assert n > 1 or "r = not defined" in words_in(figures(results)[11])


def test_all_images_alike(rows):
    def flat(evaluation):
        zero: Array = np.zeros(40)
        return replace(evaluation, images=replace(evaluation.images, size=zero, loss=zero))

    result = replace(rows[0], methods={key: flat(value) for key, value in rows[0].methods.items()})
    check_page([result])
    check_page([replace(result, opt_size=np.zeros(40), opt_distance=np.zeros(40))])


def test_names_are_escaped():
    evil = "<script>alert('x')</script>&\""
    result = row_result(ROWS[0])
    methods = {
        key: replace(value, examples=tuple(replace(e, name=evil) for e in value.examples))
        for key, value in result.methods.items()
    }
    row = replace(result.row, data=evil, network=evil, distance=evil)
    result = replace(result, methods=methods, row=row)
    text = check_page([result])
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    drawn = panels.draw_strips(result)
    assert drawn
    ElementTree.fromstring(as_svg(drawn))


def test_examples_are_those_that_both_methods_have(rows):
    result = rows[0]
    ours = result.methods["mask"].examples
    methods = {**result.methods, "default": replace(result.methods["default"], examples=ours[3:])}
    found = panels.strips_of(replace(result, methods=methods))
    assert [strip.name for strip in found] == [ours[3].name, ours[0].name, ours[2].name]
    assert [strip.cells[4] is None for strip in found] == [False, True, True]
    drawing = panels.draw_strips(replace(result, methods=methods))
    assert drawing
    assert sum(len(ax.images) for ax in drawing.axes) == 3 * 5 + 1


def test_no_examples(rows):
    bare = {key: replace(value, examples=()) for key, value in rows[0].methods.items()}
    result = replace(rows[0], methods=bare)
    assert panels.draw_strips(result) is None
    assert 'href="#row-01"' not in check_page([result])


@pytest.mark.thorough
def test_files(rows, tmp_path):
    paths = write_page(rows, tmp_path / "new")
    names = [f"figure-02-row{i:02d}.svg" for i in range(1, 17)]
    names += [f"figure-{i:02d}.svg" for i in (3, *range(5, 14))]
    assert [path.name for path in paths] == [*names, "paper.html"]
    written = {path for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert written == {*paths, tmp_path / "new" / "paper.json"}
    assert paths[-1] == tmp_path / "new" / "paper.html"
    for path in paths[:-1]:
        text = path.read_text(encoding="utf-8")
        root = ElementTree.fromstring(text)
        assert (root.findtext(f"{SVG}title") or "").count(":") > 0
        assert float((root.get("width") or "nan").removesuffix("pt")) > 300
        assert "prefers-color-scheme" in text
        loaded = re.findall(r'href="(.{5})|url\((.)|@import', text)
        assert all(link in ("data:", "") or link.startswith("#") for link, _ in loaded)
        assert all(path in ("#", "") for _, path in loaded)


@pytest.mark.slow
def test_the_page_stays_small():
    """At the size of the paper's images, all of them full of detail."""
    results = [row_result(row, 205, side=256) for row in ROWS]
    size = len(render(results, figures(results)).encode())
    assert size < 10e6


def test_large_pictures_are_lighter_as_jpeg():
    strip = panels.strips_of(row_result(ROWS[0], side=200))[0]
    cells = [cell for cell in strip.cells if cell]
    assert any(cell.picture.src.startswith("data:image/jpeg") for cell in cells)
    assert all(max(cell.picture.width, cell.picture.height) <= panels.LONGEST for cell in cells)


def test_a_share_beyond_is_absent_without_a_method(rows):
    assert math.isnan(panels.share_beyond(without(rows[0], "mask"), panels.MASK))


def test_unwritable(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        write_page([], tmp_path / "file")


Array = np.ndarray[Any, np.dtype[Any]]
THRESHOLDS = {"l1": 0.02, "l2": 0.002, "ssim": 0.15, "lpips": 0.08}
NOISE = {"mask": (1.2, 0.02), "quantile": (1.7, 0.05), "default": (1.1, 0.015)}
"""How much larger than the oracle's a method's masks are, and how scattered."""


def example(rng, name, kind, side=24):
    coarse = rng.integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
    y = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))
    flat = y[..., 0]
    return Example(name, kind, y[::2, ::2], y, y[::-1], flat, flat, 0.3, 0.2, 0.019, None)


def evaluation(row, method, images, examples):
    threshold = THRESHOLDS[row.distance]
    coverage, size = float((images.loss <= threshold).mean()), float(images.size.mean())
    return Evaluation(
        card=card(threshold=threshold, distance=row.distance, n_calibration=100),
        fingerprint="",
        scorer=method,
        n_test=len(images.size),
        coverage=coverage,
        coverage_interval=(max(coverage - 0.05, 0.0), min(coverage + 0.05, 1.0)),
        mask_size=size,
        mask_size_interval=(0.9 * size, 1.1 * size),
        mask_size_oracle=None,
        mask_size_paper_oracle=None,
        n_paper_oracle=0,
        ratio_to_oracle=None,
        correlation_size_loss=None,
        correlation_size_oracle=None,
        spearman_size_loss=None,
        spearman_size_oracle=None,
        coverage_by_difficulty=(),
        size_by_difficulty=(),
        size_by_threshold=(),
        images=images,
        examples=examples,
    )


def row_result(row, n=40, opt=1.0, side=24):
    """A finished row; `opt` is the share of test images on which Opt was computed."""
    rng, threshold = np.random.default_rng(row.number), THRESHOLDS[row.distance]
    unmasked = threshold * rng.gamma(6, 0.35, n)
    exact = np.clip(0.5 * (1 - np.minimum(threshold / unmasked, 1) ** 0.5), 0, 1)
    names = np.array([f"image-{i:04d}.png" for i in range(n)])
    methods = {}
    for method, (larger, noise) in NOISE.items():
        size = np.clip(larger * exact + 0.01 + rng.normal(0, noise, n), 0, 1)
        spread = 0.16 if method != "quantile" else 0.3
        masked = np.where(
            unmasked < threshold, unmasked, threshold * np.exp(rng.normal(-1.28 * spread, spread, n))
        )
        nothing = np.full(n, np.nan)
        records = ImageRecords(names, masked, unmasked, size, nothing, nothing, nothing, unmasked)
        pictures = np.random.default_rng(row.number)
        shown = tuple(
            example(pictures, str(names[i]), kind, side)
            for i, kind in enumerate(("best", "typical", "worst", "typical")[:n])
        )
        methods[method] = evaluation(row, method, records, shown)
    there = np.arange(n) < math.ceil(opt * n)
    oracle = row.distance in ("l1", "l2")
    return RowResult(
        row=row,
        threshold=threshold,
        methods=methods,
        opt_size=np.where(there, np.clip(1.05 * exact, 0, 1), np.nan),
        exact_size=exact if oracle else np.full(n, np.nan),
        exact_distance=np.minimum(unmasked, threshold) if oracle else np.full(n, np.nan),
        opt_distance=np.where(there, np.minimum(unmasked, threshold), np.nan),
    )


def all_rows(n=40):
    """All sixteen; Opt on half of the images where the distance is costly."""
    return [row_result(row, n, 1.0 if row.distance in ("l1", "l2") else 0.5) for row in ROWS]
