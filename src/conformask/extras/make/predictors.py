"""Networks that make y_hat from x: files, Python callables, classical ones; and maps by more passes."""

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conformask import extensions
from conformask.arrays import Array, Images, Predictor, Task, best_device, full_precision, to_channels_last
from conformask.errors import ImageError, InvalidArgumentError, MismatchError, MissingFileError, one_line
from conformask.extras.make.tasks import Completion, SuperResolution, task as task_by_name
from conformask.records.fingerprints import fingerprint_of, name_of
from conformask.records.names import Show
from conformask.records.numbers import plural
from conformask.records.reading import Network, size_text
from conformask.records.record import (
    BESIDE,
    Json,
    claim,
    from_dict,
    hash_of,
    numpy_of,
    path_hash,
    read_json,
    refuse_unfinished,
    write_json,
)
from conformask.scores.network_scorer import hash_of_state, load_into, save_weights, straight_through_clip
from conformask.scores.networks import UNet, stored_network


class Bicubic:
    """Bicubic enlargement, clipped to [0, 1]: the simplest y_hat of super_resolution."""

    name = "bicubic"
    fingerprint = None
    trained_on: tuple[str, ...] = ()

    def __init__(self, task: Task) -> None:
        if not isinstance(task, SuperResolution):
            raise InvalidArgumentError(
                f"bicubic enlarges, which {task.name} does not need: use it with --task super_resolution"
            )
        self.task = task

    def __call__(self, x: Images) -> Images:
        """Enlarge x (N, C, H, W) to the size of y, (N, C, 4H, 4W)."""
        return self.task.enlarge(x)


class Biharmonic:
    """The smoothest filling of the hole of completion that fits its surroundings, image by image."""

    name = "biharmonic"
    fingerprint = None
    trained_on: tuple[str, ...] = ()

    def __init__(self, task: Task) -> None:
        if not isinstance(task, Completion):
            raise InvalidArgumentError(
                f"biharmonic fills holes, which {task.name} does not have: use it with --task completion"
            )
        self.task = task

    def __call__(self, x: Images) -> Images:
        """Fill the hole of x (N, 1, H, W), in [0, 1]."""
        fill, hole = required("skimage.restoration").inpaint_biharmonic, self.task.hole(*x.shape[-2:]).numpy()
        planes = x.detach().cpu().double().flatten(0, 1).numpy()
        filled = np.stack([fill(plane, hole) for plane in planes])
        return self.task.compose(x, torch.from_numpy(filled).reshape(x.shape).to(x))


CLASSICAL = {predictor.name: predictor for predictor in (Bicubic, Biharmonic)}


Outputs = Tensor | tuple[Tensor, ...]
"""y_hat, or y_hat and what else a network returns."""
Run = Callable[[Images], Outputs]
FAR = 4.0
"""Largest magnitude of an output; a larger one is rejected as wrongly scaled."""


@dataclass(frozen=True)
class CustomPredictor:
    """Runs x (N, C, *space) in [0, 1] through a user's network; small excursions from [0, 1] are clipped."""

    run: Run
    name: str
    fingerprint: str
    """Hash of its file, or of its code and the version of its package."""
    trained_on: tuple[str, ...] = ()
    network: nn.Module | None = None
    """The torch module that it runs, where its layers can be reached."""

    @torch.no_grad()
    def __call__(self, x: Images) -> Images:
        """Return the network's output, float32, on the CPU, the first of several; infinity becomes NaN.

        Raises:
            ImageError: values far outside [0, 1], such as 0 to 255.
        """
        return self._image(self._outputs(x)[0])

    @torch.no_grad()
    def with_maps(self, x: Images) -> tuple[Images, Images]:
        """Return y_hat, and the maps (N, K, *space) of any range that the network returns after it.

        Raises:
            ImageError: it returns nothing else, or no maps of the size of y_hat.
        """
        outputs = self._outputs(x)
        if len(outputs) < 2:
            raise ImageError("it returns y_hat alone, and no map after it")
        y_hat, maps = self._image(outputs[0]), outputs[1].detach().cpu().float()
        if maps.ndim != y_hat.ndim or maps.shape[2:] != y_hat.shape[2:]:
            raise ImageError(
                f"its second output has shape {tuple(maps.shape)}, but y_hat has {tuple(y_hat.shape)}"
            )
        return y_hat, maps

    def _outputs(self, x: Images) -> tuple[Tensor, ...]:
        outputs = self.run(x.clone())  # networks may change their input in place
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def _image(self, output: Tensor) -> Images:
        output = output.detach().cpu().float()
        finite = output[output.isfinite()]
        if finite.numel() and finite.abs().max() > FAR:
            raise ImageError(
                f"it returned values from {finite.min():.4g} to {finite.max():.4g}, but must return values "
                "in [0, 1]: divide by their range"
            )
        return torch.where(output.isfinite(), output.clamp(0, 1), torch.nan)


