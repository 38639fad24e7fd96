"""Choices that packages add by entry points: the plugins of conformask, and those of other packages."""

import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution, entry_points
from typing import TypeVar

from conformask.errors import ConformaskError, MismatchError, MissingFileError, one_line

T = TypeVar("T")
PACKAGE = "conformask"
FORMATS = "conformask.formats"
EXPORTS = "conformask.exports"
LOSSES = "conformask.losses"
PREDICTORS = "conformask.predictors"


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
        """Return a choice, which is imported if it is an entry point.

        Raises:
            KeyError: there is no choice with this name.
            MismatchError: several packages claim the name, or the package that does is broken.
            MissingFileError: conformask is not installed.
        """
        claims = _entry_points(self._group).get(name, ())
        if len(claims) + (name in self._built_in) > 1:
            owners = [PACKAGE] * (name in self._built_in) + [_package(claim) for claim in claims]
            raise MismatchError(
                f"{name!r} is claimed by several packages, {' and '.join(owners)} ({self._group}): uninstall "
                "one of them"
            )
        return _load(claims[0], self._kind) if claims else self._built_in[name]

    def __contains__(self, name: object) -> bool:
        """Return whether there is a choice with this name, without importing it."""
        return name in self._built_in or name in _entry_points(self._group)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        yield from {**dict.fromkeys(self._built_in), **dict.fromkeys(_entry_points(self._group))}

    def __len__(self) -> int:
        """Return the number of names."""
        return len(list(iter(self)))

    def usable(self) -> dict[str, T]:
        """Return all choices that can be imported; what cannot be is left out.

        Warns:
            UserWarning: a package is broken, or claims a name of another; the message names it.
        """
        choices = {}
        for name in self:
            try:
                choices[name] = self[name]
            except ConformaskError as error:
                warnings.warn(str(error), stacklevel=2)
        return choices


@cache
def _entry_points(group: str) -> Mapping[str, tuple[EntryPoint, ...]]:
    """Return the entry points of a group by name: those of conformask, then those of others by package.

    Raises:
        MissingFileError: conformask is not installed.
    """
    _check_installed()
    claims: dict[str, tuple[EntryPoint, ...]] = {}
    for claim in sorted(entry_points(group=group), key=_order):
        claims[claim.name] = (*claims.get(claim.name, ()), claim)
    return claims


def _order(claim: EntryPoint) -> tuple[bool, str, str]:
    package = _package(claim)
    return package != PACKAGE, package, claim.name


def _package(claim: EntryPoint) -> str:
    """Return the name of the package of an entry point."""
    return "an unknown package" if claim.dist is None else str(claim.dist.name)


def _check_installed() -> None:
    """Raise where the metadata of this version are missing, as in a source tree that is only on the path."""
    try:
        groups = {claim.group for claim in distribution(PACKAGE).entry_points}
    except PackageNotFoundError:
        groups = set()
    if not {FORMATS, PREDICTORS, EXPORTS} <= groups:
        raise MissingFileError(
            "conformask is not installed, or an older version of it is, so its plugins cannot be found: pip "
            "install conformask, or in a source tree, pip install --editable ."
        )


def _load(claim: EntryPoint, kind: type[T]) -> T:
    try:
        value = claim.load()
    except ConformaskError:
        raise
    except Exception as error:  # a package may raise anything when it is imported
        raise MismatchError(
            f"{claim.name!r} comes from the package {_package(claim)}, which cannot be loaded "
            f"({type(error).__name__}: {one_line(error)}): update it or uninstall it"
        ) from error
    if not isinstance(value, kind):
        raise MismatchError(
            f"{claim.name!r} comes from the package {_package(claim)}, but {claim.value} is a "
            f"{type(value).__name__}, not a {kind.__name__}: update it or uninstall it"
        )
    return value
