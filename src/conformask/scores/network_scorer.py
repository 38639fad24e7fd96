"""A trained score network: what its outputs mean, its files, and the scorer that it is, saved and loaded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from conformask.arrays import (
    Array,
    Images,
    PerImage,
    Score,
    full_precision,
    image_means,
    resized,
    to_channels_last,
)
from conformask.errors import (
    InvalidArgumentError,
    MismatchError,
    MissingFileError,
    chosen,
    failure_of_system,
)
from conformask.losses import AnyLoss, stored_loss
from conformask.losses.base import Loss
from conformask.losses.distances import Lp
from conformask.losses.of_images import Sums, errors_for, with_channels
from conformask.records.loss import StatedLoss
from conformask.records.names import GIVEN
from conformask.records.reading import PLAIN, Network, Reading, Size
from conformask.records.record import (
    BESIDE,
    Json,
    atomic_write,
    claim,
    existing,
    from_dict,
    hash_of,
    hash_of_arrays,
    read_arrays,
    read_json,
    refuse_unfinished,
    vars_but,
    write_arrays,
    write_json,
)
from conformask.records.selection import Selection
from conformask.records.upgrade import as_hashed, with_loss, with_unet
from conformask.scores.networks import stored_network
from conformask.scores.scorer import Scorer, WrappedScorer, of
from conformask.scores.simple import RECIPES, SIMPLE, Simple, SimpleNetwork


class _InwardClip(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        context.save_for_backward(value)
        return value.clamp(0, 1)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        (value,) = context.saved_tensors
        inward = torch.where(value > 1, gradient.clamp(min=0), gradient)
        return torch.where(value < 0, inward.clamp(max=0), inward)


def straight_through_clip(value: Tensor) -> Tensor:
    """Return clip(value, 0, 1) with the identity's gradient, without steps further outside.

    So clipped pixels still learn to come back, and none drifts away for ever: where a pixel is open, SSIM and
    LPIPS may gain by opening it further (research/results/smaller-masks.md).
    """
    clipped: Tensor = _InwardClip.apply(value)  # type: ignore[no-untyped-call]
    return clipped


TINY = torch.finfo(torch.float32).tiny
FLOOR = 1e-4
"""Scores of a mask network below this are no longer estimates; only their order counts."""
START_OF_ROOT, ROOT = 0.05, 0.01
"""Initial root of an expected squared error, and a root that is added to it."""
LOW, HIGH = 0.05, 0.95
"""The quantiles of the paper's baseline."""


@runtime_checkable
class Head(Protocol):
    """Interprets the raw output of a network, (N, outputs, *space)."""

    @property
    def name(self) -> str:
        """The name of the scorer in run folders and on the command line."""

    @property
    def family(self) -> str:
        """The family of grey masks that suits the score."""

    @property
    def fitted_for(self) -> Loss | None:
        """The loss that the score is fitted for; None if it is fitted for none."""

    @property
    def start(self) -> float:
        """The raw output from which training starts."""

    def outputs(self, channels: int, per_channel: bool) -> int:
        """Return the number of output channels, for `channels` of y_hat and a score of one or as many."""

    def loss(self, output: Images, y: Images, y_hat: Images, noise: Images | None = None) -> PerImage:
        """Compute the training loss of each image; `noise` is that of y, as in a `Batch`."""

    def score(self, output: Images) -> Images:
        """Return the score map, >= 0; for a score of one channel, the caller takes the mean over channels."""


