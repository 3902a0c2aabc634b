"""Finite networks: what every one owes its users, and the published architectures."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdd_jax.errors import InputError
from rdd_jax.networks import NETWORKS, convnet, mlp, network_by_name
from rdd_jax.networks.convnet import ConvNetModule

KEY = jax.random.key(0)


def draw(*shape):
    return jax.random.normal(jax.random.key(1), shape)


def parameters(network, shape):
    variables = jax.eval_shape(network.init, KEY, jnp.zeros(shape))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("channels", [1, 3])
def test_networks_map_images_to_logits_with_finite_gradients(name, channels):
    network = network_by_name(name, 4)
    images = draw(2, 8, 9, channels)
    variables = jax.jit(network.init)(KEY, images)
    logits, pullback = jax.vjp(jax.jit(network.apply), variables, images)
    assert logits.shape == (2, 4)
    assert logits.dtype == jnp.float32
    of_variables, of_images = pullback(jnp.ones_like(logits))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(of_variables))
    assert np.isfinite(of_images).all()
    assert np.abs(of_images).max() > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_work_from_their_smallest_side_on(name):
    network = network_by_name(name, 2)
    assert parameters(network, (1, network.smallest, network.smallest, 1)) > 0
    images = draw(1, network.smallest, network.smallest, 1)
    assert np.isfinite(network.apply(network.init(KEY, images), images)).all()


def test_convnet_is_the_published_size():
    assert parameters(convnet(10), (1, 32, 32, 3)) == 320010


def test_mlp_is_the_published_size():
    assert parameters(mlp(10), (1, 28, 28, 1)) == (784 * 128 + 128) + (128 * 128 + 128) + (128 * 10 + 10)


def test_convnet_needs_a_side_that_its_pooling_leaves_something_of():
    assert [convnet(10, depth).smallest for depth in (1, 2, 3)] == [2, 4, 8]


def test_hidden_activations_are_normalised_by_image_and_channel():
    module = ConvNetModule(3, depth=2, width=4)
    # Two images of very different brightness and contrast.
    images = draw(2, 8, 8, 1) * jnp.array([1.0, 50.0])[:, None, None, None] + 3
    variables = module.init(KEY, images)
    _, state = module.apply(variables, images, capture_intermediates=True, mutable=["intermediates"])
    for layer in ("InstanceNorm_0", "InstanceNorm_1"):
        (normal,) = state["intermediates"][layer]["__call__"]
        np.testing.assert_allclose(normal.mean((1, 2)), 0, atol=1e-4)
        np.testing.assert_allclose(normal.var((1, 2)), 1, rtol=1e-3)


@pytest.mark.parametrize("network", [convnet(10), mlp(10)])
def test_weights_start_uniform_within_one_over_the_root_of_fan_in(network):
    variables = network.init(KEY, jnp.zeros((1, 16, 16, 3)))
    kernels = [leaf for leaf in jax.tree.leaves(variables) if leaf.ndim > 1]
    assert len(kernels) >= 3
    for kernel in kernels:
        bound = 1 / math.sqrt(math.prod(kernel.shape[:-1]))
        assert np.abs(kernel).max() <= bound
        np.testing.assert_allclose(kernel.std(), bound / math.sqrt(3), rtol=0.05)


def test_unknown_network_suggests_the_nearest():
    with pytest.raises(InputError, match="unknown network 'convnt': did you mean convnet"):
        network_by_name("convnt", 10)
