"""Kernels against neural_tangents, finite networks, float64 and their own symmetries."""

import importlib.util
import itertools
import math
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from rdd_jax.errors import InputError
from rdd_jax.kernels import KERNELS, fc_nngp, fc_ntk, kernel_by_name, stax_kernel
from rdd_jax.kernels.stax import load

STDS = [(math.sqrt(2), 0.1), (1.1, 0.7)]
CLOSED = ("fc-ntk", "fc-nngp")
"""Of flat images, in closed form; the others are tested with them in test_network_kernels.py."""


def points(seed, n, d=64):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def stax_network(depth, w_std, b_std):
    stax = load()
    hidden = [layer for _ in range(depth) for layer in (stax.Dense(1, w_std, b_std), stax.Relu())]
    return stax.serial(stax.Flatten(), *hidden, stax.Dense(1, w_std, b_std))[2]


def value_and_gradient(kernel, x1, x2, dtype="float64"):
    """The kernel, and the gradient with respect to ``x2`` of its sum, in ``dtype``; float64 to compare."""
    with jax.enable_x64(dtype == "float64"):
        x1, x2 = jnp.asarray(x1, dtype), jnp.asarray(x2, dtype)
        value, pullback = jax.vjp(lambda x: kernel(x1, x), x2)
        assert value.dtype == dtype
        (gradient,) = pullback(jnp.ones_like(value))
        return np.asarray(value, np.float64), np.asarray(gradient, np.float64)


def diagonal(x, depth, w_std, b_std, tangent):
    """``k(x, x)`` of every row: there the angle is zero, both kappas are 1 and the recursion is linear."""
    nngp = w_std**2 * (np.asarray(x, np.float64) ** 2).mean(1) + b_std**2
    ntk = nngp
    for _ in range(depth):
        nngp = w_std**2 / 2 * nngp + b_std**2
        ntk = nngp + w_std**2 / 2 * ntk
    return ntk if tangent else nngp


@pytest.mark.slow
@pytest.mark.parametrize(
    "depth, w_std, b_std, dtype, tolerance",
    [
        (1, *STDS[0], "float64", 1e-12),
        (2, *STDS[1], "float64", 1e-12),
        (3, *STDS[0], "float64", 1e-12),
        (3, *STDS[1], "float32", 2e-5),
    ],
)
def test_value_and_gradient_are_those_of_neural_tangents(depth, w_std, b_std, dtype, tolerance):
    x1, x2 = points(0, 4).reshape(4, 8, 8, 1), points(1, 3).reshape(3, 8, 8, 1)
    reference = stax_network(depth, w_std, b_std)
    for make, get in ((fc_ntk, "ntk"), (fc_nngp, "nngp")):
        ours = value_and_gradient(make(depth, w_std, b_std), x1, x2, dtype)
        theirs = value_and_gradient(stax_kernel(reference, get), x1, x2, dtype)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


def finite_network(params, x, w_std, b_std):
    """A ReLU network in NTK parameterisation with one output."""
    for i, (weight, bias) in enumerate(params):
        x = jax.nn.relu(x) if i else x
        x = w_std / math.sqrt(weight.shape[0]) * x @ weight + b_std * bias[None, :]
    return x[:, 0]


@partial(jax.jit, static_argnames=("widths", "w_std", "b_std"))
def empirical_ntk(key, x, widths, w_std, b_std):
    sizes = [x.shape[1], *widths, 1]
    shapes = list(itertools.pairwise(sizes))
    keys = jax.random.split(key, (len(shapes), 2))
    params = [(jax.random.normal(k[0], s), jax.random.normal(k[1], s[1:])) for k, s in zip(keys, shapes, strict=True)]
    jacobian = jax.jacobian(finite_network)(params, x, w_std, b_std)
    return sum(leaf.reshape(len(x), -1) @ leaf.reshape(len(x), -1).T for leaf in jax.tree.leaves(jacobian))


