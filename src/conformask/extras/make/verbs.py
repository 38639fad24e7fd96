"""The verbs look, demo, predictor, triplets and probe."""

import re
import sys
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from conformask.cli.options import (
    AS_FILES_SAY,
    DEFAULT_DEVICES,
    IMAGES,
    SAME_LOSS,
    TRAINED,
    AboutAnyLoss,
    AsJson,
    Devices,
    Read,
    ScoreOptions,
    Size,
    Split,
    Stride,
    TaskName,
    Threshold,
    TrueImages,
)
from conformask.cli.output import bad_usage, show, table
from conformask.cli.verb import Verb
from conformask.errors import MissingFileError
from conformask.extras.train.verbs import BY_DEFAULT, Training
from conformask.extras.view.serving import RENAMED, Port, open_viewer
from conformask.records import names

if TYPE_CHECKING:
    from conformask.extras.make.look import Look

MOST_DOTS = 40
"""Largest number of test images of which each is drawn as a dot."""
NoBrowser = Annotated[bool, Parameter(help="Do not open the viewer.")]


def look(
    x: Path,
    y_hat: Path,
    y: Path,
    /,
    *,
    out: Annotated[Path, Parameter(help="The folder for the run, the list of files and report.html.")] = Path(
        "look"
    ),
    threshold: Annotated[
        Threshold,
        Parameter(
            help="The largest error that you accept, such as 0.05 or 5% of the range; if not given, one that "
            "half of the images set aside for choices meet without a mask. As for conformask calibrate.",
            show_default=False,
        ),
    ] = names.HALF,
    confidence: Annotated[float, Parameter(help="The promised share of new images.")] = 0.9,
    score: ScoreOptions = TRAINED,
    about: AboutAnyLoss = SAME_LOSS,
    no_browser: NoBrowser = False,
    port: Port = 8000,
    read: Read = AS_FILES_SAY,
    json: AsJson = False,
) -> None:
    """See what masks of your network's outputs would hide, from three folders of images.

    Checks the images, sets a third aside, calibrates the packaged score on the others, tests the promise on
    those set aside, and opens the viewer on them.

    Parameters
    ----------
    x
        The folder of what your network was given.
    y_hat
        The folder of what it made of that, in files of the same names.
    y
        The folder of what would have been right, in files of the same names.
    """
    from conformask.extras.make.look import PACKAGED, look as look_at

    reading = replace(read, cues=score.score_from, **about.source)
    with heard() as said:
        found = look_at(
            {"x": x, "y_hat": y_hat, "y": y},
            out,
            are_groups=_are_groups,
            reading=reading,
            scorer=score.chosen or PACKAGED,
            loss_of=lambda triplets: about.own or about.chosen(PACKAGED.loss, triplets.values),
            threshold=threshold or names.HALF,
            confidence=confidence,
        )
    more = [f", {folder}/" for folder in reading.folders]
    data, trained, level = out / "data", out / "trained", f"{found.masker.card.threshold:.4g}"
    next_steps = [
        f"Next, for new images in x/{''.join(more)} and y_hat/ of a folder NEW:",
        f"conformask mask {out / 'run'} NEW masks",
        "To hide less, train a score on a part of these images, and calibrate it on others:",
        f"conformask split {data}",
        f"conformask train {data} {trained} --threshold {level}",
        f"conformask calibrate {trained} {data} --threshold {level}",
    ]
    tell(found, said, out, *next_steps, as_json=json)
    if not (no_browser or json):
        view(found, out, port)


LOOK = Verb(
    look,
    group="First",
    order=0,
    example="look noisy denoised clean",
    common=(
        "--out",
        "--threshold",
        "--confidence",
        "--scorer",
        "--score-from",
        "--over",
        "--objects",
        "--no-browser",
    ),
    renamed=RENAMED,
    invitation="With your own images: conformask look X Y_HAT Y, the folders of input, output and truth.",
)


@contextmanager
def heard() -> Iterator[list[str]]:
    """Collect the texts of the warnings, which are shown as always."""
    texts: list[str] = []
    as_always = warnings.showwarning

    def hear(message: Warning | str, *more: Any) -> None:
        texts.append(str(message))
        as_always(message, *more)

    with warnings.catch_warnings():
        warnings.showwarning = hear  # type: ignore[assignment]
        yield texts


