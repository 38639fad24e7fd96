"""The command line: verbs by name; each parses, calls one library function and prints."""

import ctypes
import io
import re
import sys
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, NoReturn

from cyclopts import App, CycloptsError, CycloptsPanel, Group, MissingArgumentError, UnknownOptionError
from cyclopts.help import (
    ColumnSpec,
    DefaultFormatter,
    DescriptionRenderer,
    HelpEntry,
    HelpPanel,
    NameRenderer,
)
from cyclopts.help.specs import get_default_parameter_columns

from conformask.cli.output import DEFAULTS, json_alone, print_text, show_json
from conformask.errors import ConformaskError, ConformaskWarning, failure_of_system
from conformask.extensions import COMMANDS, places

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions

RARE = ("Images", "Devices")
"""Groups of options that few need."""


def option_columns(
    console: "Console", options: "ConsoleOptions", entries: list[HelpEntry]
) -> tuple[ColumnSpec, ...]:
    """Return the columns for the entries; cyclopts gives names a third of the width, longer or not."""
    *first, names, descriptions = get_default_parameter_columns(console, options, entries)
    labels = map(str, map(NameRenderer(), entries))
    width = max(names.max_width or 0, *(len(word) for label in labels for word in label.split()))
    return (
        *first,
        names.copy(renderer=NameRenderer(max_width=width), max_width=width),
        descriptions.copy(renderer=lambda entry: DescriptionRenderer()(entry.copy(description=_text(entry)))),
    )


def _text(entry: HelpEntry) -> str:
    """Return the description as one paragraph, without the line breaks of the docstring it is from."""
    text = getattr(entry.description, "primary_renderable", entry.description)
    return " ".join(getattr(text, "plain", text or "").split())


MOST_CHOICES = 4
"""Most choices that a brief help lists: more need the words that only the whole help has room for."""


def _brief(entry: HelpEntry) -> HelpEntry:
    """Return an option with how its description begins, and its choices if these are few."""
    beginning = re.split(r"[.:](?: |$)", _text(entry))[0]
    if len(entry.choices or ()) <= MOST_CHOICES:
        return entry.copy(description=f"{beginning}.")
    return entry.copy(description=f"{beginning} ({HELP_ALL} explains the choices).", choices=())


class CommonOptions(DefaultFormatter):
    """Help with the options that are often needed, and how their descriptions begin; --help-all has all."""

    def __init__(self, common: Collection[str]) -> None:
        """Take the names of the options beside --json; none for all but those of images and devices."""
        super().__init__(column_specs=option_columns)
        self._common = {*common, "--json"} if common else set()

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: HelpPanel) -> None:
        """Show a panel, unless nothing of it is common."""
        entries = panel.entries if str(panel.title) not in RARE else []
        if self._common:
            entries = [
                _brief(entry) for entry in panel.entries if not entry.names or self._common & {*entry.names}
            ]
        if entries:
            super().__call__(console, options, panel.copy(entries=entries))


