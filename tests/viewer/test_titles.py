"""The viewer names and orders the pictures of an image as pages and figures of Python do."""

import re
from pathlib import Path

from conformask.pictures.titles import TITLES
from conformask.viewer import share

STATIC = Path(share.__file__).parent / "static"


def test_titles_are_those_of_the_viewer() -> None:
    text = (STATIC / "pane.js").read_text(encoding="utf-8")
    inside = re.search(r"TITLES = \{(.*?)\}", text, re.DOTALL)
    assert inside is not None
    assert re.findall(r'(\w+): "(.*?)"', inside[1]) == list(TITLES.items())


def test_views_are_in_the_order_of_the_titles() -> None:
    text = (STATIC / "state.js").read_text(encoding="utf-8")
    inside = re.search(r"VIEWS = \[(.*?)\]", text)
    assert inside is not None
    assert re.findall(r'"(\w+)"', inside[1]) == list(TITLES)


def test_a_shared_page_has_the_same_titles() -> None:
    assert share.VIEWS == {"output": "Output ŷ", "truth": "Truth y", "input": "Input x"}