@dataclass(frozen=True)
class NetworkFormat:
    """A kind of network that `custom_predictor` opens: files with a suffix, or networks of a library."""

    open: Callable[[str, tuple[float, float] | None], CustomPredictor]
    """Function that opens the network at a path; the range is black and white in the units of its images."""
    what: str = "PATH"
    """Word for what follows the colon after the name of a library."""


def custom_predictor(name: str, data_range: tuple[float, float] | None = None) -> CustomPredictor:
    """Open the network with this name. It is code: opening its file may run it, see SECURITY.md.

    package.module:function, found from the working folder too, takes an array (*space, C), float32 in [0, 1],
    and returns one of floats, (*space, C) or (*space), or a tuple of it and of a map; it may also name a
    CustomPredictor. A .pt2 file is torch.export, a .pt, .pth or .ts file TorchScript and a .onnx file ONNX,
    all from (N, C, *space) in [0, 1] to the same. monai:BUNDLE, careamics:CHECKPOINT and transformers:FOLDER
    are networks of these libraries; an installed package may add others.

    Args:
        name: the name, such as "enhance:enlarge" or "network.onnx".
        data_range: black and white in the units of the images, as CAREamics has seen them; [0, 1] if None.
    """
    library, _, path = name.partition(":")
    if library in NETWORKS and not library.startswith("."):
        return NETWORKS[library].open(path, data_range)
    suffix = Path(name).suffix.lower()
    if suffix in NETWORKS:
        return NETWORKS[suffix].open(name, data_range)
    function = _function(name)
    if isinstance(function, CustomPredictor):
        return function
    network = function.eval() if isinstance(function, nn.Module) else None
    packages = metadata.packages_distributions().get(library.split(".")[0], [])
    versions = [[package, metadata.version(package)] for package in packages]
    fingerprint = hash_of([name, versions, fingerprint_of(function)])
    return CustomPredictor(network or _map_images(function), name, fingerprint, network=network)


def _function(name: str) -> Callable[[Array], Array]:
    module, separator, function = name.partition(":")
    if not (separator and function):
        networks = NETWORKS.usable()
        suffixes = sorted(key for key in networks if key.startswith("."))
        libraries = [f"{key}:{kind.what}" for key, kind in networks.items() if not key.startswith(".")]
        raise InvalidArgumentError(
            f"predictor {name!r}: give package.module:function, or a file {', '.join(suffixes)}, or "
            f"{', '.join(libraries)}"
        )
    if module.endswith(".py"):
        folder, stem = os.path.split(module.removesuffix(".py"))
        where = f" in {folder}" if folder else ""
        raise InvalidArgumentError(
            f"predictor {name!r}: give the name of the module, not of its file: {stem}:{function}{where}"
        )
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # last: its files must not take the place of installed packages
    try:
        module_object = importlib.import_module(module)
    except Exception as error:  # a user's module may raise anything
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            raise MissingFileError(
                f"predictor {name!r}: {error}; run the command in the folder of the module"
            ) from error
        raise MismatchError(
            f"predictor {name!r}: importing {module} failed with {type(error).__name__}: {one_line(error)}"
        ) from error
    if not callable(getattr(module_object, function, None)):
        file = getattr(module_object, "__file__", None) or "built in"
        raise InvalidArgumentError(f"predictor {name!r}: {module} ({file}) has no function {function!r}")
    user_function: Callable[[Array], Array] = getattr(module_object, function)
    return user_function


