"""A masker for a stream whose images drift: adaptive conformal inference (Gibbs and Candes 2021)."""

import math
from bisect import insort
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from conformask.arrays import Array, Batch
from conformask.errors import ImageError, InvalidArgumentError, MismatchError, expect
from conformask.images.layers import region_of_array
from conformask.images.read import check_name
from conformask.masker.arguments import batch_of, given, own_ranges
from conformask.masker.masker import Masker
from conformask.masks.critical import critical_lambdas
from conformask.promises.order import ROUNDING
from conformask.promises.promise import Promise
from conformask.records.record import Json, State, from_dict


@dataclass
class OnlineLambda:
    """The current lambda: the gamma-quantile of past critical lambdas, gamma moved by every failure.

    On any sequence of T images, the mean number of failures is at most
    1 - confidence + (gamma_1 + eta * confidence) / (eta * T), wider by the delay of the truth.
    """

    confidence: float
    eta: float = 0.05
    """The step by which one failure moves gamma."""
    gamma: float | None = None
    """The level of the quantile; None starts at 1 - confidence."""
    past: list[float] = field(default_factory=list)
    """Critical lambdas, ascending; initially those of the calibration images."""

    def __post_init__(self) -> None:
        for name in ("confidence", "eta"):
            if not 0 < (value := vars(self)[name]) < 1:
                raise InvalidArgumentError(f"{name} = {value:g}: must be between 0 and 1")
        self.past = sorted(self.past)
        self.gamma = 1 - self.confidence if self.gamma is None else self.gamma

    @property
    def level(self) -> float:
        """The level of the quantile, gamma."""
        return 1 - self.confidence if self.gamma is None else self.gamma

    @property
    def lam(self) -> float:
        """The lambda for the next image; 0 where gamma is not above 0, or nothing is known yet."""
        if self.level <= 0 or not self.past:
            return 0.0
        rank = math.ceil(min(self.level, 1.0) * len(self.past) - ROUNDING)
        return self.past[max(rank, 1) - 1]

    def learn(self, critical_lambda: float, *, failed: bool) -> None:
        """Learn from an image whose truth is now known: its critical lambda, and whether its mask failed.

        gamma is capped at 1 first; otherwise it would grow while all is well and recover slowly after a
        shift.
        """
        self.gamma = min(self.level, 1.0) + self.eta * (1 - self.confidence - failed)
        insort(self.past, critical_lambda)

    def bound(self, images: int, start: float | None = None) -> float:
        """Return the largest mean number of failures on any sequence of this many images."""
        start_level = 1 - self.confidence if start is None else start
        return 1 - self.confidence + (start_level + self.eta * self.confidence) / (self.eta * images)


STATE = "online.json"
WAITING = "waiting"
"""Stem of the file of images whose truth is not yet known."""