VERBS = {
    "demo": """See what masks hide of photographs that a network enlarged; downloads nothing.

    Takes half a minute: what conformask look does, on crops of photographs that come with scikit-image and
    what Real-ESRGAN made of them.""",
    "look": """See what masks of your network's outputs would hide, from three folders of images.

    Checks the images, sets a third aside, calibrates the packaged score on the others, tests the promise on
    those set aside, and opens the viewer on them.""",
    "predictor": """Train a U-Net predictor if you have no network yet.

    It learns to recover true images on the training part of a folder. With the same seed, conformask
    triplets splits the folder in the same way.""",
    "triplets": """Make triplets x, y_hat, y from true images, or add y_hat to your x.

    With a task, degrades each image, runs a predictor, and writes x/, y_hat/, y/ and manifest.csv, which
    lists the part of each image (train, selection, calibration, test). Without a task, runs your network on
    the images in x/ of a folder.""",
    "split-counts": """Split images of counts into x and repeats of it, where there is no clean truth.

    Each photon or event goes to one of the parts at random (binomial thinning). If the counts are Poisson,
    the parts are independent: as if the exposure had been divided. A promise is then about outputs of x, so
    split new images in the same way.""",
    "split": """Divide images into parts: to train on, for choices, for calibration, for a test.

    Writes manifest.csv, which lists the files where they are and the part of each. Groups stay whole.""",
    "probe": """See what your network adds of its own: a blank test, without any truth.

    What it makes of flat fields and of noise, of its own output, and of inputs that are shifted by a few
    pixels: numbers, and a page with pictures. It promises nothing; masks with a promise are made from
    triplets.""",
    "check": """Check triplets before hours of work.

    Reads every image, and checks pairs, shapes, value ranges, duplicates across parts, and whether there are
    enough images for a confidence.""",
    "train": """Fit a scorer to triplets.

    Uses their training and selection parts; if they are not split, all of them, a tenth for selection.""",
    "thresholds": """Show what each threshold would mean, to choose one before calibration.

    Measured on the selection images, or after look on the calibration images, as exploratory: how many would
    need no mask, and how large the masks are.""",
    "calibrate": """Make the promise: find the lambda that keeps it, on images that the scorer has not seen.

    Stores curves, from which conformask recalibrate makes another promise in milliseconds.""",
    "recalibrate": """Change the promise of a run, without reading any image.

    Another threshold, confidence or kind of promise, from the curves that the calibration stored. Terms that
    are not given stay as they are.""",
    "plan": """Show how many calibration images a promise needs.

    Also shows how much coverage varies from one calibration set to the next.""",
    "mask": """Write masks for new images.

    Writes a mask (16-bit PNG, or TIFF or OME-Zarr if y_hat is; 1 = trusted) and an overlay for each image,
    and a CSV file of mask sizes. Images larger than 1024 pixels, and OME-Zarr images, are masked whole, by
    overlapping tiles, with bounded memory. A promise calibrated on tiles does not cover whole images; a
    promise calibrated with --tiled does.""",
    "measure": """Give a number of each output, such as a volume, and an interval that holds the true one.

    The interval is calibrated: it holds the number of the truth for a promised share of new images.""",
    "release": """Choose which new images to use under their masks, and which to look at.

    Of the images released, at most a share misses the threshold, in expectation (conformal selection). The
    others are held back, with reasons, the riskiest first. Needs no truth; with truth, it measures how many
    good images are released.""",
    "evaluate": """Measure coverage and mask sizes on test images.

    No earlier step may have used these images. Writes evaluation.json into RUN.""",
    "monitor": """Check whether new images still look like the calibration images.

    Compares scores and mask sizes, which needs no truth. With truth, compares coverage too.""",
    "view": """Look at images with their masks in a browser.

    Serves a web page to this machine only: gallery, swipe comparison, zoom, sliders for threshold and
    confidence that show the promise, upload of an image pair. Ctrl-C stops it.""",
    "share": """Write one HTML file that shows images and their masks to people without conformask.

    What the network made, what you may trust of it and the truth, side by side, with a threshold that moves.
    The file needs no installation and no connection.""",
    "info": "Show what a run folder contains and promises.",
    "export": """Write a masker as one ONNX file that needs only onnxruntime, or as a folder for a model zoo.

    Lambda is an input of the graph, so recalibration needs no new export. The file's metadata hold the
    calibrated lambda, the promise and the whole calibration. Before the file appears, its masks from
    onnxruntime are compared with PyTorch's. Promises by category or weight can be exported too: you pass
    each image's own lambda. The guarantee adaptive, and expected and conditional_mean with l1 or l2, are
    refused, because only conformask can find their lambda.

    With your network (--predictor), the file takes x alone and returns y_hat, mask and score, at the
    calibrated lambda. --format bioimageio and --format huggingface write a folder that the libraries of these
    sites read.""",
    "paper": """Reproduce the paper's experiments on your images.

    Runs all sixteen rows of its Table 1 (predictors, masks, baselines and oracles) and makes the table and
    the figures. To resume a stopped run, repeat the command.""",
}