def _map_images(function: Callable[[Array], Array]) -> Run:
    """Turn a function of one array into a function of a batch."""

    def run(x: Images) -> Outputs:
        made = [function(image) for image in np.moveaxis(x.cpu().numpy(), 1, -1)]
        axes = x.ndim - 1
        if not all(isinstance(each, tuple) for each in made):
            return _stacked(made, axes)
        return tuple(_stacked(each, axes) for each in zip(*made, strict=True))

    return run


def _stacked(outputs: Sequence[Any], axes: int) -> Images:
    """Return the outputs of a function as a batch (N, C, *space); each has this many axes, or one fewer."""
    images = []
    for output in outputs:
        image = numpy_of(output)
        if image.ndim not in (axes - 1, axes) or image.dtype.kind != "f":
            expected = "(H, W, C) or (H, W)" if axes == 3 else "(D, H, W, C) or (D, H, W)"
            raise ImageError(
                f"it returned {type(output).__name__} of shape {image.shape} and type {image.dtype}, not "
                f"floats in [0, 1] of shape {expected}"
            )
        images.append(image if image.ndim == axes else image[..., None])
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(np.stack(images), -1, 1), dtype=np.float32))


def _exported(name: str) -> Run:
    program = torch.export.load(name)
    (input_name,) = program.graph_signature.user_inputs
    shape = next(node.meta["val"].shape for node in program.graph.nodes if node.name == input_name)
    module, single = program.module(), shape[0] == 1

    def run(x: Images) -> Outputs:
        outputs = [module(part) for part in torch.split(x, 1 if single else len(x))]
        if isinstance(outputs[0], Tensor):
            return torch.cat(outputs)
        return tuple(map(torch.cat, zip(*outputs, strict=True)))

    return run


def _torchscript(name: str) -> Run:
    with warnings.catch_warnings(category=DeprecationWarning, action="ignore"):
        network: nn.Module = torch.jit.load(name, map_location="cpu")  # type: ignore[no-untyped-call]
    return network.eval()


def existing_file(name: str) -> str:
    """Return the name of a file."""
    if not Path(name).is_file():
        raise MissingFileError(f"{name} does not exist")
    return name


def _network_file(load: Callable[[str], Run], kind: str, written_by: str) -> NetworkFormat:
    """Return a format of torch's, whose fingerprint is the hash of the file."""

    def opened(name: str, data_range: tuple[float, float] | None) -> CustomPredictor:
        existing_file(name)
        try:
            run = load(name)
        except Exception as error:  # the type depends on where it is damaged
            raise MismatchError(
                f"{name} is damaged, or is not a {kind} ({one_line(error).split('. ')[0]}): copy it again, "
                f"or write the network with {written_by}"
            ) from error
        network = run if isinstance(run, nn.Module) else None
        return CustomPredictor(run, Path(name).name, hash_of([path_hash(Path(name))]), network=network)

    return NetworkFormat(opened)


BY_EXPORT = "torch.export.save(torch.export.export(network, (x,)), 'network.pt2')"
"""How a network is written to a file that needs none of its code."""
EXPORTED = _network_file(_exported, "torch.export file with one input", BY_EXPORT)
SCRIPTED = _network_file(_torchscript, "TorchScript file", f"{BY_EXPORT}, not with torch.save")
NETWORKS = extensions.Extensions(
    extensions.PREDICTORS,
    NetworkFormat,
    {".pt2": EXPORTED, ".pt": SCRIPTED, ".pth": SCRIPTED, ".ts": SCRIPTED},
)
"""All kinds of networks, by the suffix of their files, or by the library, as in monai:BUNDLE."""


ImageFunction = Callable[[Images], Images]
"""A network: x (N, Cx, *space) -> y_hat (N, C, *space)."""
KINDS = "outputs, flips, residual, residual,package.module:A, or samples,K or dropout,K with K at least 2"
DRAWN, FIXED = ("samples", "dropout"), ("outputs", "flips", "residual")
"""Kinds whose outputs are drawn at random, and those whose outputs are the same each time."""


