import numpy as np
import pytest

from conformask.errors import ImageError, InvalidArgumentError, MismatchError, MissingFileError, OutputError
from conformask.extras.watch.online import OnlineMasker
from conformask.images.triplets import Triplets
from conformask.masker.calibrate import calibrate
from conformask.masker.masker import Masker
from conformask.promises.promise import Promise
from conformask.scores.scorer import Heuristic
from synthetic_triplets import arrays, scale_of, triplets

SETTINGS = {"threshold": 0.03, "loss": "l1", "promise": Promise(confidence=0.8)}
MASKER = calibrate(Heuristic(scale_of, channels=1), triplets(40, 0), **SETTINGS)


def stream(count: int, seed: int, harder: float = 1.0) -> list[tuple[np.ndarray, ...]]:
    x, y_hat, y = arrays(count, seed)
    worse = [(truth + harder * (output - truth)).clip(0, 1) for output, truth in zip(y_hat, y, strict=True)]
    return list(zip(x, worse, y, strict=True))


def run(online: OnlineMasker, images: list[tuple[np.ndarray, ...]], delay: int = 0) -> np.ndarray:
    kept = []
    for index, (x, y_hat, _) in enumerate(images):
        online.mask(f"{index}", x, y_hat)
        if index >= delay:
            kept.append(online.learn(f"{index - delay}", images[index - delay][2]))
    return np.array(kept)


def test_it_starts_as_the_masker() -> None:
    online = OnlineMasker(MASKER)
    x, y_hat, _ = stream(1, 5)[0]
    np.testing.assert_allclose(online.mask("first", x, y_hat), MASKER(x, y_hat), atol=1e-6)


@pytest.mark.thorough
@pytest.mark.parametrize("delay", [0, 20])
def test_it_follows_a_shift_that_a_fixed_lambda_does_not(delay: int) -> None:
    images = stream(100, 1) + stream(300, 2, harder=3.0)
    online = OnlineMasker(MASKER, eta=0.05)
    kept = run(online, images, delay)
    fixed = [float(np.abs(MASKER(x, y_hat) * (y - y_hat)[..., 0]).mean()) <= 0.03 for x, y_hat, y in images]
    assert np.mean(fixed[100:]) < 0.6
    assert kept[150:].mean() > 0.8 - 0.06
    allowed = online.state.bound(len(kept)) + delay * 0.8 / len(kept)
    assert 1 - kept.mean() <= allowed


def test_saved_and_restored_in_the_middle(tmp_path) -> None:
    images = stream(30, 3)
    straight, broken = OnlineMasker(MASKER), OnlineMasker(MASKER)
    run(straight, images, delay=4)
    run(broken, images[:15], delay=4)
    broken.save(tmp_path)
    again = OnlineMasker.load(MASKER, tmp_path)
    assert sorted(again.waiting) == sorted(broken.waiting)
    for index in range(15, 30):
        again.mask(f"{index}", *images[index][:2])
        again.learn(f"{index - 4}", images[index - 4][2])
    assert again.state == straight.state
    assert again.lam == straight.lam
    again.save(tmp_path)
    assert sorted(OnlineMasker.load(MASKER, tmp_path).waiting) == sorted(again.waiting)
    assert len(list(tmp_path.iterdir())) == 2, "the images of before are gone"


def test_the_state_of_another_masker_is_refused(tmp_path) -> None:
    online = OnlineMasker(MASKER)
    online.mask("a", *stream(1, 3)[0][:2])
    online.save(tmp_path)
    with pytest.raises(MismatchError, match="is the state of the masker"):
        OnlineMasker.load(
            calibrate(MASKER.scorer, triplets(40, 0), **SETTINGS | {"threshold": 0.05}), tmp_path
        )
    with pytest.raises(OutputError, match="is not the state that this one continues"):
        OnlineMasker(MASKER).save(tmp_path)
    path = tmp_path / "online.json"
    path.write_text(path.read_text().replace('"gamma"', '"gamna"'))
    with pytest.raises(MismatchError, match="is damaged"):
        OnlineMasker.load(MASKER, tmp_path)


def test_a_truth_is_judged_by_the_lambda_of_its_mask() -> None:
    online = OnlineMasker(MASKER, eta=0.9)
    images = stream(3, 4, harder=8)
    for index, (x, y_hat, _) in enumerate(images):
        online.mask(f"{index}", x, y_hat)
    masks = [MASKER(x, y_hat) for x, y_hat, _ in images]
    for index, (_, y_hat, y) in enumerate(images):
        expected = float(np.abs(masks[index] * (y - y_hat)[..., 0]).mean()) <= 0.03 * (1 + 1e-6)
        assert online.learn(f"{index}", y) == expected, "all were masked before any truth was known"
        assert not expected
    assert online.lam == 0, "it has learnt from the first failure on that the next mask must be smaller"


@pytest.mark.thorough
def test_where_nothing_drifts_it_neither_fails_nor_hides_more_than_promised() -> None:
    """A share of failures that is far below what is allowed would be paid for with masks."""
    kept = run(OnlineMasker(MASKER, eta=0.05), stream(400, 6))
    assert kept[100:].mean() == pytest.approx(0.8, abs=0.05)


def test_it_learns_the_critical_lambda_of_each_image() -> None:
    online, images = OnlineMasker(MASKER), stream(20, 7)
    run(online, images)
    x, y_hat, y = (np.stack(role) for role in zip(*images, strict=True))
    same = calibrate(
        MASKER.scorer,
        Triplets.from_arrays(x, y_hat, y),
        threshold=0.03,
        loss="l1",
        promise=Promise(confidence=0.8),
    )
    np.testing.assert_allclose(
        online.state.past, sorted([*MASKER.critical_lambdas, *same.critical_lambdas]), rtol=1e-6
    )


def test_what_is_refused(tmp_path) -> None:
    online = OnlineMasker(MASKER)
    x, y_hat, y = stream(1, 5)[0]
    online.mask("one", x, y_hat)
    with pytest.raises(InvalidArgumentError, match="'one' still waits"):
        online.mask("one", x, y_hat)
    with pytest.raises(InvalidArgumentError, match=r"no image 'two' waits for its truth; waiting: \['one'\]"):
        online.learn("two", y)
    with pytest.raises(ImageError, match=r"y of 'one' has shape \(1, 1, 8\), but y_hat has \(1, 8, 8\)"):
        online.learn("one", y[:1])
    assert "one" in online.waiting
    with pytest.raises(ImageError):
        online.mask("bad", x, y_hat + np.float32(np.nan))
    with pytest.raises(MismatchError, match="1 channel, not 3"):
        online.mask("colour", x, y_hat.repeat(3, axis=2))
    with pytest.raises(InvalidArgumentError, match="becomes a file name"):
        online.mask("../up", x, y_hat)
    with pytest.raises(InvalidArgumentError, match="eta"):
        OnlineMasker(MASKER, eta=1.5)
    with pytest.raises(MissingFileError):
        OnlineMasker.load(MASKER, tmp_path)


def test_a_mean_has_no_confidence_to_follow() -> None:
    selection = triplets(30, 1)
    mean = calibrate(
        Heuristic(scale_of, channels=1),
        triplets(40, 0),
        threshold=0.05,
        loss="l1",
        promise="expected",
        selection=selection,
    )
    assert isinstance(mean, Masker)
    with pytest.raises(
        InvalidArgumentError, match="not guarantee expected for images: calibrate with guarantee marginal"
    ):
        OnlineMasker(mean)
