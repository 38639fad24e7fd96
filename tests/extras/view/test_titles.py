"""The viewer names and orders the pictures of an image as pages and figures of Python do."""

import re
from pathlib import Path

from conformask.extras.view import share
from conformask.images.pictures import TITLES, titles_for
from conformask.records.reading import Reference

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


def test_a_noisy_reference_is_not_called_the_truth() -> None:
    titles = titles_for(Reference(2))
    assert list(titles) == list(TITLES)
    assert (titles["truth"], titles["error"]) == ("Noisy reference y", "Error to the noisy reference")
    assert titles_for() == TITLES