@dataclass(frozen=True)
class CueRecipe:
    """How maps are made, by the outputs of several calls or from one output alone, and what is shown.

    outputs: what the network returns after y_hat. flips: the standard deviation of the outputs over the flips
    and quarter turns of x (flips alone of volumes), turned back. samples: that over `count` calls of a
    network that draws its outputs. dropout: that over `count` calls with its dropout layers on. residual:
    |A y_hat - x|, where A is a function of the user's, or makes y_hat as small as x by means.
    """

    kind: str = ""
    """Empty where no maps are made."""
    count: int = 1
    """The number of outputs that a map is made of."""
    show: Show = "one"
    """What y_hat is: one output, as without maps (of samples the first draw); the mean of the draws; or all
    draws, each an image of its own in the group of its input."""
    degradation: str | None = None
    """The name of A, of a residual: what `custom_predictor` takes; None for means over blocks."""

    @classmethod
    def of(cls, text: str | None, show: Show = "one") -> "CueRecipe":
        """Parse flips, outputs, residual, residual,A, samples,K or dropout,K; no maps are made by None."""
        if show not in get_args(Show):
            raise InvalidArgumentError(f"show {show!r}: give {', '.join(get_args(Show))}")
        kind, _, count = (text or "").partition(",")
        if kind in DRAWN and count.isdecimal() and int(count) >= 2:
            return cls(kind, int(count), show)
        if text is not None and (kind not in FIXED or (count and kind != "residual")):
            raise InvalidArgumentError(f"cues {text!r}: give {KINDS}")
        if show != "one" and text is None:
            raise InvalidArgumentError("show goes with cues samples,K or dropout,K")
        if show != "one":
            raise InvalidArgumentError(f"show {show!r} goes with cues samples,K or dropout,K, not {text}")
        return cls(kind, 8 if kind == "flips" else 1, degradation=count or None)

    @property
    def makes_maps(self) -> bool:
        """Whether maps are made beside y_hat."""
        return bool(self.kind)

    @property
    def text(self) -> str | None:
        """The recipe as it is recorded and asked for, such as "samples,8 --show mean"; None without maps."""
        made_by = str(self.count) if self.kind in DRAWN else self.degradation
        kind = self.kind if made_by is None else f"{self.kind},{made_by}"
        return (kind or None) if self.show == "one" else f"{kind} --show {self.show}"

    @property
    def passes(self) -> int:
        """The number of calls of the network for each image."""
        return self.count + (self.kind == "dropout" and self.show == "one")

    @property
    def calls_text(self) -> str:
        """The calls of the network for each image, in words."""
        return plural(self.passes, "call")

    def names(self, name: str) -> list[str]:
        """Return the names of what is shown of an image: its own, or NAME_1 to NAME_K."""
        return [f"{name}_{number}" for number in range(1, self.count + 1)] if self.show == "all" else [name]

    def network(self, predictor: Predictor) -> Network:
        """Return what makes y_hat: the predictor or, unless one output is shown, it by this recipe."""
        if self.show == "one":
            return Network(predictor.name, predictor.fingerprint)
        return Network(f"{predictor.name} ({self.text})", hash_of([predictor.fingerprint, self.text]))

    def __call__(self, predictor: Predictor, x: Images) -> tuple[list[Images], Images | None]:
        """Return what is shown of a batch of one size, and its maps (N, K, *space), float32, if it makes any.

        What is shown is a list of y_hat, (N, C, *space): all samples, or one alone.
        """
        if self.kind == "":
            return [predictor(x)], None
        if self.kind == "outputs":
            if not isinstance(predictor, CustomPredictor):
                raise MismatchError(
                    f"{predictor.name} returns y_hat alone: --cues outputs needs a map after it"
                )
            y_hat, maps = predictor.with_maps(x)
            return [y_hat], maps
        if self.kind == "residual":
            y_hat = predictor(x)
            return [y_hat], residual(x, y_hat) if self.degradation is None else self._degraded(x, y_hat)
        if self.kind == "flips":
            return _spread(back(predictor(turned(x))) for turned, back in symmetries(x.ndim - 2))
        if self.kind == "samples":
            return self._drawn(predictor, x)
        with _dropout(predictor):
            shown, spread = self._drawn(predictor, x)
        return [predictor(x)] if self.show == "one" else shown, spread

    @cached_property
    def _degrade(self) -> CustomPredictor:
        """The user's A, opened once."""
        assert self.degradation is not None
        return custom_predictor(self.degradation)

    def _degraded(self, x: Images, y_hat: Images) -> Images:
        """Return |A y_hat - x|, (N, 1, *space of x), averaged over channels, for the user's A."""
        again = self._degrade(y_hat)
        if again.shape != x.shape:
            raise MismatchError(
                f"{self.degradation} made {size_text(tuple(again.shape[1:]))} of y_hat, but x has "
                f"{size_text(tuple(x.shape[1:]))}: it has to degrade an output as x was degraded"
            )
        return (again - x).abs().mean(dim=1, keepdim=True)

    def _drawn(self, predictor: Predictor, x: Images) -> tuple[list[Images], Images]:
        shown, spread = _spread((predictor(x) for _ in range(self.count)), self.show)
        if not bool(spread.flatten(1).any(dim=1).all()):
            raise MismatchError(
                f"the network returned the same output {self.count} times: it draws nothing, or sets its "
                "seed at each call; let it draw afresh"
            )
        return shown, spread