@pytest.mark.thorough
@pytest.mark.parametrize("widths", [(2**15,), (2048, 2048)])
def test_ntk_is_that_of_wide_random_finite_networks(widths):
    x = points(2, 3, 16)
    # Correlated inputs, so that the off-diagonal is no small difference of large numbers.
    x[1:] = 0.7 * x[:1] + 0.7 * x[1:]
    w_std, b_std = 1.3, 0.5
    draws = [empirical_ntk(jax.random.key(seed), x, widths, w_std, b_std) for seed in range(4)]
    # One draw fluctuates by a few / sqrt(width); four draws of width 2048 by a few / 90. Any wrong
    # factor or bias term in the recursion is worth 10 % or more.
    exact = np.asarray(fc_ntk(len(widths), w_std, b_std)(jnp.asarray(x), jnp.asarray(x)))
    np.testing.assert_allclose(np.mean(draws, 0), exact, rtol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("depth", [1, 3])
def test_gram_matrix_is_symmetric_and_positive_definite(name, depth, x64):
    x = jnp.asarray(points(3, 20), jnp.float64)
    gram = np.asarray(kernel_by_name(name, depth=depth)(x, x))
    np.testing.assert_allclose(gram, gram.T, rtol=1e-13)
    # No two points are parallel, so a ReLU kernel is strictly positive definite.
    assert np.linalg.eigvalsh(gram)[0] > 1e-3 * gram.trace() / len(gram)


@pytest.mark.slow
@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("distance", [10.0**-e for e in range(1, 8)])
def test_near_points_in_float32_are_close_to_float64(distance, depth, name):
    x1, towards = points(4, 1), points(5, 1)
    x2 = x1 + np.float32(distance) * towards / np.linalg.norm(towards)
    value, gradient = value_and_gradient(kernel_by_name(name, depth=depth), x1, x2, "float32")
    exact_value, exact_gradient = value_and_gradient(kernel_by_name(name, depth=depth), x1, x2)
    # A cosine rounded by eps moves the angle by up to sqrt(2 eps) = 5e-4, the kernel by that over pi a layer.
    np.testing.assert_allclose(value, exact_value, rtol=5e-4)
    # The part of the NTK's gradient that turns with the direction of x2 - x1 is lost where the angle
    # (distance / 8) is below float32's resolution, 1e-3; what is left is smaller, never larger.
    error = np.linalg.norm(gradient - exact_gradient) / np.linalg.norm(exact_gradient)
    assert error < (1e-3 if distance > 0.05 else 0.1 if distance > 0.005 else 0.5)
    assert np.linalg.norm(gradient) < 1.05 * np.linalg.norm(exact_gradient)


@pytest.mark.slow
@pytest.mark.parametrize("tangent", [True, False])
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("w_std, b_std", STDS)
def test_diagonal_is_exact_and_a_copy_is_close(w_std, b_std, depth, tangent):
    x = jnp.asarray(points(6, 5))
    kernel = (fc_ntk if tangent else fc_nngp)(depth, w_std, b_std)
    exact = diagonal(x, depth, w_std, b_std, tangent)
    np.testing.assert_allclose(np.diag(kernel(x, x)), exact, rtol=1e-6)
    # A copy is another array: its angle is found by rounding, not known to be zero.
    np.testing.assert_allclose(np.diag(kernel(x, x.copy())), exact, rtol=5e-4)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, 3])
def test_gradient_of_the_diagonal_is_exact(depth):
    x = points(7, 4)
    w_std, b_std = STDS[1]
    kernel = fc_ntk(depth, w_std, b_std)
    gradient = jax.grad(lambda x: jnp.trace(kernel(x, x)))(jnp.asarray(x))
    # k(x, x) is linear in |x|^2.
    slope = diagonal(x, depth, w_std, b_std, True) - diagonal(0 * x, depth, w_std, b_std, True)
    exact = 2 * slope[:, None] / (x.astype(np.float64) ** 2).sum(1, keepdims=True) * x
    np.testing.assert_allclose(gradient, exact, rtol=1e-5, atol=1e-6 * np.abs(exact).max())


@pytest.mark.slow
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-3), ("float64", 1e-6)])
@pytest.mark.parametrize("depth", [1, 3])
def test_gradient_where_points_coincide_is_the_symmetric_one(depth, dtype, tolerance):
    x = points(8, 1)
    w_std, b_std = STDS[0]
    _, gradient = value_and_gradient(fc_ntk(depth, w_std, b_std), x, x.copy(), dtype)
    # Half the gradient of k(x, x): along x alone, nothing of the huge slope of arccos at 1.
    slope = diagonal(x, depth, w_std, b_std, True) - diagonal(0 * x, depth, w_std, b_std, True)
    exact = slope[:, None] / (x.astype(np.float64) ** 2).sum(1, keepdims=True) * x
    np.testing.assert_allclose(gradient, exact, atol=tolerance * np.linalg.norm(exact))


