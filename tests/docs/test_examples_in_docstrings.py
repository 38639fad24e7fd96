"""Every public function and class has an example in its docstring, and it runs."""

import doctest
from pathlib import Path

import pytest

import conformask

MISSING = frozenset(
    {
        "Score",
        "Heuristic",
        "local_spread",
        "residual",
        "gradient",
        "CustomLoss",
        "CustomErrorMap",
        "fit_scorer",
        "packaged_scorer",
        "load_scorer",
        "threshold_choices",
        "calibrate",
        "Masker",
        "load",
        "OnlineMasker",
        "show",
        "write_masks",
        "masked",
        "evaluate",
        "Evaluation",
        "write_report",
        "monitor",
        "StreamMonitor",
        "export",
        "ConformaskError",
        "Tiled",
    }
)
"""Public names that have no example yet; nothing may be added."""
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def examples_of(name: str) -> list[doctest.DocTest]:
    """The examples of a public name and, for a class, of its methods; each imports what it uses."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [test for test in finder.find(getattr(conformask, name), name, globs={}) if test.examples]


@pytest.mark.parametrize("name", conformask.__all__)
def test_the_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    failures: list[str] = []
    for test in examples_of(name):
        doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=failures.append)
    assert not failures, "".join(failures)


@pytest.mark.parametrize("name", conformask.__all__)
def test_there_is_an_example_or_it_is_known_to_be_missing(name: str) -> None:
    assert bool(examples_of(name)) != (name in MISSING), "add an example, and take its name out of MISSING"


def test_only_public_names_are_missing() -> None:
    assert set(conformask.__all__) >= MISSING


def test_a_wrong_example_would_be_noticed() -> None:
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    failures: list[str] = []
    doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=failures.append)
    assert "Expected:" in "".join(failures)
