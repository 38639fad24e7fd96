"""The verbs that make and change a promise: calibrate, recalibrate, thresholds, plan."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from conformask.background import main_process
from conformask.cli.options import (
    DEFAULT_DEVICES,
    FILES,
    LOSS,
    MARGINAL,
    OVER,
    PROMISE,
    SAME_LOSS,
    SUITING,
    TRAINED,
    AboutAnyLoss,
    AsJson,
    Devices,
    LossChoice,
    MaskOptions,
    OverName,
    Patches,
    Promised,
    ScoreChoice,
    ScoreOptions,
    SourceOptions,
    Threshold,
    WeightsPath,
    loss_of,
    reading_of,
)
from conformask.cli.output import (
    bad_usage,
    range_text,
    replaced_text,
    show,
    show_calibration,
    show_choices,
    table,
)
from conformask.cli.verb import Verb
from conformask.errors import chosen, verb, warn
from conformask.records import names

if TYPE_CHECKING:
    from conformask.images.triplets import Triplets
    from conformask.masker.masker import Masker


def thresholds(
    run: Path,
    /,
    *,
    promise: Promised = MARGINAL,
    masks: MaskOptions = SUITING,
    json: AsJson = False,
) -> None:
    """Show what each threshold would mean, to choose one before calibration.

    Measured on the selection images, or after look on the calibration images, as exploratory: how many would
    need no mask, and how large the masks are.

    Parameters
    ----------
    run
        The run folder of conformask train, calibrate or look.
    """
    from conformask.masker.load import load
    from conformask.masker.thresholds import threshold_choices
    from conformask.promises.promise import promise as promise_of
    from conformask.records.record import CALIBRATION
    from conformask.scores.network_scorer import load_scorer

    family, stated = masks.chosen, promise_of(promise)
    if (run / CALIBRATION).is_file() and family is None:
        masker = load(run)
        stated = masker.card.promise if promise == MARGINAL else stated
        choices, terms = threshold_choices(masker, promise=stated), masker.card.loss
        step = f"Next: conformask recalibrate {run} --threshold T"
    else:
        scorer = load_scorer(run)
        choices, terms = threshold_choices(scorer, promise=stated, family=family), scorer.card.loss
        step = f"Nothing is calibrated yet. Next: conformask calibrate {run} DATA --threshold T"
    show_choices(choices, terms, stated, step, as_json=json)


THRESHOLDS = Verb(
    thresholds,
    group="Promise",
    order=1,
    example="thresholds runs/first",
    common=("--confidence", "--guarantee", "--unit"),
)


PARTS = "calibrating"
"""Subfolder of the run folder that keeps the finished parts of a calibration."""


def calibrate(
    run: Path,
    data: Path | None = None,
    /,
    *,
    score: ScoreOptions = TRAINED,
    out: Annotated[
        Path | None, Parameter(help="The new run folder; only with --scorer or --score-from.")
    ] = None,
    threshold: Threshold = None,
    promise: Promised = MARGINAL,
    masks: MaskOptions = SUITING,
    patches: Patches = None,
    level: Annotated[
        names.Level | None,
        Parameter(
            group=PROMISE,
            help="Give all images one lambda, or each image its own, in proportion to a level that is "
            "predicted from the image and its score; if not given, image where 20 or more images are set "
            "aside for choices and this predicts better.",
        ),
    ] = None,
    about: AboutAnyLoss = SAME_LOSS,
    source: SourceOptions = FILES,
    tiled: Annotated[
        bool,
        Parameter(
            help="DATA holds whole images of any size: score them by overlapping tiles of 1024 pixels. The "
            "promise is then about whole images."
        ),
    ] = False,
    devices: Devices = DEFAULT_DEVICES,
    json: AsJson = False,
) -> None:
    """Make the promise: find the lambda that keeps it, on images that the scorer has not seen.

    Stores curves, from which conformask recalibrate makes another promise in milliseconds.

    Parameters
    ----------
    run
        The run folder of conformask train; with --scorer, give DATA in its place.
    data
        A folder of triplets; its calibration part is used. If it is not split, all of it is, but for a tenth
        (groups whole) that is set aside for other choices where the run keeps no images for them.
    """
    from conformask.masker.calibrate import fulfil
    from conformask.masker.request import Request
    from conformask.masker.thresholds import choices_of
    from conformask.promises.promise import promise as promise_of
    from conformask.scores.network_scorer import load_scorer

    folder, images = _folders(run, data, out, score, threshold, promise)
    replaced = None if threshold is None else _replaced(folder, score)
    loss = loss_of(folder, about.weights_path, "scorer.json")
    scorer = score.chosen or load_scorer(folder, loss=loss)
    source = source.with_layers({"cues": score.score_from, **about.source})
    triplets = source.images(images, reading_of(scorer))
    request = Request(
        scorer, threshold, about.chosen_for(scorer, triplets.values), promise, masks.chosen, patches, level,
        "aside", tiled=tiled, compute=replace(devices, parts=folder / PARTS),
    )  # fmt: skip
    if threshold is None:
        command = f"calibrate {_typed(score, patches, about)} {images} --threshold T --out {folder}"
        choices, used = choices_of(request, triplets)
        show_choices(choices, used, promise_of(promise), f"Next: conformask {command}", as_json=json)
        return
    masker = fulfil(request, triplets)
    masker = masker.save(folder) if main_process() else masker
    notes = filter(None, (replaced, _aside_text(masker, triplets)))
    show_calibration(folder, masker, *notes, as_json=json)


def _folders(
    run: Path,
    data: Path | None,
    out: Path | None,
    score: ScoreChoice,
    threshold: str | None,
    promise: names.PromiseTerms,
) -> tuple[Path, Path]:
    """Return the run folder and that of the triplets; refuse options that do not go together."""
    if score.chosen is not None:
        if data is not None or (out is None and threshold is not None):
            bad_usage(f"with {score.named} give DATA and --out, and no run folder")
        return out or Path("RUN"), run
    if out is not None:
        bad_usage("--out goes with --scorer; without it, the first argument is the run folder")
    if data is None:
        other = "recalibrate" if threshold is not None or promise != MARGINAL else "thresholds"
        bad_usage(f"no DATA is given: for what needs no images, use conformask {other} {run}")
    if threshold is None:
        bad_usage(f"give --threshold; conformask thresholds {run} shows what thresholds would mean")
    return run, data


def _replaced(run: Path, score: ScoreChoice) -> str | None:
    """Refuse a run whose files no record claims, and return what to say of a calibration that it has."""
    from conformask.records.record import CALIBRATION, places, refuse_unclaimed

    refuse_unclaimed(places(run, CALIBRATION, *(["scorer.json"] if score.chosen else [])))
    return replaced_text(run) if (run / CALIBRATION).is_file() else None


def _typed(score: ScoreChoice, patches: str | None, about: LossChoice) -> str:
    """Return the options of a calibration without a threshold, as they are typed."""
    options = {"higher": score.higher if score.higher != "distrusted" else None, "patches": patches}
    given = {name: value for name, value in (options | about.source).items() if value is not None}
    return " ".join([score.named, *(f"--{name} {value}" for name, value in given.items())])


def _aside_text(masker: "Masker", triplets: "Triplets") -> str | None:
    """Return how many images a calibration has set aside, if it has."""
    n = masker.card.n_calibration
    n_aside = 0 if triplets.has_split else len(triplets) - n
    if n_aside == 0:
        return None
    return (
        f"{n_aside} of the {n + n_aside} images {verb(n_aside, 'was')} set aside for choices that the {n} "
        "calibration images must not see, such as another threshold."
    )


CALIBRATE = Verb(
    calibrate,
    group="First",
    order=1,
    example="calibrate runs/first images --threshold 0.05 --confidence 0.9",
    common=("--scorer", "--out", "--threshold", "--confidence", "--over", "--window"),
    resumes="",
    renamed={"--whole": "--tiled"},
)


FEW_HIDE_MORE = (
    "Not in the table: few images hide more, and how much is chance. On fields of nuclei, 12 hid 30 % (19 to "
    "44 %), 25 hid 27 % (20 to 38 %), 100 hid 23 % (20 to 25 %)."
)
"""What no law says, measured by research/few_images.py."""


def plan(
    *,
    threshold: Annotated[
        str | None,
        Parameter(group=PROMISE, help="For promises about a mean: the threshold, such as 0.05 or 5%."),
    ] = None,
    promised: Promised = MARGINAL,
    n: Annotated[int | None, Parameter(help="Show only this number of calibration images.")] = None,
    loss: Annotated[
        str,
        Parameter(group=LOSS, help=f"For promises about a mean: the distance, {', '.join(names.BOUNDED)}."),
    ] = "l1",
    over: Annotated[
        OverName | None,
        Parameter(group=LOSS, help="For promises about a mean: how an error map becomes one number."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Show how many calibration images a promise needs.

    Also shows how much coverage varies from one calibration set to the next.
    """
    from conformask.losses import planned_loss
    from conformask.promises.promise import plan as plan_for, promise as promise_of
    from conformask.records.selection import threshold_in_loss, threshold_of

    if n is not None and n < 1:
        bad_usage(f"--n {n}: give at least 1 calibration image")
    promise = promise_of(promised)
    bounded = chosen(names.BOUNDED, loss, "bounded distance")
    about = planned_loss(loss, is_share=OVER[over or "image"].common.is_share)
    own = promise.own_bounds and about.traits.own_bounds and over in (None, "image")
    bound = 1.0 if about.traits.is_share else bounded.upper_bound
    level = None if threshold is None else threshold_of(threshold_in_loss(threshold, about, None), None)
    planned = plan_for(promise, level, None if own else bound, n)
    levels = {"confidence": promise.confidence, "delta": promise.delta}
    record = {"guarantee": promise.guarantee, **levels, **asdict(planned)}
    terms = [promise.guarantee, *(f"{key} {value:g}" for key, value in levels.items() if value is not None)]
    needed = f"{planned.unit} needed to calibrate: at least {planned.n_calibration}"
    text: list[str | Table] = [f"{', '.join(terms)}: {needed}"]
    if own:
        text.append("This minimum yields very large masks: add images, and the bound per image matters less.")
    laws = [p for p in planned.prospects if p.coverage is not None]
    if laws:
        rows = [(f"{p.n}", range_text(p.coverage)) for p in laws]
        text += ["", table((planned.unit, "coverage, for 90 % of calibration sets"), rows), "", FEW_HIDE_MORE]
    elif n is not None:
        too_few = n < planned.n_calibration
        text.append(f"{n} {verb(n, 'is')} too few." if too_few else "The range of coverage is not known.")
    show(record, *text, as_json=json)


