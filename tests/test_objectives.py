"""KIP against plain NumPy and finite differences, and what every objective owes the distiller."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from rdd_jax import networks, objectives, risk
from rdd_jax.types import Batch, Synthetic


def KERNEL(x1, x2):
    """Smooth, of full rank, and compiled fast: what objectives make of a kernel is tested here, not kernels."""
    return jnp.exp(x1.reshape(len(x1), -1) @ x2.reshape(len(x2), -1).T / 9)


KEY = jax.random.key(0)
NETWORK = networks.mlp(3, width=4)
OBJECTIVES = {"kip": objectives.kip(KERNEL), "kip_solved": objectives.kip_solved(KERNEL)}
REGRESSIONS = {
    "on_features": objectives.feature_regression(objectives.on_features(NETWORK, 1e-3), mirror=True),
    "on_tangents": objectives.feature_regression(objectives.on_tangents(NETWORK), "cross-entropy"),
}
MEMBERS = OBJECTIVES | REGRESSIONS | {"taught": objectives.taught(OBJECTIVES["kip"], NETWORK, 0.5)}
VARIABLES = NETWORK.init(KEY, jnp.zeros((1, 3, 3, 1)))
MODELS = dict.fromkeys(REGRESSIONS, VARIABLES) | {"taught": (None, VARIABLES)}


def problem(dtype=jnp.float64, m=4, b=9, k=3):
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.standard_normal(shape), dtype)  # noqa: E731
    synthetic = Synthetic(draw(m, 3, 3, 1), draw(m, k))
    weight = jnp.asarray(rng.uniform(0.5, 2, b), dtype)
    return synthetic, Batch(draw(b, 3, 3, 1), draw(b, k), jnp.arange(b) % 2, weight)


def gram(x1, x2):
    return np.asarray(KERNEL(jnp.asarray(x1), jnp.asarray(x2)))


def test_every_objective_is_under_the_contract():
    kernels = set(objectives.__all__) - {"Objective", "DISTANCES", "cosine", "squared", "means", "characteristic"}
    kernels -= {"gradient_matching", "distribution_matching"}  # tests/test_matching.py
    kernels -= {"trajectory_matching", "ENDS", "angle", "missed"}  # tests/test_trajectory.py
    assert set(MEMBERS) | {"feature_regression"} == kernels  # see tests/test_regression.py too


@pytest.mark.parametrize("name", MEMBERS)
def test_objectives_give_one_finite_loss_an_example_and_pass_group_and_weight_on(name):
    synthetic, batch = problem(jnp.float32)
    losses = jax.jit(MEMBERS[name])(KEY, MODELS.get(name), synthetic, batch)
    assert losses.value.shape == batch.weight.shape
    assert losses.value.dtype == jnp.float32
    assert np.isfinite(losses.value).all()
    np.testing.assert_array_equal(losses.group, batch.group)
    np.testing.assert_array_equal(losses.weight, batch.weight)


@pytest.mark.slow
@pytest.mark.parametrize("name", MEMBERS)
def test_weight_two_counts_as_the_example_twice(name, x64):
    synthetic, batch = problem()
    model = jax.tree.map(lambda leaf: leaf.astype(float), MODELS.get(name))
    double = batch.replace(weight=jnp.ones(9).at[3].set(2))
    twice = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[3:4]]), batch).replace(weight=jnp.ones(10))
    of = jax.jit(jax.value_and_grad(lambda s, b: risk.overall(risk.mean)(MEMBERS[name](KEY, model, s, b))))
    value, gradient = of(synthetic, double)
    value2, gradient2 = of(synthetic, twice)
    np.testing.assert_allclose(value, value2, rtol=1e-8)
    np.testing.assert_allclose(gradient.images, gradient2.images, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("reg", [1e-6, 1e-1])
def test_kip_is_half_the_squared_error_of_ridge_regression(reg, x64):
    synthetic, batch = problem()
    full = gram(synthetic.images, synthetic.images)
    alpha = np.linalg.inv(full + reg * np.trace(full) / 4 * np.eye(4)) @ np.asarray(synthetic.labels)
    expected = []
    for x, y in zip(batch.images, np.asarray(batch.labels), strict=True):
        row = np.array([gram(x[None], s[None])[0, 0] for s in synthetic.images])
        expected.append(0.5 * sum((row @ alpha - y) ** 2))
    np.testing.assert_allclose(objectives.kip(KERNEL, reg)(KEY, None, synthetic, batch).value, expected, rtol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("reg", [1e-6, 1e-1])
def test_gradients_of_kip_agree_with_finite_differences(reg, x64):
    synthetic, batch = problem()
    objective = objectives.kip(KERNEL, reg)

    def loss(images, labels):
        return risk.overall(risk.mean)(objective(KEY, None, Synthetic(jnp.asarray(images), jnp.asarray(labels)), batch))

    check_grads(loss, synthetic[:2], order=1, modes=("rev",), atol=1e-6, rtol=1e-6)


RISKS = {
    "plain": risk.overall(risk.mean),
    "overall cvar": risk.overall(risk.cvar(0.3)),
    "entropic": risk.grouped(risk.mean, risk.entropic(5.0)),
    "max": risk.grouped(risk.mean, risk.worst),
    "rdd": risk.grouped(risk.cvar(0.3), risk.plus(risk.mean, risk.worst)),
    "cvar of cvar": risk.grouped(risk.cvar(0.3), risk.cvar(0.7)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RISKS)
def test_gradients_of_robust_kip_agree_with_finite_differences(name, x64):
    synthetic, batch = problem()
    objective = objectives.kip(KERNEL, 1e-3)

    def loss(of, images, labels):
        return of(objective(KEY, None, Synthetic(jnp.asarray(images), jnp.asarray(labels)), batch))

    check_grads(lambda *args: loss(RISKS[name], *args), synthetic[:2], order=1, modes=("rev",), atol=1e-6, rtol=1e-6)
    if name != "plain":
        robust, plain = (jax.grad(lambda *a, r=r: loss(r, *a))(*synthetic[:2]) for r in (RISKS[name], RISKS["plain"]))
        # Another direction, not only another length.
        cosine = jnp.sum(robust * plain) / (jnp.linalg.norm(robust.ravel()) * jnp.linalg.norm(plain.ravel()))
        assert cosine < 0.99


def best_penalised(images, batch, mu, ridge):
    """``min_alpha J`` and its parts, by the normal equations in NumPy; ``mu`` and the ridge given."""
    full, cross = gram(images, images) + ridge * np.eye(len(images)), gram(batch.images, images)
    weight, y = np.asarray(batch.weight / batch.weight.sum()), np.asarray(batch.labels)
    alpha = np.linalg.solve((cross.T * weight) @ cross + mu * full, (cross.T * weight) @ y)
    errors = 0.5 * ((cross @ alpha - y) ** 2).sum(1)
    penalty = mu / 2 * np.trace(alpha.T @ full @ alpha)
    return errors, penalty, weight @ errors + penalty


@pytest.mark.slow
@pytest.mark.parametrize("reg", [1e-12, 1e-1])
@pytest.mark.parametrize("label_reg", [1e-3, 1e-1])
def test_kip_solved_is_the_minimum_over_labels(reg, label_reg, x64):
    synthetic, batch = problem()
    mean = np.trace(gram(synthetic.images, synthetic.images)) / 4
    errors, penalty, least = best_penalised(synthetic.images, batch, label_reg * mean, reg * mean)
    losses = objectives.kip_solved(KERNEL, reg, label_reg)(KEY, None, synthetic, batch)
    np.testing.assert_allclose(losses.value, errors + penalty, rtol=1e-7)
    np.testing.assert_allclose(risk.overall(risk.mean)(losses), least, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("reg", [1e-12, 1e-1])
@pytest.mark.parametrize("label_reg", [1e-3, 1e-1])
def test_gradient_of_kip_solved_is_that_of_the_minimum(reg, label_reg, x64):
    synthetic, batch = problem()
    objective = objectives.kip_solved(KERNEL, reg, label_reg)
    gradient = jax.grad(lambda x: risk.overall(risk.mean)(objective(KEY, None, synthetic._replace(images=x), batch)))(
        synthetic.images
    )
    mean = np.trace(gram(synthetic.images, synthetic.images)) / 4
    rng = np.random.default_rng(1)
    for _ in range(5):
        direction = rng.standard_normal(synthetic.images.shape)
        # mu and the ridge stay those of the base point, as the objective holds them.
        moved = (synthetic.images + h * direction for h in (1e-5, -1e-5))
        up, down = (best_penalised(images, batch, label_reg * mean, reg * mean)[2] for images in moved)
        np.testing.assert_allclose(np.sum(gradient * direction), (up - down) / 2e-5, rtol=1e-5)


@pytest.mark.slow
def test_kip_solved_does_not_read_the_labels():
    synthetic, batch = problem(jnp.float32)
    other = synthetic._replace(labels=synthetic.labels + 1)
    losses = [OBJECTIVES["kip_solved"](KEY, None, s, batch).value for s in (synthetic, other)]
    np.testing.assert_array_equal(*losses)


def test_ridges_that_are_not_given_are_the_published_ones():
    ridges = {name: inspect.signature(getattr(objectives, name)).parameters for name in OBJECTIVES}
    assert {name: found["reg"].default for name, found in ridges.items()} == {"kip": 1e-6, "kip_solved": 1e-6}
    assert ridges["kip_solved"]["label_reg"].default == 1e-8