@dataclass(frozen=True)
class MaskNetwork:
    """The paper's mask network (equation 6); the score is 1 - m.

    The mask is m = clip(1 - output, 0, 1), with straight-through clipping, starting at m = 1. For l1 it is
    equivalent to least squares: (m - 1)^2 + 2 m e = (1 - m - e)^2 + 2 e - e^2, so the score estimates the
    mean error E[e], as water-filling expects.
    """

    fitted_for: Loss
    name: ClassVar[str] = "mask"
    start: ClassVar[float] = 0.0

    @property
    def family(self) -> str:
        """The family: water_filling for lp, power for distances whose error is not a sum over pixels."""
        return "power" if self.fitted_for.traits.exponent is None else "water_filling"

    def outputs(self, channels: int, per_channel: bool) -> int:
        """Return the number of channels of the score."""
        return channels if per_channel else 1

    def loss(self, output: Images, y: Images, y_hat: Images, noise: Images | None = None) -> PerImage:
        """Compute equation (6) with mu = 2."""
        return mask_loss(straight_through_clip(1 - output), y, y_hat, self.fitted_for)

    def score(self, output: Images) -> Images:
        """Return 1 - m, in (0, 1]; values that the clip would set to 0 approach 0 in their order instead.

        Water-filling never masks a pixel of score 0, so an image with errors there could not meet the
        threshold.
        """
        below = FLOOR**2 / (2 * FLOOR - output.clamp(max=FLOOR))
        return torch.where(output > FLOOR, output.clamp(max=1), below)


@dataclass(frozen=True)
class ErrorNetwork(MaskNetwork):
    """A network that estimates the loss's error map; for missed the probability that a pixel is wrong.

    It minimises least squares, which is what equation (6) does for l1. For lp the score of l1 is raised to
    the power p; research/results/smaller-masks.md compares this with equation (6) for the distance itself,
    and docs/results/in-short.md reports which estimate is best for which loss.
    """

    name: ClassVar[str] = "error"
    family: ClassVar[str] = "water_filling"

    @property
    def start(self) -> float:  # type: ignore[override]
        """The initial output; a root of squared errors that starts at 0 would have no gradient."""
        return START_OF_ROOT if self._of_clean else 0.0

    def __post_init__(self) -> None:
        if self.fitted_for.error_map is None:
            raise InvalidArgumentError(
                "scorer 'error' learns an error map, such as l1 or ssim_map, but "
                f"{self.fitted_for.name!r} has none: use scorer 'mask'"
            )

    @property
    def _of_clean(self) -> bool:
        return self.fitted_for.traits.truth.subtracts_noise

    def loss(self, output: Images, y: Images, y_hat: Images, noise: Images | None = None) -> PerImage:
        """Compute mean (m - 1)^2 + 2 m e, which is (1 - m - e)^2 up to a constant.

        For the error to the clean image, with y the mean of two repeats and `noise` as in a `Batch`, it is
        the mean of e / v + log v, v = s^2 + ROOT^2 (the likelihood of a normal law with variance v). It is
        linear in the product e of their errors, so that its gradient is that of the clean one on average.
        """
        if self._of_clean:
            products = errors_for(Lp(2.0), y, y_hat, output.shape[1])
            products = products if noise is None else products - with_channels(noise, output.shape[1])
            variance = output.square() + ROOT**2
            return image_means(products / variance + variance.log())
        mask = straight_through_clip(1 - output)
        expected = Sums(self._errors(y, y_hat, output.shape[1])).of(mask).float()
        return image_means((mask - 1).square()) + 2 * expected

    def _errors(self, y: Images, y_hat: Images, channels: int) -> Images:
        """Return what the network learns: |y - y_hat| for lp, which pixels are wrong, or the error map."""
        traits = self.fitted_for.traits
        learned = Lp(1.0) if traits.target_power > 1 else self.fitted_for.error_map
        assert learned is not None  # or it was refused when it was made
        errors = errors_for(learned, y, y_hat, channels)
        return errors if traits.wrong_above is None else (errors > traits.wrong_above).float()

    def score(self, output: Images) -> Images:
        """Return (1 - m)^p, in (0, 1]."""
        return to_power(super().score(output), self.fitted_for.traits.target_power)


