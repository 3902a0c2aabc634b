"""Scores against brute force: the suprema that they are or bound."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import spearmanr
from sklearn.kernel_ridge import KernelRidge

from rdd_jax.datasets import load
from rdd_jax.datasets.preprocess import fit
from rdd_jax.errors import InputError
from rdd_jax.kernels import fc_ntk
from rdd_jax.kernels.gram import gram_matrix, gram_trace
from rdd_jax.selection import Pool
from rdd_jax.selection.scores import (
    kmeans_sensitivity,
    krr_sensitivity,
    krr_sensitivity_bound,
    lightweight,
    regression_loss,
    relative_loss,
    sensitivity,
)


def problem(n=12, d=5, k=3, seed=0):
    """Features, whose inner products are the Gram matrix, and labels."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal((n, k))


def linear(a, b):
    return a.reshape(len(a), -1) @ b.reshape(len(b), -1).T


def cost(w, phi, y, ridge):
    return np.sum((phi @ w - y) ** 2) + ridge * np.sum(w**2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("ridge", [0.1, 10.0])
def test_exact_sensitivity_is_the_numerical_supremum(seed, k, ridge):
    phi, y = problem(k=k, seed=seed)
    found = krr_sensitivity(phi @ phi.T, y, ridge)

    def negative_share(flat, i):
        w = flat.reshape(phi.shape[1], k)
        term, total = phi[i] @ w - y[i], cost(w, phi, y, ridge)
        share = term @ term / total
        gradient = 2 * phi.T @ (phi @ w - y) + 2 * ridge * w
        slope = (2 * np.outer(phi[i], term) - share * gradient) / total
        return -share, -slope.ravel()

    rng = np.random.default_rng(seed)
    for i in range(0, 12, 4):
        # The share tends to the leverage far out, so that the maximum may be a plateau: several starts.
        best = max(
            -minimize(
                negative_share, rng.standard_normal(phi.shape[1] * k), i, "BFGS", True, options={"gtol": 1e-12}
            ).fun
            for _ in range(5)
        )
        np.testing.assert_allclose(found.score[i], best, rtol=1e-8)
    assert found.total <= found.effective_dimension + 1 + 1e-12


def test_exact_sensitivity_has_the_optimum_of_scikit_learn():
    phi, y = problem(30)
    gram, ridge = phi @ phi.T, 0.7
    found = krr_sensitivity(gram, y, ridge)
    alpha = KernelRidge(alpha=ridge, kernel="precomputed").fit(gram, y).dual_coef_
    np.testing.assert_allclose(found.optimum, cost(phi.T @ alpha, phi, y, ridge), rtol=1e-10)
    np.testing.assert_allclose(found.effective_dimension, np.trace(gram @ np.linalg.inv(gram + ridge * np.eye(30))))


def test_duplicates_share_what_one_of_them_would_have():
    phi, y = problem(10)
    twice = krr_sensitivity(np.tile(phi @ phi.T, (2, 2)), np.tile(y, (2, 1)), 1e-6).score
    np.testing.assert_allclose(twice[:10], twice[10:])
    assert (twice <= 0.5 + 1e-9).all()


@pytest.mark.parametrize("bad", [0.0, -1.0, np.inf, np.nan])
def test_the_ridge_must_be_positive(bad):
    phi, y = problem()
    with pytest.raises(InputError, match="ridge is"):
        krr_sensitivity(phi @ phi.T, y, bad)


def test_kernels_that_are_none_are_refused():
    phi, y = problem()
    with pytest.raises(InputError, match="not positive semi-definite"):
        krr_sensitivity(-phi @ phi.T, y, 0.1)
    values, vectors = np.linalg.eigh(phi @ phi.T)
    values[0] = -0.05  # above minus the ridge: only the leverages show it
    with pytest.raises(InputError, match="a leverage score is"):
        krr_sensitivity((vectors * values) @ vectors.T, y, 0.1)
    with pytest.raises(InputError, match="not finite"):
        krr_sensitivity(np.full((3, 3), np.nan), y[:3], 0.1)
    with pytest.raises(InputError, match="not positive semi-definite"):
        krr_sensitivity_bound(lambda a, b: -linear(a, b), phi[:, :, None, None].astype(np.float32), y, 0.1, 6)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("z", [1, 5, 20, 39, 40, 50])
@pytest.mark.parametrize("ridge", [1e-3, 0.1, 3.0, 100.0])
def test_the_bound_is_never_below(seed, z, ridge):
    phi, y = problem(40, 8, seed=seed)
    y[0] *= 20  # an outlier
    exact = krr_sensitivity(phi @ phi.T, y, ridge)
    bound = krr_sensitivity_bound(linear, phi[:, :, None, None], y, ridge, z, seed)
    assert (bound.score >= exact.score - 1e-9).all()
    assert (bound.score <= 1).all()
    assert (bound.leverage >= exact.leverage - 1e-9).all()
    assert bound.optimum <= exact.optimum + 1e-9


@pytest.mark.usefixtures("x64")
def test_the_bound_from_all_examples_is_exact():
    phi, y = problem(40, 8)
    exact = krr_sensitivity(phi @ phi.T, y, 0.5)
    bound = krr_sensitivity_bound(linear, phi[:, :, None, None], y, 0.5, 40)
    np.testing.assert_allclose(bound.leverage, exact.leverage, rtol=1e-6)
    np.testing.assert_allclose(bound.score, exact.score, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.real_data
def test_the_bound_ranks_real_images_as_the_exact_score_does():
    part = load("cifar10").train.take(np.arange(2000))
    images = fit("standardise", part.pixels).apply(part.pixels)
    for ridge in (1e-4, 1e-2):
        pool = Pool(images, part.labels, 10, ridge=ridge)
        exact = sensitivity(pool)
        assert exact.exact
        bound = krr_sensitivity_bound(pool.kernel, images, pool.one_hot, exact.ridge, 400)
        assert (bound.score >= exact.score * (1 - 1e-5)).all()
        assert spearmanr(bound.score, exact.score).statistic >= 0.95


@pytest.mark.slow
def test_a_pool_decides_between_exact_and_bound():
    rng = np.random.default_rng(0)
    images = rng.standard_normal((30, 2, 2, 1)).astype(np.float32)
    pool = Pool(images, np.arange(30) % 3, 3)
    assert sensitivity(pool).exact
    assert not sensitivity(Pool(images, np.arange(30) % 3, 3, landmarks=10)).exact
    np.testing.assert_allclose(
        sensitivity(pool).ridge, 1e-3 * np.trace(fc_ntk()(*(jnp.asarray(images),) * 2)), rtol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("n", [7, 500, 501])
def test_gram_matrices_on_the_host(n):
    images = np.random.default_rng(0).standard_normal((n, 2, 2, 1)).astype(np.float32)
    on_device = jnp.asarray(images)
    expected = np.asarray(fc_ntk()(on_device, on_device))
    np.testing.assert_allclose(gram_matrix(fc_ntk(), images), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gram_trace(fc_ntk(), images), np.trace(expected), rtol=1e-5)


# --- k-means -----------------------------------------------------------------------------------------


def shares(points, centres):
    """Of every point, in the cost of the centres."""
    distance = ((points[:, None] - centres[None]) ** 2).sum(2).min(1)
    return distance / distance.sum(), distance


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("k", [1, 2, 4])
def test_kmeans_sensitivity_bounds_the_share_of_any_centres(seed, k):
    rng = np.random.default_rng(seed)
    points = np.concatenate([rng.standard_normal((40, 2)), [[9.0, 9.0]], rng.standard_normal((19, 2)) * 0.1 - 5])
    bound = kmeans_sensitivity(points, k, seed)
    assert ((bound > 0) & (bound <= 1)).all()
    worst = np.zeros(60)
    for _ in range(3000):
        centres = points[rng.integers(0, 60, k)] + rng.standard_normal((k, 2)) * rng.choice([0, 0.1, 1, 10, 100])
        found, distance = shares(points, centres)
        if distance.sum() > 0:
            worst = np.maximum(worst, found)
    assert (bound >= worst - 1e-9).all()


@pytest.mark.slow
def test_kmeans_sensitivity_is_the_formula():
    # Two pairs: the clusters are plain, the distances to their centres 1 for all.
    points = np.array([[0.0], [2.0], [100.0], [102.0]])
    a = 16 * 3
    np.testing.assert_allclose(kmeans_sensitivity(points, 2), np.minimum((a + 2 * a + 4 * 4 / 2) / 4, 1))
    spread = np.concatenate([np.linspace(0, 1, 1000), np.linspace(50, 51, 3000)])[:, None]
    found = kmeans_sensitivity(spread, 2)
    mean = np.where(np.arange(4000) < 1000, spread[:1000].mean(), spread[1000:].mean())
    distance = (spread[:, 0] - mean) ** 2
    size = np.where(np.arange(4000) < 1000, 1000, 3000)
    within = np.where(np.arange(4000) < 1000, distance[:1000].mean(), distance[1000:].mean())
    expected = (a * distance / distance.mean() + 2 * a * within / distance.mean()) / 4000 + 4 / size
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_lightweight_is_the_formula_and_bounds_the_mean_of_two_costs():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((50, 3))
    q = lightweight(points)
    np.testing.assert_allclose(q.sum(), 1)
    from_mean = ((points - points.mean(0)) ** 2).sum(1)
    np.testing.assert_allclose(q, 0.01 + 0.5 * from_mean / from_mean.sum())
    for _ in range(500):
        _, distance = shares(points, rng.standard_normal((3, 3)) * rng.choice([0.1, 1, 10]))
        assert (distance / (0.5 * distance.sum() + 0.5 * from_mean.sum()) <= 16 * q).all()


def test_points_that_are_all_the_same_are_equally_important():
    same = np.ones((10, 2))
    np.testing.assert_allclose(lightweight(same), 0.1)
    assert np.isfinite(kmeans_sensitivity(same, 2)).all()


# --- losses ------------------------------------------------------------------------------------------


def test_relative_losses_sum_to_one():
    np.testing.assert_allclose(relative_loss(np.array([1.0, 3.0])), [0.25, 0.75])
    np.testing.assert_allclose(relative_loss(np.zeros(4)), 0.25)
    with pytest.raises(InputError, match="losses hold -1"):
        relative_loss(np.array([1.0, -1.0]))


@pytest.mark.slow
def test_regression_loss_leaves_the_example_out():
    rng = np.random.default_rng(0)
    images = rng.standard_normal((20, 2, 2, 1)).astype(np.float32)
    pool = Pool(images, np.arange(20) % 2, 2, kernel=linear, ridge=0.1)
    gram = np.asarray(linear(images, images), np.float64)
    ridge, y = 0.1 * np.trace(gram), pool.one_hot
    for i in range(20):
        rest = [j for j in range(20) if j != i]
        alpha = np.linalg.solve(gram[np.ix_(rest, rest)] + ridge * np.eye(19), y[rest])
        np.testing.assert_allclose(regression_loss(pool)[i], np.sum((y[i] - gram[i, rest] @ alpha) ** 2), rtol=1e-4)
