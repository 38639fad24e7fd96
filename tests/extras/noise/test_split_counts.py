"""conformask split-counts, and what follows it."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from conformask.images.read import read_image
from conformask.records.reading import Reading


@pytest.fixture
def photons(tmp_path: Path) -> Path:
    """A folder of three images of Poisson counts, times 3, on an offset of 100."""
    (tmp_path / "photons").mkdir()
    scene = np.broadcast_to(np.linspace(5, 30, 48), (40, 48))
    for index in range(3):
        counts = np.random.default_rng(index).poisson(scene)
        tifffile.imwrite(tmp_path / f"photons/{index}.tif", (100 + 3 * counts).astype(np.uint16))
    return tmp_path / "photons"


def test_what_it_says_and_what_comes_next(conformask, photons, tmp_path, monkeypatch):
    out = tmp_path / "parts"
    answer = conformask("split-counts", photons, out, "--gain", 3, "--offset", 100, "--parts", 3)
    assert answer.status == 0, answer.err
    first, noise, following = answer.out.splitlines()
    assert first == f"3 images in {out / 'x'}, 2 repeats of each in {out / 'repeats'}"
    assert 0.8 < float(noise.removeprefix("Noise between neighbouring pixels: ").split()[0]) < 1.2
    assert sorted(path.name for path in (out / "repeats").iterdir()) == [
        f"{index}_{part}.tif" for index in range(3) for part in (1, 2)
    ]
    # the range that is printed holds every value of x
    (tmp_path / "network_for_counts.py").write_text("def halved(x):\n    return x / 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    words = following.removeprefix("Next: conformask ").replace("NETWORK", "network_for_counts:halved")
    answer = conformask(*words.split())
    assert answer.status == 0, answer.err
    assert len(list((out / "y_hat").glob("*.npy"))) == 3


def test_json_and_shares(conformask, photons, tmp_path):
    scale = ("--gain", 3, "--offset", 100, "--share", 0.8, "--seed", 5, "--json")
    record = conformask("split-counts", photons, tmp_path / "parts", *scale).record
    assert record["shares"] == pytest.approx([0.8, 0.2])
    assert (record["n"], record["odd"], record["negative"], record["seed"]) == (3, 0, 0, 5)
    low, high = record["data_range"]
    x, repeat = (
        100 + (high - low) * read_image(tmp_path / "parts" / name, Reading((low, high)))
        for name in ("x/0.tif", "repeats/0_1.tif")
    )
    whole = tifffile.imread(photons / "0.tif")
    np.testing.assert_allclose(0.8 * x[0] + 0.2 * repeat[0], whole, atol=0.01)


def test_rounding_is_said(conformask, photons, tmp_path):
    refused = conformask("split-counts", photons, tmp_path / "parts", "--gain", 3.7, "--offset", 100)
    assert refused.status == 1
    assert "not whole counts at gain 3.7 and offset 100" in refused.err
    scale = ("--gain", 3.7, "--offset", 100, "--round")
    answer = conformask("split-counts", photons, tmp_path / "parts", *scale)
    assert "values of an image were rounded, and 0.0\N{NO-BREAK SPACE}% were negative" in answer.out


@pytest.mark.parametrize("share", [0, 1, -0.5, "nan"])
def test_a_share_that_is_none_is_bad_usage(conformask, photons, tmp_path, share):
    answer = conformask("split-counts", photons, tmp_path / "parts", f"--share={share}")
    assert (answer.status, answer.out) == (2, "")
    assert "between 0 and 1" in answer.err
