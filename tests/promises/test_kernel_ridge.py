"""Kernel ridge regression against scikit-learn, and leaving groups out against fitting without them."""

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge as Sklearn

from conformask.promises.kernel_ridge import PENALTIES, WIDTHS, _candidates, _kernel, fitted

N, FEATURES = 40, 5


def rows(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    features = generator.normal(3, 2, (N, FEATURES))
    return features, np.sin(features[:, 0] / 2) + 0.1 * generator.normal(size=N)


def prediction(ridge, features: np.ndarray) -> np.ndarray:
    return _kernel((features - ridge.centre) / ridge.scale, ridge.points, ridge.width) @ ridge.weights


def test_it_is_that_of_scikit_learn() -> None:
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
def test_predictions_without_a_group_are_those_of_a_fit_without_it(per_group: int) -> None:
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


def test_the_choice_predicts_best_what_counts_and_far_from_all_rows_it_is_the_mean() -> None:
    features, target = rows(3)
    ridge, left_out = fitted(features, target, np.arange(N), np.ones(N, bool))
    constant = target.mean() - target
    assert ((left_out - (target - target.mean())) ** 2).mean() < 0.3 * (constant**2).mean()
    assert np.abs(prediction(ridge, features + 1e3)).max() < 1e-12


def test_one_value_is_chosen_where_nothing_predicts() -> None:
    chosen = []
    for seed in range(30):
        generator = np.random.default_rng(seed)
        features, target = generator.normal(size=(N, FEATURES)), generator.normal(size=N)
        chosen.append(fitted(features, target, np.arange(N), np.ones(N, bool))[0].weights.any())
    assert np.mean(chosen) <= 0.1


def test_twins_in_a_group_teach_nothing_about_each_other() -> None:
    """Twenty images, each twice, and a target of noise: by single rows it would be predicted well."""
    generator = np.random.default_rng(4)
    features, target = generator.normal(size=(20, FEATURES)), generator.normal(size=20)
    twice = [np.repeat(each, 2, axis=0) for each in (features, target)]
    by_row = fitted(*twice, np.arange(40), np.ones(40, bool))[1] - (twice[1] - target.mean())
    by_group = fitted(*twice, np.repeat(np.arange(20), 2), np.ones(40, bool))[1] - (twice[1] - target.mean())
    assert (by_row**2).mean() < 0.1 * target.var() < 0.8 * target.var() < (by_group**2).mean()
