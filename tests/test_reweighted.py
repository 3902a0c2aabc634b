"""The weights of a robust ridge regression, against scikit-learn and against the risk that they are to make least."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.linear_model import Ridge

from rdd_jax.grouping import reweighted as module
from rdd_jax.grouping.reweighted import Part, reweighted, solve


def problem(n=300, d=20, k=3, seed=0):
    """Points, targets and cells of two kinds; the first cells of each are rare and go another way than the rest."""
    rng = np.random.default_rng([31, seed])
    points = rng.standard_normal((n, d)).astype(np.float32)
    rare = rng.random(n) < 0.1
    truth, other = rng.standard_normal((2, d, k))
    targets = np.where(rare[:, None], points @ other, points @ truth).astype(np.float32) / 12  # losses as of labels
    few = np.where(rare, 0, rng.integers(1, 4, n)).astype(np.int32)
    many = np.where(rare, rng.integers(0, 3, n), rng.integers(3, 30, n)).astype(np.int32)
    return points, targets, few, many


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_weighted_solution_is_scikit_learns(dtype):
    points, targets, *_ = problem()
    points, targets = points.astype(dtype), targets.astype(dtype)
    weight = np.random.default_rng(0).uniform(0.1, 3, len(points)).astype(dtype)
    mean = float((weight[:, None] * points**2).sum()) / points.shape[1]
    expected = Ridge(module.RIDGE * mean, fit_intercept=False).fit(points, targets, weight).coef_.T
    np.testing.assert_allclose(solve(points, targets, weight), expected, atol=2e-5)


def risk_of(points, targets, parts):
    """The risk and its gradient as formulas, in float64."""
    x, y = points.astype(np.float64), targets.astype(np.float64)
    rest = 1 - sum(part.share for part in parts)

    def risk(flat, ridge):
        w = flat.reshape(x.shape[1], y.shape[1])
        error = x @ w - y
        loss = 0.5 * (error**2).sum(1)
        value, each = rest * loss.mean(), np.full(len(x), rest / len(x))
        for part in parts:
            live = np.unique(part.cell)
            mean = np.array([loss[part.cell == g].mean() for g in live])
            value += part.share * (logsumexp(part.sharpness * mean) - np.log(len(live))) / part.sharpness
            tilt = np.exp(part.sharpness * mean - logsumexp(part.sharpness * mean))
            for g, q in zip(live, tilt, strict=True):
                each[part.cell == g] += part.share * q / np.sum(part.cell == g)
        return value + 0.5 * ridge * (w**2).sum(), (x.T @ (error * each[:, None]) + ridge * w).ravel(), each

    return risk


@pytest.mark.parametrize("shares", [(0.5, 0.0), (0.0, 0.5), (0.3, 0.3), (1.0, 0.0)])
@pytest.mark.parametrize("sharpness", [5.0, 20.0])
def test_the_risk_is_nearly_the_least_and_the_weights_are_its_gradient(shares, sharpness):
    points, targets, few, many = problem()
    parts = [Part(cell, 31, share, sharpness) for cell, share in zip((few, many), shares, strict=True) if share]
    found = reweighted(points, targets, parts)
    weight = found.weight(parts)
    np.testing.assert_allclose(weight.mean(), 1, atol=1e-5)
    ridge = module.RIDGE * float((weight[:, None] * points.astype(np.float64) ** 2).mean(0).mean())
    risk = risk_of(points, targets, parts)
    plain = solve(points, targets, np.ones(len(points), np.float32)).ravel().astype(np.float64)
    least = minimize(lambda w: risk(w, ridge)[:2], plain, jac=True, method="L-BFGS-B", options={"maxiter": 5000})
    value, _, each = risk(found.coefficients.ravel().astype(np.float64), ridge)
    before = risk(plain, ridge)[0]
    assert before - least.fun > 1e-3
    assert value - least.fun < 0.05 * (before - least.fun)
    np.testing.assert_allclose(weight, each * len(points), rtol=0.2)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_cells_without_examples_and_their_names_do_not_matter(seed):
    points, targets, few, _ = problem(80, 5, 2, seed)
    names = np.random.default_rng(seed).permutation(9)[:4].astype(np.int32)
    one, other = Part(few, 4, 0.5, 5.0), Part(names[few], 11, 0.5, 5.0)
    found, again = reweighted(points, targets, [one]), reweighted(points, targets, [other])
    np.testing.assert_allclose(found.weight([one]), again.weight([other]), rtol=1e-4)
    assert (again.density[0][[10]] == 1).all()


def test_one_cell_is_the_plain_regression():
    points, targets, *_ = problem()
    part = Part(np.zeros(len(points), np.int32), 1, 0.7, 5.0)
    found = reweighted(points, targets, [part])
    ones = np.ones(len(points), np.float32)
    np.testing.assert_allclose(found.weight([part]), ones, rtol=1e-6)
    np.testing.assert_allclose(found.coefficients, solve(points, targets, ones), atol=1e-6)


def test_weights_of_others_are_those_of_their_cells():
    points, targets, few, many = problem()
    parts = [Part(few, 4, 0.3, 5.0), Part(many, 30, 0.2, 5.0)]
    found = reweighted(points, targets, parts)
    others = [parts[0]._replace(cell=np.array([0, 3], np.int32)), parts[1]._replace(cell=np.array([0, 29], np.int32))]
    expected = [0.5 + 0.3 * found.density[0][a] + 0.2 * found.density[1][b] for a, b in ((0, 0), (3, 29))]
    np.testing.assert_allclose(found.weight(others), expected, rtol=1e-6)
