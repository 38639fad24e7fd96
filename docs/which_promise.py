"""The form of docs/promises.md: three questions, and for each answer command, sentence, formula and number.

A `Choice` has them from the code that gives promises. `table` holds those of all choices, in parts that
docs/which_promise.js puts together; `form` is the HTML.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from html import escape
from itertools import product
from typing import Any

from conformask.errors import InvalidArgumentError
from conformask.losses.base import Loss
from conformask.losses.masked_distance import MaskedDistance
from conformask.losses.means import FalseOmissionRate, Mean, MeanShown, MissRate
from conformask.losses.window import Local, LocalShare
from conformask.promises.axes import THRESHOLDS as N_DECLARED, EachCategory, Weighted
from conformask.promises.procedures import Mondrian, PerGroup, Procedure, procedure_for
from conformask.promises.promise import DEFAULTS, Promise, takes
from conformask.promises.rules import ConstantLambda
from conformask.records.card import CalibrationCard
from conformask.records.names import Guarantee


@dataclass(frozen=True)
class Option:
    """An answer to a question: what people read, and what it adds to the command."""

    label: str
    arguments: str = ""


LOSSES = {
    "local": Option(
        "the mean error around every pixel that is shown (9 × 9 pixels) is at most the threshold",
        "--over local --window 9",
    ),
    "local_share": Option(
        "that mean error is at most 0.1 around all but a share of the shown pixels: the threshold",
        "--over local_share --window 9 --tolerance 0.1",
    ),
    "trusted": Option("the mean error of what is shown is at most the threshold", "--over trusted"),
    "missed": Option(
        "the share of the wrong pixels (error above 0.1) that is shown is at most the threshold",
        "--over missed --tolerance 0.1",
    ),
    "wrong": Option(
        "the share of what is shown that is wrong (error above 0.1) is at most the threshold",
        "--over wrong --tolerance 0.1",
    ),
    "image": Option(
        "the mean error of the image, hidden pixels counted as 0, is at most the threshold", "--over image"
    ),
    "ssim": Option("the masked images differ by at most the threshold in 1 − SSIM", "--loss ssim"),
}
VALUES: dict[str, Loss] = {
    "local": Local("l1", 9),
    "local_share": LocalShare("l1", 9, 0.1),
    "trusted": MeanShown("l1"),
    "missed": MissRate("l1", 0.1),
    "wrong": FalseOmissionRate("l1", 0.1),
    "image": Mean("l1"),
    "ssim": MaskedDistance("ssim"),
}
"""What the arguments of LOSSES mean."""
SCOPES = {
    "image": Option("a new image; no two images belong together"),
    "group": Option("a new patient, slide or film: every image of it", "--unit group"),
    "most": Option("a new patient: at least nine tenths of the images", "--unit group --share 0.9"),
    "member": Option("a random image of a new patient", "--unit image_of_new_group"),
    "category": Option("each scanner, stain or organ by itself", "--per-category"),
    "weighted": Option("a population with another mix, in known proportions"),
}
SURE = {
    "marginal": "most new images are fine: the usual promise, on average over calibration sets",
    "pac": "I have one chance: this particular calibration must be right",
    "expected": "the mean error matters, not each image",
    "ltt": "one chance, for SSIM or LPIPS, with masks as open as possible",
    "rcps": "the mean error matters, and I have one chance",
    "rcps_hb": "the same by an older bound, which ignores the order of the images",
    "conditional_mean": "the paper’s own condition: the mean over the truths that an input leaves possible",
    "adaptive": "hide more of hard images and less of easy ones",
    "simultaneous": "I want to move the threshold after looking",
    "groups": "most images of new patients are fine (decides question 2)",
    "categories": "most new images are fine in each category (decides question 2)",
    "weighted": "most new images of another mix are fine (decides question 2)",
}
FIRST = ("marginal", "pac", "expected", "adaptive")
"""Guarantees that are shown at once; the others are behind "more"."""
NUMBERS = {
    "threshold": (0.02, 0.05, 0.1, 0.2),
    "confidence": (0.8, 0.9, 0.95, 0.99),
    "delta": (0.01, 0.05, 0.1),
}
CHOSEN = {"loss": "local", "scope": "image", "guarantee": "marginal", "threshold": 0.1, **DEFAULTS}
"""The answers at first."""
DECIDES = {"groups": "member", "categories": "category", "weighted": "weighted"}
"""The answer to question 2 that a guarantee implies."""
COMMAND = "conformask calibrate RUN DATA"
MANY = 2
"""Images in each group, and categories, that sentences assume where there are any."""
ABOUT: tuple[Guarantee, ...] = ("marginal", "expected")
"""A guarantee about a share of images, and one about a mean."""
SENTINEL = 0.1235
"""Stands for the threshold in sentences that are made for all thresholds."""


@dataclass(frozen=True)
class Choice:
    """One answer to each question."""

    loss: str
    scope: str
    guarantee: str
    threshold: float
    confidence: float
    delta: float

    @property
    def named(self) -> str:
        """The guarantee as the command names it."""
        return "weighted" if (self.scope, self.guarantee) == ("weighted", "marginal") else self.guarantee

    @property
    def levels(self) -> dict[str, float]:
        """Confidence and delta, where the guarantee takes them."""
        return {key: getattr(self, key) for key in sorted(takes(self.named))}

    @property
    def promise(self) -> Promise:
        """The promise.

        Raises:
            InvalidArgumentError: there is none.
        """
        return promise_for(self.named, self.scope, **self.levels)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments of the command, in groups."""
        return (
            f"--threshold {self.threshold:g}",
            LOSSES[self.loss].arguments,
            SCOPES[self.scope].arguments,
            "" if self.named == "marginal" else f"--guarantee {self.named}",
            *(f"--{key} {value:g}" for key, value in self.levels.items() if value != DEFAULTS[key]),
        )

    @property
    def command(self) -> str:
        """The command that makes the promise."""
        return " ".join(filter(None, (COMMAND, *self.arguments)))

    @property
    def n_units(self) -> int:
        """The smallest number of units that suffices, as `conformask plan` says."""
        promise, loss = self.promise, VALUES[self.loss]
        own, bound = promise.own_bounds and loss.traits.own_bounds, loss.traits.upper_bound
        procedure = promise.procedure
        while isinstance(procedure, (Mondrian, PerGroup)):  # which takes as many units as the theorem in it
            procedure = procedure.inner
        means = (
            (self.threshold, None if own else bound) if promise.axes.statement.bounds_a_mean else (None, None)
        )
        return smallest(procedure, *means)

    @property
    def needed(self) -> str:
        """The smallest calibration set, in words."""
        return f"{self.n_units} {self.promise.plural}"

    @property
    def card(self) -> CalibrationCard:
        """The card of a masker with this promise, from the smallest calibration set."""
        promise, n = self.promise, self.n_units
        groups = n if promise.by_group else None
        name = VALUES[self.loss].name
        return card(promise, self.loss, name, self.threshold, n * images_per_unit(promise), groups)


