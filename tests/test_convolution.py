"""Convolutions as matrix products against XLA's own, with their gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdd_jax.networks import blocks, convolution
from rdd_jax.networks.convolution import convolve


def reference(images, filters, stride=1, padding=1):
    sides = ((padding, padding), (padding, padding))
    return jax.lax.conv_general_dilated(
        images, filters, (stride, stride), sides, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def problem(n, height, breadth, channels, width, size):
    """Images and filters, float64 where that is enabled."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((n, height, breadth, channels))
    filters = rng.standard_normal((size, size, channels, width)) / size / np.sqrt(channels)
    return jnp.asarray(images, float), jnp.asarray(filters, float)


def error(found, expected):
    """The largest error, relative to the largest value."""
    return np.abs(found - expected).max() / np.abs(expected).max()


# n, h, w, c, d, k, stride, padding
WINOGRAD = [
    (2, 8, 4, 16, 16, 3, 1, 1),
    (2, 7, 10, 17, 20, 3, 1, 1),
]
PATCHES = [
    (2, 8, 8, 3, 32, 3, 1, 1),
    (2, 3, 9, 16, 16, 3, 1, 1),
    (2, 7, 6, 16, 16, 3, 2, 1),
    (2, 6, 7, 16, 16, 3, 1, 0),
    (2, 8, 7, 5, 6, 1, 2, 0),
    (1, 9, 7, 3, 6, 5, 1, 0),
    (1, 9, 7, 3, 6, 5, 1, 2),
    (1, 10, 5, 2, 1, 5, 3, 2),
]


@pytest.mark.parametrize("case", WINOGRAD + PATCHES)
def test_wide_3x3_filters_at_stride_1_are_winograds(case, monkeypatch):
    calls, winograd = [], convolution.winograd
    monkeypatch.setattr(convolution, "winograd", lambda *x: calls.append(x) or winograd(*x))
    jax.eval_shape(lambda *x: convolve(*x, *case[6:]), *problem(*case[:6]))
    assert len(calls) == (case in WINOGRAD)


@pytest.mark.slow
@pytest.mark.parametrize("case", WINOGRAD + PATCHES)
def test_products_equal_the_convolution(case, x64):
    images, filters = problem(*case[:6])
    found, expected = (jax.jit(f, static_argnums=(2, 3))(images, filters, *case[6:]) for f in (convolve, reference))
    assert found.shape == expected.shape
    assert found.dtype == jnp.float64
    assert error(found, expected) < 1e-10


BETWEEN = [(1, 2), (5, 12), (5, 12), (15, 17), (15, 17), (1, 5), (1, 3), (0, 2)]


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.tuples(*(st.integers(*ends) for ends in BETWEEN)))
def test_outputs_and_gradients_have_the_shape_of_the_convolution_s(case):
    def both(f, images, filters):
        outputs, pullback = jax.vjp(lambda *x: f(*x, *case[6:]), images, filters)
        return outputs, pullback(outputs)

    found, expected = (jax.eval_shape(partial(both, f), *problem(*case[:6])) for f in (convolve, reference))
    assert found == expected


@pytest.mark.slow
def test_winograd_in_float32_loses_a_digit():
    images, filters = problem(2, 16, 16, 64, 64, 3)
    with jax.enable_x64(True):
        exact = np.asarray(reference(*(x.astype(jnp.float64) for x in (images, filters))))
    found, expected = (np.asarray(jax.jit(f)(images, filters)) for f in (convolve, reference))
    assert error(found, exact) < 1e-4
    assert error(found, exact) < 30 * error(expected, exact)


def second_order(f):
    """The gradients of a function of both gradients."""

    def first(images, filters):
        gradients = jax.grad(lambda *x: jnp.sum(jnp.tanh(f(*x))), (0, 1))(images, filters)
        return sum(jnp.sum(jnp.sin(gradient)) for gradient in gradients)

    return jax.jit(jax.value_and_grad(first, (0, 1)))


@pytest.mark.slow
@pytest.mark.parametrize("case", [WINOGRAD[1], PATCHES[0], PATCHES[2], PATCHES[4], PATCHES[6]])
def test_first_and_second_gradients_equal_the_convolution_s(case, x64, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 1)  # an image
    images, filters = problem(*case[:6])
    found = second_order(lambda *x: convolve(*x, *case[6:]))(images, filters)
    expected = second_order(lambda *x: reference(*x, *case[6:]))(images, filters)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert error(one, other) < 1e-10


def mapped(f, images, filters):
    return jax.lax.map(lambda w: f(images, w), filters)


def batched(f, images, filters):
    return jax.vmap(f, (None, 0))(images, filters)


@pytest.mark.slow
@pytest.mark.parametrize("many", [mapped, batched])
@pytest.mark.parametrize("case", [WINOGRAD[1], PATCHES[0]])
def test_gradients_of_many_filters_at_once_are_the_same(many, case, x64):
    images, filters = problem(*case[:6])
    filters = jnp.stack([filters, 2 * filters, filters[::-1]])
    gradients = [jax.grad(lambda *x, f=f: jnp.sum(jnp.tanh(f(*x))), 1) for f in (convolve, reference)]
    found, expected = (jax.jit(lambda *x, f=f: many(f, *x))(images, filters) for f in gradients)
    assert error(found, expected) < 1e-10


def test_other_devices_take_their_own_convolution(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for case in (WINOGRAD[0], PATCHES[4]):
        images, filters = problem(*case[:6])
        np.testing.assert_array_equal(convolve(images, filters, *case[6:]), reference(images, filters, *case[6:]))
