"""Training on a small set: losses, schedule, one step by hand, and both ways of running it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdd_jax import training
from rdd_jax.errors import InputError
from rdd_jax.networks import convnet, from_flax, mlp
from rdd_jax.training import Recipe
from rdd_jax.types import Synthetic, centred_one_hot


def softmax(logits):
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def separable(n=20):
    """Two classes that one bright pixel tells apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    images = 0.3 * rng.standard_normal((n, 4, 4, 1)).astype(np.float32)
    images[:, 1, 1, 0] += 4 * labels - 2
    return Synthetic(jnp.asarray(images), centred_one_hot(labels, 2)), labels


NETWORKS = {"mlp": mlp(2, width=16), "convnet": convnet(2, depth=1, width=8)}
RECIPE = Recipe(epochs=30, batch=8, learning_rate=0.05)


def leaves(variables):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(variables)])


def test_targets_are_the_labels_where_every_row_is_a_distribution():
    rows = np.array([[0.1, 0.2, 0.7], [1, 0, 0], [0.5, 0.5, -1e-6]], np.float32)
    np.testing.assert_allclose(training.targets(jnp.asarray(rows - 1 / 3)), rows, atol=1e-6)


@pytest.mark.parametrize("row", [[1.1, -0.1, 0], [0.5, 0.4, 0.2], [-3.0, 40.0, 7.0]])
def test_targets_are_the_largest_entries_where_one_row_is_none(row):
    rows = np.array([[0.1, 0.2, 0.7], row], np.float32)
    np.testing.assert_array_equal(training.targets(jnp.asarray(rows - 1 / 3)), np.eye(3)[rows.argmax(1)])


@pytest.mark.parametrize("images, batches", [(4, 1), (5, 2), (8, 2)])
def test_rate_drops_by_ten_at_half_of_the_epochs(images, batches):
    optimizer = Recipe(epochs=6, batch=4, learning_rate=0.5, momentum=0.0, weight_decay=0.0).optimizer(images)
    state, rates = optimizer.init(jnp.zeros(())), []
    for _ in range(6 * batches):
        update, state = optimizer.update(jnp.ones(()), state, jnp.zeros(()))
        rates.append(-float(update))
    np.testing.assert_allclose(rates, [0.5] * 3 * batches + [0.05] * 3 * batches, rtol=1e-5)


class Linear(nn.Module):
    """Logits of a linear layer: its gradient fits into one line."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x.reshape(len(x), -1))


def test_two_updates_equal_momentum_and_decay_by_hand():
    network = from_flax(Linear())
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((6, 2, 2, 1)).astype(np.float32), np.eye(3, dtype=np.float32)[np.arange(6) % 3]
    synthetic = Synthetic(jnp.asarray(x), jnp.asarray(labels))
    recipe = Recipe(epochs=10, batch=4, learning_rate=0.1, momentum=0.9, weight_decay=0.01)
    variables = network.init(jax.random.key(0), synthetic.images)
    weight, bias = (np.asarray(variables["params"]["Dense_0"][k], np.float64) for k in ("kernel", "bias"))
    weight_speed, bias_speed = 0.0, 0.0
    carry = (variables, recipe.optimizer(6).init(variables))
    for index in (np.array([4, 0, 1, 3]), np.array([2, 5])):
        carry = training._update(network, recipe, carry, synthetic, jnp.asarray(index))
        flat = x[index].reshape(len(index), -1)
        out = flat @ weight + bias
        error = (softmax(out) - labels[index]) / len(index)
        weight_speed = 0.9 * weight_speed + flat.T @ error + 0.01 * weight
        bias_speed = 0.9 * bias_speed + error.sum(0) + 0.01 * bias
        weight, bias = weight - 0.1 * weight_speed, bias - 0.1 * bias_speed
    found = carry[0]["params"]["Dense_0"]
    np.testing.assert_allclose(found["kernel"], weight, atol=1e-6)
    np.testing.assert_allclose(found["bias"], bias, atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_training_learns_a_separable_set_repeatably(name):
    synthetic, labels = separable()
    network = NETWORKS[name]
    trained = training.train(network, synthetic, [0, 1], RECIPE)
    for variables in trained:
        outputs = training.logits(network, variables, np.asarray(synthetic.images))
        np.testing.assert_array_equal(outputs.argmax(1), labels)
    again = training.train(network, synthetic, [0, 1], RECIPE)
    np.testing.assert_array_equal(leaves(trained), leaves(again))
    assert np.abs(leaves(trained[0]) - leaves(trained[1])).max() > 1e-2


def test_training_on_learned_labels_stays_finite_and_learns_their_largest_entries():
    synthetic, labels = separable()
    learned = synthetic._replace(labels=50 * synthetic.labels)
    (variables,) = training.train(NETWORKS["mlp"], learned, [0], RECIPE)
    outputs = training.logits(NETWORKS["mlp"], variables, np.asarray(synthetic.images))
    np.testing.assert_array_equal(outputs.argmax(1), labels)


def test_every_image_is_seen_once_an_epoch():
    batches = training._batches(jax.random.key(0), 3, 10, 4)
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert sorted(np.concatenate(batches)) == list(range(10))
    other = training._batches(jax.random.key(0), 4, 10, 4)
    assert not np.array_equal(np.concatenate(batches), np.concatenate(other))


def test_training_together_is_training_in_steps():
    synthetic, _ = separable()
    network, recipe = NETWORKS["mlp"], RECIPE._replace(epochs=8)
    together = training.train(network, synthetic, [3, 5], recipe)
    for variables, seed in zip(together, (3, 5), strict=True):
        one = synthetic._replace(labels=training.targets(synthetic.labels))
        in_steps = training._train_in_steps(network, recipe, one, seed)
        np.testing.assert_allclose(leaves(variables), leaves(in_steps), atol=1e-4)


def test_images_too_small_for_the_network_raise():
    small = Synthetic(jnp.zeros((2, 8, 7, 1)), centred_one_hot(np.array([0, 1]), 2))
    with pytest.raises(InputError, match="images of side 7 are too small for this network: it needs 8"):
        training.train(convnet(2, depth=3, width=2), small, [0], RECIPE)


@pytest.mark.parametrize("block", [1, 3, 7, 100])
def test_logits_do_not_depend_on_the_block(block):
    network = NETWORKS["mlp"]
    images = np.random.default_rng(0).standard_normal((7, 4, 4, 1)).astype(np.float32)
    variables = network.init(jax.random.key(0), jnp.asarray(images))
    outputs = training.logits(network, variables, images, block)
    assert outputs.shape == (7, 2)
    np.testing.assert_allclose(outputs, network.apply(variables, jnp.asarray(images)), rtol=1e-5, atol=1e-6)