GROUPS = {
    "First": ("look", "calibrate", "mask", "view"),
    "Prepare": ("predictor", "split-counts", "probe", "triplets", "check", "split"),
    "Train": ("train",),
    "Promise": ("plan", "thresholds", "recalibrate", "evaluate"),
    "Use": ("measure", "release", "monitor", "export"),
    "Look": ("demo", "share", "info"),
    "Research": ("paper",),
}
"""Groups of verbs in the help: what most people need, then the rest in the order of the work."""
COMMON = {
    "look": (
        "--out",
        "--threshold",
        "--confidence",
        "--scorer",
        "--score-from",
        "--over",
        "--objects",
        "--no-browser",
    ),
    "predictor": ("--task", "--size", "--stride", "--epochs", "--max-minutes", "--resume"),
    "triplets": ("--predictor", "--task", "--size", "--stride", "--split", "--cues"),
    "train": ("--scorer", "--threshold", "--loss", "--epochs", "--max-minutes", "--resume"),
    "plan": ("--n", "--threshold", "--confidence", "--guarantee", "--delta", "--unit"),
    "thresholds": ("--confidence", "--guarantee", "--unit"),
    "calibrate": ("--scorer", "--out", "--threshold", "--confidence", "--over", "--window"),
    "recalibrate": ("--threshold", "--confidence", "--guarantee", "--delta", "--unit"),
    "measure": ("--of", "--objects", "--label", "--ends", "--out", "--confidence", "--unit"),
    "export": ("--format", "--predictor"),
}
"""The options in the help of verbs that have many."""
EXAMPLES = {
    "demo": "demo --out demo",
    "look": "look noisy denoised clean",
    "predictor": "predictor photographs runs/enlarge --task super_resolution --size 128",
    "triplets": "triplets images --predictor enhance:enlarge",
    "probe": "probe --predictor enhance:enlarge --images photographs",
    "split-counts": "split-counts photons parts --gain 4 --offset 100",
    "check": "check images",
    "split": "split images",
    "train": "train images runs/first --loss l1",
    "plan": "plan --confidence 0.9",
    "calibrate": "calibrate runs/first images --threshold 0.05 --confidence 0.9",
    "thresholds": "thresholds runs/first",
    "recalibrate": "recalibrate runs/first --threshold 0.1",
    "evaluate": "evaluate runs/first images --report report.html",
    "mask": "mask runs/first new-images masks",
    "measure": "measure runs/first images --of volume --objects labels",
    "release": "release runs/first new-images --share 0.05 --out released.csv",
    "monitor": "monitor runs/first new-images",
    "export": "export runs/first masker.onnx",
    "view": "view runs/first images",
    "share": "share runs/first images --out look.html",
    "info": "info runs/first",
    "paper": "paper --photos photographs --out runs/paper --rows 9",
}
"""An example of each verb, without the name of the program."""
RENAMED: Mapping[str, str] = {
    "--as": "--format",
    "--by": "--volume-mode",
    "--distance": "--loss",
    "--headless": "--no-browser",
    "--like": "--mask-geometry",
    "--no-view": "--no-browser",
    "--other-network": "--allow-network-mismatch",
    "--scratch": "--from-scratch",
    "--seg": "--dicom-seg",
    "--whole": "--tiled",
    "--with": "--predictor",
    "--within": "--per-category",
}
"""New names of options by the names that they had before, for the errors about these."""
NEVER_SUGGESTED = "--no-token"
"""Option that turns a protection off: it is not the remedy for a misspelt one."""

USAGE = {"calibrate": {"usage": "Usage: conformask calibrate [OPTIONS] RUN [DATA]"}}
HELP_ALL = "--help-all"
NEXT = {
    "demo": "To try it: conformask demo",
    "look": "With your own images: conformask look X Y_HAT Y, the folders of input, output and truth.",
    "info": "For options and an example: conformask COMMAND --help",
}
"""End of the help, where the eye is when it has been printed; each paragraph needs a verb."""

WITH_RESUME = "stopped; to resume, repeat the command with --resume"
AGAIN = "stopped; to resume, repeat the command"
STOPPED = dict.fromkeys(("train", "predictor"), WITH_RESUME) | dict.fromkeys(
    ("split-counts", "triplets", "calibrate", "evaluate", "mask", "paper"), AGAIN
)
"""Messages after Ctrl-C, for the verbs that can resume."""

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
"""Parameters of glibc's mallopt."""
LAYER, KEPT = 2**25, 2**28
"""Bytes up to which a freed layer is kept, and of all of them together: more would keep whole slabs."""


