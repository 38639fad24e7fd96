"""conformask triplets: make x, y_hat and y from a folder of true images."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from conformask.cli.options import (
    AS_FILES_SAY,
    DEFAULT_DEVICES,
    AsJson,
    Devices,
    Read,
    Split,
    Stride,
    TaskName,
)
from conformask.cli.output import bad_usage, show
from conformask.names import Show


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
            "careamics:CHECKPOINT (in the units of --data-range) or transformers:FOLDER; bicubic; "
            "biharmonic; or the run folder of a predictor."
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
        Show,
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
    """Make triplets: run your network on IMAGES/x, or degrade true images first.

    With --task, IMAGES are true images; x is made from them, and x/, y_hat/, y/ and manifest.csv are written
    to DATA. Without --task, IMAGES has your x/ and y/, and y_hat/ is added. If a run is killed, the same
    command resumes it.

    Parameters
    ----------
    images
        A folder with x/ and y/; with --task, a folder of true images.
    data
        With --task, a new folder for the triplets.
    seed
        Seed of the split; give the seed of the predictor.
    """
    from conformask.predictors.cues import CueRecipe
    from conformask.predictors.custom import custom_predictor
    from conformask.preparation import (
        add_outputs,
        population_of,
        predictor_named,
        true_images,
        write_triplets,
    )
    from conformask.tasks import task as task_by_name
    from conformask.wording.numbers import plural

    if cues is None and shown != "one":
        bad_usage("--show goes with --cues samples,K or dropout,K")
    recipe = None if cues is None else CueRecipe.of(cues, shown)
    if task is None:
        if (data, size, stride) != (None, None, None):
            bad_usage("DATA, --size and --stride go with --task, which makes x from true images")
        own = custom_predictor(predictor, read.data_range)
        n = add_outputs(images, own, reading=read.reading(), cues=cues, show=shown, compute=devices.compute())
        record, made = {"data": str(images), "n": n, "predictor": predictor}, images
        lines = [f"{n} {'groups of outputs' if shown == 'all' else 'outputs'} in {images / 'y_hat'}"]
    else:
        if data is None or size is None:
            bad_usage("--task makes x from true images: give DATA and --size as well")
        source = true_images(images, size, stride, split, seed, read.data_range)
        made_by = task_by_name(task)
        network = predictor_named(predictor, made_by, read.data_range)
        population = population_of(stride, split)
        n = write_triplets(
            source,
            data,
            task=made_by,
            predictor=network,
            population=population,
            cues=recipe,
            compute=devices.compute(),
        )
        record = {"data": str(data), "n": n, "task": task, "predictor": predictor, "population": population}
        made, lines = data, [f"{n} {'groups of triplets' if shown == 'all' else 'triplets'} in {data}"]
    following = f"check {made}"
    if recipe is not None:
        unit = "--unit group " if shown == "all" else ""
        following = f"calibrate {made} --score-from cues --threshold T {unit}--out RUN"
        calls = plural(recipe.passes, "call")
        lines.append(f"{n} maps in {made / 'cues'}, by {calls} of the network for each image")
    record |= {"cues": recipe and recipe.text}
    show(record, *lines, f"Next: conformask {following}", as_json=json)
