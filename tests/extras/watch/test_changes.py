"""What monitoring says of the images themselves: the right words, and none where nothing has changed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import conformask as cm
from conformask.arrays import Batch, Images
from conformask.extras.watch.monitor import changes_of, monitor
from conformask.masker.looks import appearance
from conformask.masker.masker import Masker
from conformask.records.record import to_jsonable
from conformask.records.sealed import State
from conformask.records.words import changes_text, stream_text

Change = Callable[[np.ndarray], np.ndarray]
COLUMNS = ("brightness", "contrast", "noise", "sharpness")


def scenes(count: int, seed: int, size: tuple[int, ...] = (32, 32)) -> np.ndarray:
    """Blobs and grain of varying strength, in [0, 1]; (count, *size)."""
    generator = np.random.default_rng(seed)
    fields = [
        generator.uniform(0.5, 1.5) * gaussian_filter(generator.normal(0, 3, size), 2)
        + generator.uniform(0.5, 1.5) * gaussian_filter(generator.normal(0, 1, size), 0.8)
        for _ in range(count)
    ]
    return (0.4 + 0.1 * np.stack(fields)).clip(0, 1)


def noise(deviation: float) -> Change:
    def added(images: np.ndarray) -> np.ndarray:
        return images + np.random.default_rng(9).normal(0, deviation, images.shape)

    return added


def blurred(images: np.ndarray) -> np.ndarray:
    return np.stack([gaussian_filter(image, 1) for image in images])


CHANGES: dict[str, tuple[Change, str]] = {
    "darker by a fifth": (lambda images: 0.8 * images, "x darker by a fifth; y_hat darker by a fifth"),
    "brighter by 30\N{NO-BREAK SPACE}%": (
        lambda images: 1.3 * images,
        "x brighter by 30\N{NO-BREAK SPACE}%",
    ),
    "less contrast": (lambda images: 0.2 + 0.5 * images, "x less contrast (0.5"),
    "noisier": (noise(0.05), "x noisier ("),
    "blurred": (blurred, "x blurred; y_hat blurred"),
    "sharper": (lambda images: 2 * images - blurred(images), "x sharper"),
    "both": (lambda images: 0.7 * blurred(images), "x darker by 30\N{NO-BREAK SPACE}%, blurred"),
}


def triplets(truths: np.ndarray, change: Change = lambda images: images) -> cm.Triplets:
    """A camera that adds a little noise to what has changed, and a network that smooths it."""
    generator = np.random.default_rng(len(truths))
    x = (change(truths) + generator.normal(0, 0.01, truths.shape)).clip(0, 1).astype(np.float32)
    y_hat = np.stack([gaussian_filter(image, 0.6) for image in x])
    return cm.Triplets.from_arrays(x, y_hat, truths.astype(np.float32))


def steepness(x: Images, y_hat: Images) -> Images:
    return 0.001 + (x - y_hat).abs() + x.diff(dim=-1, append=x[..., -1:]).abs() + 0.05 * x


@pytest.fixture(scope="module")
def masker() -> Masker:
    scorer = cm.Heuristic(steepness, channels=1)
    given = {
        "threshold": 0.02,
        "promise": cm.Promise(confidence=0.8),
        "loss": "l1",
        "selection": triplets(scenes(30, 1)),
    }
    return cm.calibrate(scorer, triplets(scenes(80, 2)), **given)


@pytest.fixture
def earlier(masker: Masker) -> Masker:
    """As saved by an earlier version."""
    return replace(masker, curves=replace(masker.stored_curves(), appearance=None))


@pytest.mark.parametrize("name", CHANGES)
def test_a_shift_is_described(name: str, masker: Masker) -> None:
    change, expected = CHANGES[name]
    new = triplets(scenes(60, 3), change)
    found, watched = monitor(masker, new), cm.StreamMonitor(masker).add(new)
    assert found.shifted
    assert found.changes
    assert found.changes == watched.changes if watched.shifted else watched.changes is None
    assert expected in changes_text(found.changes)
    assert changes_text(found.changes) in repr(found)


def test_a_stream_is_described_by_what_came_last(masker: Masker) -> None:
    watch = cm.StreamMonitor(masker)
    assert watch.add(triplets(scenes(40, 4))).changes is None
    dark = [watch.add(triplets(scenes(4, 50 + k), lambda images: 0.6 * images)) for k in range(20)][-1]
    assert (dark.shifted, dark.n_latest) == (True, 32)
    said = stream_text(masker.card, dark)[-1]
    assert said.startswith("What changed in the latest 32 images: x darker by 4")
    as_before = watch.add(triplets(scenes(50, 5)))
    assert as_before.shifted, "an alarm stays"
    assert (as_before.changes, as_before.n_latest) == ((), 50)
    assert stream_text(masker.card, as_before)[-1] == (
        "Brightness, contrast, noise and sharpness of the latest 50 images are as before (no clear change)."
    )


def test_unchanged_images_are_rarely_said_to_differ() -> None:
    perceptual_hashes = of(scenes(300, 6))
    said = []
    for seed in range(200):
        places = np.random.default_rng(seed).permutation(len(perceptual_hashes))
        said.append(bool(changes_of(perceptual_hashes[places[:60]], perceptual_hashes[places[60:100]], 0.01)))
    assert np.mean(said) <= 0.01 + 3 * np.sqrt(0.01 * 0.99 / 200)


def of(images: np.ndarray, region: np.ndarray | None = None, channels: int = 0) -> np.ndarray:
    """The appearance of images (n, *space), or (n, C, *space), as x and as y_hat."""
    x = torch.from_numpy(images.astype(np.float32))
    x = x if channels else x[:, None]
    inside = None if region is None else torch.from_numpy(region.astype(np.float32))
    return appearance(
        Batch(tuple(map(str, range(len(x)))), x, x, None, {} if inside is None else {"region": inside})
    )


def ratios(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    return dict(zip(COLUMNS, np.exp(np.median(after - before, axis=0))[0].tolist(), strict=True))


@pytest.mark.parametrize("size", [(64, 64), (41, 50), (16, 24, 24), (3, 40, 40), (200,)])
def test_each_number_sees_its_change_alone_whatever_the_axes(size: tuple[int, ...]) -> None:
    images = noise(0.003)(scenes(20, 7, size))
    before = of(images)
    assert before.shape == (20, 2, 4)
    darker = dict(zip(COLUMNS, (0.8, 1, 0.8, 1), strict=True))
    assert ratios(before, of(0.8 * images)) == pytest.approx(darker, abs=1e-4)
    noisy = ratios(before, of(noise(0.03)(images)))
    assert noisy["noise"] > 1.7
    assert noisy["sharpness"] == pytest.approx(1, abs=0.1), "noise does not pass for detail"
    dull = ratios(before, of(0.2 + 0.5 * images))
    assert dull["contrast"] < 0.7
    assert (dull["noise"], dull["sharpness"]) == pytest.approx((0.5, 1), abs=0.01)
    assert ratios(before, of(blurred(images)))["sharpness"] < 0.9


def test_channels_count_alike() -> None:
    images = scenes(20, 8)
    tinted = np.stack([images, 0.1 + images, 0.2 + images], axis=1)
    changed = ratios(of(images), of(tinted, channels=3))
    assert changed["brightness"] == pytest.approx(
        np.median((images.mean((1, 2)) + 0.1) / images.mean((1, 2)))
    )
    assert (changed["noise"], changed["sharpness"]) == pytest.approx((1, 1), abs=0.01), "not the tint"


def test_only_the_region_is_looked_at() -> None:
    images, region = scenes(5, 9), np.zeros((5, 1, 32, 32))
    region[:, :, 4:29, 3:25] = 1
    spoilt = np.where(region[:, 0] > 0, images, np.random.default_rng(0).random(images.shape))
    np.testing.assert_allclose(of(images, region), of(spoilt, region), atol=1e-6)
    assert not np.allclose(of(images), of(spoilt), atol=0.1)


@pytest.mark.parametrize("images", [np.zeros((2, 16, 16)), np.full((2, 5, 1), 0.5), np.ones((2, 1, 1))])
def test_blank_and_tiny_images_have_numbers(images: np.ndarray) -> None:
    assert np.isfinite(of(images)).all()


@pytest.mark.parametrize(
    ("column", "ratio", "text"),
    [
        (0, 0.81, "darker by a fifth"),
        (0, 0.6, "darker by 40\N{NO-BREAK SPACE}%"),
        (0, 1.5, "brighter by half"),
        (0, 2.34, "brighter (2.3 times)"),
        (1, 0.7, "less contrast (0.7 times)"),
        (2, 2.1, "noisier (2.1 times)"),
        (2, 0.5, "less noise (0.5 times)"),
        (3, 0.8, "blurred"),
        (3, 1.3, "sharper"),
    ],
)
def test_the_words(column: int, ratio: float, text: str) -> None:
    before = np.random.default_rng(0).normal(0, 0.01, (50, 2, 4))
    now = before.copy()
    now[:, 1, column] += np.log(ratio)
    (change,) = changes_of(before, now, 0.01)
    assert (change.measure, change.role, change.text) == (COLUMNS[column], "y_hat", text)
    assert change.ratio == pytest.approx(ratio)


def test_of_noise_and_sharpness_one_explains_the_other() -> None:
    before = np.random.default_rng(0).normal(0, (0.1, 0.1, 0.3, 0.3), (50, 2, 4))

    def said(noise: float, sharpness: float) -> list[str]:
        now = before + np.log([1, 1, noise, sharpness])
        return [change.measure for change in changes_of(before, now, 0.01) if change.role == "x"]

    assert said(0.1, 0.7) == ["sharpness"], "a blurred image has less noise"
    assert said(9, 1.4) == ["noise"]
    assert said(1.4, 9) == ["sharpness"]
    assert said(9, 0.7) == ["noise", "sharpness"]


def test_noise_is_neither_gain_nor_a_dull_scene() -> None:
    before = np.random.default_rng(0).normal(0, 0.1, (50, 2, 4))

    def said(*ratios: float) -> list[str]:
        return [each.text for each in changes_of(before, before + np.log(ratios), 0.01) if each.role == "x"]

    assert said(3, 1, 3, 1) == ["brighter (3 times)"]
    assert said(1, 0.5, 1, 1) == ["less contrast (0.5 times)"]
    assert said(2, 1, 4, 1) == ["brighter (2 times)", "noisier (2 times)"]


def test_a_masker_of_an_earlier_version_says_nothing_of_it(
    masker: Masker, earlier: Masker, tmp_path: Path
) -> None:
    new = triplets(scenes(60, 3), CHANGES["both"][0])
    earlier.save(tmp_path / "earlier")
    loaded = cm.load(tmp_path / "earlier", scorer=earlier.scorer)
    found, known = monitor(loaded, new), monitor(masker, new)
    assert found.shifted
    assert found.changes is None
    assert "What changed" not in repr(found)
    assert replace(known, changes=None) == found, "alarms do not depend on descriptions"
    watched = cm.StreamMonitor(loaded).add(new)
    assert watched.changes is None
    assert watched.evidence == cm.StreamMonitor(masker).add(new).evidence
    masker.save(tmp_path / "masker")
    assert monitor(cm.load(tmp_path / "masker", scorer=masker.scorer), new).changes == known.changes


def test_the_state_of_a_stream_keeps_what_came_last(masker: Masker, tmp_path: Path) -> None:
    path, watch = tmp_path / "state.json", cm.StreamMonitor(masker)
    watch.add(triplets(scenes(50, 3), CHANGES["both"][0]))
    watch.save(path)
    more = triplets(scenes(3, 11), CHANGES["both"][0])
    assert cm.StreamMonitor.load(masker, path).add(more) == watch.add(more)
    assert watch.latest[0] != watch.latest[1]
    assert len(watch.latest) == 32


def test_a_state_of_an_earlier_version_is_read(earlier: Masker, tmp_path: Path) -> None:
    path, watch = tmp_path / "state.json", cm.StreamMonitor(earlier)
    watch.add(triplets(scenes(50, 3)))
    record = {"fingerprint": earlier.fingerprint, "level": 0.01, "stream": to_jsonable(watch.stream)}
    State().publish(path, record, {})
    more = triplets(scenes(20, 11))
    assert cm.StreamMonitor.load(earlier, path).add(more) == watch.add(more)
