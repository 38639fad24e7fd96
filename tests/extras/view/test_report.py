import csv
import io
import math
import re
import subprocess
import sys
from base64 import b64decode
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from view_worlds import THRESHOLD, evaluation, example, records, smooth

from conformask.errors import OutputError
from conformask.extras import view
from conformask.extras.view import facts, figures, page as gallery
from conformask.extras.view.page import FIGURES, references, render, write_report
from conformask.extras.view.verbs import summary_table
from conformask.images import svg
from conformask.images.pictures import TITLES, titles_for
from conformask.promises.promise import GUARANTEES
from conformask.records.card import promised_share
from conformask.records.evaluation import (
    CategoryCoverage,
    Evaluation,
    EvaluationProvenance,
    ReleasePower,
    RiskCurve,
)
from conformask.records.loss import OwnLoss
from conformask.records.numbers import share
from conformask.records.reading import Caveat, Network, Reference
from conformask.records.words import EXPLORATORY_TEXT, meaning_of

DOCS = Path(__file__).parents[3] / "docs"
VOID = {"meta", "img", "br", "link", "input", "hr"}
SHAPES = {"rect", "circle", "line", "polyline"}


class Page(HTMLParser):
    """Checks that tags nest, and collects what the page would load."""

    def __init__(self, text):
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.loads += [
            value or "" for name, value in attrs if name in {"src", "href", "srcset", "xlink:href"}
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in VOID | SHAPES

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def drawn(record):
    found = [draw(record) for _, _, draw in FIGURES] + [figures.gauge(record)]
    return [figure for figure in found if figure]


def check(record):
    """Render, and check what holds for every report."""
    text = render(record)
    page = Page(text)
    assert page.open == []
    inside = ("data:image/png;base64,", "data:text/csv;base64,", "#image-")
    assert all(load.startswith(inside) for load in page.loads)
    assert not re.search(r"@import|url\(|\bNone\b|\bnan\b|\binf\b", re.sub(r"data:[^\"]+", "", text))
    for figure in drawn(record):
        ElementTree.fromstring(figure)
        assert not re.search(r"\bnan\b|\binf\b", figure)
    return text


def test_everything_is_there():
    text = check(evaluation())
    assert text.startswith("<!doctype html>")
    for words_of_it in (
        "Agrees with the promise",
        "of 400 test images kept it (",
        "In at least 9 of 10 new images, what stays visible is off by at most 2 % of the range, averaged",
        "Best:",
        "Worst:",
    ):
        assert words_of_it in text
    assert len(drawn(evaluation())) == 7
    assert text.count("<svg") == 7


def test_the_most_hidden_images_come_first():
    plain = evaluation().examples[0]
    shown = {"a.png": ("best", 0.1), "b.png": ("worst", 0.2), "c.png": ("best", 0.3), "d.png": ("worst", 0.9)}
    examples = [replace(plain, name=name, kind=kind, size=size) for name, (kind, size) in shown.items()]
    text = check(evaluation(examples=examples))
    assert re.findall(r'<a href="#image-(.*?)"><img', text) == ["d.png", "c.png", "b.png", "a.png"]
    rows = re.findall(r'<article class="row" id="image-(.*?)"', text)
    assert rows == ["c.png", "a.png", "d.png", "b.png"], "within each kind"


def test_pictures_decode():
    found = gallery.pictures(evaluation().examples[0], 640)
    assert list(found) == [name for name in TITLES if name != "map"]
    for name, picture in found.items():
        image = Image.open(io.BytesIO(b64decode(picture.src.split(",")[1])))
        assert image.size == (picture.width, picture.height)
        assert picture.pixelated == (name != "overlay")


def test_names_are_escaped():
    evil = "<script>alert('x')</script>&\""
    record = evaluation(n=3)
    images = replace(record.images, name=np.array([evil] * 3))
    shown = tuple(replace(shown, name=evil, kind="typical") for shown in record.examples)
    card = replace(record.card, claim=evil, family={"name": evil}, loss=OwnLoss({"loss": evil}))
    text = check(replace(record, images=images, examples=shown, scorer=evil, card=card))
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_no_exact_oracle():
    record = evaluation(
        distance="ssim", mask_size_oracle=None, ratio_to_oracle=None, correlation_size_oracle=None
    )
    images = replace(record.images, oracle_size=np.full(400, np.nan))
    text = check(replace(record, images=images))
    assert "are not known for this loss" in text
    assert "the paper&#x27;s Opt" in (figures.size_against_oracle(replace(record, images=images)) or "")


def test_no_oracle_at_all():
    record = evaluation(
        mask_size_oracle=None, ratio_to_oracle=None, mask_size_paper_oracle=None, n_paper_oracle=0
    )
    nothing = np.full(400, np.nan)
    record = replace(record, images=replace(record.images, oracle_size=nothing, paper_oracle_size=nothing))
    check(record)
    assert figures.size_against_oracle(record) is None
    assert figures.sizes(record)


@pytest.mark.parametrize("n", [1, 3])
def test_few_images(n):
    check(evaluation(n=n, examples=()))


def test_nothing_measured_by_parts():
    record = evaluation(
        coverage_by_difficulty=(),
        size_by_difficulty=(math.nan,) * 10,
        size_by_threshold=((0.02, 0.1),),
        examples=(),
    )
    check(record)
    assert len(drawn(record)) == 4


def test_all_images_alike():
    images = records(20, np.random.default_rng(0))
    same = {name: np.full(20, value) for name, value in (("loss", THRESHOLD), ("unmasked_loss", 0.03))}
    same |= {name: np.full(20, 0.0) for name in ("size", "oracle_size", "paper_oracle_size")}
    check(evaluation(n=20, images=replace(images, **same)))


def test_infinite_numbers():
    images = replace(records(20, np.random.default_rng(0)), critical_lambda=np.full(20, np.inf))
    check(evaluation(n=20, images=images, size_by_threshold=((0.01, 0.2), (0.02, 0.1), (math.inf, 0.0))))


@pytest.mark.parametrize("threshold", [1e-9, 1e-3, 0.5, 30.0])
def test_thresholds_far_from_the_data(threshold):
    check(evaluation(threshold=threshold, examples=()))


def test_labels_of_small_errors_lie_inside_the_figure():
    curve = RiskCurve((0.0, 0.5, 1.0), (0.000987, 0.0006, 0.0), (0.000987, 0.0003, 0.0))
    drawing = ElementTree.fromstring(figures.risk(evaluation(n=20, examples=(), risk=curve)) or "")
    labels = [mark for mark in drawing.findall(".//{*}text") if mark.get("text-anchor") == "end"]
    assert "0.0005" in [label.text for label in labels]
    assert all(float(label.get("x", 0)) >= svg.LETTER * len(label.text or "") for label in labels)


def test_what_sits_on_the_threshold_has_met_it():
    images = replace(records(10, np.random.default_rng(0)), loss=np.full(10, THRESHOLD * (1 + 1e-7)))
    figure = figures.distances(evaluation(n=10, images=images)) or ""
    within, beyond = (
        figure.split(f'style="fill:{colour}">')[1].split("</g>")[0] for colour in (svg.OURS, svg.LIMIT)
    )
    assert "10 images" in within
    assert "<rect" not in beyond


@pytest.mark.parametrize(
    ("interval", "status"), [((0.85, 0.95), "agrees"), ((0.92, 0.99), "above"), ((0.7, 0.8), "below")]
)
def test_verdict(interval, status):
    record = evaluation(coverage_interval=interval, coverage=sum(interval) / 2)
    verdict = facts.verdict(record)
    assert verdict.status == status
    assert ("Are these images like" in verdict.text) == (status == "below")


@pytest.mark.parametrize(
    ("coverage", "p_worse", "p_better", "status"),
    [
        (0.7, 0.001, 1.0, "below"),
        (0.85, 0.2, 0.8, "agrees"),
        (0.91, 0.6, 0.4, "agrees"),
        (0.99, 1.0, 0.001, "above"),
        (0.89, 0.001, 0.999, "below"),
        (0.91, 0.001, 0.999, "agrees"),
        (0.9, 1.0, 0.001, "agrees"),  # exactly what was promised is neither above nor below it
        (0.9, 0.001, 1.0, "agrees"),
    ],
)
def test_the_law_of_chance_decides_where_one_is_known(coverage, p_worse, p_better, status):
    narrow = (coverage - 1e-3, coverage + 1e-3)
    record = evaluation(
        coverage=coverage, coverage_interval=narrow, p_worse=p_worse, p_better=p_better, examples=()
    )
    assert facts.verdict(record).status == status
    text = check(record)
    assert (f"{100 * p_worse:.1f}\N{NO-BREAK SPACE}% of evaluations" in text) == (coverage < 0.9)


@pytest.mark.parametrize(
    ("mean", "p_worse", "status"),
    [
        (0.9, None, "agrees"),
        (1.1, None, "agrees"),
        (1.5, None, "below"),
        (1.1, 0.2, "agrees"),
        (1.1, 0.01, "below"),
    ],
)
def test_a_mean_is_judged_by_its_interval_or_law(mean, p_worse, status):
    record = evaluation(
        guarantee="expected",
        confidence=None,
        mean_loss=mean * THRESHOLD,
        mean_loss_interval=((mean - 0.2) * THRESHOLD, (mean + 0.2) * THRESHOLD),
        p_worse=p_worse,
        examples=(),
    )
    assert facts.verdict(record).status == status
    assert f"{mean * THRESHOLD:.3g}" in check(record)


def test_each_category_has_its_coverage():
    each = (CategoryCoverage("H&E", 120, 0.9, (0.8, 0.95)), CategoryCoverage("IHC", 40, 0.75, (0.6, 0.9)))
    text = check(evaluation(guarantee="categories", coverage_by_category=each, examples=()))
    assert "Coverage of H&amp;E" in text
    assert "75.0\N{NO-BREAK SPACE}% of 40" in text


@pytest.mark.parametrize("guarantee", sorted(set(GUARANTEES) - {"marginal"}))
def test_other_guarantees(guarantee):
    record = evaluation(guarantee=guarantee, examples=())
    text = check(record)
    assert "hidden pixels count as no error" in text
    assert f"; hardest tenth {share(record.coverage_by_difficulty[-1])}" in text
    assert escape(meaning_of(record.card).holds) in text
    assert f"with the guarantee {guarantee} [2" in text
    assert (figures.gauge(record) is None) == (promised_share(record.card.promise) is None)


@pytest.mark.parametrize(("n", "shown"), [(5, False), (199, False), (200, True)])
def test_tenths_are_shown_where_each_holds_twenty_images(n, shown):
    record = evaluation(n=n, examples=())
    assert ("hardest tenth" in check(record)) is shown
    page = io.StringIO()
    Console(file=page, width=200).print(summary_table(record))
    assert ("of the hardest tenth" in page.getvalue()) is shown
    assert (figures.coverage_by_difficulty(record) is not None) is shown


@pytest.mark.parametrize("guarantee", sorted(GUARANTEES))
def test_what_proves_a_promise_is_what_the_documentation_cites(guarantee):
    cited = " ".join((DOCS / "reference" / "formulas.md").read_text(encoding="utf-8").split())
    for reference in references(evaluation(guarantee=guarantee, examples=()))[1:]:
        assert reference in cited


def test_a_methods_paragraph_with_the_numbers():
    versions = {"Python": "3.13.1", "conformask": "1.2.3"}
    made = EvaluationProvenance("2030-01-01T00:00:00+00:00", "f00d", versions, "conformask demo")
    network = Network("enlarge", "0123456789abcdef")
    record = evaluation(network=network, fingerprint="cafe", made=made, examples=())
    text = check(record)
    low, high = (f"{100 * end:.1f}" for end in record.mask_size_interval)
    for part in (
        "the network enlarge (01234567) were masked with conformask 1.2.3 [1]",
        "calibrated on 400 images, separate from the training images, with the guarantee marginal [2, 3]",
        f"separate from all of these, {400 * record.coverage:.0f} of 400 ({share(record.coverage)}) were",
        f"Masks hid {share(record.mask_size)} of an image on average (bootstrap",
        f"interval {low} to {high})",
        *("enlarge 0123456789abcdef", "cafe", "f00d", "Python 3.13.1, conformask 1.2.3", "conformask demo"),
    ):
        assert part in text
    assert "Versions" not in check(evaluation(examples=())), "an evaluation of an earlier conformask"


def test_caveats_stand_before_the_numbers():
    text = check(evaluation(exploratory=True, caveat=Caveat("does not record which network", other=False)))
    for caveat in (EXPLORATORY_TEXT, "Does not record which network."):
        assert 0 < text.index(caveat) < text.index('<dl class="tiles">')
    assert EXPLORATORY_TEXT not in check(evaluation())


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ((0, 0, 0), "a share of 0.02, at least 8 of 60 images have to be released together"),
        ((0, 0, 60), "calibrate with more. From a share of 5\N{NO-BREAK SPACE}% on, all 60 are released."),
        ((60, 60, 60), "Of the test images: From a share of 1\N{NO-BREAK SPACE}% on, all 60 are released."),
        ((0, 0, 40), "of the good, released"),
    ],
)
def test_a_release_is_a_table_only_where_it_tells_images_apart(counts, text):
    shares = (0.01, 0.02, 0.05)
    power = tuple(ReleasePower(share, n, 0, n / 60) for share, n in zip(shares, counts, strict=True))
    shown = replace(example(smooth(np.random.default_rng(0), 48, 48), "best", "one"), release="released")
    record = evaluation(n=60, power=power, release_share=0.02, examples=(shown,))
    page, tells = check(record), 40 in counts
    assert text in page
    assert ('<th scope="col">of the good, released' in page) is tells
    assert "would be released" not in page, "which is said of none at 2 %, or of all"
    assert ("would be released" in render(replace(record, release_share=0.05))) is tells