NO_MAPS = CueRecipe()


@contextmanager
def _dropout(predictor: Predictor) -> Iterator[None]:
    """Turn the dropout layers of a network on; its other layers stay as in use."""
    network = predictor.network if isinstance(predictor, CustomPredictor) else None
    if network is None:
        raise MismatchError(
            f"{predictor.name} is not a torch module whose layers can be reached: --cues dropout,K takes "
            "package.module:network with a torch.nn.Module, TorchScript, or a network of a library"
        )
    layers = [layer for layer in network.modules() if _is_dropout(layer)]
    if not layers:
        raise MismatchError(
            f"{predictor.name} has no dropout layers: --cues dropout,K needs torch.nn.Dropout"
        )
    for layer in layers:
        layer.train()
    try:
        yield
    finally:
        for layer in layers:
            layer.eval()


def _is_dropout(layer: nn.Module) -> bool:
    """Return whether a layer drops values; TorchScript has the names of the types alone."""
    return "Dropout" in getattr(layer, "original_name", type(layer).__name__) and not list(layer.children())


def _spread(outputs: Iterator[Images], show: Show = "one") -> tuple[list[Images], Images]:
    """Return what is shown, and the standard deviation, averaged over channels (Welford 1962)."""
    first = next(outputs)
    shown, mean, squares = [first], first.double(), torch.zeros_like(first, dtype=torch.float64)
    for count, output in enumerate(outputs, start=2):
        difference = output.double() - mean
        mean = mean + difference / count
        squares = squares + difference * (output.double() - mean)
        if show == "all":
            shown.append(output)
    spread = (squares / count).sqrt().mean(dim=1, keepdim=True).float()
    return [mean.float()] if show == "mean" else shown, spread


def symmetries(dimensions: int) -> Iterator[tuple[ImageFunction, ImageFunction]]:
    """Yield each flip and, of planes, quarter turn, with its inverse; the first leaves images as they are."""
    if dimensions != 2:
        for flips in product((False, True), repeat=dimensions):
            chosen = [axis for axis, flip in enumerate(flips, start=2) if flip]
            yield (partial(torch.flip, dims=chosen),) * 2
        return
    for turns, axes in product(range(4), ((), (3,))):
        yield partial(_turned, turns=turns, axes=axes), partial(_turned_back, turns=turns, axes=axes)


def _turned(images: Images, turns: int, axes: tuple[int, ...]) -> Images:
    return images.flip(axes).rot90(turns, (2, 3))


def _turned_back(images: Images, turns: int, axes: tuple[int, ...]) -> Images:
    return images.rot90(-turns, (2, 3)).flip(axes)


