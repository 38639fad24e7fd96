"""Reading and writing the scorer of a run folder, which no other scorer may replace."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from conformask.errors import MismatchError
from conformask.losses import AnyLoss, stored_loss
from conformask.records.record import from_dict, read_arrays, read_json, refuse_unfinished
from conformask.records.selection import Selection
from conformask.scores.given import NAME, GivenScorer
from conformask.scores.network_scorer import FREE, LOOKS, NetworkScorer, head, load_into, ready, stored_card
from conformask.scores.networks import stored_network
from conformask.scores.scorer import Scorer, WrappedScorer
from conformask.scores.simple import Simple, SimpleNetwork


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
    selection = Selection.load(folder) if (folder / "selection.npz").exists() else None
    perceptual_hashes = read_arrays(folder / LOOKS).get("looks") if (folder / LOOKS).exists() else None
    return NetworkScorer(network, stored, card, selection, perceptual_hashes)


def load_given(folder: Path) -> GivenScorer | None:
    """Read a scorer of maps beside y_hat; None where the folder holds another one."""
    path = folder / "scorer.json"
    record = read_json(path) if path.is_file() else {}
    if record.get("scorer") != NAME:
        return None
    refuse_unfinished(path, record)
    selection = Selection.load(folder) if (folder / "selection.npz").exists() else None
    return replace(from_dict(GivenScorer, record, path), selection=selection)


def save_scorer(scorer: Scorer, folder: Path) -> None:
    """Write a scorer into a folder that holds none; if the folder already holds it, leave its files alone."""
    while isinstance(scorer, WrappedScorer):
        scorer = scorer.scorer
    record = read_json(folder / "scorer.json") if (folder / "scorer.json").is_file() else {"finished": False}
    if record.get("finished") is False:
        scorer.save(folder)
    elif (record.get("fingerprint") or NetworkScorer.stored_fingerprint(folder)) != scorer.fingerprint:
        raise MismatchError(f"{folder} contains another scorer: choose another folder")
