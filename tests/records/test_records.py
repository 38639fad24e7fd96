"""Records of JSON: read as they were written, or refused by name."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from conformask.errors import MismatchError, MissingFileError
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


def stored(**changed: object) -> dict[str, object]:
    return {
        **to_jsonable(vars(RECORD)),
        "inner": [to_jsonable(vars(each)) for each in RECORD.inner],
        **changed,
    }


def test_a_record_survives(tmp_path: Path) -> None:
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
def test_a_value_of_another_type_is_refused(name: str, value: object) -> None:
    with pytest.raises(MismatchError, match=r"record\.json .*damaged"):
        from_dict(Record, stored(**{name: value}), Path("record.json"))


@pytest.mark.parametrize("name", ["number", "sizes"])
def test_a_missing_value_is_refused(name: str) -> None:
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
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(MismatchError, match=r"record\.json is not a record"):
        read_json(path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_bytes(b'{"schema": 1, "a": "\xff"}')
    with pytest.raises(MismatchError, match="is not a record"):
        read_json(tmp_path / "record.json")
    with pytest.raises(MissingFileError):
        read_json(tmp_path / "other.json")


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(MismatchError, match="upgrade conformask"):
        read_json(tmp_path / "record.json")