@dataclass(frozen=True)
class LaplaceNetwork(MaskNetwork):
    """A network that says how y lies around y_hat: by a Laplace law at each pixel, fitted by its likelihood.

    Its outputs are the law's width b > 0, one for all channels, and the shift s of each channel: where an
    error is systematic, its sign is known, and a network learns it sooner than its size. The score is the
    expected error, E|y - y_hat| = |s| + b exp(-|s| / b), averaged over channels, and for lp its power p.
    """

    name: ClassVar[str] = "laplace"
    family: ClassVar[str] = "water_filling"

    def __post_init__(self) -> None:
        if not self.fitted_for.traits.learns_differences:
            raise InvalidArgumentError(
                "scorer 'laplace' learns where y lies around y_hat, for losses of |y - y_hat|, but "
                f"{self.fitted_for.name!r} is not one: use scorer 'error'"
            )

    def outputs(self, channels: int, per_channel: bool) -> int:
        """Return the width and a shift of each channel."""
        return 1 + channels

    def loss(self, output: Images, y: Images, y_hat: Images, noise: Images | None = None) -> PerImage:
        """Compute the mean of |y - y_hat - s| / b + log b; the gradient of each pixel is multiplied by its b.

        Without this, pixels that are right for certain, such as those that x knows, would decide alone
        (Seitzer et al. 2022, arXiv 2203.09168).
        """
        width, shifts = output[:, :1], output[:, 1:]
        values = (y - y_hat - shifts).abs() / width + width.log()
        return image_means(values.detach() + width.detach() * (values - values.detach()))

    def score(self, output: Images) -> Images:
        """Return the expected error, in (0, 1], or its power."""
        width, shifts = output[:, :1], output[:, 1:].abs()
        expected = (shifts + width * torch.exp(-shifts / width)).mean(dim=1, keepdim=True)
        return to_power(super().score(expected), self.fitted_for.traits.target_power)


@dataclass(frozen=True)
class Packaged(MaskNetwork):
    """Head of the packaged network: the mean error, or for lp its power p."""

    name: ClassVar[str] = "packaged"

    def score(self, output: Images) -> Images:
        """Return the expected error, in (0, 1], or its power."""
        squared = self.fitted_for.traits.truth.subtracts_noise
        return to_power(super().score(output), 2.0 if squared else self.fitted_for.traits.exponent or 1.0)


@dataclass(frozen=True)
class Quantile:
    """The paper's baseline, pixelwise intervals of y by quantile regression; the score is their width.

    They are [l, u] = [y_hat - output_1, y_hat + output_2] for each channel of y_hat, fitted for no loss.

    The network has 2 * C outputs, first those of l, whatever the channels of the score: the paper's intervals
    are of y itself, and a one-channel score is the mean width over channels. Both outputs may be negative, so
    that the interval of a biased y_hat need not contain it; bounds that cross have width 0.
    """

    name: ClassVar[str] = "quantile"
    family: ClassVar[str] = "reciprocal"
    fitted_for: ClassVar[None] = None
    start: ClassVar[float] = 0.07
    """The initial output, -log(0.1) * 0.03: quantiles of a Laplace error of mean 0.03, a typical value."""

    def outputs(self, channels: int, per_channel: bool) -> int:
        """Return two outputs for each channel of y_hat."""
        return 2 * channels

    def loss(self, output: Images, y: Images, y_hat: Images, noise: Images | None = None) -> PerImage:
        """Compute the pinball loss at 0.05 of l and at 0.95 of u."""
        below, above = output.chunk(2, dim=1)
        return pinball(y_hat - below, y, LOW) + pinball(y_hat + above, y, HIGH)

    def score(self, output: Images) -> Images:
        """Return u - l, clipped to [0, 1], for each channel."""
        below, above = output.chunk(2, dim=1)
        return (below + above).clamp(0, 1)


def mask_loss(mask: Images, y: Images, y_hat: Images, loss: Loss, mu: float = 2.0) -> PerImage:
    """Compute equation (6): mean (m - 1)^2 + mu * loss(m, y, y_hat), over whole images."""
    opened = image_means((mask - 1).square())
    return opened + mu * loss.on(y, y_hat, None, mask.shape[1]).of(mask).float()


def pinball(bound: Images, y: Images, level: float) -> PerImage:
    """Compute mean max(level * (y - bound), (level - 1) * (y - bound)).

    Its minimiser is the quantile: y < bound with probability level.
    """
    excess = y - bound
    return image_means(torch.maximum(level * excess, (level - 1) * excess))