@dataclass
class OnlineMasker:
    """Masks one image after the other, and learns from each truth when it becomes known, however late.

    On any sequence, whatever drifts, the share of failures is at most 1 - confidence, plus
    (gamma_1 + eta * confidence) / (eta * T) after T truths; wider by the delay of the truths.

    Raises:
        InvalidArgumentError: a masker whose promise is not the marginal one, or eta outside (0, 1).

    Examples:
        >>> import numpy as np
        >>> import conformask as cm
        >>> y = np.random.default_rng(0).random((30, 16, 16), dtype=np.float32)
        >>> images = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> scorer = cm.Heuristic(cm.residual, channels=1)
        >>> masker = cm.calibrate(scorer, images, threshold=0.05, loss="l1")
        >>> online = cm.OnlineMasker(masker)
        >>> mask = online.mask("a", y[0]**2, y[0]**1.5)
        >>> online.learn("a", y[0])
        True
    """

    masker: Masker
    eta: float = 0.05
    """Step by which a failure moves the level of the quantile: larger adapts faster and fluctuates more."""
    state: OnlineLambda = field(init=False, repr=False)
    waiting: dict[str, dict[str, Array]] = field(init=False, default_factory=dict, repr=False)
    """Images whose truth is not yet known."""
    _stored: State = field(init=False, default_factory=State, repr=False)

    def __post_init__(self) -> None:
        expect(self.masker, Masker, "masker", "what calibrate() or load() returned")
        promise = self.masker.card.promise
        if promise.confidence is None or promise != Promise("marginal", promise.confidence):
            raise InvalidArgumentError(
                f"a stream needs one lambda for all images, not guarantee {promise.guarantee} for "
                f"{promise.plural}: calibrate with guarantee marginal and unit image"
            )
        self.state = OnlineLambda(promise.confidence, self.eta, past=self.masker.critical_lambdas.tolist())

    @property
    def lam(self) -> float:
        """The lambda of the next mask."""
        return self.state.lam

    def mask(self, name: str, x: Array, y_hat: Array, **layers: Array) -> Array:
        """Compute the mask of a new image from arrays as Masker takes them; `learn` refers to it by name.

        Raises:
            InvalidArgumentError: an image with the same name still waits for its truth.
            MismatchError: channels that differ from the calibration images.
            ImageError: values outside the range, NaN or infinity.
        """
        check_name(name, "name")
        if name in self.waiting:
            raise InvalidArgumentError(f"{name!r} still waits for its truth: give every image its own name")
        batch = given(self.masker.card, x, y_hat, layers)
        images = {"x": batch.x, "y_hat": batch.y_hat, **batch.layers}
        arrays = {role: image[0].numpy() for role, image in images.items()}
        item, admission = self.masker.admit_and_score(self._batch(name, arrays, None))
        admission.warn()
        mask = self.masker.open(item, np.array([self.lam]))[0].cpu().numpy()
        ranges = own_ranges(self.masker.card, x, y_hat)
        self.waiting[name] = {**arrays, "lam": np.array(self.lam), "ranges": np.array(ranges)}
        return mask[0] if len(mask) == 1 else np.moveaxis(mask, 0, -1)

    def learn(self, name: str, y: Array, *, region: Array | None = None) -> bool:
        """Learn from the truth of an earlier image; return whether its mask met the threshold.

        Raises:
            InvalidArgumentError: no image with this name waits for its truth.
            ImageError: y has another shape than y_hat, values outside the range, NaN or infinity; or the
                promise is about a region and none is given.
        """
        if name not in self.waiting:
            raise InvalidArgumentError(
                f"no image {name!r} waits for its truth; waiting: {sorted(self.waiting)}"
            )
        arrays = self.waiting[name]
        ranges = [(low, high) for low, high in arrays.get("ranges", np.empty((0, 2))).tolist()]
        truth = batch_of(self.masker.card, "y", np.asarray(y), ranges)[0].numpy()
        if truth.shape != arrays["y_hat"].shape:
            raise ImageError(
                f"y of {name!r} has shape {truth.shape}, but y_hat has {arrays['y_hat'].shape} (C, *space); "
                "they must be the same"
            )
        masker = self.masker
        item = masker.scored(self._batch(name, arrays, torch.from_numpy(truth)[None]))
        if region is not None:
            axes = masker.card.read.axes
            array = region_of_array(region, truth.shape[1:], f"region of {name!r}", axes)
            item = replace(item, layers={**item.layers, "region": torch.from_numpy(array)[None]})
        judged = masker.judge(item, arrays["lam"][None])
        assert judged.within is not None
        within = bool(judged.within[0])
        critical = critical_lambdas(item, masker.family, masker.loss, masker.grid, masker.card.threshold)
        self.state.learn(float(critical[0]), failed=not within)
        del self.waiting[name]
        return within

    @staticmethod
    def _batch(name: str, arrays: Mapping[str, Array], y: Tensor | None) -> Batch:
        images = {role: torch.from_numpy(array)[None] for role, array in arrays.items() if array.ndim > 2}
        x, y_hat = images.pop("x"), images.pop("y_hat")
        return Batch((name,), x, y_hat, y, images)

    def save(self, folder: str | Path) -> None:
        """Write online.json and, with the waiting images, waiting-*.npz; the masker is saved separately.

        Raises:
            OutputError: the folder cannot be written to, or holds a state that this one does not continue.
        """
        waiting = {
            f"{name}/{role}": array for name, each in self.waiting.items() for role, array in each.items()
        }
        record = {**vars(self.state), "fingerprint": self.masker.fingerprint}
        self._stored.publish(Path(folder) / STATE, record, {WAITING: waiting})

    @classmethod
    def load(cls, masker: Masker, folder: str | Path) -> "OnlineMasker":
        """Read a state that save wrote.

        Raises:
            MissingFileError: nothing was saved there.
            MismatchError: the files are damaged, or hold the state of another masker.
        """
        path, stored = Path(folder) / STATE, State()
        published = stored.read(path, [WAITING])
        refuse_other_masker(path, published.record, masker.fingerprint)
        online = cls(masker, float(published.record["eta"]))
        online.state, online._stored = from_dict(OnlineLambda, published.record, path), stored
        for key, array in published.arrays[WAITING].items():
            name, role = key.rsplit("/", 1)
            online.waiting.setdefault(name, {})[role] = array
        return online


def refuse_other_masker(path: Path, record: Mapping[str, Json], fingerprint: str) -> None:
    """Refuse a state that another masker saved."""
    if record.get("fingerprint") != fingerprint:
        raise MismatchError(
            f"{path} is the state of the masker {record.get('fingerprint')}, not of {fingerprint}: start a "
            "new state after each calibration"
        )
