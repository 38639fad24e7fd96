"""Hashes of objects that a user brings as code: source, the values it uses, and weights."""

import ast
import functools
import inspect
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from threading import Lock
from typing import Any

import numpy as np
import torch

from conformask.records.record import hash_of_parts

_PARSER = Lock()
"""Lock for the parser: in Python 3.11 two threads parsing at once corrupt its depth count."""
Seen = dict[int, object]
"""Objects already read, by id; kept alive so that no id is reused."""


def fingerprint_of(thing: object) -> str:
    """Hash a callable, a module or an object: the same for the same code with the same values.

    The hash covers the source without comments, docstrings and layout (the bytecode if there is no source),
    the values that a function captures, its defaults, and the constants, functions and classes of its own
    module that it names; for an object its class and attributes, for a torch module its class and weights.
    Other libraries count only by their names.
    """
    return hash_of_parts(part + b"\0" for part in _parts(thing, {}))


def name_of(function: object) -> str:
    """Return a callable's own name, or its class's where it has none."""
    return str(getattr(function, "__name__", type(function).__name__))


def _parts(thing: object, seen: Seen) -> Iterator[bytes]:
    value = _value(thing)
    if value is not None:
        yield value
    elif id(thing) not in seen:
        seen[id(thing)] = thing
        kind = next((kind for kind in _READERS if isinstance(thing, kind)), object)
        yield from _READERS[kind](thing, seen)


def _value(thing: object) -> bytes | None:
    if thing is None or isinstance(thing, bool | int | float | complex | str | bytes):
        return repr(thing).encode()
    if isinstance(thing, torch.Tensor):
        thing = thing.detach().cpu().resolve_conj().resolve_neg()
        thing = (thing.view(torch.int16) if thing.dtype == torch.bfloat16 else thing).numpy()
    if isinstance(thing, np.ndarray | np.generic) and thing.dtype.kind != "O":
        return f"{thing.dtype.str} {thing.shape} ".encode() + thing.tobytes()
    return None


def _function(function: types.FunctionType, seen: Seen) -> Iterator[bytes]:
    yield _source(function) or _bytecode(function.__code__)
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # the cell is empty
            yield from _parts(cell.cell_contents, seen)
    yield from _parts((function.__defaults__, function.__kwdefaults__), seen)
    for name in sorted(_names(function.__code__) & function.__globals__.keys()):
        used = function.__globals__[name]
        own = getattr(used, "__module__", None) == function.__module__
        if own or isinstance(used, torch.nn.Module) or _value(used) is not None:
            yield name.encode()
            yield from _parts(used, seen)


def _class(kind: type, seen: Seen) -> Iterator[bytes]:
    yield _source(kind) or kind.__qualname__.encode()
    for method in vars(kind).values():
        if isinstance(method, types.FunctionType):
            yield from _parts(method, seen)
    for base in kind.__bases__:
        if base.__module__ == kind.__module__:
            yield from _parts(base, seen)


def _sequence(values: Any, seen: Seen) -> Iterator[bytes]:
    for value in values:
        yield from _parts(value, seen)


def _mapping(values: Mapping[Any, Any], seen: Seen) -> Iterator[bytes]:
    for name in sorted(values, key=str):
        yield str(name).encode()
        yield from _parts(values[name], seen)


def _network(network: torch.nn.Module, seen: Seen) -> Iterator[bytes]:
    for name, module in network.named_modules():
        yield f"{name} {type(module).__module__}.{type(module).__qualname__} {module.extra_repr()}".encode()
        if not type(module).__module__.startswith("torch."):
            yield from _parts(type(module), seen)
    yield from _mapping(network.state_dict(), seen)


def _object(thing: object, seen: Seen) -> Iterator[bytes]:
    if isinstance(thing, types.ModuleType | types.BuiltinFunctionType) or not hasattr(thing, "__dict__"):
        yield str(getattr(thing, "__name__", type(thing).__qualname__)).encode()
        return
    yield from _parts(type(thing), seen)
    yield from _mapping(vars(thing), seen)


_READERS: Mapping[type, Callable[[Any, Seen], Iterator[bytes]]] = {
    types.FunctionType: _function,
    types.MethodType: lambda method, seen: _sequence((method.__func__, method.__self__), seen),
    functools.partial: lambda partial, seen: _sequence((partial.func, partial.args, partial.keywords), seen),
    torch.nn.Module: _network,
    type: _class,
    list: _sequence,
    tuple: _sequence,
    dict: _mapping,
    object: _object,
}
"""Readers by type; the first type that a thing is an instance of applies."""


def _source(thing: Any) -> bytes | None:
    """Return the code without comments, docstrings and layout; None where the source cannot be isolated."""
    with suppress(OSError, TypeError, SyntaxError, ValueError), _PARSER:
        tree: ast.AST = ast.parse(textwrap.dedent(inspect.getsource(thing)))
        if getattr(thing, "__name__", "") == "<lambda>":
            (tree,) = (node for node in ast.walk(tree) if isinstance(node, ast.Lambda))
        return ast.unparse(_Bare().visit(tree)).encode()
    return None


class _Bare(ast.NodeTransformer):
    """Removes docstrings."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
        return node


def _bytecode(code: types.CodeType) -> bytes:
    nested = [_bytecode(const) for const in code.co_consts if isinstance(const, types.CodeType)]
    plain = [const for const in code.co_consts if not isinstance(const, types.CodeType)]
    return repr((code.co_code, plain, code.co_names, code.co_varnames)).encode() + b"".join(nested)


def _names(code: types.CodeType) -> set[str]:
    nested = (_names(const) for const in code.co_consts if isinstance(const, types.CodeType))
    return set(code.co_names).union(*nested)
