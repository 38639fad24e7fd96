"""The bound holds on any sequence; nothing is assumed of it."""

import json
import math
from collections.abc import Callable

import numpy as np
import pytest

from conformask.errors import ImageError, InvalidArgumentError, MismatchError, MissingFileError, OutputError
from conformask.extras.watch.online import OnlineLambda, OnlineMasker
from conformask.images.triplets import Triplets
from conformask.masker.calibrate import calibrate
from conformask.masker.masker import Masker
from conformask.promises.promise import Promise
from conformask.records.record import from_dict, to_jsonable
from conformask.scores.scorer import Heuristic
from synthetic_triplets import arrays, scale_of, triplets

T = 2000
Nature = Callable[[float], float]
"""From the lambda that is about to be deployed to the image's critical lambda."""


def steady(seed, shift=1.0):
    generator = np.random.default_rng(seed)
    while True:
        yield float(shift * generator.lognormal())


def failures(online, nature, images=T, delay=0):
    """Whether each image failed; its truth becomes known after the delay."""
    failed, waiting = np.zeros(images, dtype=bool), []
    for place in range(images):
        lam = online.lam
        critical = nature(lam)
        failed[place] = lam > critical
        waiting.append((critical, bool(failed[place])))
        if len(waiting) > delay:
            known, error = waiting.pop(0)
            online.learn(known, failed=error)
    return failed


def drawn(values):
    return lambda lam: next(values)