@cache
def smallest(procedure: Procedure, threshold: float | None, bound: float | None) -> int:
    """Return the smallest number of units, which takes a while to find."""
    return procedure.smallest_calibration_set(threshold, bound)


@cache
def promise_for(name: str, scope: str, **levels: float) -> Promise:
    """Return the promise with this name for the answer to question 2.

    Raises:
        InvalidArgumentError: there is none.
    """
    implied = DECIDES.get(name, scope)
    if scope not in ("image", implied):
        label = SCOPES[implied].label
        raise InvalidArgumentError(f"the guarantee {name} is for {label}: choose that in question 2")
    promise = Promise(
        name,
        unit={"group": "group", "most": "group", "member": "image_of_new_group"}.get(scope),
        share=0.9 if scope == "most" else None,
        per_category=scope == "category",
        **levels,
    )
    if scope == "weighted":
        procedure_for(promise.axes._replace(population=Weighted()))  # refuses what has no theorem
    return promise


def choices() -> Iterator[Choice]:
    """Yield all answers, those without a promise too; numbers that a guarantee ignores are not varied."""
    for loss, scope, name, threshold in product(LOSSES, SCOPES, SURE, NUMBERS["threshold"]):
        for confidence, delta in product(NUMBERS["confidence"], NUMBERS["delta"]):
            given = {"confidence": confidence, "delta": delta}
            if all(key in takes(name) or value == DEFAULTS[key] for key, value in given.items()):
                yield Choice(loss, scope, name, threshold, confidence, delta)


def images_per_unit(promise: Promise) -> int:
    """Return how many images stand for one of the units that are counted."""
    return MANY if promise.by_group or isinstance(promise.axes.population, EachCategory) else 1


def card(promise: Promise, loss: str, name: str, threshold: float, n: Any, n_groups: Any) -> CalibrationCard:
    """Return the card of a masker; the numbers of images may be names that are filled in later.

    `name` is that of the loss in the formula.
    """
    declared = tuple(map(float, range(N_DECLARED)))
    found = replace(promise, thresholds=declared) if promise.guarantee == "simultaneous" else promise
    return CalibrationCard(
        loss=VALUES[loss], threshold=threshold, promise=promise, claim=found.claim(name, threshold),
        family={"name": "reciprocal" if loss == "ssim" else "binary"}, rule=ConstantLambda(0.1),
        exact=True, exploratory=False, thresholds=None, n_calibration=n, n_groups=n_groups, n_effective=None,
        channels=1, sizes=((1, 1),), population=None, calibrated="", calibrated_on=(),
    )  # fmt: skip


def formula(promise: Promise, loss: str) -> str:
    """Return a formula with {loss}, {threshold}, {n} and {groups} to fill in."""
    groups = "{groups}" if promise.by_group else None
    made = card(promise, "image", loss, SENTINEL, "{n}", groups)
    return made.formula.replace(f"{SENTINEL:g}", "{threshold}")


def ending(guarantee: Guarantee, loss: str, threshold: float) -> str:
    """Return what the sentence of a promise about images says of a loss, after its beginning."""
    made = card(Promise(guarantee), loss, VALUES[loss].name, threshold, 1, None)
    return made.sentence.partition(" new images, ")[2]


