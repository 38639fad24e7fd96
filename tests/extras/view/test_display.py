import importlib
import io
import json
import re
import sys
from base64 import b64decode
from dataclasses import replace
from html import escape
from html.parser import HTMLParser

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from view_worlds import evaluation as synthetic

import conformask as cm
from conformask.errors import ImageError, InvalidArgumentError, MismatchError, MissingFileError, OutputError
from conformask.extensions import pip_install
from conformask.extras.view.display import show
from conformask.extras.view.page import Strip, StripRow
from conformask.images.pictures import as_bytes, first_contrast, in_colors, map_ends
from conformask.images.read import write_image
from conformask.masker.calibrate import calibrate
from conformask.masker.evaluate import evaluate
from conformask.records import evaluation as records
from conformask.records.evaluation import Evaluation
from conformask.records.numbers import rounded_share
from conformask.scores.scorer import Heuristic
from synthetic_triplets import arrays, scale_of, triplets

PLACES = {"Output ŷ", "Overlay", "Mask", "Input x"}


class Pictures(HTMLParser):
    """The pictures of a piece of HTML, and whether its tags nest."""

    def __init__(self, text):
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[int, int]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag != "img":
            self.open += [tag] if tag != "meta" else []
            return
        source = dict(attrs)["src"] or ""
        assert source.startswith("data:image/png;base64,"), "nothing is loaded from elsewhere"
        self.found.append(Image.open(io.BytesIO(b64decode(source.split(",")[1]))).size)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def enlarged(x, y_hat):
    return torch.nn.functional.interpolate(x.mean(dim=1, keepdim=True), size=y_hat.shape[-2:])


def halved(count, seed, channels, **more):
    """x has half the sides of y_hat."""
    x, y_hat, y = arrays(count, seed, (8, 12), channels)
    return cm.Triplets.from_arrays(np.repeat(x[:, ::2, ::2], channels, axis=-1), y_hat, y, **more)


def masker_of(channels, **more):
    scorer = Heuristic(enlarged, channels=channels)
    return calibrate(scorer, halved(40, 0, channels), threshold=0.03, loss="l1", **more)


def batch_of(channels, count=3):
    return next(halved(count, 2, channels).batches(count))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_with_its_truth(channels):
    masker, batch = masker_of(channels), batch_of(channels)
    strip = show(masker, batch.x, batch.y_hat, batch.y)
    mask = masker(batch.x, batch.y_hat)
    assert strip.sentence == masker.sentence
    for index, row in enumerate(strip.rows):
        labels = list(row.pictures)
        assert labels[:5] == ["Output ŷ", "Overlay", "Mask", "Truth y", "Input x"]
        assert re.fullmatch(r"Error \|y − ŷ\|, 0 to 0\.\d+", labels[5])
        shape = (8, 12) if channels == 1 else (8, 12, 3)
        assert row.pictures["Output ŷ"].shape == shape
        assert row.pictures["Input x"].shape[:2] == (4, 6)
        assert row.pictures["Overlay"].shape == (26 * 8, 26 * 12, 3)
        shown = row.pictures["Mask"].astype(float) / 255
        np.testing.assert_allclose(shown, mask[index, 0].numpy(), atol=0.51 / 255)
        truth, output = batch.y[index].numpy().astype(float), batch.y_hat[index].numpy().astype(float)
        distance = float(np.abs(mask[index].numpy() * (truth - output)).mean())
        size = 1 - float(mask[index].double().mean())
        unmasked = float(np.abs(truth - output).mean())
        assert row.facts == (
            f"hidden {rounded_share(size)}",
            f"L1 masked {distance:.4g} of at most 0.03",
            f"unmasked {unmasked:.4g}",
        )
        assert row.met is (distance <= 0.03)


def test_an_array_without_truth_is_the_same_image():
    masker, batch = masker_of(3), batch_of(3)
    x, y_hat = (np.moveaxis(image[1].numpy(), 0, -1) for image in (batch.x, batch.y_hat))
    (row,) = show(masker, x, y_hat).rows
    same = show(masker, batch.x, batch.y_hat).rows[1]
    assert set(row.pictures) == PLACES
    assert row.met is None
    assert row.facts == same.facts
    for label in PLACES:
        np.testing.assert_array_equal(row.pictures[label], same.pictures[label])