def test_all_images_as_a_table_and_as_csv():
    nothing = np.full(3, np.nan)
    images = replace(records(3, np.random.default_rng(0)), oracle_size=nothing, group=np.array(["=a,b"] * 3))
    page = check(evaluation(n=3, images=replace(images, loss=np.array([0.5, 0.01, np.inf]))))
    file = b64decode(page.split("data:text/csv;base64,")[1].split('"')[0]).decode()
    rows = list(csv.DictReader(io.StringIO(file)))
    assert [row["passed"] for row in rows] == ["False", "True", "False"]
    assert [float(row["size"]) for row in rows] == images.size.tolist()
    assert {row["group"] for row in rows} == {"'=a,b"}, "not a formula for a spreadsheet"
    table = page.split('<details class="images">')[1].split("</details>")[0]
    assert re.findall('<th scope="col">(.*?)</th>', table) == [
        *("image", "group", "threshold", "loss", "without a mask", "hidden", "mean score")
    ]
    assert table.count("✓ within") == 1


def test_grey_and_per_channel_examples():
    grey = example(smooth(np.random.default_rng(0), 64, 80)[..., 0], "typical", "grey", None)
    colour = example(smooth(np.random.default_rng(0), 64, 80), "best", "colour")
    colour = replace(colour, mask=np.repeat(colour.mask[..., None], 3, axis=-1))
    assert check(evaluation(examples=[grey, colour])).count(" (best possible: ") == 1, "known of one"