def to_power(score: Images, power: float) -> Images:
    """Convert a score of l1 into one of lp, still above 0."""
    return score.pow(power).clamp(min=TINY)


FREE: Mapping[str, Head] = {"quantile": Quantile(), **{name: Simple(name) for name in SIMPLE}}
"""Heads that are fitted for no distance, by name."""


def _whatever(name: str, loss: Loss) -> Head:
    """Return the head with this name, which is the same for every loss."""
    return FREE[name]


HEADS: Mapping[str, Callable[[Loss], Head]] = {
    "mask": MaskNetwork,
    "error": ErrorNetwork,
    "laplace": LaplaceNetwork,
    "packaged": Packaged,
    **{name: partial(_whatever, name) for name in FREE},
}


def head(name: str | None, loss: Loss) -> Head:
    """Return the head with this name, or the one that suits, for a loss."""
    if name == "mask" and not loss.traits.suits_mask_network:
        raise InvalidArgumentError(
            f"scorer 'mask' is trained with a mean over the image, but {loss.name!r} is not one: "
            "use scorer 'error'"
        )
    return chosen(HEADS, name or suited(loss), "scorer")(loss)


def suited(loss: Loss) -> str:
    """Return the default scorer: mask for l1 and for distances of the paper's form, else error."""
    return "mask" if loss.traits.masks_images and (loss.traits.exponent or 1.0) == 1 else "error"


def save_weights(state: dict[str, torch.Tensor], path: Path) -> None:
    """Write a state dict as safetensors."""
    with atomic_write(path) as aside:
        aside.write_bytes(save({name: tensor.contiguous().cpu() for name, tensor in state.items()}))


