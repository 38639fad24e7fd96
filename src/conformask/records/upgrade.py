"""Spellings of conformask 0.1 and 0.2: what they wrote, spelt as today before it is read."""

from collections.abc import Mapping
from typing import Any

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