def test_arrays_are_read_in_the_calibrations_range():
    x, y_hat, y = (np.rint(1000 * image).astype(np.uint16) for image in arrays(40, 0, (8, 8)))
    calibration = cm.Triplets.from_arrays(x, y_hat, y, data_range=(0, 1000))
    masker = calibrate(Heuristic(scale_of, channels=1), calibration, threshold=0.03, loss="l1")
    (row,) = show(masker, x[0], y_hat[0], y[0]).rows
    contrast = first_contrast((0.0, 1000.0), map_ends(y_hat[0] / 1000))
    expected = np.rint(contrast(y[0, :, :, 0] / 1000) * 255)
    np.testing.assert_allclose(row.pictures["Truth y"], expected, atol=1)
    label, largest = list(row.pictures)[-1].rsplit(" ", 1)
    assert label == "Error |y − ŷ|, 0 to"
    error = np.abs(y[0].astype(float) - y_hat[0])
    assert float(largest) == pytest.approx(np.quantile(error, 0.995), rel=0.01)


def test_facts_that_the_rule_needs_are_handed_on():
    kinds = ["a", "b"] * 20
    scorer = Heuristic(enlarged, channels=1)
    calibration = halved(40, 0, 1, categories=kinds)
    masker = calibrate(scorer, calibration, threshold=0.05, loss="l1", promise="categories")
    batch = batch_of(1, 2)
    with pytest.raises(InvalidArgumentError, match="category"):
        show(masker, batch.x, batch.y_hat)
    strip = show(masker, batch.x, batch.y_hat, category=["a", "b"])
    mask = masker(batch.x, batch.y_hat, category=["a", "b"])
    told = [f"hidden {rounded_share(1 - float(each.double().mean()))}" for each in mask]
    assert [row.facts[0] for row in strip.rows] == told


def test_a_notebook_gets_html_and_a_png():
    batch = batch_of(1)
    strip = show(masker_of(1), batch.x, batch.y_hat, batch.y)
    html = strip._repr_html_()
    sizes = [(12, 8), (312, 208), (12, 8), (12, 8), (6, 4), (12, 8)]
    assert Pictures(html).found == [size for _ in range(3) for size in sizes]
    assert html.count('class="pixelated"') == 15
    assert "In at least 9 of 10 new images, what stays visible is off by at most 3 % of" in html
    assert sum("the threshold" in part for part in html.split("<span")) == 3
    sheet = Image.open(io.BytesIO(strip._repr_png_()))
    assert sheet.format == "PNG"
    assert sheet.width > 6 * 200
    assert "L1 masked" in repr(strip)
    assert len(repr(strip)) < 600


def test_many_pixels_are_shrunk_in_the_page():
    image = np.zeros((600, 1200), np.uint8)
    strip = strip_of(image)
    assert Pictures(strip._repr_html_()).found == [(480, 240)]
    assert "pixelated" not in strip._repr_html_().split("</style>")[1]


def strip_of(image):
    return Strip("a <promise>", (StripRow({"Input x": image}, ("a fact",), None),))


def test_it_is_saved_whole_as_png_or_html(tmp_path):
    batch = batch_of(3)
    strip = show(masker_of(3), batch.x, batch.y_hat)
    assert strip.save(tmp_path / "new" / "figure.png").read_bytes() == strip._repr_png_()
    page = strip.save(str(tmp_path / "figure.HTML")).read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert len(Pictures(page.removeprefix("<!doctype html>")).found) == 12
    with pytest.raises(InvalidArgumentError, match=r"figure\.svg.*\.png or \.html"):
        strip.save(tmp_path / "figure.svg")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        strip.save(tmp_path / "file" / "figure.png")
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["figure.HTML", "figure.png"]


def test_names_are_escaped():
    html = strip_of(np.zeros((2, 2), np.uint8))._repr_html_()
    assert "a &lt;promise&gt;" in html
    assert "<promise>" not in html


def test_what_does_not_belong_together_is_refused():
    masker, batch = masker_of(1), batch_of(1)
    with pytest.raises(InvalidArgumentError, match="x has 2 images, but y_hat has 3"):
        show(masker, batch.x[:2], batch.y_hat, batch.y)
    with pytest.raises(InvalidArgumentError, match="x has 0 images"):
        show(masker, batch.x[:0], batch.y_hat[:0])
    with pytest.raises(InvalidArgumentError, match=r"y has shape \(2, 1, 8, 12\)"):
        show(masker, batch.x, batch.y_hat, batch.y[:2])
    with pytest.raises(ImageError, match="y has values outside"):
        show(masker, batch.x, batch.y_hat, batch.y + 2)
    with pytest.raises(MismatchError, match="1 channel, not 3"):
        show(masker, batch.x, batch.y_hat.expand(-1, 3, -1, -1))


# what tells itself
def test_a_masker_tells_its_promise():
    masker = masker_of(1, selection=halved(30, 1, 1))
    assert repr(masker) == f"Masker({masker.sentence} Scorer enlarged, family binary.)"
    html = masker._repr_html_()
    Pictures(html)
    expected = "L1 at most 0.03, that is 3 % of the range, confidence 0.9"
    for told in ("what holds", "what does not", expected, "8 x 12", "40 images"):
        assert told in html
    assert f"{masker.card.rule.lam:.6g}, exact" in html
    assert ", on average over the calibration images." in html
    assert html.index("P(l1 &lt;= 0.03)") > html.index("what does not"), "the formula comes last"
    assert masker.size_by_threshold() == evaluate(masker, halved(5, 3, 1)).size_by_threshold
    bare = replace(masker_of(1), curves=None)
    assert bare.size_by_threshold() == ()
    assert "<svg" not in bare._repr_html_()


