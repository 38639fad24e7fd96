"""Tables of the documentation have lines: a script that writes a page may lose them without an error."""

import ast
import csv
import json
import re
from pathlib import Path

import pytest

from conformask.cli.promise import FEW_HIDE_MORE
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
