"""Regression on features and tangents of networks, against plain NumPy in float64 and finite differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from rdd_jax import networks, parameterise, risk, sampling, trajectory
from rdd_jax.distill import compose
from rdd_jax.errors import InputError
from rdd_jax.kernels import blocks
from rdd_jax.objectives import feature_regression, on_features, on_tangents, regression, tangents
from rdd_jax.types import Batch, Examples, Synthetic

KEY = jax.random.key(0)
CLASSES, SET, REAL = 3, 4, 7
NETWORK = networks.convnet(CLASSES, depth=1, width=4)
SEVERAL = networks.ensemble(NETWORK, 2)
MEAN = risk.overall(risk.mean)


def problem():
    rng = np.random.default_rng(0)
    one_hot = np.eye(CLASSES)[np.arange(REAL) % CLASSES] - 1 / CLASSES
    synthetic = Synthetic(
        jnp.asarray(rng.standard_normal((SET, 4, 4, 1))), jnp.asarray(rng.standard_normal((SET, CLASSES)))
    )
    weight = jnp.asarray(rng.uniform(0.5, 2, REAL))
    return synthetic, Batch(
        jnp.asarray(rng.standard_normal((REAL, 4, 4, 1))), jnp.asarray(one_hot), jnp.arange(REAL) % 2, weight
    )


def variables_of(network):
    found = network.init(jax.random.key(7), jnp.zeros((1, 4, 4, 1)))
    keys = iter(jax.random.split(jax.random.key(8), 100))
    return jax.tree.map(lambda leaf: leaf.astype(float) + 0.1 * jax.random.normal(next(keys), leaf.shape, float), found)


# --- by a plain loop ---------------------------------------------------------------------------------


@functools.cache
def jacobian_of(network):
    """Of the outputs for a set of images, explicit, ``[n k, P]``."""

    def of(variables, images):
        found = jax.jacrev(lambda v: network.apply(v, images))(variables)
        return jnp.concatenate([leaf.reshape(len(images) * CLASSES, -1) for leaf in jax.tree.leaves(found)], 1)

    return jax.jit(of)


def with_mirrored(images, labels):
    return np.concatenate([images, images[:, :, ::-1]]), np.concatenate([labels, labels])


def predicted(network, variables, images, labels, real, reg, constant=None):
    """By the features of the network, or where ``constant`` is None by its tangents."""
    features = [np.asarray(network.features(variables, jnp.asarray(x))) for x in (images, real)]
    if constant is None:
        ours, theirs = (np.asarray(jacobian_of(network)(variables, jnp.asarray(x))) for x in (images, real))
        ridge = reg * np.mean([row @ row for row in features[0]])
        system = ours @ ours.T + ridge * np.eye(len(ours))
        weights = ours.T @ np.linalg.solve(system, labels.reshape(-1))
        return (theirs @ weights).reshape(-1, CLASSES)
    ours, theirs = features
    gram = ours @ ours.T / ours.shape[1] + constant
    cross = theirs @ ours.T / ours.shape[1] + constant
    return cross @ np.linalg.solve(gram + reg * np.trace(gram) / len(gram) * np.eye(len(gram)), labels)


def entropies(outputs, labels, scale):
    logits = scale * outputs
    return logsumexp(logits, 1) - (logits * (labels + 1 / CLASSES)).sum(1)


def best_scale(outputs, labels, weight):
    """By a minimiser that knows no derivatives."""
    mean = lambda logarithm: weight @ entropies(outputs, labels, np.exp(logarithm))  # noqa: E731
    return np.exp(minimize_scalar(mean, bounds=np.log([1e-3, 1e3]), method="bounded", options={"xatol": 1e-10}).x)


def by_loop(outputs, batch, labels, error, margin):
    """One loss an example."""
    y, weight, found = np.asarray(batch.labels), np.asarray(batch.weight), []
    tops = [sorted(label)[-1] - sorted(label)[-2] for label in np.asarray(labels)]
    apart = np.mean([min(top, margin / CLASSES) for top in tops])
    scale = best_scale(outputs, y, weight) if error == "cross-entropy" else 1.0
    for row, label in zip(outputs, y, strict=True):
        if error == "squared":
            found.append(0.5 * sum((row - label) ** 2) - apart)
        else:
            found.append(entropies(row[None], label[None], scale)[0] - apart)
    return found


# name: network, regression, and what `predicted` and `by_loop` are told
MEMBERS = {
    "frepo": (NETWORK, on_features(NETWORK), {"reg": 1e-6, "constant": 0.0}, {}),
    "frepo, mirrored": (NETWORK, on_features(NETWORK, 1e-3), {"reg": 1e-3, "constant": 0.0}, {"mirror": True}),
    "rfad": (
        SEVERAL,
        on_features(SEVERAL, 5e-3, 5e-3),
        {"reg": 5e-3, "constant": 5e-3},
        {"error": "cross-entropy", "margin": 0},
    ),
    "rcig": (
        NETWORK,
        on_tangents(NETWORK, 1e-2),
        {"reg": 1e-2},
        {"error": "cross-entropy", "margin": 0.5, "mirror": True},
    ),
    "rcig, squared": (NETWORK, on_tangents(NETWORK, 1e-2), {"reg": 1e-2}, {"margin": 0.1}),
}


@functools.cache
def made(name):
    _, predict, _, options = MEMBERS[name]
    return jax.jit(feature_regression(predict, **options))


@pytest.mark.slow
@pytest.mark.parametrize("name", MEMBERS)
def test_losses_are_those_of_a_plain_loop(name, x64):
    network, _, told, options = MEMBERS[name]
    synthetic, batch = problem()
    images, labels = map(np.asarray, synthetic[:2])
    variables = variables_of(network)
    options = {"error": "squared", "margin": 1.0, "mirror": False} | options
    support = with_mirrored(images, labels) if options.pop("mirror") else (images, labels)
    outputs = predicted(network, variables, *support, np.asarray(batch.images), **told)
    losses = made(name)(KEY, variables, synthetic, batch)
    np.testing.assert_allclose(losses.value, by_loop(outputs, batch, labels, **options), rtol=1e-5)


# --- gradients ---------------------------------------------------------------------------------------


def mean_loss(objective, variables, batch):
    return lambda images, labels: MEAN(objective(KEY, variables, Synthetic(images, labels), batch))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["frepo, mirrored", "rfad", "rcig"])
def test_gradients_agree_with_finite_differences(name, x64):
    # Those of RCIG go through the minimum of its inner problem; those of a scale vanish at the best one.
    synthetic, batch = problem()
    loss = jax.jit(mean_loss(made(name), variables_of(MEMBERS[name][0]), batch))
    check_grads(loss, tuple(synthetic[:2]), order=1, modes=("rev",), atol=1e-6, rtol=1e-5, eps=1e-6)


@pytest.mark.thorough
def test_conjugate_gradients_and_the_factor_find_the_same_minimum_and_gradient(x64):
    synthetic, batch = problem()
    variables, found = variables_of(NETWORK), []
    for options in ({}, {"jacobian": 0, "tolerance": 1e-12, "iterations": 1000}):
        objective = feature_regression(on_tangents(NETWORK, 1e-2, **options))
        of = jax.jit(jax.value_and_grad(mean_loss(objective, variables, batch), (0, 1)))
        found.append(jax.tree.leaves(of(*synthetic[:2])))
    for factored, iterated in zip(*found, strict=True):
        np.testing.assert_allclose(factored, iterated, rtol=1e-6, atol=1e-9)
    assert all(np.abs(leaf).max() > 1e-3 for leaf in found[0])


@pytest.mark.thorough
def test_five_conjugate_gradients_are_below_twenty_steps_of_adam_as_in_the_release(x64):
    synthetic, _ = problem()
    variables, reg = variables_of(NETWORK), 1e-2
    jacobian, labels = np.asarray(jacobian_of(NETWORK)(variables, synthetic.images)), np.ravel(synthetic.labels)
    ridge = reg * np.mean(np.sum(np.square(NETWORK.features(variables, synthetic.images)), 1))
    last = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]["head"]))
    body, head = jacobian[:, :-last], jacobian[:, -last:]
    inverse = np.linalg.inv(head @ head.T + ridge * np.eye(len(labels)))

    def loss(w):
        """With the best last layer."""
        left = labels - body @ w
        return ridge / 2 * (left @ inverse @ left + w @ w)

    found = tangents._by_iteration(NETWORK, variables, synthetic, jnp.asarray(ridge), 0.0, 5)
    w = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(found)])[:-last]
    least = ridge / 2 * labels @ np.linalg.solve(jacobian @ jacobian.T + ridge * np.eye(len(labels)), labels)
    tried = []
    for rate in (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0):
        adam, moved = optax.adam(rate), jnp.zeros(body.shape[1])
        moments = adam.init(moved)
        for _ in range(20):
            change, moments = adam.update(ridge * (moved - body.T @ inverse @ (labels - body @ moved)), moments)
            moved = moved + change
        tried.append(loss(np.asarray(moved)))
    assert least <= loss(w) < min(tried) < loss(0 * w)


def test_conjugate_gradients_ask_for_a_last_layer_that_they_know(x64):
    synthetic, batch = problem()
    several = on_tangents(SEVERAL, jacobian=0)
    with pytest.raises(InputError, match=r"is no flax\.linen\.Dense of the name 'head': call it so"):
        several(variables_of(SEVERAL), synthetic, batch.images)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["frepo", "rcig, squared"])
def test_real_images_are_looked_at_in_blocks(name, monkeypatch, x64):
    synthetic, batch = problem()
    _, predict, _, options = MEMBERS[name]
    variables, whole = variables_of(NETWORK), []
    for block in (256, 3):
        monkeypatch.setattr(blocks, "BLOCK", block)
        loss = mean_loss(feature_regression(predict, **options), variables, batch)
        whole.append(jax.tree.leaves(jax.jit(jax.value_and_grad(loss, (0, 1)))(*synthetic[:2])))
    for one, other in zip(*whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-10)


GOLDEN = {
    "frepo": (4.403748324252013, 0.05039990353313723),
    "rfad": (1.0641533085362274, 0.0022171266627106895),
    "rcig": (0.7621926909309849, 0.005030546103218019),
}
"""Loss of the first step, and how far it moves images and labels: recorded, so that a change is noticed."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["frepo", "rfad", "rcig"])
def test_the_first_step_is_the_recorded_one(name, x64):
    synthetic, batch = problem()
    distiller = compose(
        made(name),
        sampling.uniform(5),
        risk.grouped(risk.mean, risk.entropic(5.0)),
        optax.sgd(0.01),
        parameterise.pixels("learned"),
        trajectory=trajectory.fresh(MEMBERS[name][0]),
    )
    data = Examples(batch.images, batch.labels, batch.group, group_count=2)
    state, info = distiller.step(KEY, distiller.init(synthetic), data)
    moved = optax.tree.norm(jax.tree.map(jnp.subtract, tuple(distiller.decode(state)[:2]), tuple(synthetic[:2])))
    np.testing.assert_allclose((info.loss, moved), GOLDEN[name], rtol=1e-6)