def test_a_rule_by_category_tells_what_lambda_depends_on():
    calibration = halved(40, 0, 1, categories=["a", "b"] * 20)
    scorer = Heuristic(enlarged, channels=1)
    masker = calibrate(scorer, calibration, threshold=0.05, loss="l1", promise="categories")
    assert f"of each image, by the rule {masker.card.rule.kind}" in masker._repr_html_()


def test_an_evaluation_tells_itself_and_its_records():
    evaluation = evaluate(masker_of(1), halved(10, 3, 1))
    met = round(10 * evaluation.coverage)
    html = evaluation._repr_html_()
    Pictures(html)
    for text in (repr(evaluation), html):
        assert evaluation.card.sentence in text
        assert f"{met} of 10 test images kept it (" in text
        assert f"{rounded_share(evaluation.mask_size)} of an image is hidden (best possible: " in text
    assert escape(evaluation.card.formula) in html
    table = evaluation.table()
    assert [record["name"] for record in table] == evaluation.images.name.tolist()
    assert [record["size"] for record in table] == evaluation.images.size.tolist()
    assert {type(value) for record in table for value in record.values()} == {str, float, bool, type(None)}
    assert {record["group"] for record in table} == {record["category"] for record in table} == {None}
    assert sum(record["passed"] for record in table) == met
    of_means = replace(evaluation, card=replace(evaluation.card, promise=cm.Promise("expected")))
    assert "On average over 10 test images the loss was " in repr(of_means)
    assert "kept it" not in repr(of_means)
    json.dumps(table)


LABELLED = {"groups": [1, 1, 2, 2, 3] * 2, "categories": ["a", "b"] * 5}


def test_rows_name_group_and_category_and_are_saved(tmp_path):
    evaluate(masker_of(1), halved(10, 3, 1, **LABELLED), out=tmp_path)
    table = Evaluation.load(tmp_path).table()
    assert [record["group"] for record in table] == ["1", "1", "2", "2", "3"] * 2
    assert [record["category"] for record in table] == ["a", "b"] * 5
    assert list(table[0])[:5] == ["name", "group", "category", "passed", "loss"]


def test_an_evaluation_of_earlier_versions_knows_no_groups():
    evaluation = evaluate(masker_of(1), halved(10, 3, 1, **LABELLED))
    earlier = replace(evaluation, images=replace(evaluation.images, group=None, category=None, passed=None))
    unknown = {(row["group"], row["category"], row["passed"]) for row in earlier.table()}
    assert unknown == {(None, None, None)}


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_an_evaluation_becomes_a_frame(library, monkeypatch):
    frames = pytest.importorskip(library, reason=f"{library} is not installed")
    monkeypatch.setattr(records, "FRAMES", (library,))
    evaluation = evaluate(masker_of(1), halved(10, 3, 1, **LABELLED))
    frame = evaluation.to_frame()
    assert isinstance(frame, frames.DataFrame)
    for made in (frame, frames.DataFrame(evaluation)):
        assert list(made.columns) == list(evaluation.table()[0])
        assert made["size"].mean() == pytest.approx(evaluation.mask_size)
        assert made["passed"].mean() == pytest.approx(evaluation.coverage)
        assert list(made["category"]) == ["a", "b"] * 5


def test_without_their_libraries_frames_and_plots_name_them(monkeypatch):
    evaluation = evaluate(replace(masker_of(1), curves=None), halved(10, 3, 1))
    with pytest.raises(MismatchError, match="no curves are stored"):
        cm.plot(evaluation)
    monkeypatch.setattr(records, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingFileError, match=r"pandas or polars: pip install pandas; table\(\) gives"):
        evaluation.to_frame()
    with pytest.raises(MissingFileError, match=re.escape(f"{pip_install('plot')}")):
        cm.plot(evaluation)


def test_a_plot_shows_the_curve_of_the_report_and_what_was_measured():
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    matplotlib.use("Agg")
    figure = importlib.import_module("matplotlib.figure").Figure()
    evaluation = synthetic()
    axes = cm.plot(evaluation, figure.subplots())
    assert axes.figure is figure
    curve, chosen, measured = axes.get_lines()[:3]
    assert list(zip(*curve.get_data(), strict=True)) == list(evaluation.size_by_threshold)
    assert set(chosen.get_xdata()) == {evaluation.card.threshold}
    assert (measured.get_xdata()[0], measured.get_ydata()[0]) == (
        evaluation.card.threshold,
        evaluation.mask_size,
    )
    assert axes.get_xlabel() == "threshold on L1"
    assert axes.get_title() == evaluation.kept_text
    assert cm.plot(evaluation) is not axes