PLAN = Verb(
    plan,
    group="Promise",
    order=0,
    example="plan --confidence 0.9",
    common=("--n", "--threshold", "--confidence", "--guarantee", "--delta", "--unit"),
)


def recalibrate(
    run: Path,
    /,
    *,
    threshold: Threshold = None,
    promise: Promised = MARGINAL,
    weights_path: WeightsPath = None,
    json: AsJson = False,
) -> None:
    """Change the promise of a run, without reading any image.

    Another threshold, confidence or kind of promise, from the curves that the calibration stored. Terms that
    are not given stay as they are.

    Parameters
    ----------
    run
        A calibrated run folder.
    """
    from conformask.errors import MissingFileError
    from conformask.masker.load import load
    from conformask.records.record import CALIBRATION

    if threshold is None and promise == MARGINAL:
        bad_usage("give --threshold, --confidence, or another term of the promise to change")
    if not (run / CALIBRATION).is_file():
        raise MissingFileError(
            f"{run} has no calibration to change yet: conformask calibrate {run} DATA --threshold T"
        )
    masker = load(run, loss=loss_of(run, weights_path))
    level = None if threshold is None else masker.threshold_of(threshold)
    wanted = masker.card.promise.changed(**vars(promise))
    recalibrated = masker.recalibrate(threshold=level, promise=wanted)
    if level is not None and recalibrated.card.threshold < level:
        warn(f"{level:g} was lowered to the declared threshold {recalibrated.card.threshold:g}")
    if main_process():
        recalibrated = recalibrated.save(run)
    show_calibration(run, recalibrated, as_json=json)


RECALIBRATE = Verb(
    recalibrate,
    group="Promise",
    order=2,
    example="recalibrate runs/first --threshold 0.1",
    common=("--threshold", "--confidence", "--guarantee", "--delta", "--unit"),
)
