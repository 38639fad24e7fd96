import math
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from synthetic_rows import Array, all_rows, row_result

from conformask.errors import OutputError
from conformask.extras.paper import examples
from conformask.extras.paper import pictures as panels
from conformask.extras.paper.page import render, standalone, write_page
from conformask.extras.paper.pictures import figures
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


def panels_in(text: str) -> list[ElementTree.Element]:
    return ElementTree.fromstring(text).findall(f".//{SVG}g[@class='panel']")


def clouds(text: str, method: str) -> list[list[tuple[float, float]]]:
    """The places of a method's marks, for each of its clouds."""
    root = ElementTree.fromstring(text)
    found = []
    for cloud in root.findall(f".//{SVG}g[@class='cloud {method}']"):
        paths = [path.get("d") or "" for path in cloud.findall(f"{SVG}path")]
        found.append([(float(x), float(y)) for x, y in (re.findall(r"-?[\d.]+", d)[:2] for d in paths)])
    return found


def check_page(results: Sequence[RowResult]) -> str:
    text = render(results, figures(results))
    page = Page(text)
    assert page.open == []
    assert all(
        source.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for source in page.sources
    )
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
    counts = [len(panels_in(text)) for text in drawn.values()]
    assert counts == [9, 4, 8, 4, 4, 8, 4, 12, 24, 12]
    assert not any(re.search(r"\bnan\b|\binf\b", text) for text in drawn.values())
    check_page(list(reversed(rows)))


def test_a_mark_for_each_image(rows: list[RowResult]) -> None:
    drawn = figures(rows)
    for method in ("mask", "quantile", "default"):
        assert [len(cloud) for cloud in clouds(drawn[5], method)] == [40] * 4
        assert [len(cloud) for cloud in clouds(drawn[11], method)] == [40, 20, 40, 20]
    assert sorted(len(cloud) for cloud in clouds(drawn[5], "opt")) == [20, 20, 40, 40]
    assert "Opt (20)" in drawn[5]
    assert len(clouds(drawn[3], "quantile")) == 6


def test_many_images_are_thinned() -> None:
    cloud = clouds(figures([row_result(ROWS[0], 1000)])[5], "mask")[0]
    assert len(cloud) == panels.MOST_POINTS


def test_the_threshold_line_is_at_the_threshold(rows: list[RowResult]) -> None:
    """Heights parsed back: the dashed line, the ticks, and the dots beside it."""
    for result in rows:
        panel = panels.distances(result, panels.HALF)
        assert panel
        root = ElementTree.fromstring(f'<svg xmlns="http://www.w3.org/2000/svg">{panel.marks}</svg>')
        dashed = [g for g in root.iter(f"{SVG}g") if "dasharray:6 4" in (g.get("style") or "")]
        line = dashed[0].find(f"{SVG}line")
        assert line is not None
        labels = [t for t in root.iter(f"{SVG}text") if t.get("text-anchor") == "end" and t.get("x") == "50"]
        ticks = {float(t.text or ""): float(t.get("y") or "") - 4 for t in labels if t.text != "beyond"}
        low, high = min(ticks), max(ticks)
        at = float(line.get("y1") or "")
        value = low + (at - ticks[low]) / (ticks[high] - ticks[low]) * (high - low)
        assert value == pytest.approx(result.threshold, rel=0.01)
        dots = clouds(f'<svg xmlns="http://www.w3.org/2000/svg">{panel.marks}</svg>', "mask")[0]
        distance = result.methods["mask"].images.loss
        missed = distance > result.threshold * 1.01
        assert sum(y < at for _, y in dots) == pytest.approx(missed.sum(), abs=1)
        assert f"{100 * (distance > result.threshold * (1 + 1e-6)).mean():.1f}" in panel.marks


def test_scatter_places(rows: list[RowResult]) -> None:
    """On common axes, an image masked as much as Opt masks it lies on the diagonal."""
    result = rows[0]
    same = replace(result.methods["mask"].images, size=result.opt_size)
    methods = {**result.methods, "mask": replace(result.methods["mask"], images=same)}
    panel = panels.scatter(replace(result, methods=methods), panels.THIRD, (panels.MASK,))
    assert panel
    assert "Mask network, r = 1.00" in panel.marks
    text = f'<svg xmlns="http://www.w3.org/2000/svg">{panel.marks}</svg>'
    diagonal = ElementTree.fromstring(text).find(f".//{SVG}polyline")
    assert diagonal is not None
    (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in (diagonal.get("points") or "").split())
    for x, y in clouds(text, "mask")[0]:
        assert (x - x1) / (x2 - x1) == pytest.approx((y - y1) / (y2 - y1), abs=2e-3)


