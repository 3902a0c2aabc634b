r"""Convolutions as matrix products, which XLA on a CPU is good at; its own convolution on every other device.

On a CPU, XLA's convolution is quick forwards, four times slower for the gradient of the filters, and inside a compiled
loop or under ``vmap`` of its filters slower by far. Products and elementwise operations have none of these faults.
Therefore:

* 3x3 filters at stride 1 by Winograd's minimal filtering F(4x4, 3x3) (Lavin & Gray 2016): tiles of 4x4 outputs from
  6x6 inputs, with 36 multiplications in the place of 144,

  .. math::  Y = A^T \left[ (G w G^T) \odot (B^T x B) \right] A ,

  in which the sums over channels make each of the 36 points one matrix product.
* everything else as one product with the patches of the images.

Winograd's transforms lose about one decimal digit in float32 (tested). Both have reverse-mode derivatives of any
order.

Where products are rounded to bfloat16 (`precision`), a convolution is that of rounded images and filters, with sums of
single precision, and is rounded once more: NVIDIA's library has no quick one that would not be. Other devices take
three convolutions of XLA that are one another's derivatives; a CPU does the same in single precision.
"""

import math
import operator
from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rdd_jax.networks.precision import DEFAULT, cut, is_rounded, rounded

__all__ = ["LEAST_CHANNELS", "TILE", "convolve"]

Images = Float[Array, "n h w c"]
Filters = Float[Array, "k k c d"]

TILE = 4
LEAST_CHANNELS = 16
"""Below, transforms cost more than Winograd saves."""

_INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_FILTER = (
    np.array(
        [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]],
    )
    / 24
)
_OUTPUT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])


def convolve(images: Images, filters: Filters, stride: int = 1, padding: int = 1) -> Float[Array, "n i j d"]:
    """The cross-correlation of images with square filters.

    Args:
      images: ``[n, h, w, c]``; ``filters``: ``[k, k, c, d]``.
      stride: every how many pixels there is an output.
      padding: zeros on every side of the images.

    The result is of the dtype of the images, whatever `precision` rounds to.
    """
    on_cpu = jax.default_backend() == "cpu"
    if is_rounded():
        if not on_cpu:
            return _outputs(stride, padding, images, filters)
        # Whose derivative is the same of the derivative.
        return cut(_by_products(cut(images), cut(filters), stride, padding))
    if on_cpu:
        return _by_products(images, filters, stride, padding)
    sides, numbers = ((padding, padding), (padding, padding)), ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(images, filters, (stride, stride), sides, dimension_numbers=numbers)


def _by_products(images: Array, filters: Array, stride: int, padding: int) -> Array:
    """On a CPU."""
    wide = min(filters.shape[2:]) >= LEAST_CHANNELS and min(images.shape[1:3]) >= TILE
    if len(filters) == 3 and stride == 1 and padding == 1 and wide:
        return _winograd(images, filters)
    return _by_patches(images, filters, stride, padding)


