"""What counts as the same code."""

import functools
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conformask.records.fingerprints import fingerprint_of

CODE = '''
"""A module."""
from torch import nn
FACTOR = 4.0
def _inner(x):
    return x.abs()
def score(x, y_hat, *, gain=1.0):
    """A docstring."""
    return _inner(x - y_hat) * FACTOR * gain  # a comment
class Scaled:
    def __init__(self, by):
        self.by = by
    def __call__(self, x, y_hat):
        return self.by * score(x, y_hat)
class Net(nn.Module):
    def forward(self, x, y_hat):
        return score(x, y_hat)
'''


def module(folder: Path, text: str) -> ModuleType:
    """A module of that text, read anew."""
    folder.mkdir()
    path = folder / "brought.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("brought", path)
    made = importlib.util.module_from_spec(spec)
    sys.modules["brought"] = made
    spec.loader.exec_module(made)
    return made


def of(made: ModuleType) -> tuple[str, ...]:
    things = (made.score, made.Scaled(2), functools.partial(made.score, gain=3.0), made.Net())
    return tuple(map(fingerprint_of, things))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("A docstring.", "Another."),
        ("# a comment", ""),
        ("_inner(x - y_hat) * FACTOR", "_inner(\n        x - y_hat\n    ) * FACTOR"),
        ("FACTOR = 4.0", "UNUSED = 1\nFACTOR = 4.0"),
    ],
)
def test_what_computes_the_same_is_the_same(tmp_path: Path, old: str, new: str) -> None:
    before = of(module(tmp_path / "before", CODE))
    assert of(module(tmp_path / "after", CODE.replace(old, new))) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [("FACTOR = 4.0", "FACTOR = 1.0"), ("x.abs()", "x**2"), ("gain=1.0", "gain=2.0"), ("x - y", "y - x + y")],
)
def test_what_computes_otherwise_is_another(tmp_path: Path, old: str, new: str) -> None:
    before = of(module(tmp_path / "before", CODE))
    after = of(module(tmp_path / "after", CODE.replace(old, new)))
    assert all(one != other for one, other in zip(before, after, strict=True))


def scaled(by: object) -> Callable[[Tensor], Tensor]:
    def inner(x: Tensor) -> Tensor:
        return x * by

    return inner


@pytest.mark.parametrize(
    "make",
    [scaled, lambda by: functools.partial(torch.mul, other=by), lambda by: lambda x: x * by, lambda by: [by]],
)
@pytest.mark.parametrize(
    "values", [(1, 2), (1.0, 2.0), (np.ones(3), np.zeros(3)), (torch.ones(2), torch.ones(3))]
)
def test_captured_values_count(make, values) -> None:
    one, other = values
    assert fingerprint_of(make(one)) == fingerprint_of(make(one))
    assert fingerprint_of(make(one)) != fingerprint_of(make(other))


def test_two_lambdas_of_a_line() -> None:
    one, other = (lambda x: x + 1), (lambda x: x + 2)
    assert fingerprint_of(one) != fingerprint_of(other)


def test_weights_count() -> None:
    network = nn.Sequential(nn.Conv2d(2, 1, 3), nn.Softplus())
    before = fingerprint_of(network)
    assert fingerprint_of(network) == before
    with torch.no_grad():
        network[0].bias += 1e-3
    assert fingerprint_of(network) != before
    stride = nn.Sequential(nn.Conv2d(2, 1, 3, stride=2), nn.Softplus())
    stride.load_state_dict(network.state_dict())
    assert fingerprint_of(stride) != fingerprint_of(network)


def test_code_without_source() -> None:
    made: dict[str, Callable[[int], int]] = {}
    exec("def one(x): return x + 1\ndef other(x): return x + 2", made)
    assert fingerprint_of(made["one"]) != fingerprint_of(made["other"])
