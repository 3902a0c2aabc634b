"""Ridge regression and label solving against scikit-learn and NumPy, in float64."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge

from rdd_jax.errors import InputError
from rdd_jax.kernels import fc_ntk, krr
from rdd_jax.progress import Progress, heard
from rdd_jax.types import Synthetic, centred_one_hot

KERNEL = fc_ntk(2)
CLASSES = 3


def images(seed, n):
    return np.random.default_rng(seed).standard_normal((n, 3, 3, 1)).astype(np.float32)


def targets(seed, n):
    return np.random.default_rng(seed).standard_normal((n, CLASSES)).astype(np.float32)


def gram(x1, x2):
    """The kernel of float32 images, in float64."""
    with jax.enable_x64(True):
        return np.asarray(KERNEL(jnp.asarray(x1, jnp.float64), jnp.asarray(x2, jnp.float64)))


def linear(x1, x2):
    return x1.reshape(len(x1), -1) @ x2.reshape(len(x2), -1).T


def indefinite(x1, x2):
    """A form with one positive direction, the first pixel: most of its eigenvalues are negative."""
    sign = jnp.ones(x1[0].size).at[1:].set(-0.02)
    return (x1.reshape(len(x1), -1) * sign[None, :]) @ x2.reshape(len(x2), -1).T


@pytest.mark.slow
@pytest.mark.parametrize("reg", [1e-3, 1.0])
def test_fit_and_predictions_are_those_of_scikit_learn(reg):
    support, labels, x = images(0, 6), targets(1, 6), images(2, 9)
    full = gram(support, support)
    reference = KernelRidge(alpha=reg * np.trace(full) / 6, kernel="precomputed").fit(full, labels)
    regressor = krr.fit(KERNEL, Synthetic(jnp.asarray(support), jnp.asarray(labels)), reg)
    np.testing.assert_allclose(regressor.alpha, reference.dual_coef_, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(regressor(x), reference.predict(gram(x, support)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(regressor(x, budget=1), regressor(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_factor_and_solve_invert_the_ridged_gram_matrix(x64):
    full, b = gram(images(3, 5), images(3, 5)), targets(4, 5)
    ridged = full + 0.1 * np.trace(full) / 5 * np.eye(5)
    lower = krr.factor(jnp.asarray(full), 0.1)
    np.testing.assert_allclose(lower @ lower.T, ridged, rtol=1e-12)
    np.testing.assert_array_equal(lower, np.tril(lower))
    np.testing.assert_allclose(krr.solve(lower, jnp.asarray(b, jnp.float64)), np.linalg.solve(ridged, b), rtol=1e-9)


def penalised_least_squares(support, x, y, reg, label_reg):
    """``alpha`` that minimises ``|k(X, S) a - Y|^2 / n + mu tr(a^T (K + ridge I) a)``: rows of both terms, stacked."""
    full, cross = gram(support, support), gram(x, support)
    mean = np.trace(full) / len(support)
    mu, full = label_reg * mean, full + reg * mean * np.eye(len(support))
    rows = np.concatenate([cross / np.sqrt(len(x)), np.sqrt(mu) * np.linalg.cholesky(full).T])
    right = np.concatenate([y / np.sqrt(len(x)), np.zeros((len(support), y.shape[1]))])
    return np.linalg.lstsq(rows, right)[0]


@pytest.mark.slow
@pytest.mark.parametrize("reg", [1e-12, 1e-1])
@pytest.mark.parametrize("label_reg", [1e-4, 1e-2, 1.0])
def test_solved_labels_are_the_penalised_least_squares(reg, label_reg, x64):
    support, x, y = images(5, 6), images(6, 40), targets(7, 40)
    exact = penalised_least_squares(support, x, y, reg, label_reg)
    wide = jnp.asarray(support, jnp.float64)
    labels = krr.label_solve(KERNEL, wide, x.astype(np.float64), y, reg=reg, label_reg=label_reg)
    full = gram(support, support)
    ridged = full + reg * np.trace(full) / len(full) * np.eye(len(full))
    np.testing.assert_allclose(labels, ridged @ exact, rtol=1e-6, atol=1e-8)
    refitted = krr.fit(KERNEL, Synthetic(wide, labels), reg=reg).alpha
    np.testing.assert_allclose(refitted, exact, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("reg", [1e-6, 1e-1])
def test_solved_labels_in_float32_refit_to_the_least_squares_fit(reg):
    support, x, y = images(8, 6), images(9, 40), targets(10, 40)
    labels = krr.label_solve(KERNEL, jnp.asarray(support), x, y, reg=reg, label_reg=1e-6)
    outputs = krr.fit(KERNEL, Synthetic(jnp.asarray(support), labels), reg)(x)
    # Whatever the ridge of the regression, the labels make up for it.
    best = gram(x, support) @ penalised_least_squares(support, x, y, reg, 1e-6)
    np.testing.assert_allclose(outputs, best, atol=2e-3)


@pytest.mark.slow
def test_solved_labels_do_not_depend_on_the_blocks():
    support, x, y = jnp.asarray(images(11, 4)), images(12, 23), targets(13, 23)
    whole = krr.label_solve(KERNEL, support, x, y, label_reg=1e-3)
    for rows in (0, 1, 7):
        budget = rows * 4 * (3 * 9 + 8 * 4)
        told = []
        with heard(Progress(told.append, lambda *step, told=told: told.append(step))):
            labels = krr.label_solve(KERNEL, support, x, y, 1e-6, 1e-3, budget)
        np.testing.assert_allclose(labels, whole, atol=1e-4)
        blocks = -(-len(x) // max(1, rows))
        assert sorted({(done, pieces) for done, pieces, _ in told}) == [(done, blocks) for done in range(blocks + 1)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_solved_labels_never_fit_the_data_worse_than_one_hot_labels(seed):
    rng = np.random.default_rng(seed)
    truth = np.arange(60) % CLASSES
    x = (rng.standard_normal((60, 3, 3, 1)) + 0.8 * rng.standard_normal((CLASSES, 3, 3, 1))[truth]).astype(np.float32)
    y = np.asarray(centred_one_hot(truth, CLASSES))
    support, hot = jnp.asarray(x[:CLASSES]), jnp.asarray(y[:CLASSES])
    solved = krr.label_solve(KERNEL, support, x, y, label_reg=1e-8)
    error = [np.mean((krr.fit(KERNEL, Synthetic(support, s))(x) - y) ** 2) for s in (solved, hot)]
    assert error[0] < error[1]


# Norms that are squares of powers of two: Cholesky's pivot of the second duplicate is exactly zero.
DUPLICATES = jnp.ones((2, 2, 2, 1))


@pytest.mark.slow
@pytest.mark.parametrize("kernel, x", [(indefinite, jnp.asarray(images(14, 4))), (linear, DUPLICATES)])
def test_kernels_that_are_not_positive_definite_are_refused(kernel, x):
    with pytest.raises(InputError, match=r"not positive definite with reg 1e-12 .* raise reg above"):
        krr.check_positive_definite(kernel, x, 1e-12)


@pytest.mark.slow
def test_a_ridge_large_enough_is_taken():
    krr.check_positive_definite(linear, DUPLICATES, 1e-3)
    krr.check_positive_definite(KERNEL, jnp.asarray(images(15, 10)), 1e-6)


def test_the_remedy_that_the_error_names_works():
    x = jnp.asarray(images(14, 4))
    with pytest.raises(InputError) as error:
        krr.check_positive_definite(indefinite, x, 1e-6)
    reg = float(re.search(r"raise reg above ([\d.e+-]+)", str(error.value)).group(1))
    krr.check_positive_definite(indefinite, x, reg)


def test_pixels_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="not finite"):
        krr.check_positive_definite(KERNEL, DUPLICATES.at[0, 0, 0, 0].set(jnp.nan), 1e-6)


def test_fit_and_label_solve_refuse_what_they_cannot_factor():
    x, y = images(14, 4), targets(16, 4)
    with pytest.raises(InputError, match="raise reg above"):
        krr.fit(indefinite, Synthetic(jnp.asarray(x), jnp.asarray(y)))
    with pytest.raises(InputError, match="raise reg above"):
        krr.label_solve(indefinite, jnp.asarray(x), x, y)
