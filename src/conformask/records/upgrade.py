"""Losses in records of conformask 0.1 and 0.2; no other file knows how they were spelt."""

from collections.abc import Mapping
from pathlib import Path

from conformask.records.loss import LP, StatedLoss, read_loss
from conformask.records.record import Json

SPELT = {"distance": "loss", "region": "regional"} | {
    name: name for name in ("over", "window", "length", "tolerance", "allowance", "eta", "reach", "iou")
}
"""The fields of all losses: as they were spelt, and as they are. They lay in the record itself."""


def with_loss(record: Mapping[str, Json], path: Path) -> dict[str, Json]:
    """Return a record with the value of its loss in the place of what it states."""
    stated = record.get("loss", record)
    if "distance" in stated:
        stated = _as_now(stated)
    return {**record, "loss": read_loss(stated, path)} if "loss" in stated else dict(record)


def _as_now(stated: Mapping[str, Json]) -> dict[str, Json]:
    loss = {name: stated.get(spelt) for spelt, name in SPELT.items()}
    over = "masked_window" if loss["over"] == "window" else loss["over"]
    if over is None and LP.fullmatch(str(loss["loss"])):
        over = "image"
    return {**loss, "over": over, "regional": bool(loss["regional"])}


def loss_named(stored: str, path: Path) -> StatedLoss:
    """Return the loss of a record that keeps the name of a distance, as in conformask 0.1."""
    return read_loss(_as_now({"distance": stored}), path)


def as_hashed(loss: StatedLoss) -> dict[str, Json]:
    """Return the fields of a loss as fingerprints hash them, so that old maskers keep theirs."""
    stated = loss.to_json()
    if loss.of_masked_images:
        stated["over"] = None
    if stated["over"] == "masked_window":
        stated["over"] = "window"
    known = {spelt: stated.get(name) for spelt, name in SPELT.items()}
    return {spelt: value for spelt, value in known.items() if value is not None and value is not False}
