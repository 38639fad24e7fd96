"""Tables of the documentation that say what there is, held to the code."""

import json
import re
from pathlib import Path

import pytest

from conformask.promises.promise import GUARANTEES, Promise

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "conformask"
ROW = re.compile(r"^\| ([\w ]+) \| (`.+) \| `(\w+)` \|$", re.MULTILINE)
ROWS = ROW.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
USES = {
    "power": {"masks/family.py", "scores/network_scorer.py"},
    "missed": {"extras/objects/loss.py"},
}
"""The passes that few families have, and the scorer that it suits; a loss of objects of the same name."""


def mentions(name: str) -> set[str]:
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


def test_the_table_is_read() -> None:
    assert len(ROWS) == 10


@pytest.mark.parametrize(("kind", "files", "example"), ROWS, ids=[row[0] for row in ROWS])
def test_nothing_else_is_touched(kind: str, files: str, example: str) -> None:
    assert mentions(example) - USES.get(example, set()) == set(re.findall(r"`(.+?)`", files))


def test_the_parts_of_every_promise() -> None:
    page = (ROOT / "docs" / "reference" / "formulas.md").read_text(encoding="utf-8")
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    rows = [row for row in lines if len(row) == 6]
    assert [name.strip("`") for name, *_ in rows] == list(GUARANTEES)
    for name, *parts in rows:
        assert parts == [axis.says or "one" for axis in Promise(name.strip("`")).axes]


def test_the_delays_of_a_stream_are_those_of_the_simulation() -> None:
    delays = json.loads((ROOT / "research" / "results" / "stream_delays.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "how-to" / "watch.md").read_text(encoding="utf-8")
    assert f"deviation after {delays['half_a_deviation']:.0f} images" in page
    many, few = (f"{delays[f'twice after {n}']:.0f}" for n in (4000, 400))
    assert f"instead of 10 % after {many} with 4000 calibration images, after {few} with 400:" in page