def _gist(warning: str) -> str:
    """Return a warning without names and numbers, in which all images and those of a part differ."""
    return re.sub(r"'[^']*'|\d+|calibration ", "", warning)


def tell(found: "Look", said: Collection[str], out: Path, *next_step: str, as_json: bool) -> None:
    """Print how many test images kept the promise, the promise, what is hidden, and the next command.

    Before that, print the warnings that have not been `said` yet.
    """
    from conformask.extras.view.facts import caveats

    evaluation, gists = found.evaluation, set(map(_gist, said))
    new = [warning for warning in found.findings.warnings if _gist(warning) not in gists]
    show(
        {
            "out": str(out),
            "parts": found.parts,
            "alternative": found.alternative and asdict(found.alternative),
            **evaluation.summary(),
        },
        *(f"warning: {warning}" for warning in (*new, *caveats(evaluation))),
        f"{_dots(found)}{evaluation.kept_text}",
        *filter(None, [evaluation.card.sentence, evaluation.card.choice_text]),
        evaluation.hidden_text,
        *([] if found.alternative is None else [found.alternative.text]),
        *next_step,
        f"Report: {out / 'report.html'}",
        as_json=as_json,
    )


def _dots(found: "Look") -> str:
    """Return a dot for each test image, those that kept the promise first; empty if a line has no room."""
    evaluation = found.evaluation
    is_utf_8 = "utf" in (sys.stdout.encoding or "").lower()
    if evaluation.n_test > MOST_DOTS or not is_utf_8 or evaluation.images.passed is None:
        return ""
    kept = int(evaluation.images.passed.sum())
    return f"{'●' * kept}{'○' * (evaluation.n_test - kept)}  "


def view(found: "Look", out: Path, port: int) -> None:
    """Open the viewer on the most hidden test image; without a terminal or its extra, say how to."""
    command = f"conformask view {out / 'run'} {out / 'data'}"
    if not is_attended():
        show({}, "No terminal, so the viewer is not opened. To open it:", command, as_json=False)
        return
    images = found.evaluation.images
    try:
        image = images.name[images.size.argmax()]
        open_viewer(found.masker, found.test, port=port, image=image, with_promise=False)
    except MissingFileError as error:  # all but the viewer is done
        show({}, f"{error}; then:", command, as_json=False)