def residual(x: Images, y_hat: Images) -> Images:
    """Return |A y_hat - x|, (N, 1, *space of x), averaged over channels; A is the mean over blocks."""
    factors = tuple(side // part for side, part in zip(y_hat.shape[2:], x.shape[2:], strict=True))
    if tuple(factor * part for factor, part in zip(factors, x.shape[2:], strict=True)) != y_hat.shape[2:]:
        sizes = [size_text(tuple(images.shape[2:])) for images in (y_hat, x)]
        raise MismatchError(
            f"y_hat of {sizes[0]} and x of {sizes[1]} pixels: a residual needs a y_hat that is a whole "
            "number of times as large as x"
        )
    pool: Callable[..., Tensor] = F.avg_pool2d if x.ndim == 4 else F.avg_pool3d
    small, known = pool(y_hat, factors), x
    if small.shape[1] != known.shape[1]:
        small, known = small.mean(dim=1, keepdim=True), known.mean(dim=1, keepdim=True)
    return (small - known).abs().mean(dim=1, keepdim=True)


PLAIN = (bool, int, float, str, list, tuple, dict, Tensor)
"""Types of attributes that count as settings."""


def required(module: str) -> Any:
    """Return a module of a library that the extra with its name installs."""
    return extensions.required(module, module, module.partition(".")[0])


def predictor_of(network: nn.Module, run: Run, library: str, *decisive: object) -> CustomPredictor:
    """Return a network of a library as a predictor; its fingerprint covers weights, code and library version.

    Args:
        network: the network, which is put into eval mode.
        run: a function that runs it on x (N, C, *space) in [0, 1].
        library: the name of the library.
        decisive: other things on which the outputs depend.
    """
    network.eval()
    hashes = [fingerprint_of(part) for part in (network, *decisive)]
    fingerprint = hash_of([library, metadata.version(library), hashes])
    return CustomPredictor(run, name_of(network), fingerprint, network=network)


def settings_of(network: nn.Module) -> Mapping[str, object]:
    """Return the plain attributes of a network and its parts, which its weights do not hold."""
    return {
        f"{prefix}.{name}": value
        for prefix, module in network.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, PLAIN) and not name.startswith("_") and name != "training"
    }


def device_of(network: nn.Module) -> torch.device:
    """Return the device of a network's weights; the CPU if it has none."""
    weights = next(network.parameters(), None)
    return torch.device("cpu") if weights is None else weights.device


@dataclass(frozen=True)
class PredictorCard:
    """Content of predictor.json; `network` are the settings of the U-Net."""

    task: str
    size: int
    network: Mapping[str, Json]
    trained_on: tuple[str, ...]
    kind: str = "regressor"


@dataclass(frozen=True)
class NetworkPredictor:
    """A trained network for a task, and the hashes of the images that it was trained on."""

    network: UNet
    task: Task
    size: int
    trained_on: tuple[str, ...] = ()
    kind: str = "regressor"
    """Way it was trained: regressor or gan."""

    @property
    def name(self) -> str:
        """Kind of the network."""
        return self.kind

    @property
    def fingerprint(self) -> str:
        """Hash of the network's weights."""
        return hash_of_state(self.network.state_dict())

    @torch.no_grad()
    def __call__(self, x: Images) -> Images:
        """Return y_hat, in [0, 1], in float32, on the CPU, from the accelerator if there is one."""
        device = best_device()
        return restore(self.network.to(device), self.task, x.to(device)).cpu()

    def save(self, folder: Path) -> None:
        """Write predictor.safetensors and predictor.json."""
        claim(folder / "predictor.json", {"finished": False}, BESIDE["predictor.json"])
        save_weights(self.network.state_dict(), folder / "predictor.safetensors")
        card = PredictorCard(self.task.name, self.size, self.network.settings, self.trained_on, self.kind)
        write_json(folder / "predictor.json", dict(vars(card)))

    @classmethod
    def load(cls, folder: Path) -> "NetworkPredictor":
        """Read a predictor that save wrote."""
        path = folder / "predictor.json"
        record = read_json(path)
        refuse_unfinished(path, record)
        card = from_dict(PredictorCard, record, path)
        network = stored_unet(card.network, path)
        load_into(network, folder / "predictor.safetensors")
        to_channels_last(network).eval().requires_grad_(False)
        return cls(network, task_by_name(card.task), card.size, card.trained_on, card.kind)


def restore(network: nn.Module, task: Task, x: Images) -> Images:
    """Return y_hat from a network that keeps the size."""
    output: Images = network(2 * task.enlarge(x) - 1)
    with full_precision(x):
        return task.compose(x, straight_through_clip(output.float() + 0.5))


def stored_unet(settings: Mapping[str, Json], path: Path) -> UNet:
    """Return the U-Net with the settings that a file holds; refuse networks of slices."""
    network = stored_network(settings, path)
    if not isinstance(network, UNet):
        raise MismatchError(f"{path} contains the settings of another network: copy it again")
    return network
