"""Certificates: the theorem's arithmetic, the promise kept, the measured errors against brute force."""

import numpy as np
import pytest
from scipy.optimize import minimize

from rdd_jax.errors import InputError
from rdd_jax.selection import Pool, Selection, certify, select_by_name, strata_of
from rdd_jax.selection.certificate import Errors, bought, needed
from rdd_jax.selection.scores import sensitivity


def linear(a, b):
    return a.reshape(len(a), -1) @ b.reshape(len(b), -1).T


def problem(n=60, d=4, classes=3, seed=0, **fields):
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((n, d, 1, 1)).astype(np.float32)
    images[0] *= 10
    return Pool(images, rng.permutation(np.arange(n) % classes), classes, **fields)


def drawn(pool, ipc, method="krr-sensitivity", draw="independent", strata="all", seed=0):
    return select_by_name(method, draw)(seed, pool, strata_of(pool, strata, ipc))


@pytest.mark.parametrize("eps", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("bound", [30.0, 900.0])
def test_needed_and_bought_are_inverse(eps, bound):
    m = needed(bound, 50.0, 10, eps, 0.1)
    assert bought(bound, 50.0, 10, m, 0.1) <= eps < bought(bound, 50.0, 10, m - 1, 0.1)
    # The exponent of the theorem itself, at that size.
    chance = 8 * (10 * 50 + 1) * np.exp(-(eps**2) / 2 / (bound / m * (1 + eps / 3)))
    np.testing.assert_allclose(chance, 0.1, rtol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("eps", "delta"), [(0.0, 0.1), (-1.0, 0.1), (0.5, 0.0), (0.5, 1.0)])
def test_eps_and_delta_out_of_range(eps, delta):
    with pytest.raises(InputError, match=r"eps is|delta is"):
        certify(problem(), drawn(problem(), 2), "independent", eps, delta)


def brute(pool, selection, ridge, w):
    """The error of the regressor ``w``, and its derivative."""
    phi = pool.images.reshape(len(pool), -1).astype(np.float64)
    residual = phi @ w - pool.one_hot
    counted = np.zeros(len(pool))
    np.add.at(counted, selection.index, selection.weight)
    both = (np.ones(len(pool)), counted)
    full, chosen = (count @ np.sum(residual**2, 1) + ridge * np.sum(w**2) for count in both)
    slope, chosen_slope = (2 * phi.T @ (count[:, None] * residual) + 2 * ridge * w for count in both)
    sign = np.sign(chosen - full)
    return abs(chosen - full) / full, sign * (chosen_slope * full - chosen * slope) / full**2


@pytest.mark.slow
@pytest.mark.parametrize("method", ["krr-sensitivity", "lightweight", "herding", "random"])
def test_the_worst_error_is_a_supremum_over_all_regressors(method):
    pool = problem(kernel=linear)
    selection, ridge = drawn(pool, 4, method, strata="class"), 0.5
    errors = Errors(pool, selection, ridge, np.arange(len(pool)))
    worst = errors.worst()
    rng = np.random.default_rng(0)
    starts = [rng.standard_normal(12) * 10 ** rng.uniform(-2, 2) for _ in range(8)]

    def downhill(w):
        error, slope = brute(pool, selection, ridge, w.reshape(4, 3))
        return -error, -slope.ravel()

    climbed = [minimize(downhill, w, jac=True) for w in starts]
    found = -min(end.fun for end in climbed)
    assert found <= worst * (1 + 1e-4)
    assert found >= 0.95 * worst
    assert errors.random(2000).max() <= worst * (1 + 1e-6)


def test_random_queries_are_errors_of_regressors():
    """The error is quadratic along every line, so three points tell it: against the cost itself at the optimum."""
    pool = problem(kernel=linear)
    selection, ridge = drawn(pool, 4), 0.5
    errors = Errors(pool, selection, ridge, np.arange(len(pool)))
    phi = pool.images.reshape(len(pool), -1).astype(np.float64)
    best = np.linalg.solve(phi.T @ phi + ridge * np.eye(4), phi.T @ pool.one_hot)
    np.testing.assert_allclose(abs(errors.constant) / errors.optimum, brute(pool, selection, ridge, best)[0], rtol=1e-3)
    known = sensitivity(Pool(pool.images, pool.labels, 3, kernel=linear, ridge=ridge / np.sum(phi**2)))
    np.testing.assert_allclose(errors.optimum, known.optimum, rtol=1e-4)


def test_choosing_everything_is_without_error():
    pool = problem(kernel=linear)
    everything = Selection(np.arange(60), np.ones(60), np.ones(60), np.ones(60))
    found = certify(pool, everything, None, queries=100)
    assert found.worst < 1e-5
    assert found.worst_random < 1e-5
    assert found.needed is found.bought is None
    assert "no theorem" in " ".join(found.sentences())


@pytest.mark.slow
@pytest.mark.parametrize("strata", ["all", "class"])
def test_a_certified_size_keeps_its_promise(strata):
    """eps 0.5 with delta 0.1: at most 10 % of the draws may be worse; measured exactly, over all regressors."""
    pool = problem(400, 6, kernel=linear, ridge=0.05)
    known = sensitivity(pool)
    size = certify(pool, drawn(pool, 2, strata=strata), "independent", queries=10).needed
    assert size is not None
    worst = []
    for seed in range(20):
        selection = drawn_many(pool, size, strata, seed)
        worst.append(Errors(pool, selection, known.ridge, np.arange(len(pool))).worst())
    assert np.mean(np.array(worst) > 0.5) <= 0.1
    assert max(worst) > 0.02  # it does measure something


def drawn_many(pool, size, strata, seed):
    which = strata_of(pool, strata, 1)
    share = size * which.take / which.take.sum()
    return select_by_name("krr-sensitivity", "independent")(seed, pool, which._replace(take=np.ceil(share).astype(int)))


def test_every_way_of_drawing_has_a_certificate_and_uniform_needs_more():
    pool = problem(kernel=linear)
    by_sensitivity, by_chance = (
        certify(pool, drawn(pool, 4, method), "independent", queries=10) for method in ("krr-sensitivity", "random")
    )
    assert by_sensitivity.needed is not None
    assert by_chance.needed is not None
    assert by_chance.needed > 2 * by_sensitivity.needed  # there is an outlier
    assert by_sensitivity.proven
    assert not certify(pool, drawn(pool, 4, draw="distinct"), "distinct", queries=10).proven


def test_draws_that_can_never_take_some_examples_guarantee_nothing():
    pool = problem(kernel=linear)
    selection = drawn(pool, 4)
    never = Selection(selection.index, selection.weight, selection.score, np.where(np.arange(60) == 3, 0, 1.0))
    found = certify(pool, never, "independent", queries=10)
    assert found.needed is found.bought is None


def test_what_it_says():
    pool = problem(kernel=linear)
    few = certify(pool, drawn(pool, 1), "independent", queries=10)
    assert "it says nothing at this size" in " ".join(few.sentences())
    many = certify(pool, drawn_many(pool, 100_000, "all", 0), "independent", queries=10)
    assert "it bites" in " ".join(many.sentences())
    assert many.bought is not None
    assert many.worst <= many.bought