def beginning(promise: Promise) -> str:
    """Return the sentence of a promise without what it says of a loss."""
    about = "expected" if promise.axes.statement.bounds_a_mean else "marginal"
    made = card(promise, "image", VALUES["image"].name, SENTINEL, 1, 1)
    return made.sentence.removesuffix(ending(about, "image", SENTINEL))


def table() -> dict[str, Any]:
    """Return the parts of all answers, as JSON."""
    refused: dict[str, str] = {}
    promises: dict[str, dict[str, Any]] = {}
    for choice in choices():
        key = "|".join((choice.scope, choice.guarantee))
        if key in refused:
            continue
        try:
            promise = choice.promise
        except InvalidArgumentError as error:
            refused[key] = str(error)
            continue
        key = "|".join((key, *(f"{value:g}" for value in choice.levels.values())))
        if key not in promises:
            # "E l1" but "E[local(l1, 9 px)]": how a mean is written depends on spaces in the loss
            plain, spaced = formula(promise, "{loss}"), formula(promise, "{a loss}")
            promises[key] = {
                "named": choice.named, "begins": beginning(promise),
                "about": "expected" if promise.axes.statement.bounds_a_mean else "marginal",
                "plain": plain, "spaced": spaced.replace("{a loss}", "{loss}"),
                "units": promise.plural, "n": {}, "per_unit": images_per_unit(promise),
                "columns": sorted(promise.columns),
            }  # fmt: skip
        promises[key]["n"].setdefault(choice.loss, []).append(choice.n_units)
    for entry in promises.values():
        numbers = {n for by_threshold in entry["n"].values() for n in by_threshold}
        if len(numbers) == 1:  # whatever the loss and the threshold
            (entry["n"],) = numbers
        if entry["plain"] == entry["spaced"]:
            del entry["spaced"]
    return {
        "command": COMMAND,
        "losses": {name: [option.arguments, VALUES[name].name] for name, option in LOSSES.items()},
        "endings": {
            name: {about: [ending(about, name, t) for t in NUMBERS["threshold"]] for about in ABOUT}
            for name in LOSSES
        },
        "scopes": {name: option.arguments for name, option in SCOPES.items()},
        "thresholds": [f"{value:g}" for value in NUMBERS["threshold"]],
        "takes": {name: sorted(takes(name)) for name in SURE},
        "defaults": {name: f"{value:g}" for name, value in DEFAULTS.items()},
        "refused": refused,
        "promises": promises,
    }


def radios(name: str, labels: dict[str, str]) -> str:
    """Return radio buttons with labels."""
    lines = [
        f'<label><input type="radio" name="{name}" value="{value}"{" checked" * (CHOSEN[name] == value)}>'
        f"<span>{label}</span></label>"
        for value, label in labels.items()
    ]
    return "\n".join(lines)


def selects() -> str:
    """Return the numbers to choose from."""
    labels = {
        "threshold": "threshold: the error you accept",
        "confidence": "confidence: the share that keeps it",
        "delta": "delta: the chance of an unlucky calibration",
    }
    lines = []
    for name, values in NUMBERS.items():
        options = "".join(
            f"<option{' selected' * (CHOSEN[name] == value)}>{value:g}</option>" for value in values
        )
        lines.append(f'<label>{labels[name]} <select name="{name}">{options}</select></label>')
    return "\n".join(lines)


def form() -> str:
    """Return the form, which only a script shows: without one, the tables of the page say the same."""
    said = {name: f"{escape(label)} <code>{name}</code>" for name, label in SURE.items()}
    first = {name: said[name] for name in FIRST}
    more = {name: label for name, label in said.items() if name not in FIRST}
    content = json.dumps(table(), ensure_ascii=False, separators=(",", ":")).replace("</", r"<\/")
    return f"""<form id="promise-form" aria-label="Which promise?" hidden>
<fieldset><legend>1. What may be wrong?</legend>
{radios("loss", {name: escape(option.label) for name, option in LOSSES.items()})}
</fieldset>
<fieldset><legend>2. For whom?</legend>
{radios("scope", {name: escape(option.label) for name, option in SCOPES.items()})}
</fieldset>
<fieldset><legend>3. How sure?</legend>
{radios("guarantee", first)}
<details><summary>More: eight other guarantees</summary>
{radios("guarantee", more)}
</details>
<p class="unproven" hidden>For grey answers no proof is known together with the other question’s answer.</p>
</fieldset>
<fieldset class="numbers"><legend>Numbers</legend>
{selects()}
</fieldset>
<div class="answer" role="status">
<dl>
<dt>The promise, here with the fewest images</dt><dd class="sentence"></dd>
<dt>Needed to calibrate</dt>
<dd><span class="needed"></span> <a href="#how-many-images">With more, masks hide less.</a></dd>
<dt>The command</dt><dd><code class="command"></code></dd>
</dl>
</div>
<p>As a formula: <code class="formula"></code></p>
</form>
<script type="application/json" id="promise-table">{content}</script>
<script src="which_promise.js"></script>
"""
