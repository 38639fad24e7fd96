"""Spellings of conformask 0.1 and 0.2: what they wrote, spelt as today before it is read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conformask.records.loss import LP, StatedLoss, read_loss
from conformask.records.record import Json

Record = Mapping[str, Any]
SPELT = {"per_category": "within", "image_of_new_group": "member"}
"""Terms and units of promises that were spelt otherwise, and are in fingerprints."""
PROMISED = ("guarantee", "confidence", "delta", "unit", "share", "per_category", "group_name", "object_name")
"""Terms of a promise, which lay in the card itself."""
NAMED = {
    "distance": "loss",
    "unmasked_distance": "unmasked_loss",
    "mean_distance": "mean_loss",
    "mean_distance_interval": "mean_loss_interval",
    "correlation_size_distance": "correlation_size_loss",
    "spearman_size_distance": "spearman_size_loss",
    "worth": "comparison",
}
"""Names of what was measured and of code from the user; losses were called distances."""
COMPARED = {"packaged": "packaged", "local_spread": "spread", "constant": "constant"}
"""Other scores, each of which was a field of a comparison."""
LOSS_SPELT = {"distance": "loss", "region": "regional"} | {
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
    loss = {name: stated.get(spelt) for spelt, name in LOSS_SPELT.items()}
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
    if loss.traits.masks_images:
        stated["over"] = None
    if stated["over"] == "masked_window":
        stated["over"] = "window"
    known = {spelt: stated.get(name) for spelt, name in LOSS_SPELT.items()}
    return {spelt: value for spelt, value in known.items() if value is not None and value is not False}


def with_promise(record: Record) -> dict[str, Any]:
    """Return a card that holds its promise."""
    terms = {name: record[old] for name in PROMISED if (old := SPELT.get(name, name)) in record}
    if terms.get("unit") == SPELT["image_of_new_group"]:
        terms["unit"] = "image_of_new_group"
    return {"promise": terms, **record}


def with_unet(record: Record) -> dict[str, Any]:
    """Return the record of a scorer; 0.1 called the settings of its U-Net its network."""
    return {**record, "unet": record.get("network"), "network": None} if record["schema"] == 1 else {**record}


def with_network(record: Record) -> dict[str, Any]:
    """Return the record of triplets; 0.1 kept the name of their predictor alone."""
    return {**record, "network": {"name": record["predictor"]}} if record.get("predictor") else {**record}


def named(stored: Record) -> dict[str, Any]:
    """Return what was measured by its names of today."""
    values = {NAMED.get(name, name): value for name, value in stored.items()}
    return values | {"comparison": compared(values["comparison"])} if "comparison" in values else values


def compared(stored: Any) -> Any:
    """Return a comparison with other scores."""
    if not isinstance(stored, Mapping) or "trained" not in stored:
        return stored
    others = {name: stored.get(old) for old, name in COMPARED.items()}
    return {**stored, "hidden": stored["trained"], "others": others}
