"""The terms in which a promise is stated: options of the command line are made of them, without numpy."""

from dataclasses import dataclass

from conformask.records import names


@dataclass(frozen=True)
class PromiseTerms:
    """The terms of a promise; None for what is not stated, so that it has its default, or stays as it was."""

    guarantee: names.Guarantee | None = None
    """The kind of promise, marginal if not given; conformask plan --guarantee shows how many images one
    needs."""
    confidence: float | None = None
    """The promised share of new images (the paper's beta); 0.9 if not given."""
    delta: float | None = None
    """Share of calibration sets for which the promise may fail, for guarantees that take one; 0.05 if not
    given."""
    unit: names.Unit | None = None
    """Unit of the promise: images, groups in which enough images meet the threshold, or images of new groups;
    the guarantee's own if not given."""
    share: float | None = None
    """For --unit group: the share of a group's images that must meet the threshold; 1 if not given."""
    per_category: bool | None = None
    """Make the promise for each category separately."""
    group_name: str | None = None
    """The word for a group in sentences, such as patient or slide."""
    object_name: str | None = None
    """The word for an object in sentences, such as nucleus."""
