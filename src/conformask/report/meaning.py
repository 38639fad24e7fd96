"""What each guarantee promises, and what it does not, in sentences."""

from dataclasses import dataclass

from conformask.records.card import CalibrationCard
from conformask.records.evaluation import Evaluation
from conformask.report.words import percent


@dataclass(frozen=True)
class Meaning:
    """Two answers of the report."""

    holds: str
    """What is promised."""
    silent: str
    """What is not."""


@dataclass(frozen=True)
class Standing:
    """How far a promise can be relied on."""

    name: str
    """calibrated, simultaneous, exploratory, impossible or broken: a class of the style sheet."""
    title: str
    text: str


CALIBRATED = Standing(
    "calibrated",
    "As calibrated",
    "Threshold and confidence were fixed before a calibration image was looked at.",
)
SIMULTANEOUS = Standing(
    "simultaneous",
    "Simultaneous",
    "One promise for every declared threshold and every confidence at once: it holds wherever they are set, "
    "before or after looking.",
)
EXPLORATORY = Standing(
    "exploratory",
    "Exploratory",
    "Threshold or confidence were changed after the calibration: exploratory. To rely on them, calibrate "
    "with them on images that no choice has seen, or with the guarantee simultaneous.",
)


def broken(text: str) -> Standing:
    """Where images with truth contradict the promise."""
    return Standing("broken", "Broken here", text)


def of_another_network(text: str) -> Standing:
    """Where another network made the images than the one that the promise is about."""
    return Standing("broken", "Not about these images", f"{text}. Nothing is promised for them.")


AGAIN = "Draw calibration images and a new image from the same source, again and again: "
ONCE = "For all but a small share of calibration sets (delta), this very calibration keeps: "
NO_MODEL = " No model of the errors is assumed, and the network may be arbitrarily wrong."
IN_DRAWS = "in at least {c} of these draws "
MEETS = IN_DRAWS + "the new image meets the threshold"
SHARE = ONCE + "at least {c} of new images meet the threshold"
MEAN = "the mean masked distance of new images is at most the threshold."
BY_IMAGE = "for each image, or for each kind of image; "
BY_CALIBRATION = "for each image, for each kind of image, or for this one calibration set; "
SINGLE = "a limit for any single image; "
ELSEWHERE = "and nothing at all for images of another source, camera or treatment."
EVENLY = " The coverage by difficulty shows how evenly the promise is kept."
MEANINGS = {
    "marginal": (AGAIN + MEETS + ".", BY_CALIBRATION),
    "pac": (SHARE + ".", BY_IMAGE),
    "ltt": (SHARE + ".", BY_IMAGE),
    "simultaneous": (
        SHARE + ", and so for every other declared threshold and every confidence, chosen before or after.",
        BY_IMAGE,
    ),
    "expected": (AGAIN + MEAN, SINGLE),
    "rcps": (ONCE + MEAN, SINGLE),
    "rcps_hb": (ONCE + MEAN, SINGLE),
    "conditional_mean": (
        AGAIN
        + "for at least {c} of inputs, the masked distance averaged over the truths that the input leaves "
        "possible is at most the threshold.",
        "a limit for any single truth; ",
    ),
    "groups": (
        "Draw calibration groups and a new group from the same source, again and again: "
        + IN_DRAWS
        + "an image of the new group meets the threshold.",
        "for each group, or for this one calibration set; ",
    ),
    "categories": (
        AGAIN + "in every category, at least {c} of the new images of that category meet the threshold.",
        "for each image of a category, or for this one calibration set; ",
    ),
    "weighted": (
        "Draw calibration images, and one of the population that the weights describe, again and again: "
        + MEETS
        + ", if the weights are its likelihood ratios.",
        BY_CALIBRATION,
    ),
    "adaptive": (AGAIN + MEETS + "; lambda follows how hard an image looks.", BY_CALIBRATION),
}


def meaning_of(about: Evaluation | CalibrationCard) -> Meaning:
    """The two sentences of its guarantee."""
    level = "" if about.confidence is None else percent(about.confidence)
    holds, silent = MEANINGS[about.guarantee]
    start = f"Not {level} " if silent.startswith("for") else "Not "
    return Meaning(holds.format(c=level) + NO_MODEL, start + silent + ELSEWHERE + (level and EVENLY))


def standing_of(card: CalibrationCard) -> Standing:
    """Whether the promise was fixed beforehand, covers every setting, or was changed after looking."""
    if card.exploratory:
        return EXPLORATORY
    return SIMULTANEOUS if card.guarantee == "simultaneous" else CALIBRATED