def test_triplets_tell_what_is_known_without_reading(tmp_path):
    assert repr(halved(4, 0, 3)) == (
        "Triplets(4 images, first x 4 x 6 with 3 channels, y_hat 8 x 12 with 3 channels, with y)"
    )
    assert repr(triplets(4, 0, groups=[1, 1, 2, 2])).startswith("Triplets(4 images, 2 groups, first x 8 x 8")
    for role in ("x", "y_hat"):
        write_image(tmp_path / role / "a.png", np.zeros((1, 5, 6), np.float32))
        (tmp_path / role / "b.png").write_bytes(b"damaged, and not looked at")
    told = "first x 5 x 6 with 1 channel, y_hat 5 x 6 with 1 channel, without y"
    found = cm.Triplets.from_folder(tmp_path)
    assert repr(found) == f"Triplets(2 images, {told})"
    assert repr(found.select([1])) == "Triplets(1 image, without y)"
    assert repr(found.select([])) == "Triplets(0 images, with y)"


def test_volumes_that_lie_in_a_patient_are_shown_axial_and_upright(tmp_path):
    """As calibrated: RAS files, of which the arrays are (S, A, R)."""
    generator = np.random.default_rng(0)
    for index in range(12):
        y = generator.uniform(0.2, 0.8, (5, 6, 7)).astype(np.float32)
        for role, values in {"x": y, "y_hat": y + 0.05, "y": y}.items():
            path = tmp_path / role / f"p{index}.nii.gz"
            path.parent.mkdir(exist_ok=True)
            nibabel.Nifti1Image(values, np.diag([1, 1, 2, 1])).to_filename(path)
    known = cm.Triplets.from_folder(tmp_path)
    scorer = Heuristic(cm.local_spread, channels=1)
    masker = calibrate(scorer, known, threshold=0.03, loss="l1")
    masker.save(tmp_path / "run")
    batch = next(known.batches(1))
    for each in (masker, cm.load(tmp_path / "run", scorer=scorer)):
        strip = show(each, batch.x, batch.y_hat)
        for row in strip.rows:
            place = int(re.match(r"slice (\d+) of 7", row.facts[-1])[1]) - 1
            expected = as_bytes(batch.y_hat[0, :, place].flip(1, 2).numpy())
            np.testing.assert_array_equal(row.pictures["Output ŷ"], expected)


def test_channels_without_a_colour_each_have_one():
    """Where it was the mean of both, a red and a green stain looked alike."""
    two = np.eye(2, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(in_colors(two), [[[0, 255, 0], [255, 0, 255]]])
    np.testing.assert_array_equal(in_colors(np.ones((2, 1, 1), np.float32)), [[[255, 255, 255]]])
    eight = in_colors(np.eye(8, dtype=np.float32)[:, None])[0]
    assert len({tuple(color) for color in eight.tolist()}) == 6
    assert in_colors(np.full((1, 4, 5), 0.2, np.float32)).tolist() == [[51] * 5] * 4


CELLS = (
    """
import numpy as np
import conformask as cm
y = np.random.default_rng(0).uniform(0.2, 0.8, (30, 16, 16, 1)).astype(np.float32)
known = cm.Triplets.from_arrays(y, y + 0.02, y)
scorer = cm.Heuristic(cm.local_spread, channels=1)
masker = cm.calibrate(scorer, known, threshold=0.01, loss="l1")
""",
    "cm.show(masker, y[0, ..., 0], y[0, ..., 0] + np.float32(0.02), y[0, ..., 0])",
    "cm.evaluate(masker, cm.Triplets.from_arrays(y[:, ::-1], y[:, ::-1] + 0.02, y[:, ::-1]))",
)


@pytest.mark.thorough
def test_a_kernel_shows_the_figure_and_the_evaluation(tmp_path):
    """What a person sees in a notebook with a real kernel."""
    nbformat, nbclient, _ = map(pytest.importorskip, ("nbformat", "nbclient", "ipykernel"))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    context = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources=context).execute()
    strip, evaluation = (
        next(each["data"] for each in cell["outputs"] if each["output_type"] == "execute_result")
        for cell in notebook.cells[1:]
    )
    assert strip["text/html"].count("<img") == len(("x", "output", "truth", "error", "mask", "overlay"))
    sentence = "In at least 9 of 10 new images, what stays visible is off by at most 1 % of the range"
    assert sentence in strip["text/html"]
    assert "image/png" in strip
    assert evaluation["text/html"].index(sentence) < evaluation["text/html"].index("P(l1 &lt;= 0.01)")
