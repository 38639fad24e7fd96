"""Choices that packages add by entry points: the plugins of conformask, and those of other packages."""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution, entry_points
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from conformask.errors import (
    ConformaskError,
    MismatchError,
    MissingFileError,
    failure_of_system,
    one_line,
    warn,
)

T = TypeVar("T")
PACKAGE = "conformask"
COMMANDS = "conformask.commands"
FORMATS = "conformask.formats"
EXPORTS = "conformask.exports"
LAYERS = "conformask.layers"
LOSSES = "conformask.losses"
OVER = "conformask.over"
PREDICTORS = "conformask.predictors"
REMARKS = "conformask.remarks"


@dataclass(frozen=True)
class Claim:
    """A name that a package claims by an entry point."""

    name: str
    package: str
    place: str
    """The module and the object in it."""
    load: Callable[[], object]
    """Function that imports the object."""


class Extensions(Mapping[str, T]):
    """Choices by name: the built-in ones, then the plugins of conformask, then those of other packages.

    The names are known without an import; a package is imported when one of its names is looked up.
    """

    def __init__(self, group: str, kind: type[T], built_in: Mapping[str, T]) -> None:
        """Set up the choices; entry points are read when a name is first looked up.

        Args:
            group: the group of the entry points.
            kind: the type that each entry point must have.
            built_in: the choices that need no entry point.
        """
        self._group, self._kind, self._built_in = group, kind, built_in

    def __getitem__(self, name: str) -> T:
        """Return a choice, which is imported if it is an entry point."""
        claims = _claims(self._group).get(name, ())
        if len(claims) + (name in self._built_in) > 1:
            owners = [PACKAGE] * (name in self._built_in) + [claim.package for claim in claims]
            raise MismatchError(
                f"{name!r} is claimed by several packages, {' and '.join(owners)} ({self._group}): uninstall "
                "one of them"
            )
        return _load(claims[0], self._kind) if claims else self._built_in[name]

    def __contains__(self, name: object) -> bool:
        """Return whether there is a choice with this name, without importing it."""
        return name in self._built_in or name in _claims(self._group)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        yield from {**dict.fromkeys(self._built_in), **dict.fromkeys(_claims(self._group))}

    def __len__(self) -> int:
        """Return the number of names."""
        return len(list(iter(self)))

    def usable(self) -> dict[str, T]:
        """Return all choices that can be imported; what cannot be is left out.

        Warns:
            ConformaskWarning: a package is broken, or claims a name of another; the message names it.
        """
        choices = {}
        for name in self:
            try:
                choices[name] = self[name]
            except ConformaskError as error:
                warn(str(error))
        return choices


@cache
def _claims(group: str) -> Mapping[str, tuple[Claim, ...]]:
    """Return the claims of a group by name: those of conformask, then those of other packages."""
    _check_installed()
    claims: dict[str, tuple[Claim, ...]] = {}
    found = []
    for point in entry_points(group=group):
        package = None if point.dist is None else point.dist.name
        found.append(Claim(point.name, package or "an unknown package", point.value, point.load))
    for claim in sorted(found, key=lambda claim: (claim.package != PACKAGE, claim.package, claim.name)):
        module = Path(__file__).parents[1].joinpath(*claim.place.partition(":")[0].split("."))
        # a leaf that was deleted, a folder or a file, leaves its entry points
        if claim.package != PACKAGE or module.with_suffix(".py").is_file():
            claims[claim.name] = (*claims.get(claim.name, ()), claim)
    return claims


def _check_installed() -> None:
    """Raise where the metadata of this version are missing, as in a source tree that is only on the path."""
    try:
        groups = {claim.group for claim in distribution(PACKAGE).entry_points}
    except PackageNotFoundError:
        groups = set()
    if not {COMMANDS, FORMATS, PREDICTORS, EXPORTS} <= groups:
        raise MissingFileError(
            "conformask is not installed, or an older version of it is, so its plugins cannot be found: pip "
            "install conformask, or in a source tree, pip install --editable ."
        )


def pip_install(extra: str) -> str:
    """Return the command that installs an extra of conformask, from where conformask itself was installed.

    That is a clone or a wheel on this machine if the record of the installation names one (PEP 610),
    otherwise the package index.
    """
    from urllib.request import url2pathname

    source, editable = f"{PACKAGE}[{extra}]", ""
    try:
        origin = json.loads(distribution(PACKAGE).read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        origin = {}
    if origin.get("url", "").startswith("file:"):
        source = f"{url2pathname(urlsplit(origin['url']).path)}[{extra}]"
        editable = "--editable " * origin.get("dir_info", {}).get("editable", False)
    return f"pip install {editable}{shlex.quote(source)}"


def required(module: str, needed_by: object, extra: str) -> Any:
    """Return a module of a library that an extra of conformask installs; else say what installs it."""
    try:
        return import_module(module)
    except ImportError as error:
        library = module.partition(".")[0]
        raise MissingFileError(
            f"{needed_by} needs {library}, which cannot be imported ({error}): {pip_install(extra)}"
        ) from error


def _load(claim: Claim, kind: type[T]) -> T:
    try:
        value = claim.load()
    except ConformaskError:
        raise
    except Exception as error:  # a package may raise anything when it is imported
        if claim.package == PACKAGE and (failure := failure_of_system(error)):
            raise MissingFileError(failure) from error  # a leaf that needs one that was deleted
        raise MismatchError(
            f"{claim.name!r} comes from the package {claim.package}, which cannot be loaded "
            f"({type(error).__name__}: {one_line(error)}): update it or uninstall it"
        ) from error
    if not isinstance(value, kind):
        raise MismatchError(
            f"{claim.name!r} comes from the package {claim.package}, but {claim.place} is a "
            f"{type(value).__name__}, not a {kind.__name__}: update it or uninstall it"
        )
    return value
