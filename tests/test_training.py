"""Training on a small set: targets, schedule, steps by hand, and both ways of running it."""

from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdd_jax import augment, networks
from rdd_jax.errors import InputError
from rdd_jax.networks import convnet, from_flax, mlp, stopping, training
from rdd_jax.networks.convolution import convolve
from rdd_jax.networks.recipes import Recipe, network_by_recipe
from rdd_jax.networks.training import Training, optimizer_of
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


@pytest.mark.parametrize("error", [[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [1.0, -1.0, 0.0]])
def test_targets_forgive_one_in_ten_thousand_and_no_more(error):
    rows = lambda size: (np.eye(3)[:2] + size * np.array([error, [0, 0, 0]])).astype(np.float32)  # noqa: E731
    of = lambda size: training.targets(jnp.asarray(rows(size) - 1 / 3))  # noqa: E731
    np.testing.assert_allclose(of(0.8e-4), rows(0.8e-4), atol=1e-6)
    np.testing.assert_array_equal(of(1.5e-4), np.eye(3)[:2])


@pytest.mark.parametrize("images, batches", [(4, 1), (5, 2), (8, 2)])
def test_rate_drops_by_ten_past_half_of_the_epochs(images, batches):
    recipe = Recipe(epochs=9, batch=4, learning_rate=0.5, momentum=0.0, weight_decay=0.0)
    optimizer = optimizer_of(recipe, images)
    state, rates = optimizer.init(jnp.zeros(())), []
    for _ in range(9 * batches):
        update, state = optimizer.update(jnp.ones(()), state, jnp.zeros(()))
        rates.append(-float(update))
    np.testing.assert_allclose(rates, [0.5] * 6 * batches + [0.05] * 3 * batches, rtol=1e-5)


class Linear(nn.Module):
    """Logits of a linear layer: its gradient fits into one line."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x.reshape(len(x), -1))


def three_classes():
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.standard_normal((6, 2, 2, 1)), jnp.float32)
    return Synthetic(images, centred_one_hot(np.array([0, 0, 0, 1, 2, 2]), 3))


def initial(network, synthetic, seed):
    """The variables that `training.train` starts from."""
    key, _ = jax.random.split(jax.random.key(seed))
    return network.init(key, synthetic.images[:1])


def parameters(variables):
    """Weight and bias of `Linear`."""
    return [np.asarray(variables["params"]["Dense_0"][name], np.float64) for name in ("kernel", "bias")]


@pytest.mark.slow
def test_two_updates_equal_momentum_and_decay_by_hand():
    network = from_flax(Linear())
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((6, 2, 2, 1)).astype(np.float32), np.eye(3, dtype=np.float32)[np.arange(6) % 3]
    recipe = Recipe(epochs=10, batch=4, learning_rate=0.1, momentum=0.9, weight_decay=0.01)
    variables = network.init(jax.random.key(0), jnp.asarray(x))
    weight, bias = parameters(variables)
    weight_speed, bias_speed = 0.0, 0.0
    optimizer = optimizer_of(recipe, 6)
    carry = Training(variables, optimizer.init(variables))
    loss = lambda v, x, y: jnp.mean(training.cross_entropy(network.apply(v, x), y))  # noqa: E731
    for index in (np.array([4, 0, 1, 3]), np.array([2, 5])):
        carry = training.update(loss, optimizer, carry, jnp.asarray(x[index]), jnp.asarray(labels[index]))
        flat = x[index].reshape(len(index), -1)
        out = flat @ weight + bias
        error = (softmax(out) - labels[index]) / len(index)
        weight_speed = 0.9 * weight_speed + flat.T @ error + 0.01 * weight
        bias_speed = 0.9 * bias_speed + error.sum(0) + 0.01 * bias
        weight, bias = weight - 0.1 * weight_speed, bias - 0.1 * bias_speed
    for one, other in zip(parameters(carry.variables), (weight, bias), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.slow
def test_the_average_of_the_weights_is_what_is_tested():
    synthetic, network = three_classes(), from_flax(Linear())
    recipe = Recipe(epochs=9, learning_rate=0.5, momentum=0.0, weight_decay=0.0, average=0.8)
    (found,) = training.train(network, synthetic, [2], recipe)
    flat, p = (np.asarray(x, np.float64).reshape(6, -1) for x in (synthetic.images, synthetic.labels + 1 / 3))
    weight, bias = parameters(initial(network, synthetic, 2))
    average = [weight, bias]
    for rate in [0.5] * 6 + [0.05] * 3:
        error = (softmax(flat @ weight + bias) - p) / 6
        weight, bias = weight - rate * flat.T @ error, bias - rate * error.sum(0)
        average = [0.8 * mean + 0.2 * last for mean, last in zip(average, (weight, bias), strict=True)]
    for one, other in zip(parameters(found), average, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


LOOKED_AT = {"batch": 4, "learning_rate": 0.3, "schedule": "constant"}
"""Of six images: two batches an epoch, so that nine steps are four epochs and a batch."""


def taught_by(steps):
    """`Linear` after so many steps, and held-out images whose labels are what it then predicts."""
    synthetic, network = three_classes(), from_flax(Linear())
    (found,) = training.train(network, synthetic, [2], Recipe(epochs=None, steps=steps, **LOOKED_AT))
    images = jnp.asarray(np.random.default_rng(1).standard_normal((300, 2, 2, 1)), jnp.float32)
    labels = np.asarray(network.apply(found, images)).argmax(1)
    return found, Synthetic(images, centred_one_hot(labels, 3))


@pytest.mark.parametrize("steps", [6, 9])
def test_a_training_that_stops_hands_over_the_network_of_its_best_look(steps, monkeypatch):
    monkeypatch.setattr(stopping, "LOOKS", 5)
    expected, held_out = taught_by(steps)
    recipe = Recipe(epochs=None, steps=9, stop=5, **LOOKED_AT)
    (found,) = training.train(from_flax(Linear()), three_classes(), [2], recipe, held_out)
    np.testing.assert_allclose(leaves(found), leaves(expected), rtol=1e-6)


def test_a_training_ends_after_looks_that_were_no_better(monkeypatch):
    monkeypatch.setattr(stopping, "LOOKS", 5)
    taken = []

    def noted(key, images):
        jax.debug.callback(lambda: taken.append(1))
        return images

    monkeypatch.setitem(augment.NAMED, "noted", noted)
    _, held_out = taught_by(2)  # the first look is right everywhere
    for patience, steps in ((1, 4), (2, 6), (9, 9)):
        taken.clear()
        recipe = Recipe(epochs=None, steps=9, stop=patience, augment="noted", **LOOKED_AT)
        training.train(from_flax(Linear()), three_classes(), [2], recipe, held_out)
        jax.effects_barrier()
        assert len(taken) == steps


def test_a_recipe_that_stops_needs_real_images():
    with pytest.raises(InputError, match="stop is 3, but there are no real images to stop by: give held_out"):
        training.train(from_flax(Linear()), three_classes(), [0], Recipe(stop=3))


@pytest.mark.slow
def test_every_batch_is_augmented_with_a_key_of_its_own(monkeypatch):
    synthetic, network, seen = three_classes(), from_flax(Linear()), []

    def black(key, images):
        jax.debug.callback(lambda bits: seen.append(tuple(np.asarray(bits))), jax.random.key_data(key))
        return jnp.zeros_like(images)

    monkeypatch.setitem(augment.NAMED, "black", black)
    recipe = Recipe(epochs=2, batch=4, weight_decay=0.0, augment="black")
    (found,) = training.train(network, synthetic, [2], recipe)
    jax.effects_barrier()
    assert len(seen) == len(set(seen)) == 4
    # Of black images only the bias learns.
    before, after = parameters(initial(network, synthetic, 2)), parameters(found)
    np.testing.assert_array_equal(after[0], before[0])
    assert np.abs(after[1] - before[1]).max() > 1e-3


@pytest.mark.slow
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


@pytest.mark.slow
def test_training_on_learned_labels_stays_finite_and_learns_their_largest_entries():
    synthetic, labels = separable()
    learned = synthetic._replace(labels=50 * synthetic.labels)
    (variables,) = training.train(NETWORKS["mlp"], learned, [0], RECIPE)
    outputs = training.logits(NETWORKS["mlp"], variables, np.asarray(synthetic.images))
    np.testing.assert_array_equal(outputs.argmax(1), labels)


def test_every_image_is_seen_once_an_epoch():
    images = jnp.arange(10.0)[:, None, None, None]
    data = Synthetic(images, jnp.zeros((10, 2)))

    def noted(seen, images, labels):
        numbers, at = seen
        return jax.lax.dynamic_update_slice(numbers, images.ravel(), (at,)), at + len(images)

    def order(seed, batch):
        start = jnp.full(10, -1.0), jnp.zeros((), int)
        return np.asarray(training.epoch(jax.random.key(seed), start, data, noted, batch)[0]).tolist()

    for batch in (4, 5, 10, 64):
        assert sorted(order(0, batch)) == list(range(10))
    assert order(0, 4) != order(1, 4)


def test_an_epoch_of_many_batches_is_compiled_as_one_step():
    data = Synthetic(jnp.zeros((100, 4, 4, 1)), jnp.zeros((100, 2)))
    network = mlp(2, width=4)
    start = Training(network.init(jax.random.key(0), data.images[:1]), None)
    step = lambda carry, *batch: carry._replace(  # noqa: E731
        variables=jax.grad(training.mean_loss(network))(carry.variables, *batch)
    )
    count = lambda batch: str(  # noqa: E731
        jax.make_jaxpr(lambda key: training.epoch(key, start, data, step, batch))(jax.random.key(0))
    ).count("dot_general")
    assert count(10) == count(50)  # not a step a batch
    assert count(30) == 2 * count(50)  # the rest is a batch of another size


def test_equal_recipes_and_networks_are_compiled_once():
    synthetic, _ = separable()
    of = lambda: Recipe("mlp", width=4, epochs=1, augment="crop+flip", centred=True)  # noqa: E731
    training.train(network_by_recipe(of(), 2), synthetic, [0], of())
    compiled = training._train._cache_size()
    training.train(network_by_recipe(of(), 2), synthetic, [1], of())
    assert training._train._cache_size() == compiled


@pytest.mark.slow
def test_batch_norm_is_tested_with_the_statistics_of_the_set_that_it_was_trained_on():
    rng = np.random.default_rng(0)
    synthetic = Synthetic(
        jnp.asarray(rng.standard_normal((24, 8, 8, 1)) * 3 + 5, jnp.float32), centred_one_hot(np.arange(24) % 3, 3)
    )
    network = convnet(3, depth=1, width=4, norm="batch")
    (variables,) = training.train(network, synthetic, [0], Recipe(epochs=2, batch=8))
    test = rng.standard_normal((30, 8, 8, 1)).astype(np.float32) * 2
    outputs = training.logits(network, variables, test)
    # An image's outputs depend neither on those beside it nor on their order.
    np.testing.assert_allclose(training.logits(network, variables, test[::-1])[::-1], outputs, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(training.logits(network, variables, test[:1]), outputs[:1], rtol=1e-5, atol=1e-6)
    # The moments are those of the set, before the first norm.
    filters = variables["params"]["body"]["Conv_0"]
    before = convolve(synthetic.images, filters["kernel"], 1, 1) + filters["bias"][None, None, None]
    found = variables["statistics"]["body"]["Norm_0"]
    np.testing.assert_allclose(found["mean"].ravel(), np.mean(before, (0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["square"].ravel(), np.mean(before**2, (0, 1, 2)), rtol=1e-4)


@pytest.mark.slow
def test_networks_of_several_seeds_are_those_of_each_alone():
    synthetic, _ = separable()
    network, recipe = NETWORKS["mlp"], replace(RECIPE, epochs=8)
    several = training.train(network, synthetic, [3, 5], recipe)
    alone = [training.train(network, synthetic, [seed], recipe)[0] for seed in (3, 5)]
    np.testing.assert_allclose(leaves(several), leaves(alone), atol=1e-5)


def test_images_too_small_for_the_network_raise():
    small = Synthetic(jnp.zeros((2, 8, 7, 1)), centred_one_hot(np.array([0, 1]), 2))
    with pytest.raises(InputError, match="images of 8 x 7 are too small for this network, which needs 8 x 8 or more"):
        training.train(convnet(2, depth=3, width=2), small, [0], RECIPE)


@pytest.mark.slow
@pytest.mark.parametrize("dispatched", [3, 4, 100])
@pytest.mark.parametrize("block", [1, 3, 7, 100])
def test_logits_do_not_depend_on_the_block(block, dispatched, monkeypatch):
    monkeypatch.setattr(training, "DISPATCHED", dispatched)
    network = NETWORKS["mlp"]
    images = np.random.default_rng(0).standard_normal((7, 4, 4, 1)).astype(np.float32)
    variables = network.init(jax.random.key(0), jnp.asarray(images))
    outputs = training.logits(network, variables, images, block)
    assert outputs.shape == (7, 2)
    np.testing.assert_allclose(outputs, network.apply(variables, jnp.asarray(images)), rtol=1e-5, atol=1e-6)


def test_a_network_that_does_not_fit_is_refused_before_compiling():
    synthetic, _ = separable(9)
    with pytest.raises(InputError, match="the network gives 3 outputs for 2 classes"):
        training.train(mlp(3, width=4), synthetic, [0], RECIPE)
    over_batch = convnet(2, depth=1, width=4, norm="batch")
    with pytest.raises(InputError, match="a batch would hold a single image"):
        training.train(over_batch, synthetic, [0], RECIPE)  # batches of 8 and of 1


# --- squared error, scaled labels, centred outputs -----------------------------------------------------

SQUARED = Recipe(loss="squared", optimizer="adam", learning_rate=0.05, weight_decay=0.01, schedule="cosine", warmup=2)
LEARNED = np.array([[3, -1, -2], [2, 0, -2], [5, -4, -1], [-1, 2, -1], [0, -3, 3], [-2, -2, 4]], np.float32)


def by_adam(gradient, parameters, rates, decay):
    """Adam as it was published, in float64; the decay joins the gradient."""
    first, second = 0.0, 0.0
    for step, rate in enumerate(rates, 1):
        of_decay = gradient(parameters) + decay * parameters
        first = 0.9 * first + 0.1 * of_decay
        second = 0.999 * second + 0.001 * of_decay**2
        moved = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        parameters = parameters - rate * moved
    return parameters


def whole(parts):
    """Weight and bias as one matrix for images with a 1 beside them."""
    return np.concatenate([parts[0], parts[1][None]])


@pytest.mark.parametrize("centred, scale", [(False, 1.0), (False, 4.0), (True, 4.0)])
def test_squared_error_learns_labels_as_they_are_as_a_plain_loop_does(centred, scale):
    synthetic, network = three_classes()._replace(labels=jnp.asarray(LEARNED)), from_flax(Linear())
    recipe = replace(SQUARED, epochs=None, steps=6, label_scale=scale)
    start = whole(parameters(initial(network, synthetic, 2)))
    x = np.concatenate([np.asarray(synthetic.images, np.float64).reshape(6, -1), np.ones((6, 1))], 1)
    base = x @ start if centred else 0.0
    gradient = lambda w: x.T @ (x @ w - base - scale * LEARNED) / 6 / scale**2  # noqa: E731
    rates = [0, 0.025, *(0.05 * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * np.arange(4) / 4))))]
    expected = by_adam(gradient, start, rates, 0.01)
    network = networks.centred(network) if centred else network
    (found,) = training.train(network, synthetic, [2], recipe)
    np.testing.assert_allclose(whole(parameters(found.now if centred else found)), expected, atol=2e-5)
    outputs = training.logits(network, found, np.asarray(synthetic.images))
    np.testing.assert_allclose(outputs, x @ expected - base, atol=1e-4)
    if centred:
        np.testing.assert_array_equal(whole(parameters(found.start)), start.astype(np.float32))


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_centred_output_starts_at_nothing(norm):
    network = networks.centred(convnet(3, depth=1, width=4, norm=norm))
    images = jnp.asarray(np.random.default_rng(0).standard_normal((6, 4, 4, 1)), jnp.float32)
    variables = network.init(jax.random.key(0), images)
    np.testing.assert_array_equal(network.apply(variables, images), np.zeros((6, 3)))
    assert network.features(variables, images).shape == (6, 16)
    if network.settle is not None:
        settled = network.settle(variables, images[None])
        np.testing.assert_array_equal(network.apply(settled, images[:2]), np.zeros((2, 3)))


@pytest.mark.parametrize("steps, seen", [(1, 4), (3, 10), (5, 18), (6, 20)])
def test_steps_are_counted_beyond_whole_epochs(steps, seen, monkeypatch):
    counted = []

    def noted(key, images):
        jax.debug.callback(lambda images: counted.append(len(images)), images)
        return images

    monkeypatch.setitem(augment.NAMED, f"noted{steps}", noted)
    data = Synthetic(jnp.zeros((10, 2, 2, 1)), centred_one_hot(np.arange(10) % 3, 3))
    recipe = Recipe(epochs=None, steps=steps, batch=4, augment=f"noted{steps}")
    training.train(from_flax(Linear()), data, [0], recipe)
    jax.effects_barrier()
    assert (len(counted), sum(counted)) == (steps, seen)


@pytest.mark.parametrize("loss", ["cross-entropy", "squared"])
def test_a_network_with_other_outputs_than_classes_is_refused(loss):
    with pytest.raises(InputError, match="the network gives 3 outputs for 2 classes"):
        training.train(from_flax(Linear()), separable()[0], [0], Recipe(loss=loss, epochs=1))
