"""Records of JSON: read as they were written, or refused by name; and what counts as the same code."""

import functools
import importlib.util
import json
import math
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from conformask.errors import MismatchError, MissingFileError
from conformask.records.fingerprints import fingerprint_of
from conformask.records.record import from_dict, read_json, to_jsonable, write_json


@dataclass(frozen=True)
class Inner:
    name: str
    interval: tuple[float, float]


@dataclass(frozen=True)
class Record:
    number: float
    count: int
    said: str
    yes: bool
    maybe: float | None
    sizes: tuple[tuple[int, int], ...]
    settings: dict[str, Any]
    inner: tuple[Inner, ...] = ()
    code: dict[str, str] = field(default_factory=dict)


RECORD = Record(math.inf, 3, "a", True, None, ((1, 2), (3, 4)), {"a": 1}, (Inner("b", (0.0, 1.0)),))


def stored(**changed):
    return {
        **to_jsonable(vars(RECORD)),
        "inner": [to_jsonable(vars(each)) for each in RECORD.inner],
        **changed,
    }


def test_a_record_survives(tmp_path):
    write_json(tmp_path / "record.json", stored())
    assert from_dict(Record, read_json(tmp_path / "record.json"), tmp_path) == RECORD


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("number", "wide"), ("number", True), ("number", []), ("count", 2.5), ("count", True), ("count", "3"),
        ("count", None), ("said", 3), ("said", None), ("yes", 1), ("maybe", {}), ("sizes", [[1, 2, 3]]),
        ("sizes", [[1, 2.5]]), ("sizes", "12"), ("sizes", {}), ("settings", []), ("inner", [3]),
        ("inner", [{"name": "b"}]), ("inner", [{"name": "b", "interval": [0, "x"]}]),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused(name, value):
    with pytest.raises(MismatchError, match=r"record\.json .*damaged"):
        from_dict(Record, stored(**{name: value}), Path("record.json"))


@pytest.mark.parametrize("name", ["number", "sizes"])
def test_a_missing_value_is_refused(name):
    values = {key: value for key, value in stored().items() if key != name}
    with pytest.raises(MismatchError, match=f"lacks {name}"):
        from_dict(Record, values, Path("record.json"))


DEEP = "[" * 100_000 + "]" * 100_000
NO_RECORDS = [
    "", "{", "[]", "3", "null", "{}", '{"schema": null}', '{"schema": "x"}', '{"schema": NaN}', "\ufeff{}",
    '{"schema": 1, "a": Infinity}', '{"schema": 1e999}', f'{{"schema": 1, "a": {DEEP}}}',
    f'{{"schema": 1, "a": 1{"0" * 5000}}}',
]  # fmt: skip


@pytest.mark.parametrize("text", NO_RECORDS)
def test_what_is_no_record_is_refused(tmp_path, text):
    path = tmp_path / "record.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(MismatchError, match=r"record\.json is not a record"):
        read_json(path)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "record.json").write_bytes(b'{"schema": 1, "a": "\xff"}')
    with pytest.raises(MismatchError, match="is not a record"):
        read_json(tmp_path / "record.json")
    with pytest.raises(MissingFileError):
        read_json(tmp_path / "other.json")


def test_a_newer_schema_is_refused(tmp_path):
    (tmp_path / "record.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(MismatchError, match="upgrade conformask"):
        read_json(tmp_path / "record.json")


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


def module(folder, text):
    """A module of that text, read anew."""
    folder.mkdir()
    path = folder / "brought.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("brought", path)
    made = importlib.util.module_from_spec(spec)
    sys.modules["brought"] = made
    spec.loader.exec_module(made)
    return made


def of(made):
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
def test_what_computes_the_same_is_the_same(tmp_path, old, new):
    before = of(module(tmp_path / "before", CODE))
    assert of(module(tmp_path / "after", CODE.replace(old, new))) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [("FACTOR = 4.0", "FACTOR = 1.0"), ("x.abs()", "x**2"), ("gain=1.0", "gain=2.0"), ("x - y", "y - x + y")],
)
def test_what_computes_otherwise_is_another(tmp_path, old, new):
    before = of(module(tmp_path / "before", CODE))
    after = of(module(tmp_path / "after", CODE.replace(old, new)))
    assert all(one != other for one, other in zip(before, after, strict=True))


def scaled(by):
    def inner(x):
        return x * by

    return inner


@pytest.mark.parametrize(
    "make",
    [scaled, lambda by: functools.partial(torch.mul, other=by), lambda by: lambda x: x * by, lambda by: [by]],
)
@pytest.mark.parametrize(
    "values", [(1, 2), (1.0, 2.0), (np.ones(3), np.zeros(3)), (torch.ones(2), torch.ones(3))]
)
def test_captured_values_count(make, values):
    one, other = values
    assert fingerprint_of(make(one)) == fingerprint_of(make(one))
    assert fingerprint_of(make(one)) != fingerprint_of(make(other))


def test_two_lambdas_of_a_line():
    one, other = (lambda x: x + 1), (lambda x: x + 2)
    assert fingerprint_of(one) != fingerprint_of(other)


def test_weights_count():
    network = nn.Sequential(nn.Conv2d(2, 1, 3), nn.Softplus())
    before = fingerprint_of(network)
    assert fingerprint_of(network) == before
    with torch.no_grad():
        network[0].bias += 1e-3
    assert fingerprint_of(network) != before
    stride = nn.Sequential(nn.Conv2d(2, 1, 3, stride=2), nn.Softplus())
    stride.load_state_dict(network.state_dict())
    assert fingerprint_of(stride) != fingerprint_of(network)
    halved = network.bfloat16()
    assert fingerprint_of(halved) == fingerprint_of(deepcopy(halved))
    assert fingerprint_of(halved) != fingerprint_of(deepcopy(halved).float())


def test_code_without_source():
    made: dict[str, Callable[[int], int]] = {}
    exec("def one(x): return x + 1\ndef other(x): return x + 2", made)
    assert fingerprint_of(made["one"]) != fingerprint_of(made["other"])
