"""mask.js beside the library, for every family."""

import numpy as np
import pytest
import torch

from conformask.images.pictures import as_bytes, gray
from conformask.masks.families import FAMILIES, family
from conformask.records.record import to_jsonable

pytestmark = pytest.mark.xdist_group("viewer")

LEVEL = 1
"""How far a byte may be off, by rounding."""


SETTINGS = [
    {"name": "binary"},
    {"name": "binary", "bounds": "largest", "kappa": 0.0},
    {"name": "binary", "bounds": "mean"},
    {"name": "reciprocal"},
    {"name": "power", "gamma": 2.5, "kappa": -0.5},
    {"name": "water_filling"},
    {"name": "water_filling", "exponent": 2.0},
    {"name": "trusted_mean"},
]


def test_no_family_is_left_out():
    assert {settings["name"] for settings in SETTINGS} == set(FAMILIES)


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    "settings",
    SETTINGS,
    ids=lambda settings: "-".join(map(str, settings.values())),
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_family_is_drawn_as_the_library_does(page, address, settings, channels):
    generator = np.random.default_rng(0)
    score = torch.from_numpy(np.round(generator.gamma(1, 0.02, (1, channels, 24, 20)), 3).astype(np.float32))
    chosen = family(settings)
    page.goto(address)
    script = """async ([score, channels, level, family]) => Array.from(
      (await import('/static/mask.js')).maskBytes(Float32Array.from(score), channels, level, family))"""
    seen = set()
    for lam in (0.0, 1e-4, 3e-3, 2e-2, 0.3, np.inf):
        level = chosen.level(score, torch.tensor([lam]))
        expected = gray(as_bytes(chosen.apply(score, level)[0].numpy())).ravel().astype(int)
        sent = to_jsonable(level[0].tolist())
        drawn = page.evaluate(script, [score.flatten().tolist(), channels, sent, chosen.settings()])
        assert np.abs(np.array(drawn) - expected).max() <= LEVEL
        seen.add(int(expected.sum()))
    assert len(seen) > 3
