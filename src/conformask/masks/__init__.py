"""Nested families of masks, one file each: level, pixelwise apply, exact critical lambda."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from conformask.errors import chosen
from conformask.masks.binary import Binary
from conformask.masks.levels import KAPPA
from conformask.masks.mask_family import Family
from conformask.masks.power import Power, Reciprocal
from conformask.masks.trusted_mean import TrustedMean
from conformask.masks.water_filling import WaterFilling
from conformask.storage.as_json import Json

FAMILIES: Mapping[str, type[Binary | Reciprocal | WaterFilling | Power | TrustedMean]] = {
    family.name: family for family in (Binary, Reciprocal, WaterFilling, Power, TrustedMean)
}


def family(choice: str | Mapping[str, Json], exponent: float = 1.0) -> Family:
    """Return the family with this name, or with the settings that Family.settings() returned.

    `exponent` is the distance's (1 where it has none), for water_filling; its kappa and that of binary masks,
    if not stated, is KAPPA / exponent: the dependence on the size of errors is then the same for every power.

    Raises:
        InvalidArgumentError: there is no such family or setting, or a setting's value is not allowed.
    """
    settings: dict[str, Any] = {"name": choice} if isinstance(choice, str) else dict(choice)
    kind = chosen(FAMILIES, str(settings.pop("name", "")), "family")
    allowed = {field.name: field.name for field in fields(kind) if field.init}
    stated = {chosen(allowed, key, f"{kind.name} setting"): value for key, value in settings.items()}
    defaults = {"exponent": exponent, "kappa": KAPPA / exponent}
    of_a_power = ("exponent", "kappa") if kind is WaterFilling else ("kappa",) if kind is Binary else ()
    return kind(**{**{name: defaults[name] for name in of_a_power}, **stated})