def natures():
    """Fresh ones."""
    moving, times = steady(1), iter(range(10**6))
    flips = np.random.default_rng(5)
    return {
        "steady": drawn(steady(0)),
        "a sudden shift": lambda lam: next(moving) * (1.0 if next(times) < T // 2 else 0.05),
        "drift": lambda lam: next(moving) * 0.999 ** next(times),
        "always just too large": lambda lam: 0.999 * lam,
        "adversary": lambda lam: 0.0 if lam > 0 else math.inf,
        "adversary with luck": lambda lam: 0.0 if flips.random() < 0.3 else math.inf,
        "hopeless": lambda lam: 0.0,
        "nothing ever fails": lambda lam: math.inf,
        "ties": lambda lam: float(flips.integers(3)),
    }


CALIBRATION = np.random.default_rng(9).lognormal(size=200).tolist()


@pytest.mark.parametrize("eta", [0.005, 0.05, 0.5])
@pytest.mark.parametrize("name", natures())
@pytest.mark.parametrize("past", [[], CALIBRATION], ids=["from nothing", "calibrated"])
def test_the_bound_holds_on_any_sequence(name, eta, past):
    online = OnlineLambda(0.9, eta, past=list(past))
    failed = failures(online, natures()[name])
    for images in (1, 10, 100, T):
        assert failed[:images].mean() <= OnlineLambda(0.9, eta).bound(images) + 1e-12


@pytest.mark.parametrize("delay", [1, 20, 200])
@pytest.mark.parametrize("name", natures())
def test_the_bound_is_wider_by_the_delay(name, delay):
    online = OnlineLambda(0.9, past=list(CALIBRATION))
    failed = failures(online, natures()[name], delay=delay)
    assert failed.mean() <= online.bound(T) + 0.9 * delay / T + 1e-12


def test_another_start():
    for gamma in (0.0, 0.5, 1.0):
        online = OnlineLambda(0.9, gamma=gamma, past=list(CALIBRATION))
        failed = failures(online, natures()["adversary"])
        assert failed.mean() <= online.bound(T, start=gamma) + 1e-12
    assert OnlineLambda(0.9).bound(T, start=1.0) > OnlineLambda(0.9).bound(T)


def test_the_judge_notices_a_learner_that_does_not_move():
    class Stubborn(OnlineLambda):
        def learn(self, critical_lambda, *, failed):
            pass

    failed = failures(Stubborn(0.9, past=list(CALIBRATION)), natures()["a sudden shift"])
    assert failed.mean() > OnlineLambda(0.9).bound(T)


def test_the_judge_notices_a_gamma_that_is_floored_above_0():
    class Floored(OnlineLambda):
        def learn(self, critical_lambda, *, failed):
            super().learn(critical_lambda, failed=failed)
            self.gamma = max(self.level, 0.01)

    failed = failures(Floored(0.9, past=list(CALIBRATION)), natures()["always just too large"])
    assert failed.mean() > OnlineLambda(0.9).bound(T)


def test_on_a_steady_stream_it_is_tight():
    failed = failures(OnlineLambda(0.9, 0.02, past=list(CALIBRATION)), natures()["steady"], 6000)
    assert failed[1000:].mean() == pytest.approx(0.1, abs=0.01)


def recovery(online, easy=1500):
    """How many images after a shift until gamma is at most 1 - confidence again."""
    failures(online, lambda lam: math.inf, easy)
    for image in range(10_000):
        if online.level <= 0.1:
            return image
        online.learn(0.0, failed=online.lam > 0)
    raise AssertionError("never")


def test_a_capped_gamma_recovers_at_once_and_an_uncapped_one_does_not():
    class Uncapped(OnlineLambda):
        def learn(self, critical_lambda, *, failed):
            self.gamma = self.level + self.eta * (1 - self.confidence - failed)
            self.past.append(critical_lambda)
            self.past.sort()

    assert recovery(OnlineLambda(0.9, past=list(CALIBRATION))) <= 0.9 / (0.05 * 0.9) + 2
    assert recovery(Uncapped(0.9, past=list(CALIBRATION))) > 100


def test_lambda_is_the_gamma_quantile():
    past = [5.0, 1.0, 4.0, 2.0, 3.0]
    for gamma, lam in ((-0.1, 0), (0.0, 0), (1e-6, 1), (0.2, 1), (0.2001, 2), (0.6, 3), (1.0, 5), (1.04, 5)):
        assert OnlineLambda(0.9, gamma=gamma, past=past).lam == lam
    assert OnlineLambda(0.9).lam == 0
    assert OnlineLambda(0.7, past=list(range(1, 11))).lam == 3, "(1 - .7) 10 > 3 in floats"
    assert past == [5.0, 1.0, 4.0, 2.0, 3.0]


def test_json_and_back_in_the_middle_of_a_stream():
    values = steady(3)
    online = OnlineLambda(0.9, past=[*CALIBRATION, math.inf, 0.0])
    failures(online, drawn(values), 50)
    again = from_dict(OnlineLambda, json.loads(json.dumps(to_jsonable(online), allow_nan=False)), "a state")
    assert again == online
    future = [next(values) for _ in range(100)]
    assert (
        failures(online, drawn(iter(future)), 100).tolist()
        == failures(again, drawn(iter(future)), 100).tolist()
    )
    assert again == online


@pytest.mark.parametrize("arguments", [{"confidence": 1.0}, {"confidence": 0.9, "eta": 0.0}])
def test_what_is_refused(arguments):
    with pytest.raises(InvalidArgumentError, match="between 0 and 1"):
        OnlineLambda(**arguments)


SETTINGS = {"threshold": 0.03, "loss": "l1", "promise": Promise(confidence=0.8)}
MASKER = calibrate(Heuristic(scale_of, channels=1), triplets(40, 0), **SETTINGS)


def stream(count, seed, harder=1.0):
    x, y_hat, y = arrays(count, seed)
    worse = [(truth + harder * (output - truth)).clip(0, 1) for output, truth in zip(y_hat, y, strict=True)]
    return list(zip(x, worse, y, strict=True))


def run(online, images, delay=0):
    kept = []
    for index, (x, y_hat, _) in enumerate(images):
        online.mask(f"{index}", x, y_hat)
        if index >= delay:
            kept.append(online.learn(f"{index - delay}", images[index - delay][2]))
    return np.array(kept)


def test_it_starts_as_the_masker():
    online = OnlineMasker(MASKER)
    x, y_hat, _ = stream(1, 5)[0]
    np.testing.assert_allclose(online.mask("first", x, y_hat), MASKER(x, y_hat), atol=1e-6)


@pytest.mark.thorough
@pytest.mark.parametrize("delay", [0, 20])
def test_it_follows_a_shift_that_a_fixed_lambda_does_not(delay):
    images = stream(100, 1) + stream(300, 2, harder=3.0)
    online = OnlineMasker(MASKER, eta=0.05)
    kept = run(online, images, delay)
    fixed = [float(np.abs(MASKER(x, y_hat) * (y - y_hat)[..., 0]).mean()) <= 0.03 for x, y_hat, y in images]
    assert np.mean(fixed[100:]) < 0.6
    assert kept[150:].mean() > 0.8 - 0.06
    allowed = online.state.bound(len(kept)) + delay * 0.8 / len(kept)
    assert 1 - kept.mean() <= allowed


def test_saved_and_restored_in_the_middle(tmp_path):
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


def test_the_state_of_another_masker_is_refused(tmp_path):
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


def test_a_truth_is_judged_by_the_lambda_of_its_mask():
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
def test_where_nothing_drifts_it_neither_fails_nor_hides_more_than_promised():
    """A share of failures that is far below what is allowed would be paid for with masks."""
    kept = run(OnlineMasker(MASKER, eta=0.05), stream(400, 6))
    assert kept[100:].mean() == pytest.approx(0.8, abs=0.05)


def test_it_learns_the_critical_lambda_of_each_image():
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


def test_a_masker_refuses_what_does_not_fit(tmp_path):
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


def test_a_mean_has_no_confidence_to_follow():
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