# --- parts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign, bound", [(1.0, regression.LARGEST), (-1.0, regression.SMALLEST)])
def test_a_scale_that_has_no_best_value_stays_within_its_bounds(sign, bound):
    distributions = jnp.eye(3)
    found = regression.best_scale(sign * (distributions - 1 / 3), distributions, jnp.ones(3))
    np.testing.assert_allclose(found, bound, rtol=1e-3)


def test_a_network_that_couples_the_images_of_a_batch_cannot_be_linearised():
    with pytest.raises(InputError, match="norm 'batch' couples the images of a batch"):
        on_tangents(networks.convnet(CLASSES, depth=1, width=4, norm="batch"))


def test_unknown_errors_are_refused_with_the_nearest():
    with pytest.raises(InputError, match="unknown error 'squares': did you mean squared"):
        feature_regression(on_features(NETWORK), "squares")


@pytest.mark.thorough
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_an_ensemble_is_its_networks_side_by_side(norm):
    network = networks.convnet(CLASSES, depth=1, width=4, norm=norm)
    several = networks.ensemble(network, 3)
    images = jax.random.normal(KEY, (4, 4, 4, 1))
    variables = several.init(KEY, images[:1])
    each = [network.init(key, images[:1]) for key in jax.random.split(KEY, 3)]
    if several.settle is not None and network.settle is not None:
        variables, each = several.settle(variables, images[None]), [network.settle(one, images[None]) for one in each]
    expected = np.concatenate([network.features(one, images) for one in each], 1)
    np.testing.assert_allclose(several.features(variables, images), expected, rtol=1e-5, atol=1e-6)
    expected = np.mean([network.apply(one, images) for one in each], 0)
    np.testing.assert_allclose(several.apply(variables, images), expected, rtol=1e-5, atol=1e-6)


def test_an_ensemble_of_none_is_refused():
    with pytest.raises(InputError, match="count is 0: it must be at least 1"):
        networks.ensemble(NETWORK, 0)
