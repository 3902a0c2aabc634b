"""Convolutions as matrix products against XLA's own, with their gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdd_jax.networks import blocks, convolution, winograd
from rdd_jax.networks.convolution import convolve
from rdd_jax.networks.precision import at_precision


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
    calls, whole = [], convolution.winograd
    monkeypatch.setattr(convolution, "winograd", lambda *x: calls.append(x) or whole(*x))
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


@pytest.mark.thorough
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


@pytest.mark.thorough
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


# --- rounded to bfloat16 -----------------------------------------------------------------------------

EACH = 2.0**-8
"""The largest relative error of a number that is rounded to bfloat16."""
OF_TWO = (1 + EACH) ** 2 - 1
"""The same of a product of two."""

ROUNDED = [
    (2, 8, 5, 16, 17, 3, 1, 1),
    (2, 7, 6, 4, 5, 3, 2, 1),
    (2, 8, 7, 5, 6, 1, 2, 0),
    (1, 9, 7, 3, 6, 5, 1, 0),
    (1, 9, 7, 3, 6, 5, 1, 2),
    (1, 10, 5, 2, 1, 5, 3, 2),
    (1, 12, 11, 2, 3, 2, 3, 0),
]


def cotangent_of(shape):
    return jnp.asarray(np.random.default_rng(2).standard_normal(shape), float)


@pytest.mark.thorough
@pytest.mark.parametrize("case", ROUNDED)
def test_without_the_rounding_all_derivatives_are_the_convolution_s(case, device, x64, monkeypatch):
    for module in (convolution, winograd):
        monkeypatch.setattr(module, "rounded", lambda x: x)
    monkeypatch.setattr(blocks, "BLOCK", 1)  # an image
    images, filters = problem(*case[:6])
    with at_precision("bfloat16"):
        found = second_order(lambda *x: convolve(*x, *case[6:]))(images, filters)
    expected = second_order(lambda *x: reference(*x, *case[6:]))(images, filters)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10 * np.abs(other).max())


@pytest.mark.parametrize("case", [ROUNDED[0], ROUNDED[1]])
def test_other_devices_convolve_rounded_operands_and_round_once(case, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    images, filters = problem(*case[:6])
    cotangent = cotangent_of(jax.eval_shape(lambda *x: reference(*x, *case[6:]), images, filters).shape)
    with at_precision("bfloat16"):
        found, back = jax.vjp(lambda *x: convolve(*x, *case[6:]), images, filters)
        found = [found, *back(cotangent)]
    images, filters, cotangent = (x.astype(jnp.bfloat16).astype(x.dtype) for x in (images, filters, cotangent))
    outputs, pull = jax.vjp(lambda *x: reference(*x, *case[6:]), images, filters)
    for one, other in zip(found, [outputs, *pull(cotangent)], strict=True):
        assert one.dtype == jnp.float32
        # Zeros are sums of single precision that cancel.
        assert (np.abs(one - other) <= 1.01 * EACH * np.abs(other) + 1e-5).all()


def most(images, filters):
    """What the rounding of Winograd's points can change; our own derivation.

    Every product changes by `OF_TWO` of it at most, and outputs are sums of products with the weights of ``A``.
    """
    images, filters = (np.asarray(x, np.float64) for x in (images, filters))
    n, h, w, _ = images.shape
    of_filters = np.abs(np.einsum("ik,klcd,jl->ijcd", winograd.TWO.filter, filters, winograd.TWO.filter))
    padded = np.pad(images, ((0, 0), (1, 1 + h % 2), (1, 1 + w % 2), (0, 0)))
    tiles = np.lib.stride_tricks.sliding_window_view(padded, (4, 4), (1, 2))[:, ::2, ::2]
    points = np.abs(np.einsum("ik,nabckl,jl->nabijc", winograd.TWO.input, tiles, winograd.TWO.input))
    weights = np.abs(winograd.TWO.output)
    sums = np.einsum("ri,nabijc,ijcd,sj->narbsd", weights, points, of_filters, weights, optimize=True)
    return OF_TWO * sums.reshape(n, 2 * tiles.shape[1], 2 * tiles.shape[2], -1)[:, :h, :w]


def test_winograd_on_a_cpu_is_within_the_bound_of_rounded_points(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 1)
    images, filters = problem(2, 8, 5, 16, 17, 3)
    cotangent = cotangent_of((2, 8, 5, 17))
    expected, pull = jax.vjp(lambda *x: reference(*x, 1, 1), images, filters)
    with at_precision("bfloat16"):
        found, back = jax.vjp(lambda *x: convolve(*x, 1, 1), images, filters)
    turned = jnp.swapaxes(filters[::-1, ::-1], 2, 3)
    (of_images, of_filters), (exact, single) = back(cotangent), pull(cotangent)
    for one, other, *made_of in ((found, expected, images, filters), (of_images, exact, cotangent, turned)):
        assert (np.abs(one - other) <= most(*made_of) + 1e-5).all()
        assert EACH / 2 < jnp.linalg.norm(one - other) / jnp.linalg.norm(other) < 1.5 * EACH
    assert jnp.linalg.norm(of_filters - single) < 1e-5 * jnp.linalg.norm(single)


@pytest.mark.slow
def test_winograd_of_many_filters_is_that_of_each(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 1)
    images, filters = problem(2, 4, 5, 16, 16, 3)
    filters = jnp.stack([filters, 2 * filters, filters[::-1]])
    with at_precision("bfloat16"):
        gradient = jax.grad(lambda w: jnp.sum(jnp.tanh(convolve(images, w))))
        found, expected = jax.jit(jax.vmap(gradient))(filters), jnp.stack([gradient(w) for w in filters])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