@pytest.mark.slow
@pytest.mark.parametrize("name", CLOSED)
def test_zero_image_without_bias_gives_zero_and_finite_gradients(name):
    x = np.concatenate([points(9, 2), np.zeros((1, 64), np.float32)])
    kernel = KERNELS[name](depth=2, b_std=0.0)
    for other in (x, x[2:]):
        value, gradient = value_and_gradient(kernel, x, other, "float32")
        assert np.abs(value[:, -1]).max() < 1e-15
        assert np.isfinite(gradient).all()
    same = jax.grad(lambda x: kernel(x, x).sum())(jnp.asarray(x))
    assert np.isfinite(same).all()


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("name", CLOSED)
def test_antipodal_points_in_float32_are_close_to_float64(name, depth):
    x = points(10, 1)
    kernel = KERNELS[name](depth=depth, b_std=0.0)
    value, gradient = value_and_gradient(kernel, x, -x, "float32")
    exact_value, exact_gradient = value_and_gradient(kernel, x, -x)
    # At depth 1 the two share no active unit: the kernel is 0, and float32 is off by half its angle's error.
    scale = diagonal(x, depth, math.sqrt(2), 0, name == "fc-ntk")[0]
    np.testing.assert_allclose(value, exact_value, atol=3e-4 * scale)
    np.testing.assert_allclose(gradient, exact_gradient, atol=1e-3 * scale / np.linalg.norm(x))


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("name", CLOSED)
def test_derivatives_agree_with_finite_differences(name, depth, x64):
    x1, x2 = (jnp.asarray(points(seed, 3, 10), jnp.float64) for seed in (11, 12))
    kernel = kernel_by_name(name, depth=depth)
    # check_grads passes NumPy arrays; the kernel's signature says JAX.
    check_grads(lambda a, b: kernel(jnp.asarray(a), jnp.asarray(b)), (x1, x2), order=1, atol=1e-7, rtol=1e-7)


@settings(max_examples=15, deadline=None, database=None, derandomize=True)
@given(seed=st.integers(0, 2**31), depth=st.integers(1, 3), name=st.sampled_from(CLOSED))
def test_kernels_are_invariant_under_rotations_and_reflections(seed, depth, name):
    rng = np.random.default_rng(seed)
    x1, x2 = rng.standard_normal((4, 6)), rng.standard_normal((3, 6))
    turn = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    with jax.enable_x64(True):
        kernel = kernel_by_name(name, depth=depth)
        turned = kernel(jnp.asarray(x1 @ turn), jnp.asarray(x2 @ turn))
        np.testing.assert_allclose(turned, kernel(jnp.asarray(x1), jnp.asarray(x2)), rtol=1e-10)


@settings(max_examples=15, deadline=None, database=None, derandomize=True)
@given(a=st.floats(1e-3, 1e3), b=st.floats(1e-3, 1e3), depth=st.integers(1, 3), name=st.sampled_from(CLOSED))
def test_kernels_without_bias_scale_with_their_inputs(a, b, depth, name):
    x1, x2 = points(13, 4, 6), points(14, 3, 6)
    kernel = KERNELS[name](depth=depth, b_std=0.0)
    scaled = kernel(jnp.asarray(np.float32(a) * x1), jnp.asarray(np.float32(b) * x2))
    np.testing.assert_allclose(scaled, a * b * kernel(jnp.asarray(x1), jnp.asarray(x2)), rtol=1e-3, atol=1e-5 * a * b)


@pytest.mark.parametrize("make", [fc_ntk, fc_nngp])
@pytest.mark.parametrize("bad", [{"depth": 0}, {"w_std": -1.0}, {"b_std": -0.1}, {"w_std": math.nan}])
def test_bad_hyperparameters_raise(make, bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        make(**bad)


def test_a_wrong_shape_raises():
    # The check that conftest turns on: [n1, n2, features] of two different shapes.
    with pytest.raises(TypeError, match="shape"):
        fc_ntk()(jnp.ones((2, 4, 4, 1)), jnp.ones((2, 5, 4, 1)))


def test_kernel_by_name_makes_the_named_kernel():
    x = jnp.asarray(points(15, 3))
    np.testing.assert_array_equal(kernel_by_name("fc-nngp", depth=2)(x, x), fc_nngp(2)(x, x))
    np.testing.assert_array_equal(kernel_by_name("fc-ntk", depth=2)(x, x), fc_ntk(2)(x, x))


def test_unknown_kernel_suggests_the_nearest():
    with pytest.raises(InputError, match="unknown kernel 'fc-ntkk': did you mean fc-ntk"):
        kernel_by_name("fc-ntkk")


@pytest.mark.parametrize("missing", ["neural_tangents", "frozendict"])
def test_missing_stax_says_how_to_install_it(monkeypatch, missing):
    find = importlib.util.find_spec
    monkeypatch.delitem(sys.modules, "neural_tangents", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else find(name))
    with pytest.raises(InputError, match=r"pip install --no-deps neural-tangents==0\.6\.5"):
        load()


def test_stax_loads_after_its_own_package_failed_to_import(monkeypatch):
    # neural_tangents' own __init__ no longer imports: load must not run it.
    monkeypatch.delitem(sys.modules, "neural_tangents", raising=False)
    assert load() is load()
    assert not hasattr(sys.modules["neural_tangents"], "predict")
