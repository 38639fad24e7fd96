import math
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from synthetic_rows import Array, all_rows, row_result

from conformask.errors import OutputError
from conformask.extras.paper import examples
from conformask.extras.paper import pictures as panels
from conformask.extras.paper.page import render, write_page
from conformask.extras.paper.pictures import LIGHT, MethodStyle, as_svg, figures
from conformask.extras.paper.settings import ROWS, RowResult
from conformask.records.evaluation import Evaluation

SVG = "{http://www.w3.org/2000/svg}"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags nest, and collects what the page would load and where its links go."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.sources += [found[name] for name in ("src", "srcset") if name in found]
        self.links += [found["href"]] if "href" in found else []
        self.ids += [found["id"]] if "id" in found else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def rows() -> list[RowResult]:
    return all_rows()


def clouds(figure: Figure, method: MethodStyle) -> list[Array]:
    """The places of a method's marks, (k, 2) in points, for each of its clouds."""
    return [ax.transData.transform(cloud) for ax in figure.axes for cloud in marks(ax, method)]


def marks(ax: Axes, method: MethodStyle) -> list[Array]:
    """The values of a method's marks, (k, 2)."""
    colour = LIGHT[method.colour]
    return [
        np.asarray(line.get_xydata())
        for line in ax.lines
        if line.get_color() == colour and line.get_marker() != "None"
    ]


def words_in(figure: Figure) -> str:
    return "\n".join(re.findall("<text.*?>([^<]*)", as_svg(figure)))


def drawn_alone(panel: panels.Panel | None) -> Axes:
    figure = panels._grid("", [[("", panel)]], panels.HALF)
    assert figure
    return figure.axes[0]


