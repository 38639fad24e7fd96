"""Lambdas that depend on the image: quantile regression, adaptive, conditional_mean, kernel ridge."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy import optimize
from sklearn.kernel_ridge import KernelRidge as Sklearn

from conformask.promises.axes import LogLinear, quantile_regression, tail_risk, zero
from conformask.promises.kernel_ridge import PENALTIES, WIDTHS, _candidates, _kernel, fitted
from conformask.promises.order import CalibrationData, Curves
from conformask.promises.promise import Promise
from conformask.promises.rules import (
    AdaptiveLambda,
    ConditionalLambda,
    ConditionalQuantile,
    ConstantLambda,
    ImageCovariates,
    Rule,
)
from promised import CONFIDENCE, falls_short, goes_beyond, simulated
from worlds import GRID, RANDOM, THRESHOLD, evidence_of

WANTED = Promise("adaptive", CONFIDENCE)


def spread(n, f):
    """Points that fill a cube, the same in every version of NumPy."""
    return np.sqrt(np.outer(np.arange(1, n + 1), [2, 3, 5][:f])) % 1


@pytest.mark.parametrize(
    ("n", "f", "confidence", "expected"),
    [
        (60, 1, 0.9, [0.361912589, 0.696181958, 1.027766302, 1.356729303, 1.683132164]),
        (60, 3, 0.9, [1.451253787, 2.034906861, 2.614454683, 3.195421731, 2.781374401]),
        (200, 2, 0.8, [0.972611252, 1.208210276, 1.440255602, 1.671730088, 1.902637926]),
    ],
)
def test_the_authors_own_package_agrees(n, f, confidence, expected):
    """conditionalconformal 0.0.5: CondConf.predict(confidence, ..., randomize=False, exact=False)."""
    features, new = spread(n, f), spread(n + 5, f)[n:] + 0.05
    scores = features.sum(axis=1) + 3 * (np.sqrt(11 * np.arange(1, n + 1)) % 1) * features[:, 0]
    found = ConditionalQuantile(features, scores, confidence)(new)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-9)


def by_linear_program(features, scores, new):
    """The price of the test point where it pulls with its whole weight; inf where nothing holds it."""
    n = len(scores)
    design, point = np.column_stack([np.ones(n), features]), np.append(1.0, new)
    equality = np.hstack([design, np.eye(n), -np.eye(n)])
    cost = np.concatenate([-CONFIDENCE * point, np.full(n, CONFIDENCE), np.full(n, 1 - CONFIDENCE)])
    bounds = [(None, None)] * len(point) + [(0, None)] * (2 * n)
    solution = optimize.linprog(cost, A_eq=equality, b_eq=scores, bounds=bounds, method="highs")
    return float(point @ solution.x[: len(point)]) if solution.status == 0 else np.inf


@pytest.mark.parametrize("seed", range(40))
def test_a_linear_program_agrees(seed):
    """With ties of scores and of features, scores at the ends, and images far from all others."""
    generator = np.random.default_rng(seed)
    n, f = int(generator.integers(10, 120)), seed % 5
    features = generator.normal(size=(n, f)).round(seed % 4)
    scores = generator.normal(size=n).round(seed // 4 % 4)
    scores[: n // 5 if seed % 3 == 0 else 0] = -100
    scores[-1 if seed % 5 == 0 else n :] = 100
    new = generator.normal(size=(7, f)).round(1)
    found = ConditionalQuantile(features, scores, CONFIDENCE)(new)
    np.testing.assert_allclose(found, [by_linear_program(features, scores, each) for each in new], atol=1e-5)


def without_the_test_point(evidence):
    """The same regression of the calibration images alone."""
    logs = np.log(evidence.critical_lambdas)
    return AdaptiveLambda(quantile_regression(evidence.column("features"), logs, 1 - CONFIDENCE), 0.0)


def with_many_features(rule_of, n, draws, f=5):
    """Coverage, where the features say nothing and critical lambdas are log-normal."""
    generator, found = np.random.default_rng(n), np.empty(draws)
    for place in simulated(draws):
        features, critical = generator.normal(size=(n + 20, f)), np.exp(generator.normal(size=n + 20))
        rule = rule_of(evidence_of(critical[:n], features=features[:n]))
        found[place] = (rule(ImageCovariates(20, features=features[n:])) <= critical[n:]).mean()
    return found


@pytest.mark.thorough
def test_the_judge_notices_a_regression_without_the_test_point():
    assert falls_short(with_many_features(without_the_test_point, 60, 300), CONFIDENCE)
    right = with_many_features(WANTED.rule, 60, 600)
    assert not falls_short(right, CONFIDENCE)
    assert not goes_beyond(right, CONFIDENCE + 6 / 61)


@pytest.mark.quick(1)
@pytest.mark.parametrize("n", [30, 100])
def test_groups_in_the_span_keep_the_promise_each(n):
    """Indicators of groups as features: coverage is that of each group, though one lambda would miss one."""
    generator, kept, kept_by_one = np.random.default_rng(n), [], []
    for _ in simulated(600):
        hard = generator.random(n + 40) < 0.3
        critical = np.exp(generator.normal(size=n + 40) - 2 * hard)
        features = hard[:, None].astype(float)
        evidence = evidence_of(critical[:n], features=features[:n])
        facts = ImageCovariates(40, features=features[n:])
        for rule, rows in (
            (WANTED.rule(evidence), kept),
            (Promise("marginal", CONFIDENCE).rule(evidence), kept_by_one),
        ):
            met = rule(facts) <= critical[n:]
            rows.append([met[hard[n:] == group].mean() for group in (False, True)])
    for group in (0, 1):
        shares = np.array(kept)[:, group]
        assert not falls_short(shares, CONFIDENCE)
        assert not goes_beyond(shares, CONFIDENCE + 2 / (0.3 * n))
    assert falls_short(np.array(kept_by_one)[:, 1], CONFIDENCE)


def test_a_distance_that_is_not_monotone_is_only_ever_deployed_on_the_grid():
    """Between grid points nothing is known of it."""
    world = RANDOM["non_monotone"]()
    rule = WANTED.rule(world.evidence(np.arange(200)))
    lam = rule(world.facts(np.arange(1000, 3000)))
    assert np.isin(lam, GRID).all()
    assert len(np.unique(lam)) > 4
    off_grid = replace(rule, grid=None)(world.facts(np.arange(1000, 3000)))
    assert (lam <= off_grid * (1 + 1e-8)).all()


@pytest.mark.parametrize("monotone", [True, False])
def test_constant_features_are_marginal(monotone):
    """Ties included: a lambda an ulp above the tied one would fail for all images that have it."""
    generator = np.random.default_rng(0)
    for n in (8, 9, 20, 100, 333):
        for critical in (generator.choice(GRID, n), generator.choice(GRID[3:6], n)):
            evidence = evidence_of(critical, features=np.full((n, 2), 1.7))
            evidence = replace(
                evidence,
                monotone=monotone,
                curves=replace(evidence.curves, grid=GRID, loss=np.zeros((n, 20))),
            )
            lam = WANTED.rule(evidence)(ImageCovariates(1, features=np.full((1, 2), 1.7)))[0]
            same = Promise("marginal", CONFIDENCE).rule(evidence).lam
            assert lam <= same
            assert lam == (pytest.approx(same, rel=1e-8) if monotone else same)


def test_the_ends():
    features = np.zeros((20, 1))
    three = ImageCovariates(3, features=np.array([[-1000.0], [0.0], [1000.0]]))
    for critical, lam in ((np.zeros(20), 0.0), (np.full(20, np.inf), 1e9)):
        for monotone in (True, False):
            evidence = replace(evidence_of(critical, features=features), monotone=monotone)
            rule = WANTED.rule(evidence)
            assert rule(three) == pytest.approx([lam] * 3), "a feature that is the same for all tells nothing"
            assert rule.is_vacuous == (lam == 0)
    assert WANTED.rule(evidence_of(np.ones(8), features=features[:8])).is_vacuous
    mixed = np.repeat([0.0, 1.0, np.inf], [1, 3, 16])
    assert WANTED.rule(evidence_of(mixed, features=features))(three) == pytest.approx([1.0] * 3)


def test_an_image_unlike_all_others_is_hidden():
    generator = np.random.default_rng(0)
    features, critical = generator.normal(size=(100, 1)), generator.lognormal(size=100)
    rule: Rule = WANTED.rule(evidence_of(critical, features=features))
    ordinary, far, broken = rule(ImageCovariates(3, features=np.array([[0.0], [40.0], [np.nan]])))
    assert ordinary > 0
    assert far == broken == 0
    assert isinstance(rule, ConditionalLambda)
    assert not rule.is_vacuous


def looks_tell(n, seed):
    """Critical lambdas that shrink as the first feature grows."""
    generator = np.random.default_rng(seed)
    hardness = generator.normal(size=n)
    critical = np.exp(-1.0 * hardness + 0.3 * generator.normal(size=n)).clip(GRID[1], GRID[-2])
    return evidence_of(critical, features=np.column_stack([hardness, generator.normal(size=n)])), hardness


def test_hard_images_are_no_longer_sacrificed():
    calibration, (test, hardness) = looks_tell(1000, 1)[0], looks_tell(4000, 2)
    hardest = hardness > np.quantile(hardness, 0.8)
    facts = ImageCovariates(4000, features=test.column("features"))
    kept = [
        wanted.rule(calibration)(facts) <= test.critical_lambdas
        for wanted in (Promise("marginal", 0.9), WANTED)
    ]
    assert kept[0].mean() == pytest.approx(0.9, abs=0.03)
    assert kept[1].mean() == pytest.approx(0.9, abs=0.03)
    assert kept[0][hardest].mean() < 0.6
    assert kept[1][hardest].mean() > 0.85


def pinball(h, features, target, quantile):
    error = target - h(features)
    return float(np.maximum(quantile * error, (quantile - 1) * error).mean())


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("f", [1, 3])
def test_against_a_search(quantile, f):
    generator = np.random.default_rng(f)
    features = 100 + 5 * generator.normal(size=(200, f))
    target = features @ np.ones(f) + generator.standard_t(2, 200)
    found = pinball(quantile_regression(features, target, quantile), features, target, quantile)

    def loss(x):
        return pinball(LogLinear(x[0], tuple((x[1:]).tolist())), features - 100, target, quantile)

    start = np.array([target.mean(), *np.ones(f)])
    searched = optimize.minimize(loss, start, method="Nelder-Mead", options={"maxiter": 4000, "fatol": 1e-10})
    assert found <= searched.fun + 1e-6
    assert found == pytest.approx(searched.fun, rel=1e-2)


def test_known_quantiles():
    """A constant feature leaves a plain quantile; the share below is the quantile."""
    generator = np.random.default_rng(0)
    target = generator.exponential(size=401)
    h = quantile_regression(np.full((401, 1), 3.0), target, 0.1)
    assert h(np.array([[3.0]]))[0] == pytest.approx(np.quantile(target, 0.1), abs=0.01)
    features = generator.normal(size=(1000, 2))
    target = 2 + features @ np.array([1.0, -3.0]) + (1 + 0.2 * features[:, 0]) * generator.normal(size=1000)
    h = quantile_regression(features, target, 0.1)
    assert np.mean(target < h(features)) == pytest.approx(0.1, abs=0.004)
    np.testing.assert_allclose(h.coefficients, [1 - 0.2 * 1.28, -3], atol=0.25)
    assert h.intercept == pytest.approx(2 - 1.28, abs=0.25)


def test_an_exact_line_is_found():
    features = np.random.default_rng(1).normal(size=(50, 2))
    h = quantile_regression(features, 1 + features @ np.array([2.0, -1.0]), 0.3)
    np.testing.assert_allclose([h.intercept, *h.coefficients], [1, 2, -1], atol=1e-9)


def test_doubled_features_do_no_harm():
    generator = np.random.default_rng(2)
    one, target = generator.normal(size=(100, 1)), generator.normal(size=100)
    single, double = (quantile_regression(x, target, 0.2) for x in (one, np.hstack([one, one])))
    assert pinball(single, one, target, 0.2) == pytest.approx(
        pinball(double, np.hstack([one, one]), target, 0.2)
    )


def test_constant():
    h = zero(np.ones((4, 3)))
    assert h(np.ones((2, 3))).tolist() == [0, 0]


N, FEATURES = 40, 5


def rows(seed):
    generator = np.random.default_rng(seed)
    features = generator.normal(3, 2, (N, FEATURES))
    return features, np.sin(features[:, 0] / 2) + 0.1 * generator.normal(size=N)


def prediction(ridge, features):
    return _kernel((features - ridge.centre) / ridge.scale, ridge.points, ridge.width) @ ridge.weights


def test_it_is_that_of_scikit_learn():
    features, target = rows(0)
    ridge, _ = fitted(features, target, np.arange(N), np.ones(N, bool))
    standardised = (features - features.mean(axis=0)) / features.std(axis=0)
    new = rows(1)[0]
    found = prediction(ridge, new)
    gamma = ridge.width / 2 / FEATURES
    residuals = [
        np.abs(
            Sklearn(alpha=penalty, kernel="rbf", gamma=gamma)
            .fit(standardised, target - target.mean())
            .predict((new - features.mean(axis=0)) / features.std(axis=0))
            - found
        ).max()
        for penalty in PENALTIES
    ]
    assert min(residuals) < 1e-8


@pytest.mark.parametrize("per_group", [1, 4])
def test_predictions_without_a_group_are_those_of_a_fit_without_it(per_group):
    features, target = rows(2)
    points, target = (features - features.mean(axis=0)) / features.std(axis=0), target - target.mean()
    groups = np.arange(N) // per_group
    settings = [(width, penalty) for width in WIDTHS for penalty in PENALTIES]
    candidates = list(_candidates(points, target, [np.flatnonzero(groups == each) for each in set(groups)]))
    for (width, penalty), (_, own_width, left_out) in zip(settings, candidates, strict=True):
        assert own_width == width
        for group in (0, 3):
            kept = groups != group
            model = Sklearn(alpha=penalty, kernel="rbf", gamma=width / 2 / FEATURES)
            expected = model.fit(points[kept], target[kept]).predict(points[~kept])
            np.testing.assert_allclose(left_out[~kept], expected, atol=1e-7)


def test_the_choice_predicts_best_what_counts_and_far_from_all_rows_it_is_the_mean():
    features, target = rows(3)
    ridge, left_out = fitted(features, target, np.arange(N), np.ones(N, bool))
    constant = target.mean() - target
    assert ((left_out - (target - target.mean())) ** 2).mean() < 0.3 * (constant**2).mean()
    assert np.abs(prediction(ridge, features + 1e3)).max() < 1e-12


def test_one_value_is_chosen_where_nothing_predicts():
    chosen = []
    for seed in range(30):
        generator = np.random.default_rng(seed)
        features, target = generator.normal(size=(N, FEATURES)), generator.normal(size=N)
        chosen.append(fitted(features, target, np.arange(N), np.ones(N, bool))[0].weights.any())
    assert np.mean(chosen) <= 0.1


def test_twins_in_a_group_teach_nothing_about_each_other():
    """Twenty images, each twice, and a target of noise: by single rows it would be predicted well."""
    generator = np.random.default_rng(4)
    features, target = generator.normal(size=(20, FEATURES)), generator.normal(size=20)
    twice = [np.repeat(each, 2, axis=0) for each in (features, target)]
    by_row = fitted(*twice, np.arange(40), np.ones(40, bool))[1] - (twice[1] - target.mean())
    by_group = fitted(*twice, np.repeat(np.arange(20), 2), np.ones(40, bool))[1] - (twice[1] - target.mean())
    assert (by_row**2).mean() < 0.1 * target.var() < 0.8 * target.var() < (by_group**2).mean()


FINE_GRID = np.array([0.0, *np.geomspace(0.01, 20, 40), math.inf])


@dataclass(frozen=True)
class Truths:
    """Inputs x with many possible truths y each."""

    distance: np.ndarray
    """(X, R, G)"""

    @property
    def conditional(self):
        """(X, G): E[d | x]."""
        return self.distance.mean(axis=1)

    @property
    def bound(self):
        """(X, G): the largest possible distance of x."""
        return np.minimum(1, self.distance.max(axis=1) * 1.2)

    def draw(self, generator, n):
        x, r = (generator.integers(size, size=n) for size in self.distance.shape[:2])
        distance = self.distance[x, r]
        failing = distance > THRESHOLD
        first = np.where(failing.any(axis=1), failing.argmax(axis=1), len(FINE_GRID)) - 1
        curves = Curves(np.full(n, "image"), FINE_GRID, distance, distance)
        return x, CalibrationData(THRESHOLD, FINE_GRID[first], curves, 1.0)


def two_points():
    """d = .02 lam w.p. .92 and lam w.p. .08, whatever x is."""
    slope = np.repeat([0.02, 1.0], [92, 8])
    return Truths(np.minimum(1, slope[None, :, None] * FINE_GRID))


def heavy_tailed():
    """Some x are harder than others, and the truth may be anything."""
    generator = np.random.default_rng(0)
    hard = np.exp(0.7 * generator.normal(size=(150, 1)))
    disaster = generator.random((150, 100)) < 0.07
    slope = hard * np.where(disaster, 0.8 * generator.random((150, 100)) ** (-1 / 1.3), 0.02)
    return Truths(np.minimum(1, slope[..., None] * FINE_GRID))


def jumps():
    """Flat curves: nothing up to a jump, whose place depends on x and whose height on the truth."""
    generator = np.random.default_rng(1)
    place = generator.choice([3, 8, 15, 20], size=(150, 1, 1))
    height = generator.choice([0.0, 0.05, 1.0], p=[0.5, 0.4, 0.1], size=(150, 100, 1))
    return Truths(np.where(np.arange(len(FINE_GRID)) > place, height, 0.0))


WORLDS: dict[str, Callable[[], Truths]] = {
    "two_points": two_points,
    "heavy_tailed": heavy_tailed,
    "jumps": jumps,
}


def kept(world, deploy, n, draws, own_bound=False):
    """For each calibration set the share of x with E[d | x] <= threshold at their lambdas."""
    generator, found = np.random.default_rng(n), np.empty(draws)
    conditional, bound = world.conditional, world.bound
    everywhere = np.arange(len(conditional))
    for place in simulated(draws):
        _, evidence = world.draw(generator, n)
        rule = deploy(replace(evidence, own_bound=own_bound))
        lam = rule(ImageCovariates(len(everywhere), bound_curve=bound))
        passing = conditional[everywhere, np.searchsorted(FINE_GRID, lam)] <= THRESHOLD * (1 + 1e-6)
        found[place] = passing.mean()
    return found


def fixed(world, n, own_bound=False):
    """t chosen on a draw of its own."""
    _, selection = world.draw(np.random.default_rng(77), 200)
    chosen = Promise("conditional_mean", CONFIDENCE).fit_on_selection(
        replace(selection, own_bound=own_bound), n
    )
    assert 0 <= chosen.axes.statement.t < THRESHOLD
    return chosen


@pytest.mark.quick(8)
@pytest.mark.parametrize("n", [5, 99, 150, 400, 1000])
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("own_bound", [False, True])
def test_condition_3_is_kept(world, n, own_bound):
    truths = WORLDS[world]()
    rule = fixed(truths, n, own_bound).rule
    values = kept(truths, rule, n, 200 if n == 1000 else 400, own_bound)
    assert not falls_short(values, CONFIDENCE)


@pytest.mark.parametrize("n", [150, 1000])
@pytest.mark.parametrize("world", WORLDS)
def test_any_t_below_the_threshold_will_do(world, n):
    truths = WORLDS[world]()
    for t in (0.0, 0.04, 0.09):
        assert not falls_short(
            kept(truths, Promise("conditional_mean", CONFIDENCE, t=t).rule, n, 100), CONFIDENCE
        )


def test_marginal_violates_it_in_most_runs():
    values = kept(two_points(), Promise("marginal", CONFIDENCE).rule, 1000, 400)
    assert np.mean(values < 0.5) > 0.5
    assert falls_short(values, CONFIDENCE)
    right = kept(two_points(), fixed(two_points(), 1000).rule, 1000, 400)
    assert not falls_short(right, CONFIDENCE)


def chosen_after_looking(evidence):
    """No bound, and the t that opens most on the calibration images themselves."""
    means = [tail_risk(evidence.risk(), t, 10.0).mean(axis=0) for t in np.linspace(0, THRESHOLD, 40)]
    return ConstantLambda(float(max(FINE_GRID[np.flatnonzero(m <= THRESHOLD).max()] for m in means)))


@pytest.mark.parametrize(
    ("broken", "world", "n"),
    [
        (Promise("marginal", CONFIDENCE).rule, "heavy_tailed", 400),
        (Promise("expected").rule, "two_points", 400),
        (Promise("expected").rule, "heavy_tailed", 400),
        (Promise("conditional_mean", 0.1).rule, "heavy_tailed", 400),
        (chosen_after_looking, "jumps", 9),
    ],
    ids=["marginal", "a mean over x, two points", "a mean over x", "less steep", "no bound, t afterwards"],
)
def test_the_judge_notices_weaker_promises(broken, world, n):
    truths = WORLDS[world]()
    assert falls_short(kept(truths, broken, n, 400), CONFIDENCE)


def test_masks_are_not_simply_closed():
    for world in WORLDS.values():
        truths = world()
        _, evidence = truths.draw(np.random.default_rng(3), 1000)
        assert fixed(truths, 1000).rule(evidence).lam > 0
        own = fixed(truths, 1000, own_bound=True).rule(replace(evidence, own_bound=True))
        assert own(ImageCovariates(len(truths.bound), bound_curve=truths.bound)).mean() > 0


def test_it_is_risk_control_of_the_tail_risk():
    t, steepness = 0.05, 10.0
    risk = np.array([0.0, 0.05, 0.06, 1.0])
    np.testing.assert_allclose(tail_risk(risk, t, steepness), [0.05, 0.05, 0.15, 9.55])
    _, evidence = two_points().draw(np.random.default_rng(0), 500)
    tails = tail_risk(
        evidence.risk(), t, Promise("conditional_mean", CONFIDENCE, t=t).axes.statement.steepness
    )
    curves = replace(evidence.curves, loss=tails)
    wanted = Promise("expected").rule(replace(evidence, curves=curves, upper_bound=9.55))
    assert Promise("conditional_mean", CONFIDENCE, t=t).rule(evidence) == wanted


def test_the_smallest_set():
    """With t = 0: bound / (1 - confidence) / (n + 1) <= threshold."""
    wanted = Promise("conditional_mean", 0.9)
    assert wanted.smallest_calibration_set(0.1, 1.0) == 99
    assert wanted.smallest_calibration_set(0.1, None) == 1
    assert Promise("conditional_mean", 0.9, t=0.05).smallest_calibration_set(0.1, 1.0) == 189
    nothing = np.zeros((189, len(FINE_GRID)))
    evidence = CalibrationData(
        0.1, np.zeros(189), Curves(np.full(189, "i"), FINE_GRID, nothing, nothing), 1.0
    )
    assert Promise("conditional_mean", 0.9, t=0.05).rule(evidence).lam == np.inf
    fewer = replace(evidence, curves=evidence.curves.take(np.arange(188)), critical_lambdas=np.zeros(188))
    assert Promise("conditional_mean", 0.9, t=0.05).rule(fewer).is_vacuous


def test_the_choice_of_t_helps():
    truths = heavy_tailed()
    _, evidence = truths.draw(np.random.default_rng(4), 1000)
    assert (
        fixed(truths, 1000).rule(evidence).lam >= Promise("conditional_mean", CONFIDENCE).rule(evidence).lam
    )
    assert fixed(two_points(), 1000).axes.statement.t > 0


def test_the_claim_does_not_round_confidence_up():
    assert Promise("conditional_mean", 0.9).claim("l1", 0.02) == "P(E[l1 | x] <= 0.02) >= 0.90"
    assert Promise("conditional_mean", 0.999).claim("l1", 0.02) == "P(E[l1 | x] <= 0.02) >= 0.999"
