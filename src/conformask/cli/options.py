"""Options that several verbs share; a group of options is a dataclass, most of them of the library."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, make_dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args, get_type_hints

from cyclopts import Group, Parameter, Token

from conformask.background import Compute
from conformask.cli.output import bad_usage
from conformask.errors import InvalidArgumentError
from conformask.losses.base import Loss, OwnOption
from conformask.records import names
from conformask.records.loss import LOSSES
from conformask.records.reading import NoiseModel, Reading

if TYPE_CHECKING:
    from conformask.images.triplets import Triplets
    from conformask.masker.masker import Masker
    from conformask.masker.request import AnyScorer
    from conformask.records.numbers import Values
    from conformask.scores.untrained import Given, Untrained


PROMISE, LOSS, SCORE_NETWORK, TRAINING, IMAGES, DEVICES, PROTECTION = (
    Group(title, sort_key=place)
    for place, title in enumerate(
        ("Promise", "Loss", "Score network", "Training", "Images", "Devices", "Protection"), start=1
    )
)
"""Groups of options in the help of a verb, after those of the verb itself.

The last one turns protections off: its options are no remedy for a misspelt one, so no error suggests them.
"""
RENAMED = {
    "--by": "--volume-mode",
    "--distance": "--loss",
    "--other-network": "--allow-network-mismatch",
    "--within": "--per-category",
}
"""New names of these options by the names that they had before."""
AsJson = Annotated[bool, Parameter(name="--json", help="Print one JSON object instead of text.")]


def _noise_model(_: Any, tokens: Sequence[Token]) -> NoiseModel:
    """Convert GAIN,OFFSET,READ, as `conformask check` prints it."""
    try:
        gain, offset, read = map(float, tokens[0].value.split(","))
    except ValueError as error:
        raise ValueError(
            f"{tokens[0].value!r} is not GAIN,OFFSET,READ, three numbers such as 0.01,0,0.02"
        ) from error
    return NoiseModel(gain, offset, read)


Parameter(converter=_noise_model, n_tokens=1, accepts_keys=False, metavar="GAIN,OFFSET,READ")(NoiseModel)
Read = Annotated[
    Reading,
    # maps and objects have their own options; the last two are about one role
    Parameter(name="*", group=IMAGES, parse=re.compile("^(?!cues$|objects$|inverted$|role$)")),
]


def opened(
    folder: Path,
    read: Reading,
    network: str | None = None,
    *,
    any_network: bool = False,
    like: Reading | None = None,
) -> "Triplets":
    """Open the triplets of a folder as `read` says, and where it does not as those of a run, `like`."""
    from conformask.images.triplets import Triplets

    reading = read if like is None else read.over(like)
    triplets = Triplets.from_folder(folder, reading=reading, network=network, group_from=read.group_from)
    return triplets.of_any_network() if any_network else triplets


TrueImages = Annotated[Path, Parameter(help="A folder of true images; subfolders are included.")]
Size = Annotated[
    int,
    Parameter(
        help="Side in pixels: images are scaled so that the short side fits, and cropped at the centre."
    ),
]
Stride = Annotated[
    int | None, Parameter(help="Instead of scaling, cut tiles of --size at this stride, in pixels.")
]
TaskName = Annotated[names.Task, Parameter(help="How x is made from a true image.")]
Split = Annotated[
    names.Split,
    Parameter(
        help="Unit of the split: whole files; with --stride, also tiles, for calibration and test (within) "
        "or for all four parts (tile)."
    ),
]
NetworkName = Annotated[
    str | None,
    Parameter(
        name="--network",
        group=IMAGES,
        help="Name of the network that made y_hat, if triplets.json does not record it.",
    ),
]
OtherNetwork = Annotated[
    bool,
    Parameter(
        name="--allow-network-mismatch",
        group=IMAGES,
        help="Continue even if y_hat was made by a network other than the one that the promise is about.",
    ),
]
WeightsPath = Annotated[
    Path | None,
    Parameter(
        name="--weights-path",
        help="For distances with a network: the file or folder of its weights, which is not downloaded.",
    ),
]


Threshold = Annotated[
    str | None,
    Parameter(
        group=PROMISE,
        help="The largest acceptable loss (the paper's alpha), such as 0.05 or 5% of the range: with "
        "--units also 0.5m (for l2 the root mean square, as in its sentence); for a share of pixels or "
        "objects, 5% of them; or a quantile, such as q0.1, of the loss without a mask on the selection "
        "images.",
    ),
]
FamilyName = Annotated[
    names.Family | None,
    Parameter(
        help="How a score becomes a mask; if not given, binary, or for losses that compare the masked images "
        "the grey family that suits the scorer."
    ),
]
Grey = Annotated[
    bool,
    Parameter(
        help="Grey masks, as up to 0.2: an error counts by the mask value of its pixel. Nothing is promised "
        "for masks that are cut at a value."
    ),
]

ScorerName = Annotated[
    names.Untrained | None,
    Parameter(
        help="A score that needs no training: packaged (the score network that comes with conformask), "
        "residual (|x - y_hat|), gradient (of y_hat, between neighbours) or spread (of y_hat, in a window)."
    ),
]
ScoreFrom = Annotated[
    str | None,
    Parameter(
        help="Take maps of yours for the score, such as a confidence or a variance: the folder beside "
        "y_hat/, or the column of the manifest, that has one for each image."
    ),
]
HigherMeans = Annotated[
    names.Higher,
    Parameter(help="What higher values of these maps mean: trusted for a confidence."),
]
Patches = Annotated[
    str | None,
    Parameter(
        help="Masks without specks: each connected part, shown or hidden, has at least this many pixels, or "
        "this area, such as 25mm2, if images have a spacing."
    ),
]


@dataclass(frozen=True)
class ScoreChoice:
    """A score that needs no training, if one is chosen."""

    scorer: ScorerName = None
    score_from: ScoreFrom = None
    higher: HigherMeans = "distrusted"

    @property
    def chosen(self) -> "Untrained | Given | None":
        """The score that is chosen."""
        from conformask.scores.untrained import Given, Untrained

        if self.scorer is not None and self.score_from is not None:
            bad_usage("give --scorer or --score-from, not both")
        if self.higher != "distrusted" and self.score_from is None:
            bad_usage("--higher goes with --score-from, which names the maps")
        if self.score_from is not None:
            return Given(self.higher)
        return None if self.scorer is None else Untrained(self.scorer)

    @property
    def named(self) -> str:
        """The option that chooses it, as it is typed."""
        return f"--scorer {self.scorer}" if self.score_from is None else f"--score-from {self.score_from}"


ScoreOptions = Annotated[ScoreChoice, Parameter(name="*")]
TRAINED = ScoreChoice()
"""No score without training is chosen."""


@dataclass(frozen=True)
class MaskChoice:
    """How a score becomes a mask."""

    family: FamilyName = None
    grey: Grey = False

    @property
    def chosen(self) -> str | None:
        """The family that both options choose."""
        if self.grey and self.family is not None:
            raise InvalidArgumentError(
                f"--grey and --family {self.family} both choose the masks: give one of them"
            )
        return "grey" if self.grey else self.family


MaskOptions = Annotated[MaskChoice, Parameter(name="*")]
SUITING = MaskChoice()
"""Masks of the family that suits score and loss."""


Promised = Annotated[names.PromiseTerms, Parameter(name="*", group=PROMISE)]
MARGINAL = names.PromiseTerms()


def loss_of(run: Path, weights_path: Path | None, record: str = "calibration.json") -> Loss | None:
    """Return the loss of a run with the given weights; None without weights, so that the run decides."""
    if weights_path is None or not (run / record).is_file():
        return None
    from conformask.losses import with_weights
    from conformask.records.record import read_json
    from conformask.records.upgrade import with_loss

    return with_weights(with_loss(read_json(run / record), run / record)["loss"], weights_path)


Devices = Annotated[
    Compute, Parameter(name="*", group=DEVICES, parse=re.compile("^(?!parts$)"))  # verbs name the folder
]
AS_FILES_SAY, DEFAULT_DEVICES = Reading(), Compute()
"""What is meant where no option of images or devices is given."""


@dataclass(frozen=True)
class Source:
    """Where triplets come from: how they are read, and what made y_hat."""

    read: Read = AS_FILES_SAY
    network: NetworkName = None
    allow_network_mismatch: OtherNetwork = False

    def with_layers(self, layers: Mapping[str, Any]) -> "Source":
        """Return this with the options of layers beside y_hat, by name."""
        return replace(self, read=replace(self.read, **layers))

    def images(self, data: Path, like: Reading | None = None) -> "Triplets":
        """Return the triplets of a folder, read as those of a run, `like`, where nothing is said."""
        return opened(data, self.read, self.network, any_network=self.allow_network_mismatch, like=like)


def reading_of(scorer: "AnyScorer") -> Reading | None:
    """Return how the images were read that a scorer was trained on; None where it was trained on none."""
    from conformask.scores.network_scorer import NetworkScorer

    return scorer.card.reading if isinstance(scorer, NetworkScorer) else None


SourceOptions = Annotated[Source, Parameter(name="*")]
FILES = Source()
"""Triplets of which nothing is said."""


@dataclass(frozen=True)
class NewImages(Source):
    """Images that a run is applied to, with the weights of its loss."""

    weights_path: WeightsPath = None

    def opened(self, run: Path, data: Path) -> "tuple[Masker, Triplets]":
        """Return the masker of a run, and the triplets of a folder, read as its own where nothing is said."""
        from conformask.masker.load import load

        masker = load(run, loss=loss_of(run, self.weights_path))
        return masker, self.images(data, masker.card.reading)


New = Annotated[NewImages, Parameter(name="*")]
ALIKE = NewImages()
"""New images like those of the calibration."""


KINDS: Mapping[str, type[Loss]] = LOSSES.usable()
"""The classes of all losses by name."""
OWN: Mapping[OwnOption, Any] = {kind.form.own: kind for kind in KINDS.values() if kind.form.own}
"""The losses that an option of their own chooses."""
OVER = {name: kind for name, kind in KINDS.items() if kind.form.aggregate}
AGGREGATES = "; ".join(f"{kind.form.aggregate} ({name})" for name, kind in OVER.items())
OVER_TEXT = ". ".join([AGGREGATES, *(own.over_help for own in OWN)])
OVER |= {name: kind for own, kind in OWN.items() for name in own.over if name not in OVER}
"""The losses by what --over calls them."""
if TYPE_CHECKING:
    OverName = str
else:
    OverName = Literal[tuple(OVER)]


@dataclass(frozen=True)
class LossChoice:
    """The loss that a promise is about; its numbers are the options of `LossOptions`."""

    loss: Annotated[
        str | None,
        Parameter(
            help=f"The distance or error map of the promise: {', '.join(names.DISTANCES)}, or another "
            "exponent such as l1.5, or one that an installed package adds. If not given, l1 for train, and "
            "afterwards the scorer's."
        ),
    ] = None
    over: Annotated[
        OverName | None,
        Parameter(help=f"How an error map becomes one number: {OVER_TEXT}."),
    ] = None
    weights_path: WeightsPath = None

    @property
    def numbers(self) -> dict[str, Any]:
        """The numbers that are given."""
        given = {name: value for name, value in vars(self).items() if name in NUMBERS}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def is_given(self) -> bool:
        """True if a loss is chosen."""
        return self.loss is not None or self.over is not None or bool(self.numbers)

    @property
    def source(self) -> dict[str, Any]:
        """The options that choose a loss in the place of --loss, by name, where they are given."""
        return {own.name: value for own in OWN if (value := vars(self).get(own.name)) is not None}

    @property
    def own(self) -> Loss | None:
        """The loss that an option of its own chooses; None where there is none."""
        for own, kind in OWN.items():
            if own.name in self.source:
                numbers = [name for name in self.numbers if name not in kind.form.numbers]
                for name in ["loss"] * (self.loss is not None) + numbers:
                    raise InvalidArgumentError(
                        f"--{name} is about pixels, and --{own.name} counts {own.name}: leave it out"
                    )
                over = {} if self.over is None else {"over": self.over}
                return cast("Loss", kind(**over, **self.numbers))
        return None

    def chosen_for(self, scorer: "AnyScorer", values: "Values | None") -> Loss | None:
        """Return the loss that is chosen for a scorer; None where it is the scorer's."""
        from conformask.masker.resolve import loss_for

        if self.own is not None or not self.is_given:
            return self.own
        return self.chosen(loss_for(scorer, None), values)

    def chosen(self, default: Loss, values: "Values | None") -> Loss:
        """Return the loss that is chosen; the error map is the default's where only the rest is given.

        `values` are those of the images, for a tolerance in their unit.
        """
        from conformask.losses import loss, loss_over, with_weights
        from conformask.records.selection import tolerance_of

        if not self.is_given:
            return default if self.weights_path is None else with_weights(default, self.weights_path)
        of, numbers = self.loss or default.of, self.numbers
        for own, kind in OWN.items():
            for name in numbers.keys() & kind.form.numbers.keys():
                raise InvalidArgumentError(
                    f"--{name} goes with --{own.name} of calibrate, which names {own.read}"
                )
        if "tolerance" in numbers:
            numbers["tolerance"] = tolerance_of(numbers["tolerance"], loss(of), values)
        return loss_over(of, self.over, numbers, self.weights_path)


