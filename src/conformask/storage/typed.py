"""Records read from JSON, each value checked against the type of its field."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from conformask.errors import MismatchError
from conformask.storage.as_json import number

T = TypeVar("T")
SHOWN = 60
"""Number of characters of a wrong value that a message shows."""


def from_dict(kind: type[T], values: Mapping[str, Any], path: Path) -> T:
    """Make a dataclass from the content of a file; values without a field are ignored.

    Raises:
        MismatchError: a field without default is missing, or a value has another type; names the field.
    """
    hints, values_given = get_type_hints(kind), {}
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name in values:
            try:
                values_given[field.name] = _value(hints[field.name], values[field.name], path)
            except (TypeError, ValueError, OverflowError) as error:
                shown = repr(values[field.name])[:SHOWN]
                raise MismatchError(
                    f"{path} contains {shown} for {field.name}: it is damaged; copy it again"
                ) from error
        elif field.default is MISSING and field.default_factory is MISSING:
            raise MismatchError(f"{path} lacks {field.name}: it is damaged; copy it again")
    return kind(**values_given)


def _value(hint: Any, value: Any, path: Path) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, UnionType):
        return _one_of([kind for kind in arguments if kind is not NoneType], value, path)
    if origin is Literal:
        return arguments[arguments.index(value)]
    if hint is float:
        return _float(value)
    if origin is tuple:
        return _tuple(arguments, _expected(value, list), path)
    if is_dataclass(hint) and not isinstance(value, hint):  # type: ignore[arg-type]
        return from_dict(hint, _expected(value, dict), path)  # type: ignore[arg-type]
    return _expected(value, origin or hint)


def _one_of(kinds: list[Any], value: Any, path: Path) -> Any:
    """Return the value as the first of these types that it fits."""
    if value is None:
        return None
    for kind in kinds[:-1]:
        with suppress(TypeError, ValueError, OverflowError):
            return _value(kind, value, path)
    return _value(kinds[-1], value, path)


def _float(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError
    return number(value)


def _tuple(arguments: tuple[Any, ...], value: list[Any], path: Path) -> tuple[Any, ...]:
    kinds = [arguments[0]] * len(value) if Ellipsis in arguments else arguments
    return tuple(_value(kind, item, path) for kind, item in zip(kinds, value, strict=True))


def _expected(value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError
    return value