def test_dots_of_a_swarm_do_not_touch(rows: list[RowResult]) -> None:
    dots = np.array(clouds(figures(rows[:1])[5], "quantile")[0])
    apart = np.hypot(*(dots[:, None] - dots[None]).transpose(2, 0, 1)) + 99 * np.eye(len(dots))
    assert apart.min() > panels.DOT - 0.2


def test_distances_that_dwarf_the_threshold_are_counted() -> None:
    result = row_result(ROWS[0])
    far = result.methods["quantile"].images.loss.copy()
    far[:3] = 100.0
    images = replace(result.methods["quantile"].images, loss=far)
    methods = {**result.methods, "quantile": replace(result.methods["quantile"], images=images)}
    text = figures([replace(result, methods=methods)])[5]
    assert "3 above ↑" in text
    assert len(clouds(text, "quantile")[0]) == 37


@pytest.mark.thorough
def test_no_opt_at_all(rows: list[RowResult]) -> None:
    results = [no_opt(result) for result in rows]
    drawn = figures(results)
    assert list(drawn) == [3, *range(5, 11)]
    assert len(panels_in(drawn[3])) == 6
    assert clouds(drawn[6], "opt") == []
    assert len(clouds(drawn[6], "mask")) == 8
    check_page(results)


def test_one_row_only(tmp_path: Path) -> None:
    result = row_result(ROWS[13])
    drawn = figures([result])
    assert list(drawn) == [7, 10, 13]
    assert [len(panels_in(text)) for text in drawn.values()] == [1, 1, 3]
    assert 'viewBox="0 0 480 ' in drawn[7]
    names = [path.name for path in write_page([result], tmp_path)]
    assert names == ["figure-02-row14.svg", "figure-07.svg", "figure-10.svg", "figure-13.svg", "paper.html"]
    assert 'href="#row-14"' in check_page([result])


def test_summary_of_cells_where_photographs_are_not_finished() -> None:
    drawn = figures([row_result(ROWS[i]) for i in (4, 6)])
    assert len(panels_in(drawn[3])) == 3
    assert "Row 5 · cells, regressor, L1" in drawn[3]


def test_methods_and_networks_left_out(rows: list[RowResult]) -> None:
    results = [without(rows[2], "default"), without(rows[3], "mask", "quantile", "default")]
    drawn = figures(results)
    assert len(panels_in(drawn[5])) == 2
    assert len(panels_in(drawn[8])) == 1
    assert len(panels_in(drawn[11])) == 2
    assert clouds(drawn[5], "default") == []
    check_page(results)


def test_no_rows(tmp_path: Path) -> None:
    assert figures([]) == {}
    assert "No row is finished yet" in check_page([])
    assert [path.name for path in write_page([], tmp_path)] == ["paper.html"]


@pytest.mark.parametrize("n", [1, 2])
def test_few_images(n: int) -> None:
    results = [row_result(row, n) for row in ROWS]
    check_page(results)
    assert n > 1 or "r = not defined" in figures(results)[11]


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
    ElementTree.fromstring(standalone(examples.draw_strips(result) or ""))


def test_examples_are_those_that_both_methods_have(rows: list[RowResult]) -> None:
    result = rows[0]
    ours = result.methods["mask"].examples
    methods = {**result.methods, "default": replace(result.methods["default"], examples=ours[3:])}
    found = examples.strips(replace(result, methods=methods))
    assert [strip.name for strip in found] == [ours[3].name, ours[0].name, ours[2].name]
    assert [strip.cells[4] is None for strip in found] == [False, True, True]
    drawing = ElementTree.fromstring(examples.draw_strips(replace(result, methods=methods)) or "")
    assert len(drawing.findall(f"{SVG}image")) == 3 * 5 + 1


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
        assert root.get("aria-label")
        assert float(root.get("width") or "nan") > 300
        assert "var(" not in text
        assert "prefers-color-scheme" in text
        assert not re.search(r"https?:(?!//www\.w3\.org/2000/svg)|url\(|@import", text)


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


def test_draws_no_torch() -> None:
    code = "import sys; import conformask.extras.paper.page; print('matplotlib' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
