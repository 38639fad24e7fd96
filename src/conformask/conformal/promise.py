"""A promise as people state it: the guarantee by name, and its numbers."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from conformask import names
from conformask.conformal.guarantee import Guarantee
from conformask.conformal.presets import DEFAULTS, guarantee, takes
from conformask.conformal.units import Image
from conformask.errors import InvalidArgumentError

WORDS = {"group_name": "patient", "object_name": "nucleus"}
"""Fields of a promise that are only words of its sentences, with an example of each."""
IRREGULAR = {"nucleus": "nuclei", "bacterium": "bacteria", "glomerulus": "glomeruli", "series": "series"}
"""Plurals that do not follow the rules of `plural_of`."""


def plural_of(noun: str) -> str:
    """Return the plural of an English noun."""
    if noun in IRREGULAR:
        return IRREGULAR[noun]
    if re.search("[^aeiou]y$", noun):
        return f"{noun[:-1]}ies"
    if noun.endswith("sis"):
        return f"{noun[:-2]}es"
    return f"{noun}es" if re.search("(s|x|z|ch|sh)$", noun) else f"{noun}s"


@dataclass(frozen=True)
class Promise:
    """The terms of a promise, checked when they are made.

    Args:
        guarantee: a name of `conformask.names.Guarantee`: see docs/promises.md.
        confidence: the promised probability (the paper's beta); 0.9 if None, where the guarantee takes one.
        delta: the share of calibration sets for which the promise may fail; 0.05 if None, where it takes one.
        unit: the unit counted: image, group or image_of_new_group; the guarantee's own if None.
        share: the share of a group's images that must meet the threshold, for unit="group"; all if None.
        per_category: whether each category gets its own promise and its own lambda.
        group_name: the word for a group in sentences, in the singular, such as "patient", "slide" or "field".
        weight: for weighted, a likelihood ratio (x, y_hat) -> (N,) of the new population to that of the
            calibration, instead of the triplets' weights; a run folder does not keep it.
        object_name: the word for an object in sentences, in the singular, such as "nucleus".

    Raises:
        InvalidArgumentError: an unknown name, a value outside its range, or one that is not taken; a
            combination without a theorem.

    Examples:
        >>> import conformask as cm
        >>> cm.Promise("pac", confidence=0.8)
        Promise(guarantee='pac', confidence=0.8, delta=0.05, unit=None, share=None, per_category=False)
    """

    guarantee: names.Guarantee = "marginal"
    confidence: float | None = None
    delta: float | None = None
    unit: names.Unit | None = None
    share: float | None = None
    per_category: bool = False
    group_name: str = field(default="group", repr=False, compare=False)
    weight: Callable[[Any, Any], Any] | None = field(default=None, repr=False)
    object_name: str = field(default="object", repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, example in WORDS.items():
            if not re.fullmatch(r"[^\W\d_]+", getattr(self, name)):
                raise InvalidArgumentError(
                    f"{name} = {getattr(self, name)!r}: give one word in the singular, such as {example}"
                )
        resolved = self.resolve()
        object.__setattr__(self, "confidence", resolved.confidence)
        object.__setattr__(self, "delta", resolved.delta)

    def named(self, text: str) -> str:
        """Return a sentence with the words of this promise for groups and objects."""
        words = {"group": self.group_name, "object": self.object_name}
        words |= {f"{word}s": plural_of(name) for word, name in words.items()}
        return re.sub(r"\b(group|object)s?\b", lambda found: words[found[0]], text)

    def resolve(self) -> Guarantee:
        """Return the promise by its axes, with the procedure that gives it."""
        return guarantee(
            self.guarantee, self.confidence, self.delta, self.unit, self.share, within=self.per_category
        )

    def changed(
        self,
        guarantee: names.Guarantee | None = None,
        confidence: float | None = None,
        delta: float | None = None,
        unit: names.Unit | None = None,
        share: float | None = None,
        per_category: bool | None = None,
        group_name: str | None = None,
        object_name: str | None = None,
    ) -> "Promise":
        """Return the promise with other terms; None keeps one, unless the new guarantee does not take it."""
        changes: dict[str, Any] = {
            "guarantee": guarantee, "confidence": confidence, "delta": delta, "unit": unit, "share": share,
            "per_category": per_category, "group_name": group_name, "object_name": object_name,
        }  # fmt: skip
        changes = {name: value for name, value in changes.items() if value is not None}
        dropped = DEFAULTS.keys() - takes(guarantee or self.guarantee)
        if unit not in (None, "group"):
            dropped |= {"share"}
        stated = replace(self, **{**dict.fromkeys(dropped), **changes})
        return stated if group_name is None else promise(stated)


AnyPromise = Promise | names.Guarantee
"""A promise, or the name of a guarantee with its default numbers."""


def promise(choice: AnyPromise) -> Promise:
    """Return the promise, or that of a guarantee's name with its default numbers.

    Raises:
        InvalidArgumentError: it has a name for groups, and is not about groups.
    """
    stated = choice if isinstance(choice, Promise) else Promise(choice)
    if stated.group_name != "group" and isinstance(stated.resolve().unit, Image):
        raise InvalidArgumentError(
            f"group_name {stated.group_name!r} is the word for a group, but the promise is about images: "
            "promise groups, unit='group' (--unit group), or leave it out"
        )
    return stated