def _by_patches(images: Array, filters: Array, stride: int, padding: int) -> Array:
    """One product of filters and patches, which are copied with the pixels of a row side by side: that is quicker."""
    size, _, channels, width = filters.shape
    padded = jnp.pad(jnp.moveaxis(images, 3, 0), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    last = [side - size + 1 for side in padded.shape[2:]]
    patches = jnp.stack(
        [padded[:, :, i : last[0] + i : stride, j : last[1] + j : stride] for i in range(size) for j in range(size)]
    )
    products = jnp.einsum("kn,kd->nd", patches.reshape(size * size * channels, -1), filters.reshape(-1, width))
    return products.reshape(*patches.shape[2:], width)


# --- rounded, on other devices ---------------------------------------------------------------------------


def _rounded(lhs: Array, rhs: Array, sides: list[tuple[int, int]], numbers: tuple[str, str, str], **how) -> Array:
    how = {"window_strides": (1, 1), "padding": sides, "dimension_numbers": numbers, "precision": DEFAULT, **how}
    return jax.lax.conv_general_dilated(rounded(lhs), rounded(rhs), **how).astype(lhs.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _outputs(stride: int, padding: int, images: Array, filters: Array) -> Array:
    """The convolution."""
    numbers = ("NHWC", "HWIO", "NHWC")
    return _rounded(images, filters, [(padding, padding)] * 2, numbers, window_strides=(stride, stride))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _of_images(shape: tuple[int, int], stride: int, padding: int, outputs: Array, filters: Array) -> Array:
    """The gradient of images of ``shape = (h, w)``."""
    before = len(filters) - 1 - padding
    ends = zip(shape, outputs.shape[1:3], strict=True)
    sides = [(before, side - 1 - stride * (out - 1) + padding) for side, out in ends]
    numbers = ("NHWC", "HWOI", "NHWC")
    return _rounded(outputs, filters[::-1, ::-1], sides, numbers, lhs_dilation=(stride, stride))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _of_filters(size: int, stride: int, padding: int, images: Array, outputs: Array) -> Array:
    """The gradient of filters of ``size``."""
    ends = zip(images.shape[1:3], outputs.shape[1:3], strict=True)
    sides = [(padding, size - side - padding + stride * (out - 1)) for side, out in ends]
    return _rounded(images, outputs, sides, ("CHWN", "IHWO", "HWNC"), rhs_dilation=(stride, stride))


# Each is bilinear, and its derivatives are the other two. JAX's own would multiply rounded numbers by others.
_outputs.defvjp(
    lambda *at: (_outputs(*at), at[2:]),
    lambda stride, padding, kept, outputs: (
        _of_images(kept[0].shape[1:3], stride, padding, outputs, kept[1]),
        _of_filters(len(kept[1]), stride, padding, kept[0], outputs),
    ),
)
_of_images.defvjp(
    lambda *at: (_of_images(*at), at[3:]),
    lambda shape, stride, padding, kept, images: (
        _outputs(stride, padding, images, kept[1]),
        _of_filters(len(kept[1]), stride, padding, images, kept[0]),
    ),
)
_of_filters.defvjp(
    lambda *at: (_of_filters(*at), at[3:]),
    lambda size, stride, padding, kept, filters: (
        _of_images(kept[0].shape[1:3], stride, padding, kept[1], filters),
        _outputs(stride, padding, kept[0], filters),
    ),
)


# --- Winograd ----------------------------------------------------------------------------------------


@jax.custom_vjp
def _winograd(images: Array, filters: Array) -> Array:
    """3x3, stride 1, same size."""
    n, height, breadth, _ = images.shape
    points = [tile @ one for tile, one in zip(_input_tiles(images), _filter_points(filters), strict=True)]
    down, across = -(-height // TILE), -(-breadth // TILE)
    points = [point.reshape(n, down, across, -1) for point in points]
    columns = [_combine(_OUTPUT, points[j::6]) for j in range(6)]
    tiles = [_combine(_OUTPUT, [column[k] for column in columns]) for k in range(TILE)]
    rows = jnp.stack([jnp.stack(row, 3) for row in tiles], 2)
    return rows.reshape(n, down * TILE, across * TILE, -1)[:, :height, :breadth]


@jax.custom_vjp
def _correlate(images: Array, outputs: Array) -> Array:
    """The gradient of the filters: ``sum of images[y + i - 1, x + j - 1] outputs[y, x]``, ``[3, 3, c, d]``."""
    products = [a.T @ b for a, b in zip(_input_tiles(images), _output_tiles(outputs), strict=True)]
    transform = jnp.asarray(_FILTER, images.dtype)
    products = jnp.stack(products).reshape(6, 6, images.shape[-1], -1)
    return jnp.einsum("ik,ijcd,jl->klcd", transform, products, transform)


def _turned(filters: Array) -> Array:
    """The filters of the transposed convolution."""
    return jnp.swapaxes(filters[::-1, ::-1], 2, 3)


# The two are closed under differentiation, so that gradients of any order are Winograd's too.
_winograd.defvjp(
    lambda images, filters: (_winograd(images, filters), (images, filters)),
    lambda kept, outputs: (_winograd(outputs, _turned(kept[1])), _correlate(kept[0], outputs)),
)
_correlate.defvjp(
    lambda images, outputs: (_correlate(images, outputs), (images, outputs)),
    lambda kept, filters: (_winograd(kept[1], _turned(filters)), _winograd(kept[0], filters)),
)


def _combine(matrix: np.ndarray, parts: list[Array]) -> list[Array]:
    """``matrix @ parts`` written out: its entries are few and mostly 0 or 1."""
    scaled = [[float(weight) * part for weight, part in zip(row, parts, strict=True) if weight] for row in matrix]
    return [reduce(operator.add, row) for row in scaled]


def _points(matrix: np.ndarray, images: Array, margin: int) -> list[Array]:
    """``matrix x matrix^T`` of the tiles ``x`` that start every `TILE` pixels: 36 points ``[n tiles, c]``."""
    size = matrix.shape[1]
    sides = [(margin, math.ceil(side / TILE) * TILE - side + margin) for side in images.shape[1:3]]
    padded = jnp.pad(images, ((0, 0), *sides, (0, 0)))
    last = [side - size + 1 for side in padded.shape[1:3]]
    rows = _combine(matrix, [padded[:, i : last[0] + i : TILE] for i in range(size)])
    return [
        point.reshape(-1, images.shape[-1])
        for row in rows
        for point in _combine(matrix, [row[:, :, j : last[1] + j : TILE] for j in range(size)])
    ]


def _input_tiles(images: Array) -> list[Array]:
    """``B^T x B`` of every 6x6 tile of inputs."""
    return _points(_INPUT, images, 1)


def _output_tiles(outputs: Array) -> list[Array]:
    """``A y A^T`` of every 4x4 tile of outputs."""
    return _points(_OUTPUT.T, outputs, 0)


def _filter_points(filters: Array) -> list[Array]:
    """``G w G^T``: 36 of ``[c, d]``."""
    transform = jnp.asarray(_FILTER, filters.dtype)
    points = jnp.einsum("ik,klcd,jl->ijcd", transform, filters, transform)
    return list(points.reshape(36, *filters.shape[2:]))
