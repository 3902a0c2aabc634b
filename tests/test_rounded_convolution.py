"""Convolutions of what is rounded to bfloat16: within the bound of rounding, in every derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdd_jax.networks import blocks, convolution, winograd
from rdd_jax.networks.convolution import convolve
from rdd_jax.networks.precision import at_precision

EACH = 2.0**-8
"""The largest relative error of a number that is rounded to bfloat16."""
OF_TWO = (1 + EACH) ** 2 - 1
"""The same of a product of two."""


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), float)


@pytest.fixture(params=["cpu", "gpu"])
def device(request, monkeypatch):
    """The branch of a device, on this one."""
    monkeypatch.setattr(jax, "default_backend", lambda: request.param)


def second_order(f):
    """The gradients of a function of both gradients."""

    def first(a, b):
        gradients = jax.grad(lambda *x: jnp.sum(jnp.tanh(f(*x))), (0, 1))(a, b)
        return sum(jnp.sum(jnp.sin(gradient)) for gradient in gradients)

    return jax.jit(jax.value_and_grad(first, (0, 1)))


def reference(images, filters, stride, padding):
    sides, numbers = ((padding, padding), (padding, padding)), ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(images, filters, (stride, stride), sides, dimension_numbers=numbers)


# n, h, w, c, d, k, stride, padding
CASES = [
    (2, 8, 5, 16, 17, 3, 1, 1),
    (2, 7, 6, 4, 5, 3, 2, 1),
    (2, 8, 7, 5, 6, 1, 2, 0),
    (1, 9, 7, 3, 6, 5, 1, 0),
    (1, 9, 7, 3, 6, 5, 1, 2),
    (1, 10, 5, 2, 1, 5, 3, 2),
    (1, 12, 11, 2, 3, 2, 3, 0),
]


def problem(n, height, breadth, channels, width, size):
    return normal(0, n, height, breadth, channels), normal(1, size, size, channels, width) / size / channels**0.5


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
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


@pytest.mark.parametrize("case", [CASES[0], CASES[1]])
def test_other_devices_convolve_rounded_operands_and_round_once(case, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    images, filters = problem(*case[:6])
    cotangent = normal(2, *jax.eval_shape(lambda *x: reference(*x, *case[6:]), images, filters).shape)
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
    cotangent = normal(2, 2, 8, 5, 17)
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
