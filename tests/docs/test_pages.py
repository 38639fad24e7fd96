"""Tables of the documentation have lines: a script that writes a page may lose them without an error."""

import ast
import csv
import doctest
import importlib.util
import json
import re
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import conformask
import conformask.testing
from conformask.cli.promise import FEW_HIDE_MORE
from conformask.images.pictures import HATCH
from conformask.promises.promise import GUARANTEES, Promise

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RULE = re.compile(r"\|( *:?-+:? *\|)+")


def without_lines(text):
    """Heads of tables under whose rule nothing stands."""
    lines = text.splitlines()
    following = [*lines[1:], ""]
    return [
        lines[place - 1]
        for place, (line, after) in enumerate(zip(lines, following, strict=True))
        if RULE.fullmatch(line) and not after.startswith("|")
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_table_is_empty(page):
    assert not without_lines(page.read_text(encoding="utf-8"))


def test_an_empty_table_would_be_noticed():
    full, empty = "| a | b |\n| --- | --- |\n| 1 | 2 |\n", "| c | d |\n| --- | --- |\n\nText"
    assert without_lines(f"{full}\n{empty}") == ["| c | d |"]


def test_what_few_images_hide_is_what_was_measured():
    """By research/few_images.py; said in the page and by conformask plan."""
    page = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    with (ROOT / "research" / "results" / "few_images.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        hidden, low, high = (round(100 * float(row[name])) for name in ("hidden", "low", "high"))
        assert f"| {row['n']} | {hidden} % | {low} to {high} % |" in page
        if row["n"] in ("12", "25", "100"):
            assert f"{row['n']} hid {hidden} % ({low} to {high} %)" in FEW_HIDE_MORE


# Every message that the page of errors quotes is one that conformask says
PAGE = ROOT / "docs" / "faq.md"
QUOTED = re.findall(r"^```text\n(.*?)\n```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
FIXED = 12
"""Letters of its own that a template must have, so that not everything matches it."""


def templates():
    """Every text in src, with anything where a value is put in."""
    for path in (ROOT / "src" / "conformask").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield from pattern(node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield from pattern([node])


def pattern(parts):
    texts = [part.value if isinstance(part, ast.Constant) else None for part in parts]
    fixed = "".join(text for text in texts if text is not None)
    if sum(letter.isalpha() for letter in fixed) >= FIXED:
        yield re.compile("".join(".+" if text is None else re.escape(text) for text in texts), re.DOTALL)


TEMPLATES = list(templates())


def said(message):
    return any(template.fullmatch(message) for template in TEMPLATES)


def test_the_page_quotes_messages():
    assert len(QUOTED) >= 20


@pytest.mark.parametrize("message", QUOTED)
def test_conformask_says_so(message):
    assert said(message)


def test_another_wording_is_noticed():
    assert not said("12 images are not enough for confidence 0.95 (marginal): it needs at least 19")


# A how-to page can be read at one sitting, and shows what it is about
HOW_TO = sorted((ROOT / "docs" / "how-to").glob("*.md"))
WORDS, BYTES = 1150, 200_000
"""The most of a page, and of a picture."""


def test_pages_are_found():
    assert len(HOW_TO) > 10


@pytest.mark.parametrize("page", HOW_TO, ids=lambda page: page.stem)
def test_a_page_is_short(page):
    assert len(page.read_text(encoding="utf-8").split()) <= WORDS


@pytest.mark.parametrize("page", HOW_TO, ids=lambda page: page.stem)
def test_a_page_has_small_pictures(page):
    pictures = re.findall(r"^!\[(.*)\]\((.*)\)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert 1 <= len(pictures) <= 2
    for described, picture in pictures:
        assert len(described.split()) >= 5
        assert (page.parent / picture).stat().st_size < BYTES


# Tables of the documentation that say what there is, held to the code
SOURCE = ROOT / "src" / "conformask"
ROW = re.compile(r"^\| ([\w ]+) \| (`.+) \| `(\w+)` \|$", re.MULTILINE)
ROWS = ROW.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
USES = {"power": {"masks/family.py", "scores/network_scorer.py"}, "missed": {"extras/objects/loss.py"}}
"""The passes that few families have, and the scorer that it suits; a loss of objects of the same name."""


def mentions(name):
    """The files that name it in code: the name in quotes or as a key, or its class."""
    kind = "".join(part.capitalize() for part in name.split("_")) if name.islower() else name
    mentioned = re.compile(rf"\b{kind}\b|\"{name}\"|^  {name}:|^def {name}\b", re.MULTILINE)
    files = [path for suffix in ("py", "js") for path in SOURCE.rglob(f"*.{suffix}")]
    texts = {str(path.relative_to(SOURCE)): path.read_text(encoding="utf-8") for path in files}
    texts["pyproject.toml"] = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return {
        file
        for file, text in texts.items()
        if mentioned.search(text) and not file.startswith("extras/paper/")
    }


def test_the_table_is_read():
    assert len(ROWS) == 10


@pytest.mark.parametrize(("kind", "files", "example"), ROWS, ids=[row[0] for row in ROWS])
def test_nothing_else_is_touched(kind, files, example):
    assert mentions(example) - USES.get(example, set()) == set(re.findall(r"`(.+?)`", files))


def test_the_parts_of_every_promise():
    page = (ROOT / "docs" / "reference" / "formulas.md").read_text(encoding="utf-8")
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    rows = [row for row in lines if len(row) == 6]
    assert [name.strip("`") for name, *_ in rows] == list(GUARANTEES)
    for name, *parts in rows:
        assert parts == [axis.says or "one" for axis in Promise(name.strip("`")).axes]


def test_the_delays_of_a_stream_are_those_of_the_simulation():
    delays = json.loads((ROOT / "research" / "results" / "stream_delays.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "how-to" / "watch.md").read_text(encoding="utf-8")
    assert f"deviation after {delays['half_a_deviation']:.0f} images" in page
    many, few = (f"{delays[f'twice after {n}']:.0f}" for n in (4000, 400))
    assert f"instead of 10 % after {many} with 4000 calibration images, after {few} with 400:" in page


DOCS = Path(__file__).parents[2] / "docs"
RESEARCH = DOCS.parent / "research"
OF_CELLS = re.compile(r"<!--cells: .*?<!--end-->|\S+<!--\w+/.*?-->", re.DOTALL)
"""What MaskBench writes, and a test of its own compares."""
RESULTS = {
    page.stem: OF_CELLS.sub("", page.read_text(encoding="utf-8"))
    for page in sorted((DOCS / "results").glob("*.md"))
}
SOURCES = "\n".join(
    page.read_text(encoding="utf-8")
    for page in (
        DOCS / "gallery.md",
        DOCS.parent / "benchmarks" / "README.md",
        DOCS.parent / "maskbench" / "TRIED.md",
        *sorted((RESEARCH / "results").glob("*.md")),
    )
)


def cells(row):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


RECORDED = [cells(line) for line in SOURCES.splitlines() if line.startswith("|")]
OTHERWISE = re.compile(r"^## How (?:fast is it|many good images).*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
"""Sections whose rows come from JSON alone."""
MEASURED = [
    (name, line)
    for name, page in RESULTS.items()
    for line in OTHERWISE.sub("", page).splitlines()
    if re.match(r"\| .*\d\.\d", line)
]


def recorded(row):
    """Some recorded row has its cells, in this order, and perhaps more."""
    return any(all(cell in rest for cell in cells(row)) for rest in map(iter, RECORDED))


def test_rows_are_found():
    assert {name for name, _ in MEASURED} == {"in-short", "paper"}
    assert len(MEASURED) > 40


@pytest.mark.parametrize("name", sorted(RESULTS))
def test_rows_stand_in_the_records(name):
    assert [row for page, row in MEASURED if page == name and not recorded(row)] == []


@pytest.mark.parametrize("name", sorted(RESULTS))
def test_numbers_stand_in_the_records(name):
    numbers = set(re.findall(r"\d+%|\d+\.\d+", RESULTS[name]))
    assert [each for each in numbers if not re.search(rf"(?<![\d.]){re.escape(each)}", SOURCES)] == []


def how_to(name, record):
    """Return a page of how-to, and a record of research."""
    page = (DOCS / "how-to" / f"{name}.md").read_text(encoding="utf-8")
    return " ".join(page.split()), json.loads((RESEARCH / "results" / f"{record}.json").read_text())


def test_the_table_of_depth_is_measured():
    page, measured = how_to("depth", "depth")
    assert len(measured) == 6
    for name, each in measured.items():
        assert f"| {name} | {100 * each['hidden']:.0f} % | {each['kept']} of {each['of']} |" in page


def test_the_shares_of_satellites_are_measured():
    page, measured = how_to("satellites", "satellites")
    of_patches, without = measured.values()
    assert f"{100 * of_patches['hidden']:.0f} % of the pixels with data are hidden" in page
    assert f"{of_patches['kept']} of the {of_patches['of']} new tiles keep the promise" in page
    assert f"and {without['kept']} tiles keep it" in page


def test_the_table_of_numbers_is_measured():
    page, measured = how_to("numbers", "volumes_measured")
    for part in ("anterior", "posterior", "both"):
        sides = (measured[f"{part}, {ends}"] for ends in ("two ends", "symmetric"))
        cells = [f"{100 * each['coverage']:.0f} ± 1 % | {100 * each['width']:.0f} %" for each in sides]
        assert f"| {part} | {' | '.join(cells)} |" in page


def test_another_row_would_be_noticed():
    _, row = MEASURED[0]
    assert recorded(row)
    assert not recorded(re.sub(r"\d\.\d", "8.9", row))


def test_the_page_about_maps_has_the_numbers_of_its_record():
    record = json.loads((RESEARCH / "results" / "given_map.json").read_text(encoding="utf-8"))
    page = " ".join((DOCS / "how-to" / "maps-and-samples.md").read_text(encoding="utf-8").split())
    hidden = {name: f"{100 * found['hidden']:.0f} %" for name, found in record.items()}
    given = record["its spread over flips"]
    for text in (
        f"hides {hidden['its spread over flips']} of the {given['n_test']} test crops",
        f"the packaged score {hidden['packaged']}",
        f"for which nothing is run, {hidden['gradient']}",
        f"the best possible masks {100 * given['best']:.0f} %",
    ):
        assert text in page


def test_the_page_about_objects_has_the_numbers_of_its_record():
    record = json.loads((RESEARCH / "results" / "objects.json").read_text(encoding="utf-8"))
    page = " ".join((DOCS / "how-to" / "objects.md").read_text(encoding="utf-8").split())
    wrong = record["wrong"]
    for text in (
        f"{100 * wrong['coverage']:.0f} % of the {record['test']} test fields kept it",
        f"Of {wrong['shown']} nuclei shown {100 * wrong['shown_right'] / wrong['shown']:.1f} % are there",
        f"of all {wrong['n']:,} {100 * wrong['right'] / wrong['n']:.1f} %",
        f"lacks {100 * wrong['lacking'] / wrong['true']:.1f} % of the {wrong['true']:,} nuclei",
        f"hides {100 * wrong['hidden']:.0f} % of the nuclei, the packaged score "
        f"{100 * record['packaged']['hidden']:.0f} %",
    ):
        assert text in page
    assert wrong["threshold"] == 0.1


def test_the_page_about_objects_has_the_numbers_of_cells_and_hippocampi():
    cells, parts = (
        json.loads((RESEARCH / "results" / f"objects-of-{name}.json").read_text(encoding="utf-8"))
        for name in ("cells", "hippocampi")
    )
    page = " ".join((DOCS / "how-to" / "objects.md").read_text(encoding="utf-8").split())
    wrong, none = cells["wrong"], parts["any"]
    for text in (
        f"{100 * wrong['coverage']:.0f} % of {cells['test']} test fields kept it",
        f"Of {wrong['shown']} cells shown {100 * wrong['shown_right'] / wrong['shown']:.1f} % are there",
        f"of all {wrong['n']} {100 * wrong['right'] / wrong['n']:.1f} %",
        f"{100 * none['coverage']:.0f} % of {parts['test']} test volumes show no wrong part",
        f"Of {none['shown']} parts shown {none['shown_right']} are there, of all {none['n']} {none['right']}",
    ):
        assert text in page
    assert (wrong["threshold"], none["threshold"]) == (0.1, 0.5)


def test_the_page_about_samples_has_the_numbers_of_its_record():
    record = json.loads((RESEARCH / "results" / "sampler.json").read_text(encoding="utf-8"))
    page = " ".join((DOCS / "how-to" / "maps-and-samples.md").read_text(encoding="utf-8").split())
    two, four, eight = (record["intervals"][count] for count in ("2", "4", "8"))
    covered = [f"{100 * each['normal']:.0f} %" for each in (eight, four, two)]
    perfect = [f"{100 * each['normal_perfect']:.0f}" for each in (eight, four, two)]
    for text in (
        f"On {record['photographs']} photographs",
        f"holds {covered[0]} of the true pixels with {record['samples']} samples, {covered[1]} with 4 and "
        f"{covered[2]} with 2",
        f"90 % of the pixels in only {100 * eight['normal_images']:.0f} % of the photographs",
        f"would give {perfect[0]}, {perfect[1]} and {perfect[2]} %",
        f"the range of eight {100 * eight['range_perfect']:.0f} % (here {100 * eight['range']:.0f} %)",
        f"at most {record['threshold']} of mean error",
    ):
        assert text in page
    shown = {"one": "one", "mean": "the mean", "all": "all, every", "random": "all, a random"}
    for name, measured in record["masks"].items():
        row = f"| {shown[name]} | {100 * measured['coverage']:.1f} % | {100 * measured['hidden']:.0f} % |"
        assert row in page


def test_masks_of_samples_keep_to_the_law_and_intervals_fall_short():
    """200 resplits, and three of them with deployed masks; 4 sigma are allowed."""
    record = json.loads((RESEARCH / "results" / "sampler.json").read_text(encoding="utf-8"))
    assert max(each["normal"] for each in record["intervals"].values()) < 0.9
    for name, measured in record["masks"].items():
        sigma = measured["law_std"]
        assert abs(measured["coverage"] - measured["law_mean"]) < 4 * sigma / 200**0.5, name
        assert name == "random" or abs(measured["coverage_std"] - sigma) < 4 * sigma / 400**0.5, name
        assert all(abs(each - measured["law_mean"]) < 4 * sigma for each in measured["deployed"]), name


def test_the_page_without_truth_has_the_numbers_of_its_record():
    record = json.loads((RESEARCH / "results" / "repeats.json").read_text(encoding="utf-8"))
    page = (DOCS / "how-to" / "no-clean-truth.md").read_text(encoding="utf-8")
    for kind, noise in (("FMD", "real repeats"), ("photographs", "noise added")):
        found = record[kind]
        cells = [
            f"{100 * row['hidden'][2]:.0f} % ({100 * row['coverage'][2]:.0f} %)"
            for row in (found["image"]["ways"][way] for way in ("clean", "clt", "exact", "mean"))
        ]
        assert f"| {kind}, {noise}, {found['n']} of {found['side']} pixels | {' | '.join(cells)} |" in page


def test_the_page_without_truth_has_the_numbers_of_one_repeat():
    record = json.loads((RESEARCH / "results" / "one_repeat.json").read_text(encoding="utf-8"))
    page = " ".join((DOCS / "how-to" / "no-clean-truth.md").read_text(encoding="utf-8").split())
    kinds = [record[kind] for kind in ("sections, noise added", "cells, noise added")]

    def percents(gain, what):
        return [f"{100 * kind[gain][what]:.0f} %" for kind in kinds]

    hidden, covered = percents("right", "hidden"), percents("right", "coverage")
    assert f"hides {hidden[0]} (sections) and {hidden[1]} (cells), and covers {' and '.join(covered)}" in page
    assert f"too large covers only {' and '.join(percents('too large', 'coverage'))}" in page
    assert f"too small hides {' and '.join(percents('too small', 'hidden'))}" in page


def test_a_page_is_what_its_script_writes(tmp_path):
    script, name = "repeats_page", "no-clean-truth.md"
    before = (RESEARCH / "results" / name).read_text(encoding="utf-8")
    spec = importlib.util.spec_from_file_location("page", RESEARCH / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.PAGE = tmp_path / name
    (tmp_path / "figures").mkdir()
    module.main()
    assert module.PAGE.read_text(encoding="utf-8") == before
    for figure in (tmp_path / "figures").iterdir():
        committed = (RESEARCH / "results" / "figures" / figure.name).read_text(encoding="utf-8")
        assert figure.read_text(encoding="utf-8") == committed


def test_the_page_about_releases_has_the_numbers_of_its_record():
    record = json.loads((RESEARCH / "results" / "release.json").read_text(encoding="utf-8"))
    page = " ".join((DOCS / "results" / "in-short.md").read_text(encoding="utf-8").split())
    demonstration = record.pop("demonstration")
    for name, found in record.items():
        assert (found["n_calibration"], found["batch"]) == (300, 60)
        assert found["batches"] >= 1000 * 3
        good = [f"{100 * found['good_released'][share]:.0f} %" for share in ("0.01", "0.02", "0.05")]
        missing = f"{100 * found['missing']['0.05']:.1f} %"
        assert f"| {name} | {100 * found['hidden']:.0f} % | {' | '.join(good)} | {missing} |" in page
    n, batch, good = (demonstration[name] for name in ("n_calibration", "batch", "good_released"))
    kept = f"{100 * good['0.05']:.0f} % of the good"
    text = f"{n} calibration crops, batches of {batch} and a share of 5 %, {kept}"
    assert text in page


def test_releases_keep_their_promise_on_real_images():
    """Means over 1000 deals of each task, with a standard error of some hundredths of the share."""
    record = json.loads((RESEARCH / "results" / "release.json").read_text(encoding="utf-8"))
    for share in ("0.01", "0.02", "0.05", "0.1"):
        missing = [found["missing"][share] for found in record.values()]
        assert sum(missing) / len(missing) <= float(share)
        assert max(missing) <= 1.05 * float(share)


def test_the_page_about_the_blank_test_has_the_numbers_of_its_record():
    record = json.loads((RESEARCH / "results" / "probe.json").read_text(encoding="utf-8"))
    page = (DOCS / "how-to" / "no-clean-truth.md").read_text(encoding="utf-8")
    networks = [record["Real-CUGAN x2"], record["Real-ESRGAN x4plus"]]
    noise, own, shifts = (
        [network[test] for network in networks]
        for test in ("white noise of 0.1", "own output of a smooth texture", "shifts of a smooth texture")
    )
    for start, values in (
        ("flat field 0.5: mean", [f"{network['flat field 0.5']['offset']:.3f}" for network in networks]),
        ("noise: standard deviation", [f"{each['deviation']:.3f}" for each in noise]),
        ("noise: share of it that", [f"{100 * each['unexplained']:.0f} %" for each in noise]),
        ("noise: share of it coarser", [f"{100 * each['coarse']:.0f} %" for each in noise]),
        ("texture: mean difference", [f"{each['consistency']:.3f}" for each in own]),
        ("texture: mean change", [f"{each['change']:.3f}" for each in own]),
        ("texture shifted", [f"{each['shift_1']:.3f}, {each['shift_2']:.3f}" for each in shifts]),
    ):
        (line,) = [line for line in page.splitlines() if line.startswith(f"| {start}")]
        assert line.endswith(f"| {values[0]} | {values[1]} |")


def test_the_page_about_patches_has_the_numbers_of_its_record():
    record = json.loads((RESEARCH / "results" / "patches.json").read_text(encoding="utf-8"))
    page = (DOCS / "how-to" / "photographs.md").read_text(encoding="utf-8").splitlines()
    for size, mean in record["l1"].items():
        local = record["local"][size]
        row = (
            f"| {size} | {100 * mean['hidden']:.1f} % | {mean['parts']:.0f} | {mean['boundary']:.0f} | "
            f"{100 * local['hidden']:.1f} % | {local['parts']:.0f} |"
        )
        assert row in page


NAMES = [*conformask.__all__, "testing.small_masker", "testing.small_triplets"]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def examples_of(name):
    """The examples of a public name and, for a class, of its methods; each imports what it uses."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [test for test in finder.find(attrgetter(name)(conformask), name, globs={}) if test.examples]


@pytest.mark.thorough
@pytest.mark.parametrize("name", NAMES)
def test_the_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failures: list[str] = []
    for test in examples_of(name):
        doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=failures.append)
    assert not failures, "".join(failures)


@pytest.mark.parametrize("name", NAMES)
def test_there_is_an_example(name):
    assert examples_of(name)


def test_a_wrong_example_would_be_noticed():
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    failures: list[str] = []
    doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=failures.append)
    assert "Expected:" in "".join(failures)


def test_the_first_frame_of_the_hero_has_the_yellow_that_its_caption_speaks_of():
    with Image.open(DOCS / "images" / "hero.webp") as hero:
        first = np.asarray(hero.convert("RGB")).astype(int)
    assert (np.abs(first - HATCH).max(axis=-1) < 40).mean() > 0.1
