"""Finite networks: what every one owes its users, the published architectures, and their layers."""

import inspect
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdd_jax.errors import InputError
from rdd_jax.networks import NETWORKS, check_images, convnet, from_flax, mlp, network_by_name, vit
from rdd_jax.networks.convnet import ConvNetBody
from rdd_jax.networks.layers import ACTIVATIONS, NORMS, POOLS, Norm, average_pool, max_pool, whole

KEY = jax.random.key(0, impl="rbg")  # compiles sooner than the default


@pytest.fixture
def quick(monkeypatch):
    """XLA's own convolutions, which compile in less time than products; those have tests/test_convolution.py."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


def draw(*shape):
    return jnp.asarray(np.random.default_rng(1).standard_normal(shape), float)


def shapes(network, shape):
    return jax.eval_shape(network.init, KEY, jnp.zeros(shape))


def parameters(network, shape):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes(network, shape)))


def random(leaves):
    """Random values for all, which are there sooner than a compiled ``init``."""
    rng = np.random.default_rng(0)
    values = lambda leaf: rng.standard_normal(leaf.shape) / math.sqrt(math.prod(leaf.shape[:-1]))  # noqa: E731
    return jax.tree.map(lambda leaf: jnp.asarray(values(leaf), leaf.dtype), leaves)


def outputs_and_gradients(network, variables, images):
    """Logits, features, and the gradients of the sum of logits by variables and by images."""

    def of(variables, images):
        logits = network.apply(variables, images)
        return jnp.sum(logits), (logits, network.features(variables, images))

    (_, outputs), gradients = jax.jit(jax.value_and_grad(of, (0, 1), has_aux=True))(variables, images)
    return *outputs, *gradients


def finite(tree):
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_map_images_to_logits_with_finite_gradients(name, quick):
    network, images = network_by_name(name, 4), draw(2, 8, 9, 3)
    variables = random(shapes(network, images.shape))
    logits, features, of_variables, of_images = outputs_and_gradients(network, variables, images)
    assert logits.shape == (2, 4)
    assert features.ndim == 2
    assert logits.dtype == features.dtype == jnp.float32
    head = variables["params"]["head"]
    np.testing.assert_allclose(logits, features @ head["kernel"] + head["bias"][None], rtol=1e-4, atol=1e-5)
    assert finite(of_variables)
    assert finite(of_images)
    assert (np.abs(of_images).max((1, 2, 3)) > 0).all()


@pytest.mark.thorough
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_work_from_their_smallest_side_on(name, quick):
    network = network_by_name(name, 2)
    images = draw(2, network.smallest, network.smallest, 1)
    logits = jax.jit(lambda *x: network.apply(*x))(random(shapes(network, images.shape)), images)
    assert finite(logits)
    assert np.abs(logits[0] - logits[1]).max() > 1e-4


@pytest.mark.slow
def test_convnet_by_products_is_convnet_by_convolutions(monkeypatch):
    network, images = convnet(3, depth=2, width=16), draw(2, 9, 10, 3)
    variables = random(shapes(network, images.shape))
    of = lambda v: jnp.sum(jnp.sin(network.apply(v, images)))  # noqa: E731
    by_products = jax.jit(jax.value_and_grad(of))(variables)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    by_convolutions = jax.jit(jax.value_and_grad(lambda v: of(v)))(variables)
    for one, other in zip(jax.tree.leaves(by_products), jax.tree.leaves(by_convolutions), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


PUBLISHED = {
    "convnet": 320010,
    "lenet": 62006,
    "alexnet": 1872202,
    "vgg11": 9231114,
    "resnet18": 11173962,
    "vit": 9523722,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_networks_are_the_published_size(name):
    assert parameters(network_by_name(name, 10), (1, 32, 32, 3)) == PUBLISHED[name]


@pytest.mark.parametrize("norm, size", [("none", 319242), ("layer", 663306)])
def test_norms_take_a_scale_and_shift_of_what_they_normalise(norm, size):
    assert parameters(convnet(10, norm=norm), (1, 32, 32, 3)) == size


@pytest.mark.parametrize("norm, size", [("none", 1560842), ("instance", 1562634)])
def test_widths_that_double_make_the_published_size(norm, size):
    # 128-256-512: 3,584 + 295,168 + 1,180,160 in the convolutions, 81,930 in the last layer.
    network = convnet(10, norm=norm, growth="double")
    assert parameters(network, (1, 32, 32, 3)) == size
    variables = shapes(network, (1, 32, 32, 3))
    assert [variables["params"]["body"][f"Conv_{i}"]["kernel"].shape[-1] for i in range(3)] == [128, 256, 512]


def test_a_network_may_be_1024_wide():
    assert parameters(convnet(10, width=1024, norm="none"), (1, 32, 32, 3)) == 19_068_938


@pytest.mark.parametrize("network, size", [(convnet(10), 317706), (mlp(10), 118282)])
def test_networks_of_grey_images_are_the_published_size(network, size):
    assert parameters(network, (1, 28, 28, 1)) == size


def test_convnet_needs_a_side_that_its_pooling_leaves_something_of():
    assert [convnet(10, depth).smallest for depth in (1, 2, 3)] == [2, 4, 8]
    assert convnet(10, 3, pool="none").smallest == 1


def test_images_smaller_than_the_network_takes_are_refused():
    check_images(convnet(10, 3), (8, 9, 1))
    with pytest.raises(
        InputError, match="images of 8 x 7 are too small for a net, which needs 8 x 8 or more: choose a"
    ):
        check_images(convnet(10, 3), (8, 7, 1), "a net")


OPTIONS = [("norm", name) for name in NORMS] + [("pool", name) for name in POOLS]
OPTIONS += [("activation", name) for name in ACTIVATIONS]


@pytest.mark.slow
@pytest.mark.parametrize("option, name", OPTIONS)
def test_convnet_is_finite_with_every_option(option, name, quick):
    network, images = convnet(3, depth=1, width=8, **{option: name}), draw(2, 6, 7, 3)
    variables = random(shapes(network, images.shape))
    assert finite(outputs_and_gradients(network, variables, images))
    assert (network.settle is not None) == (name == "batch")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"norm": "instanse"}, "unknown norm 'instanse': did you mean instance"),
        ({"pool": "avrage"}, "unknown pooling 'avrage': did you mean average"),
        ({"activation": "leaky_relu"}, "unknown activation 'leaky_relu': did you mean leaky-relu"),
        ({"depth": 0}, "depth is 0: it must be at least 1"),
        ({"width": 0}, "width is 0: it must be at least 1"),
        ({"norm": "group", "width": 6}, "width is 6: group norm has 4 groups"),
    ],
)
def test_convnet_refuses_options_that_it_cannot_have(options, message):
    with pytest.raises(InputError, match=message):
        convnet(10, **options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"patch": 0}, "patch is 0: it must be at least 1"),
        ({"depth": 0}, "depth is 0: it must be at least 1"),
        ({"width": 20}, "width is 20: give a multiple of heads, 8"),
    ],
)
def test_vit_refuses_options_that_it_cannot_have(options, message):
    with pytest.raises(InputError, match=message):
        vit(10, **options)


def test_unknown_network_suggests_the_nearest():
    with pytest.raises(InputError, match="unknown network 'convnt': did you mean convnet"):
        network_by_name("convnt", 10)


def test_networks_of_the_same_options_are_equal():
    # So that the compilation for one serves the other.
    assert convnet(10, width=8) == convnet(10, width=8)
    assert hash(convnet(10, width=8)) == hash(convnet(10, width=8))
    assert convnet(10, width=8) != convnet(10, width=16)


def test_flax_modules_without_an_embedding_give_their_logits():
    network = from_flax(nn.Sequential([lambda x: x.reshape(len(x), -1), nn.Dense(3)]))
    images = draw(2, 4, 4, 1)
    variables = random(shapes(network, images.shape))
    np.testing.assert_array_equal(network.features(variables, images), network.apply(variables, images))
    assert network.smallest == 1
    assert network.settle is None


def test_hidden_activations_are_normalised_by_image_and_channel(quick):
    body = ConvNetBody(widths=(4, 4), norm="instance", pool="average", activation="relu")
    # Two images of very different brightness and contrast.
    images = draw(2, 8, 8, 1) * jnp.array([1.0, 50.0])[:, None, None, None] + 3
    variables = jax.jit(body.init)(KEY, images)
    kept = jax.jit(lambda *x: body.apply(*x, capture_intermediates=True, mutable=["intermediates"]))
    _, state = kept(variables, images)
    for layer in ("Norm_0", "Norm_1"):
        (normal,) = state["intermediates"][layer]["__call__"]
        np.testing.assert_allclose(normal.mean((1, 2)), 0, atol=1e-4)
        np.testing.assert_allclose(normal.var((1, 2)), 1, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("network", [convnet(10), mlp(10), vit(10, width=128, depth=1)], ids=["convnet", "mlp", "vit"])
def test_weights_start_uniform_within_one_over_the_root_of_fan_in(network, quick):
    variables = jax.jit(network.init)(KEY, jnp.zeros((1, 16, 16, 3)))
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    kernels = [np.asarray(leaf) for path, leaf in leaves if path[-1].key == "kernel"]
    assert len(kernels) >= 3
    for kernel in kernels:
        bound = 1 / math.sqrt(math.prod(kernel.shape[:-1]))
        assert np.abs(kernel).max() <= bound
        np.testing.assert_allclose(kernel.std(), bound / math.sqrt(3), rtol=0.05)


# --- Layers ------------------------------------------------------------------------------------------

ORACLES = {
    "instance": nn.InstanceNorm(epsilon=1e-5),
    "batch": nn.BatchNorm(use_running_average=False, epsilon=1e-5),
    "group": nn.GroupNorm(num_groups=4, epsilon=1e-5),
    "layer": nn.LayerNorm(epsilon=1e-5, reduction_axes=(1, 2, 3), feature_axes=(1, 2, 3)),
}


def test_every_norm_has_an_oracle():
    assert set(ORACLES) == set(NORMS) - {"none"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ORACLES)
def test_norms_with_scale_and_shift_are_flax_s(kind, x64):
    images = 3 + 2 * draw(3, 5, 4, 8)
    variables = random(Norm(kind).init(KEY, images))
    oracle = ORACLES[kind]
    full = {**oracle.init(KEY, images), **variables}
    expected, _ = oracle.apply(full, images, mutable=["batch_stats"])
    np.testing.assert_allclose(Norm(kind).apply(variables, images), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("pool, of", [(average_pool, np.mean), (max_pool, np.max)])
def test_pools_take_2x2_pixels_and_leave_out_odd_rows(pool, of):
    images = np.asarray(draw(2, 5, 7, 3))
    blocks = images[:, :4, :6].reshape(2, 2, 2, 3, 2, 3)
    np.testing.assert_allclose(pool(jnp.asarray(images)), of(blocks, (2, 4)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("side, before, after", [(28, 2, 2), (27, 2, 3), (32, 0, 0), (1, 3, 4)])
def test_images_are_padded_evenly_to_a_multiple(side, before, after):
    images = draw(2, side, 16, 3)
    padded = whole(images, 8 if side == 1 else 16)
    np.testing.assert_array_equal(padded, jnp.pad(images, ((0, 0), (before, after), (0, 0), (0, 0))))


@pytest.mark.parametrize(
    "network", [mlp(10), convnet(10, depth=1, width=32), vit(10, width=64, depth=1)], ids=["mlp", "convnet", "vit"]
)
def test_weights_and_biases_are_drawn_from_within_one_over_the_root_of_the_fan_in(network):
    variables = network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))["params"]
    layers = [
        (path, leaf)
        for path, leaf in jax.tree.leaves_with_path(variables)
        if path[-1].key == "kernel" and leaf.ndim > 1
    ]
    for path, kernel in layers:
        limit = math.prod(kernel.shape[:-1]) ** -0.5
        layer = variables
        for key in path[:-1]:
            layer = layer[key.key]
        drawn = [kernel, *([layer["bias"]] if "bias" in layer else [])]
        for values in drawn:
            assert np.abs(values).max() <= limit
        # Uniform: the standard deviation is the limit over the root of three.
        np.testing.assert_allclose(np.std(kernel), limit / np.sqrt(3), rtol=0.25)
        if "bias" in layer:
            assert np.abs(layer["bias"]).max() > 0.4 * limit
    assert any(path[-1].key == "bias" for path, _ in jax.tree.leaves_with_path(variables))


def test_modules_that_keep_state_are_refused():
    network = from_flax(nn.Sequential([lambda x: x.reshape(len(x), -1), nn.BatchNorm(False), nn.Dense(3)]))
    with pytest.raises(InputError, match="Sequential keeps batch_stats beside its parameters: use layers without"):
        network.init(KEY, jnp.zeros((2, 4, 4, 1)))


def test_what_is_no_linen_module_is_refused():
    class Other:
        pass

    with pytest.raises(InputError, match=r"Other is no flax\.linen\.Module: write the network as one, not with nnx"):
        inspect.unwrap(from_flax)(Other())  # as users have it, without the checks of types