def hash_of_state(state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of a state dict."""
    return hash_of_arrays({name: tensor.detach().cpu().numpy() for name, tensor in state.items()})


def load_into(network: nn.Module, path: Path) -> None:
    """Load weights that save_weights wrote into a network."""
    weights = read_weights(path)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        first = " ".join(line.strip() for line in str(error).splitlines()[:2])
        raise MismatchError(f"{path} contains the weights of another network: {first}") from error


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict that save_weights wrote."""
    existing(path)
    try:
        return load_file(path)
    except (SafetensorError, ValueError, KeyError, OSError) as error:
        failure = failure_of_system(error)
        if failure is not None:
            raise MismatchError(f"{path} cannot be read, {failure}") from error
        raise MismatchError(f"{path} is damaged ({error}): copy it again, or train again") from error


LOOKS = "looks.npz"


@dataclass(frozen=True, kw_only=True)
class ScorerCard:
    """The contents of scorer.json: inputs of the scorer, its loss, and its training images."""

    scorer: str
    reading: Reading = PLAIN
    """The settings with which the training images were read."""
    loss: StatedLoss
    """The loss that selection.npz is about, even if the scorer is fitted for none."""
    channels: int
    x_channels: int
    per_channel: bool
    sizes: tuple[Size, ...]
    """Sizes of the training images; none where nothing was trained."""
    unet: Mapping[str, Json] | None
    """Settings of a built-in network; None for a user's own module."""
    trained_on: tuple[str, ...] = field(repr=False)
    """Hashes of the pixels and groups of the images that the scorer or the predictor was trained on."""
    network: Network | None = None
    """The network that made the y_hat of the training images."""
    distance_code: str | None = None
    """A hash of the distance, where it is a user's own."""
    cue_ranges: tuple[tuple[float, float], ...] = ()
    """For each map that the network takes, the values that become 0 and 1; none where it takes none."""

    def to_json(self) -> dict[str, Json]:
        """Return the content of scorer.json that describes the scorer."""
        return {**self.reading.kept, **vars_but(self, "reading"), "loss": self.loss.to_json()}


@dataclass(frozen=True)
class NetworkScorer(Scorer):
    """A network on (x, y_hat), and on maps beside y_hat if it was trained with them; a head interprets it."""

    network: nn.Module = field()  # without it, the class's None would be the default
    head: Head
    card: ScorerCard
    selection: Selection | None = None
    perceptual_hashes: Array | None = None

    def __repr__(self) -> str:
        card = self.card
        return f"NetworkScorer({card.scorer} for {card.loss.name}, {card.channels} channels of y_hat)"

    name = of("card.scorer")
    channels = of("card.channels")
    x_channels = of("card.x_channels")
    per_channel = of("card.per_channel")
    about = of("card.network")
    loss = of("head.fitted_for")
    family = of("head.family")

    @property
    def cue_channels(self) -> int:  # type: ignore[override]
        """Number of maps beside y_hat."""
        return len(self.card.cue_ranges)

    @property
    def sizes(self) -> tuple[Size, ...] | None:  # type: ignore[override]
        """Sizes of the training images; None where it was not trained on images of the user."""
        return self.card.sizes or None

    @property
    def trained_on(self) -> frozenset[str]:  # type: ignore[override]
        """Hashes of pixels and groups of the images that the scorer or the predictor was trained on."""
        return frozenset(self.card.trained_on)

    @property
    def fingerprint(self) -> str:
        """A hash of the weights, and of how they are read."""
        return _fingerprint(self.card, self.network.state_dict())

    @torch.no_grad()
    def __call__(self, x: Images, y_hat: Images, *layers: Tensor) -> Score:
        """Compute the score of each image in float32, independently of the batch, on the images' device."""
        if (x.shape[1], y_hat.shape[1]) != (self.card.x_channels, self.channels):
            raise MismatchError(
                f"this scorer takes x with {self.card.x_channels} and y_hat with {self.channels} channels, "
                f"not {x.shape[1]} and {y_hat.shape[1]}"
            )
        self.network.to(y_hat.device)
        with full_precision(y_hat):
            return Score(self.score_map(x, y_hat, *layers))

    def score_map(self, x: Images, y_hat: Images, *layers: Tensor) -> Images:
        """Compute the score map alone, without the checks of __call__, for an exporter to trace."""
        (cues,) = layers or (None,)
        inputs = network_input(x, y_hat, cues, self.card.cue_ranges)
        score = self.head.score(self.network(inputs).float())
        return score if self.per_channel else score.mean(dim=1, keepdim=True)

    def save(self, folder: Path) -> None:
        """Write scorer.safetensors, scorer.json, selection.npz and looks.npz."""
        claim(folder / "scorer.json", {"finished": False}, BESIDE["scorer.json"])
        if self.selection is not None:
            self.selection.save(folder)
        if self.perceptual_hashes is not None:
            write_arrays(folder / LOOKS, {"looks": self.perceptual_hashes})
        save_weights(self.network.state_dict(), folder / "scorer.safetensors")
        more = {"recipe": RECIPES.get(self.name), "cue_channels": self.cue_channels}
        record = {**self.card.to_json(), **more, "fingerprint": self.fingerprint}
        write_json(folder / "scorer.json", record)

    @staticmethod
    def stored_fingerprint(folder: Path) -> str:
        """Return the fingerprint of a saved scorer."""
        return _fingerprint(stored_card(folder), read_weights(folder / "scorer.safetensors"))


def ready(network: nn.Module) -> nn.Module:
    """Prepare a network for scoring: fast memory layout, eval mode, no gradients."""
    return to_channels_last(network).eval().requires_grad_(False)


def network_input(
    x: Images, y_hat: Images, cues: Tensor | None = None, ranges: Sequence[tuple[float, float]] = ()
) -> Images:
    """Concatenate x, resized linearly to y_hat's size, maps and y_hat on the channel axis, from -1 to 1.

    A map (N, 1, *space) gives two channels, its values within its range and the same upside down: a network
    that takes their logarithms resolves a spread near 0 and a confidence near 1 alike.
    """
    maps = (
        []
        if cues is None
        else [
            ((cues[:, at : at + 1] - low) / (high - low)).clamp(0, 1) for at, (low, high) in enumerate(ranges)
        ]
    )
    both = [way for values in maps for way in (values, 1 - values)]
    return 2 * torch.cat([resized(x, y_hat), *both, y_hat], dim=1) - 1


def stored_card(folder: Path) -> ScorerCard:
    """Read the card of a saved scorer."""
    path = folder / "scorer.json"
    if not path.is_file() and (folder / "training.json").is_file():
        raise MissingFileError(
            f"the training in {folder} was stopped: finish it with the command that started it and --resume, "
            f"conformask train ... {folder} --resume"
        )
    record = read_json(path)
    refuse_unfinished(path, record)
    if record.get("heuristic"):
        raise MismatchError(
            f"{folder} contains your own score {record.get('scorer')!r}: load it with scorer="
        )
    if record.get("scorer") == GIVEN:
        raise MismatchError(
            f"{folder} reads its score from maps, so there is nothing to load: use conformask calibrate DATA "
            "--score-from NAME --out RUN, without --threshold to see what thresholds would mean"
        )
    return from_dict(ScorerCard, {"reading": record, **with_loss(with_unet(record), path)}, path)


def _fingerprint(card: ScorerCard, state: Mapping[str, Tensor]) -> str:
    loss = as_hashed(card.loss)
    read = [card.scorer, loss["distance"], card.channels, card.x_channels, card.per_channel, card.unet]
    read += [loss["over"], loss.get("window"), loss.get("tolerance")] if "over" in loss else []
    read += [loss["length"]] if "length" in loss else []
    read += [card.cue_ranges] if card.cue_ranges else []
    return hash_of([*read, hash_of_state(state)])


def load_scorer(
    folder: str | Path, *, loss: AnyLoss | None = None, network: nn.Module | None = None
) -> NetworkScorer:
    """Load the scorer of a run folder, which need not be calibrated yet: `calibrate` takes it.

    Components that a user brought as code (loss, network) are passed as arguments, never imported from a
    file.

    Raises:
        MissingFileError: the folder holds no scorer.
        MismatchError: the training was not finished, or the folder needs a loss or module that was not
            given, or that does not fit; a scorer that was fitted for no loss takes any.

    Examples:
        >>> import numpy as np
        >>> import conformask as cm
        >>> y = np.random.default_rng(0).random((30, 16, 16), dtype=np.float32)
        >>> images = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> fitted = cm.fit_scorer(images, out="run", scorer="residual")
        >>> cm.load_scorer("run").fingerprint == fitted.fingerprint
        True
    """
    folder = Path(folder)
    card = stored_card(folder)
    stored = FREE.get(card.scorer) or head(card.scorer, stored_loss(card.loss, loss, card.distance_code))
    if network is None and isinstance(stored, Simple):
        network = SimpleNetwork(stored.name, card.channels)
    if network is None:
        if card.unet is None:
            raise MismatchError(f"{folder} contains a user's own network: load it with network=")
        network = stored_network(card.unet, folder / "scorer.json")
    load_into(network, folder / "scorer.safetensors")
    ready(network)
    selection = Selection.load(folder)
    perceptual_hashes = read_arrays(folder / LOOKS).get("looks") if (folder / LOOKS).exists() else None
    return NetworkScorer(network, stored, card, selection, perceptual_hashes)


def save_scorer(scorer: Scorer, folder: Path) -> None:
    """Write a scorer into a folder that holds none; if the folder already holds it, leave its files alone."""
    while isinstance(scorer, WrappedScorer):
        scorer = scorer.scorer
    if not holds_scorer(folder, scorer):
        scorer.save(folder)


def holds_scorer(folder: Path, scorer: Scorer) -> bool:
    """Return whether a folder holds a scorer; raise if it holds another one."""
    record = read_json(folder / "scorer.json") if (folder / "scorer.json").is_file() else {"finished": False}
    if record.get("finished") is False:
        return False
    if (record.get("fingerprint") or NetworkScorer.stored_fingerprint(folder)) != scorer.fingerprint:
        raise MismatchError(f"{folder} contains another scorer: choose another folder")
    return True
