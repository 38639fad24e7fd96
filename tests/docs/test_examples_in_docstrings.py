"""Every public function and class has an example in its docstring, and it runs."""

import doctest
from operator import attrgetter

import pytest

import conformask
import conformask.testing

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
