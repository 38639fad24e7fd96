"""Rules from an image's facts to its lambda, as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from conformask.errors import MismatchError
from conformask.results import Json, number


@runtime_checkable
class Counted(Protocol):
    """Facts of n images."""

    @property
    def n(self) -> int:
        """How many images."""


@dataclass(frozen=True)
class ConstantLambda:
    """The same lambda for every image."""

    lam: float
    kind: ClassVar[str] = "constant"
    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, facts: Counted) -> Float[np.ndarray, "n"]:
        """lam for each image."""
        return np.full(facts.n, self.lam)

    def to_json(self) -> dict[str, Json]:
        """The rule as JSON; an infinite lambda becomes "inf"."""
        return {"kind": self.kind, "lam": self.lam}

    @classmethod
    def from_json(cls, record: Mapping[str, Json]) -> "ConstantLambda":
        """The inverse of to_json."""
        return cls(number(record["lam"]))


RULES = {rule.kind: rule for rule in (ConstantLambda,)}


def rule_from_json(record: Mapping[str, Json]) -> ConstantLambda:
    """The rule that to_json wrote.

    Raises:
        MismatchError: a kind that this version does not know.
    """
    if record["kind"] not in RULES:
        raise MismatchError(f"the rule {record['kind']!r} is unknown to this conformask: upgrade it")
    return RULES[record["kind"]].from_json(record)