def check_page(results: Sequence[RowResult]) -> str:
    text = render(results, figures(results))
    page = Page(text)
    assert page.open == []
    assert all(re.match("data:image/(png|jpeg|svg.xml);base64,", source) for source in page.sources)
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert len(page.ids) == len(set(page.ids))
    own = re.sub(r"data:[^\"]+", "", text).replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|@import|url\(|\bNone\b|\bnan\b|\binf\b", own)
    return text


def without(result: RowResult, *methods: str) -> RowResult:
    kept = {key: value for key, value in result.methods.items() if key not in methods}
    return replace(result, methods=kept)


def no_opt(result: RowResult) -> RowResult:
    nothing = np.full(len(result.opt_size), np.nan)
    return replace(result, opt_size=nothing, exact_size=nothing, exact_distance=nothing, opt_distance=nothing)


@pytest.mark.thorough
def test_all_rows(rows: list[RowResult]) -> None:
    drawn = figures(rows)
    assert list(drawn) == [3, *range(5, 14)]
    assert [len(figure.axes) for figure in drawn.values()] == [9, 4, 8, 4, 4, 8, 4, 12, 24, 12]
    assert not any(re.search(r"\bnan\b|\binf\b", words_in(figure)) for figure in drawn.values())
    check_page(list(reversed(rows)))


def test_a_mark_for_each_image(rows: list[RowResult]) -> None:
    drawn = figures(rows)
    for method in panels.RIVALS:
        assert [len(cloud) for cloud in clouds(drawn[5], method)] == [40] * 4
        assert [len(cloud) for cloud in clouds(drawn[11], method)] == [40, 20, 40, 20]
    assert sorted(len(cloud) for cloud in clouds(drawn[5], panels.OPT)) == [20, 20, 40, 40]
    assert "Opt (20)" in words_in(drawn[5])
    assert len(clouds(drawn[3], panels.QUANTILE)) == 6


def test_many_images_are_thinned() -> None:
    cloud = clouds(figures([row_result(ROWS[0], 1000)])[5], panels.MASK)[0]
    assert len(cloud) == panels.MOST_POINTS


def test_the_threshold_line_is_at_the_threshold(rows: list[RowResult]) -> None:
    for result in rows:
        ax = drawn_alone(panels.distances(result))
        dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
        assert list(np.asarray(dashed[0].get_ydata())) == [result.threshold] * 2
        distance = result.methods["mask"].images.loss
        missed = distance > result.threshold * (1 + 1e-6)
        assert (marks(ax, panels.MASK)[0][:, 1] > result.threshold).sum() == missed.sum()
        assert f"{100 * missed.mean():.1f}" in ax.get_xticklabels()[1].get_text()


def test_scatter_places(rows: list[RowResult]) -> None:
    """On common axes, an image masked as much as Opt masks it lies on the diagonal."""
    result = rows[0]
    same = replace(result.methods["mask"].images, size=result.opt_size)
    methods = {**result.methods, "mask": replace(result.methods["mask"], images=same)}
    ax = drawn_alone(panels.scatter(replace(result, methods=methods), (panels.MASK,)))
    assert ax.get_legend().get_texts()[0].get_text() == "Mask network, r = 1.00"
    assert ax.get_xlim() == ax.get_ylim()
    x, y = marks(ax, panels.MASK)[0].T
    assert x == pytest.approx(y)


def test_dots_of_a_swarm_do_not_touch(rows: list[RowResult]) -> None:
    dots = clouds(figures(rows[:1])[5], panels.QUANTILE)[0]
    apart = np.hypot(*(dots[:, None] - dots[None]).transpose(2, 0, 1)) + 99 * np.eye(len(dots))
    assert apart.min() > panels.DOT - 0.01


def test_distances_that_dwarf_the_threshold_are_counted() -> None:
    result = row_result(ROWS[0])
    far = result.methods["quantile"].images.loss.copy()
    far[:3] = 100.0
    images = replace(result.methods["quantile"].images, loss=far)
    methods = {**result.methods, "quantile": replace(result.methods["quantile"], images=images)}
    figure = figures([replace(result, methods=methods)])[5]
    assert "3 above ↑" in words_in(figure)
    assert len(clouds(figure, panels.QUANTILE)[0]) == 37


@pytest.mark.thorough
def test_no_opt_at_all(rows: list[RowResult]) -> None:
    results = [no_opt(result) for result in rows]
    drawn = figures(results)
    assert list(drawn) == [3, *range(5, 11)]
    assert len(drawn[3].axes) == 6
    assert clouds(drawn[6], panels.OPT) == []
    assert len(clouds(drawn[6], panels.MASK)) == 8
    check_page(results)


def test_one_row_only(tmp_path: Path) -> None:
    result = row_result(ROWS[13])
    drawn = figures([result])
    assert list(drawn) == [7, 10, 13]
    assert [len(figure.axes) for figure in drawn.values()] == [1, 1, 3]
    assert drawn[7].get_figwidth() == panels.HALF[0] / 72
    names = [path.name for path in write_page([result], tmp_path)]
    assert names == ["figure-02-row14.svg", "figure-07.svg", "figure-10.svg", "figure-13.svg", "paper.html"]
    assert 'href="#row-14"' in check_page([result])


def test_summary_of_cells_where_photographs_are_not_finished() -> None:
    drawn = figures([row_result(ROWS[i]) for i in (4, 6)])
    assert len(drawn[3].axes) == 3
    assert "Row 5 · cells, regressor, L1" in words_in(drawn[3])


def test_methods_and_networks_left_out(rows: list[RowResult]) -> None:
    results = [without(rows[2], "default"), without(rows[3], "mask", "quantile", "default")]
    drawn = figures(results)
    assert len(drawn[5].axes) == 2
    assert len(drawn[8].axes) == 1
    assert len(drawn[11].axes) == 2
    assert clouds(drawn[5], panels.DEFAULT) == []
    check_page(results)


def test_no_rows(tmp_path: Path) -> None:
    assert figures([]) == {}
    assert "No row is finished yet" in check_page([])
    assert [path.name for path in write_page([], tmp_path)] == ["paper.html"]


@pytest.mark.thorough
@pytest.mark.parametrize("n", [1, 2])
def test_few_images(n: int) -> None:
    results = [row_result(row, n) for row in ROWS]
    check_page(results)
    assert n > 1 or "r = not defined" in words_in(figures(results)[11])


def test_all_images_alike(rows: list[RowResult]) -> None:
    def flat(evaluation: Evaluation) -> Evaluation:
        zero: Array = np.zeros(40)
        return replace(evaluation, images=replace(evaluation.images, size=zero, loss=zero))

    result = replace(rows[0], methods={key: flat(value) for key, value in rows[0].methods.items()})
    check_page([result])
    check_page([replace(result, opt_size=np.zeros(40), opt_distance=np.zeros(40))])


def test_names_are_escaped() -> None:
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
    drawn = examples.draw_strips(result)
    assert drawn
    ElementTree.fromstring(as_svg(drawn))


def test_examples_are_those_that_both_methods_have(rows: list[RowResult]) -> None:
    result = rows[0]
    ours = result.methods["mask"].examples
    methods = {**result.methods, "default": replace(result.methods["default"], examples=ours[3:])}
    found = examples.strips(replace(result, methods=methods))
    assert [strip.name for strip in found] == [ours[3].name, ours[0].name, ours[2].name]
    assert [strip.cells[4] is None for strip in found] == [False, True, True]
    drawing = examples.draw_strips(replace(result, methods=methods))
    assert drawing
    assert sum(len(ax.images) for ax in drawing.axes) == 3 * 5 + 1


def test_no_examples(rows: list[RowResult]) -> None:
    bare = {key: replace(value, examples=()) for key, value in rows[0].methods.items()}
    result = replace(rows[0], methods=bare)
    assert examples.draw_strips(result) is None
    assert 'href="#row-01"' not in check_page([result])


@pytest.mark.thorough
def test_files(rows: list[RowResult], tmp_path: Path) -> None:
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
def test_the_page_stays_small() -> None:
    """At the size of the paper's images, all of them full of detail."""
    results = [row_result(row, 205, side=256) for row in ROWS]
    size = len(render(results, figures(results)).encode())
    assert size < 10e6


def test_large_pictures_are_lighter_as_jpeg() -> None:
    strip = examples.strips(row_result(ROWS[0], side=200))[0]
    cells = [cell for cell in strip.cells if cell]
    assert any(cell.picture.src.startswith("data:image/jpeg") for cell in cells)
    assert all(max(cell.picture.width, cell.picture.height) <= examples.LONGEST for cell in cells)


def test_a_share_beyond_is_absent_without_a_method(rows: list[RowResult]) -> None:
    assert math.isnan(panels.share_beyond(without(rows[0], "mask"), panels.MASK))


def test_unwritable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        write_page([], tmp_path / "file")