def is_attended() -> bool:
    """Return whether somebody sees what is printed and can press Ctrl-C."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _are_groups(count: int, example: str) -> bool:
    """Ask whether images are of groups; without a terminal they are, which is the cautious answer."""
    suggested = f"Names suggest {count} slides, stacks or patients, such as {example}"
    if not sys.stdin.isatty():
        print(
            f"{suggested}: the images of each stay together (--group-from decides otherwise)", file=sys.stderr
        )
        return True
    print(f"{suggested}. Keep the images of each together? [Y/n] ", end="", file=sys.stderr, flush=True)
    return not sys.stdin.readline().strip().lower().startswith("n")


def demo(
    *, out: Path = Path("demo"), no_browser: NoBrowser = False, port: Port = 8000, json: AsJson = False
) -> None:
    """See what masks hide of photographs that a network enlarged; downloads nothing.

    Takes half a minute: what conformask look does, on crops of photographs that come with scikit-image and
    what Real-ESRGAN made of them.

    Parameters
    ----------
    out
        The folder for the images in data/, the run and report.html.
    """
    from conformask.extras.make.demonstration import demonstrate, write_crops

    folders = write_crops(out / "data")
    with heard() as said:
        found = demonstrate(folders, out, AS_FILES_SAY)
    x, y_hat, y = folders.values()
    command = f"conformask look {x} {y_hat} {y}"
    tell(found, said, out, "The same for three folders of yours:", command, as_json=json)
    if not (no_browser or json):
        view(found, out, port)


DEMO = Verb(
    demo,
    group="Look",
    order=0,
    example="demo --out demo",
    renamed=RENAMED,
    invitation="To try it: conformask demo",
)


def predictor(
    images: TrueImages,
    run: Path,
    /,
    *,
    task: TaskName,
    kind: names.Predictor = "regressor",
    size: Size,
    stride: Stride = None,
    split: Split = "file",
    paper_form: bool = False,
    width: Annotated[int, Parameter(help="Channels of the U-Net's first level.")] = 32,
    training: Training = BY_DEFAULT,
    data_range: Annotated[
        tuple[float, float] | None,
        Parameter(group=IMAGES, help="Values of black and white, if the file type does not define them."),
    ] = None,
    devices: Devices = DEFAULT_DEVICES,
    json: AsJson = False,
) -> None:
    """Train a U-Net predictor if you have no network yet.

    It learns to recover true images on the training part of a folder. With the same seed, conformask
    triplets splits the folder in the same way.

    Parameters
    ----------
    run
        A new folder for the network and its training run.
    kind
        regressor: L1 loss; gan: adversarial loss plus 20 times L1.
    paper_form
        Use the U-Net of the paper, with transposed convolutions.
    """
    from conformask.extras.make.regressor import fit_predictor
    from conformask.extras.make.tasks import task as task_by_name
    from conformask.extras.make.triplets import TrueImages as Images

    source = Images.from_folder(images, size, stride, split, training.seed, data_range, colour=True)
    train, selection = source.part("train"), source.part("selection")
    fit_predictor(
        train,
        selection,
        task=task_by_name(task),
        size=size,
        out=run,
        training=training,
        compute=devices,
        kind=kind,
        width=width,
        paper_form=paper_form,
    )
    sizes = {"size": size, "n_images": len(source), "n_train": len(train)}
    record = {"run": str(run), "kind": kind, "task": task, **sizes}
    again = f"--task {task} --size {size}" + (f" --stride {stride} --split {split}" if stride else "")
    again += f" --seed {training.seed}" if training.seed else ""
    show(
        record,
        f"{run} contains a predictor ({kind}), trained on {len(train)} of {len(source)} images",
        f"Next: conformask triplets {images} DATA --predictor {run} {again}",
        as_json=json,
    )


PREDICTOR = Verb(
    predictor,
    group="Prepare",
    order=0,
    example="predictor photographs runs/enlarge --task super_resolution --size 128",
    common=("--task", "--size", "--stride", "--epochs", "--max-minutes", "--resume"),
    resumes="--resume",
)


def probe(
    *,
    predictor: Annotated[
        str,
        Parameter(
            help="Your network, as for conformask triplets without --task. It is code: run only what you "
            "would run as a program."
        ),
    ],
    images: Annotated[
        Path | None,
        Parameter(
            help="A folder of its inputs, or with x/ in it: the middles of the first three are shifted, and "
            "their outputs are its input; if not given, a smooth texture."
        ),
    ] = None,
    out: Annotated[Path, Parameter(help="The page with pictures: .html, or .png for a sheet.")] = Path(
        "probe.html"
    ),
    read: Read = AS_FILES_SAY,
    json: AsJson = False,
) -> None:
    """See what your network adds of its own: a blank test, without any truth.

    What it makes of flat fields and of noise, of its own output, and of inputs that are shifted by a few
    pixels: numbers, and a page with pictures. It promises nothing; masks with a promise are made from
    triplets.
    """
    from conformask.extras.make.predictors import custom_predictor
    from conformask.extras.make.probe import probe as probed
    from conformask.extras.view.page import check_strip_file

    check_strip_file(out)
    network = custom_predictor(predictor, read.stated_range)
    found = probed(network, images, reading=read)
    written = found.save(out)
    rows = [
        ("" if place else row.test, value, what)
        for row in found.rows
        for place, (what, value) in enumerate(row.facts)
    ]
    record = {"out": str(written), "sentence": found.sentence, **found.to_json()}
    text = found.sentence, "", table(("test", "", ""), rows), "", f"Written: {written}"
    show(record, *text, as_json=json)


PROBE = Verb(
    probe, group="Prepare", order=2, example="probe --predictor enhance:enlarge --images photographs"
)


def triplets(
    images: Path,
    data: Path | None = None,
    /,
    *,
    predictor: Annotated[
        str,
        Parameter(
            help="Your network. It is code: run only what you would run as a program. One of: "
            "package.module:function on arrays (H, W, C), or (D, H, W, C), in [0, 1], or a torch.nn.Module; "
            "a file of torch.export (.pt2), TorchScript (.pt) or ONNX (.onnx); from a library, monai:BUNDLE, "
            "careamics:CHECKPOINT (in the units of --data-range), transformers:FOLDER or spandrel:FILE; "
            "bicubic; biharmonic; or the run folder of a predictor."
        ),
    ],
    task: TaskName | None = None,
    size: Annotated[
        int | None,
        Parameter(
            help="Side in pixels: images are scaled so that the short side fits, and cropped at the centre."
        ),
    ] = None,
    stride: Stride = None,
    cues: Annotated[
        str | None,
        Parameter(
            help="Also write maps that say where the output may be wrong, to a folder cues: outputs (what "
            "the network returns after y_hat), flips (their spread over 8 flips and turns of x), "
            "samples,K (over K calls of a network that draws), dropout,K (over K calls with its dropout on) "
            "or residual (|A y_hat - x|, where A makes y_hat as small as x; residual,package.module:A for "
            "your own, a function of arrays like --predictor)."
        ),
    ] = None,
    shown: Annotated[
        names.Show,
        Parameter(
            name="--show",
            help="What y_hat is with --cues samples,K or dropout,K: one output (of samples a draw, else "
            "without dropout), the mean of the K, or all of them, as images of one group, with one map.",
        ),
    ] = "one",
    split: Split = "file",
    seed: int = 0,
    read: Read = AS_FILES_SAY,
    devices: Devices = DEFAULT_DEVICES,
    json: AsJson = False,
) -> None:
    """Make triplets x, y_hat, y from true images, or add y_hat to your x.

    With a task, degrades each image, runs a predictor, and writes x/, y_hat/, y/ and manifest.csv, which
    lists the part of each image (train, selection, calibration, test). Without a task, runs your network on
    the images in x/ of a folder.

    Parameters
    ----------
    images
        A folder with x/ and y/; with --task, a folder of true images.
    data
        With --task, a new folder for the triplets.
    seed
        Seed of the split; give the seed of the predictor.
    """
    from conformask.extras.make.predictors import CueRecipe, custom_predictor
    from conformask.extras.make.tasks import task as task_by_name
    from conformask.extras.make.triplets import (
        TrueImages as Images,
        add_outputs,
        population_of,
        predictor_named,
        write_triplets,
    )

    if cues is None and shown != "one":
        bad_usage("--show goes with --cues samples,K or dropout,K")
    recipe = CueRecipe.of(cues, shown)
    if task is None:
        if (data, size, stride) != (None, None, None):
            bad_usage("DATA, --size and --stride go with --task, which makes x from true images")
        own = custom_predictor(predictor, read.stated_range)
        n = add_outputs(images, own, reading=read, cues=cues, show=shown, compute=devices)
        record, made = {"data": str(images), "n": n, "predictor": predictor}, images
        lines = [f"{n} {'groups of outputs' if shown == 'all' else 'outputs'} in {images / 'y_hat'}"]
    else:
        if data is None or size is None:
            bad_usage("--task makes x from true images: give DATA and --size as well")
        source = Images.from_folder(images, size, stride, split, seed, read.stated_range, colour=True)
        of_task = task_by_name(task)
        network = predictor_named(predictor, of_task, read.stated_range)
        population = population_of(stride, split)
        n = write_triplets(
            source, data, task=of_task, predictor=network, population=population, cues=recipe, compute=devices
        )
        record = {"data": str(data), "n": n, "task": task, "predictor": predictor, "population": population}
        made, lines = data, [f"{n} {'groups of triplets' if shown == 'all' else 'triplets'} in {data}"]
    following = f"check {made}"
    if recipe.makes_maps:
        unit = "--unit group " if shown == "all" else ""
        following = f"calibrate {made} --score-from cues --threshold T {unit}--out RUN"
        lines.append(f"{n} maps in {made / 'cues'}, by {recipe.calls_text} of the network for each image")
    record |= {"cues": recipe.text}
    show(record, *lines, f"Next: conformask {following}", as_json=json)


TRIPLETS = Verb(
    triplets,
    group="Prepare",
    order=3,
    example="triplets images --predictor enhance:enlarge",
    common=("--predictor", "--task", "--size", "--stride", "--split", "--cues"),
    resumes="",
    renamed={"--with": "--predictor"},
)