def test_large_pictures_shrink():
    assert gallery.pictures(evaluation().examples[-1], 100)["mask"].width == 100


def test_written_whole_after_loading(tmp_path):
    record = evaluation()
    record.save(tmp_path)
    path = write_report(Evaluation.load(tmp_path), tmp_path / "deep" / "report.html")
    assert path.read_text(encoding="utf-8") == render(record)
    assert [found.name for found in path.parent.iterdir()] == ["report.html"]


def test_unwritable(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        write_report(evaluation(n=3, examples=()), tmp_path / "file" / "report.html")


@pytest.mark.thorough
def test_loads_no_torch():
    code = (
        "import sys; sys.path.append('../..');"  # where synthetic_card lies
        "from view_worlds import evaluation; from conformask.extras.view.page import render;"
        "render(evaluation()); print([m for m in ('torch', 'matplotlib') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    assert run.stdout.strip() == "[]"


def test_nothing_agrees_where_everything_is_hidden():
    """Closed masks keep every promise, which is no merit of the network."""
    text = check(evaluation(hides="every image"))
    assert "Everything is hidden" in text
    assert "Agrees with the promise" not in text
    assert text.count("Only hiding every image completely keeps this promise") >= 2
    some = check(evaluation(hides="every image of category b"))
    assert "hiding every image of category b completely" in some
    assert "Everything is hidden" not in some


STATIC = Path(view.__file__).parent / "static"


def test_titles_and_their_order_are_those_of_the_viewer():
    pane, state = ((STATIC / name).read_text(encoding="utf-8") for name in ("pane.js", "state.js"))
    titles, views = re.search(r"TITLES = \{(.*?)\}", pane, re.DOTALL), re.search(r"VIEWS = \[(.*?)\]", state)
    assert re.findall(r'(\w+): "(.*?)"', titles[1]) == list(TITLES.items())
    assert re.findall(r'"(\w+)"', views[1]) == list(TITLES)


def test_a_noisy_reference_is_not_called_the_truth():
    titles = titles_for(Reference(2))
    assert list(titles) == list(TITLES)
    assert (titles["truth"], titles["error"]) == ("Noisy reference y", "Error to the noisy reference")
    assert titles_for() == TITLES