def build(*, every_option: bool = True) -> App:
    """Build the application of the verbs that are installed; a verb is imported when it is called.

    Its help has every option, or those that are often needed.
    """
    verbs_of = places(COMMANDS)
    app = App(
        name="conformask",
        help="Masks with a promise for image-to-image networks.",
        version_flags=["--version"],
        suppress_keyboard_interrupt=False,
        help_epilogue="\n\n".join(text for verb, text in NEXT.items() if verb in verbs_of),
        help_format="plaintext",
        group_commands=Group("More", sort_key=len(GROUPS)),
        default_parameter=DEFAULTS,
        error_formatter=_error_panel,
    )
    app.register_install_completion_command(help="Enable completion of conformask commands in this shell.")
    for place, (title, verbs) in enumerate(GROUPS.items()):
        group = Group(title, sort_key=place)
        for order, verb in enumerate(verb for verb in verbs if verb in verbs_of):
            paragraphs = (" ".join(paragraph.split()) for paragraph in VERBS[verb].split("\n\n"))
            epilogue = f"Example: conformask {EXAMPLES[verb]}"
            formatter = DefaultFormatter(column_specs=option_columns)
            if not every_option:
                epilogue += f"\n\nAll options: conformask {verb} {HELP_ALL}"
                formatter = CommonOptions(COMMON.get(verb, ()))
            app.command(
                verbs_of[verb],
                name=verb,
                help="\n\n".join(paragraphs),
                help_formatter=formatter,
                help_epilogue=epilogue,
                group=group,
                sort_key=order,
                **USAGE.get(verb, {}),
            )
    for verb in sorted(verbs_of.keys() - VERBS.keys()):
        app.command(verbs_of[verb], name=verb, help_epilogue="")
    return app


def _error_panel(error: CycloptsError) -> Any:
    """Return the error as cyclopts shows it; an option that was renamed comes with its new name."""
    if not isinstance(error, UnknownOptionError):
        return CycloptsPanel(error)
    known = error.argument_collection  # also of the error's own text, which --json prints
    known[:] = [argument for argument in known if NEVER_SUGGESTED not in argument.names]
    old = (error.token.keyword or error.token.value).split("=")[0]
    new = RENAMED.get(old)
    if new not in {name for argument in known for name in argument.names}:
        return CycloptsPanel(error)
    return CycloptsPanel(f"Unknown option: {old}. It is now called {new}.")


def main(tokens: list[str] | None = None) -> None:
    """Run the command line; the exit status is 0 (done), 1 (error), 2 (bad usage) or 130 (stopped).

    With --json, stdout has one JSON object: the result, or {"error": ...}.
    """
    keep_memory()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names that the terminal's encoding lacks
    words = sys.argv[1:] if tokens is None else tokens
    try:
        with json_alone() if "--json" in words else nullcontext():
            _run(words)
    except BrokenPipeError:  # _run has said so; neither JSON nor its error can be written
        sys.exit(1)


def _run(words: Sequence[str]) -> None:
    try:
        with _printed_warnings():
            app = build(every_option=HELP_ALL in words)
            asked = ["--help" if word == HELP_ALL else word for word in words]
            app(asked, exit_on_error=False, result_action="return_value")
    except CycloptsError as error:
        verb = next(iter(error.command_chain or ()), "")
        if isinstance(error, MissingArgumentError) and verb in EXAMPLES:  # those of packages have none
            _say(f"for example: conformask {EXAMPLES[verb]}")
        _fail(2, str(error))
    except KeyboardInterrupt:
        stopped = STOPPED.get(next(iter(words), ""), "stopped")
        _say(stopped)
        _fail(130, stopped)
    except Exception as error:
        failure = None if isinstance(error, ConformaskError) else failure_of_system(error)
        if failure is None and not isinstance(error, ConformaskError | OSError):
            show_json({"error": f"{type(error).__name__}: {error}"})
            raise
        _say(failure or str(error))
        _fail(1, failure or str(error))


def _fail(status: int, message: str) -> NoReturn:
    show_json({"error": message})
    sys.exit(status)


def keep_memory() -> None:
    """Let this process keep the memory of a network's layers for the next batch, where it runs on glibc.

    Otherwise the system takes the memory back after every batch and clears it again: up to a fifth of the
    time.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(MMAP_THRESHOLD, LAYER)
        libc.mallopt(TRIM_THRESHOLD, KEPT)
        libc.mallopt(ARENA_MAX, 1)  # memory freed by one thread is reused by others


@contextmanager
def _printed_warnings() -> Iterator[None]:
    """Print warnings as they come; those of a kind, such as of one file each, once and then their number."""
    counts: Counter[str] = Counter()

    def show(message: Warning | str, category: type[Warning], *_: Any) -> None:
        kind = message.kind if isinstance(message, ConformaskWarning) else ""
        counts[kind] += 1
        if issubclass(category, UserWarning) and (not kind or counts[kind] == 1):
            _say(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        try:
            yield
        finally:
            for kind, count in counts.items():
                if kind and count > 1:
                    _say(f"warning: {count - 1} more {kind}")


def _say(text: str) -> None:
    print_text(f"conformask: {text}", sys.stderr)
