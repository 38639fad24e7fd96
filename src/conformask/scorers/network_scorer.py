"""A trained score network: the scorer that conformask trains or packages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from conformask.arithmetic import full_precision, resized, to_channels_last
from conformask.errors import MismatchError
from conformask.records.loss import LossTerms, with_loss
from conformask.records.network import Network
from conformask.records.reading import ReadAs
from conformask.records.selection import Selection
from conformask.records.size import Size
from conformask.scorers.given import NAME as GIVEN
from conformask.scorers.given import shown_text
from conformask.scorers.heads import Head
from conformask.scorers.scorer import Scorer
from conformask.scorers.simple import RECIPES, Simple
from conformask.storage.as_arrays import Array, write_arrays
from conformask.storage.as_json import Json, claim, hash_of, read_json, refuse_unfinished, write_json
from conformask.storage.claims import BESIDE
from conformask.storage.typed import from_dict
from conformask.training.weights import hash_of_state, read_weights, save_weights
from conformask.types import Images, Loss, Score

LOOKS = "looks.npz"


@dataclass(frozen=True, kw_only=True)
class ScorerCard(ReadAs):
    """The contents of scorer.json: inputs of the scorer, its loss, and its training images."""

    scorer: str
    loss: LossTerms
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

    @property
    def name(self) -> str:
        """The name of the head: mask, error, packaged, quantile, spread, residual or gradient."""
        return self.card.scorer

    @property
    def loss(self) -> Loss | None:
        """The loss that the scorer was fitted for; None if it was fitted for none."""
        return self.head.fitted_for

    @property
    def channels(self) -> int:  # type: ignore[override]  # other scorers are given theirs
        """Number of channels of y_hat."""
        return self.card.channels

    @property
    def x_channels(self) -> int:
        """Number of channels of x."""
        return self.card.x_channels

    @property
    def cue_channels(self) -> int:  # type: ignore[override]
        """Number of maps beside y_hat."""
        return len(self.card.cue_ranges)

    @property
    def by_value(self) -> bool:  # type: ignore[override]
        """True if the score is a map beside y_hat itself."""
        return isinstance(self.head, Simple) and self.head.by_value

    @property
    def per_channel(self) -> bool:
        """True if the score has the channels of y_hat."""
        return self.card.per_channel

    @property
    def sizes(self) -> tuple[Size, ...] | None:
        """Sizes of the training images; None where it was not trained on images of the user."""
        return self.card.sizes or None

    @property
    def trained_on(self) -> frozenset[str]:
        """Hashes of pixels and groups of the images that the scorer or the predictor was trained on."""
        return frozenset(self.card.trained_on)

    @property
    def about(self) -> Network | None:
        """The network that made the y_hat of the training images."""
        return self.card.network

    @property
    def family(self) -> str:
        """The family that suits the score."""
        return self.head.family

    @property
    def fingerprint(self) -> str:
        """A hash of the weights, and of how they are read."""
        return _fingerprint(self.card, self.network.state_dict())

    @torch.no_grad()
    def __call__(self, x: Images, y_hat: Images, cues: Tensor | None = None) -> Score:
        """Compute the score of each image in float32, independently of the batch, on the images' device.

        Raises:
            MismatchError: channels that differ from the training images.
        """
        if (x.shape[1], y_hat.shape[1]) != (self.card.x_channels, self.channels):
            raise MismatchError(
                f"this scorer takes x with {self.card.x_channels} and y_hat with {self.channels} channels, "
                f"not {x.shape[1]} and {y_hat.shape[1]}"
            )
        self.network.to(y_hat.device)
        with full_precision(y_hat):
            return Score(self.score_map(x, y_hat, cues))

    def score_map(self, x: Images, y_hat: Images, cues: Tensor | None = None) -> Images:
        """Compute the score map alone, without the checks of __call__, for an exporter to trace."""
        inputs = network_input(x, y_hat, cues, self.card.cue_ranges)
        score = self.head.score(self.network(inputs).float())
        return score if self.per_channel else score.mean(dim=1, keepdim=True)

    def shown_text(self, lam: float) -> str | None:
        """Return which values of the map masks show at this lambda; None where the score is no map."""
        of_map = self.head.map if isinstance(self.head, Simple) else None
        if of_map is None:
            return None
        place, higher = of_map
        low, high = self.card.cue_ranges[place]
        return shown_text(low if higher == "distrusted" else high, lam * (high - low), higher)

    def save(self, folder: Path) -> None:
        """Write scorer.safetensors, scorer.json, selection.npz and looks.npz."""
        claim(folder / "scorer.json", {"finished": False}, BESIDE["scorer.json"])
        if self.selection is not None:
            self.selection.save(folder)
        if self.perceptual_hashes is not None:
            write_arrays(folder / LOOKS, {"looks": self.perceptual_hashes})
        save_weights(self.network.state_dict(), folder / "scorer.safetensors")
        more = {"recipe": RECIPES.get(self.name), "cue_channels": self.cue_channels}
        record = {**vars(self.card), **more, "fingerprint": self.fingerprint}
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
    maps = [] if cues is None else [_within(cues[:, at : at + 1], *ends) for at, ends in enumerate(ranges)]
    both = [way for values in maps for way in (values, 1 - values)]
    return 2 * torch.cat([resized(x, y_hat), *both, y_hat], dim=1) - 1


def _within(values: Tensor, low: float, high: float) -> Tensor:
    return ((values - low) / (high - low)).clamp(0, 1)


def stored_card(folder: Path) -> ScorerCard:
    """Read the card of a saved scorer.

    Raises:
        MissingFileError: there is no scorer.json.
        MismatchError: the folder holds a user's own score, or the file is damaged.
    """
    path = folder / "scorer.json"
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
    if record["schema"] == 1:  # conformask 0.1 stored the U-Net as "network"
        record["unet"] = record.pop("network", None)
    return from_dict(ScorerCard, with_loss(record), path)


def _fingerprint(card: ScorerCard, state: Mapping[str, Tensor]) -> str:
    loss = card.loss
    read = [card.scorer, loss.distance, card.channels, card.x_channels, card.per_channel, card.unet]
    read += [] if loss.over is None else [loss.over, loss.window, loss.tolerance]
    read += [] if loss.length is None else [loss.length]
    read += [card.cue_ranges] if card.cue_ranges else []
    return hash_of([*read, hash_of_state(state)])