def _number(name: str) -> tuple[str, Any, Any]:
    """Return the option for a number of losses, with those that take it, as a field of a dataclass."""
    kinds = {each: kind for each, kind in KINDS.items() if name in kind.form.numbers}
    *others, last = kinds
    form = kinds[last].form
    over = " and ".join(filter(None, (", ".join(others), last)))
    taken = f"--{form.own.name}" if form.own else f"--over {over}"
    hint = get_type_hints(kinds[last].__init__)[name]
    option = str if str in get_args(hint) else hint
    help_text = f"For {taken}: {form.numbers[name].help}"
    return name, Annotated[option | None, Parameter(help=help_text)], None


NUMBERS = tuple(dict.fromkeys(name for kind in KINDS.values() for name in kind.form.numbers))
"""The numbers of all losses."""
if TYPE_CHECKING:
    LossOptions = LossChoice
    AllLossOptions = LossChoice
else:
    _made = partial(make_dataclass, frozen=True, namespace={"__module__": __name__})
    LossOptions = _made("LossOptions", map(_number, NUMBERS), bases=(LossChoice,))
    _own = _made(
        "OwnOptions", [(own.name, Annotated[str | None, Parameter(help=own.help)], None) for own in OWN]
    )
    AllLossOptions = _made("AllLossOptions", [], bases=(LossOptions, _own))  # those of the last come first
AboutLoss = Annotated[LossOptions, Parameter(name="*", group=LOSS)]
AboutAnyLoss = Annotated[AllLossOptions, Parameter(name="*", group=LOSS)]
"""The options of a loss, with those that choose one in the place of --loss."""
SAME_LOSS = AllLossOptions()
