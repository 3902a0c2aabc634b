r"""Winograd's minimal filtering of 3x3 filters at stride 1 (Lavin & Gray 2016), as matrix products.

Tiles of :math:`t \times t` outputs from :math:`(t + 2) \times (t + 2)` inputs, with :math:`(t + 2)^2` multiplications
in the place of :math:`9 t^2`,

.. math::  Y = A^T \left[ (G w G^T) \odot (B^T x B) \right] A ,

in which the sums over channels make each of the :math:`(t + 2)^2` points one matrix product.

In single precision :math:`t` is 4: 36 multiplications in the place of 144, and transforms that lose about one decimal
digit in float32 (tested). Points that are rounded to bfloat16 have :math:`t` = 2, with 16 in the place of 36: there the
error is 1.7 times that of rounded images and filters, by tiles of 4 eleven times. The gradient of the filters is of
single precision always: its products sum over the rows of both operands, for which XLA has no quick one in bfloat16.
"""

import math
import operator
from collections.abc import Callable
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from rdd_jax.networks.blocks import by_blocks, sum_of_blocks
from rdd_jax.networks.precision import rounded, sums_of_rounded

__all__ = ["FOUR", "TWO", "Transforms", "winograd"]


class Transforms(NamedTuple):
    """Of tiles of a size."""

    input: np.ndarray
    """``B^T``."""
    filter: np.ndarray
    """``G``."""
    output: np.ndarray
    """``A^T``."""


FOUR = Transforms(
    np.array(
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ]
    ),
    np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24,
    np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]),
)

TWO = Transforms(
    np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]),
    np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]) / 2,
    np.array([[1, 1, 1, 0], [0, 1, -1, -1]]),
)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def winograd(in_bfloat16: bool, images: Array, filters: Array) -> Array:
    """3x3, stride 1, same size; of single precision, or with points rounded to bfloat16."""
    transforms = TWO if in_bfloat16 else FOUR
    transform = jnp.asarray(transforms.filter, filters.dtype)
    points = jnp.einsum("ik,klcd,jl->ijcd", transform, filters, transform).reshape(-1, *filters.shape[2:])
    if not in_bfloat16:
        return _outputs(transforms, jnp.matmul, list(points), images)
    # Not in one array, out of which every block would copy them.
    points = [rounded(point) for point in points]
    work = partial(_outputs, transforms, lambda a, b: sums_of_rounded(rounded(a), b, images.dtype), points)
    return by_blocks(work, filters.shape[3], images)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _correlate(in_bfloat16: bool, images: Array, outputs: Array) -> Array:
    """The gradient of the filters: ``sum of images[y + i - 1, x + j - 1] outputs[y, x]``, ``[3, 3, c, d]``."""

    def products(images: Array, outputs: Array) -> list[Array]:
        ours, theirs = _points(FOUR.input, 4, images, 1), _points(FOUR.output.T, 4, outputs, 0)
        return [a.T @ b for a, b in zip(ours, theirs, strict=True)]

    points = jnp.stack(sum_of_blocks(products, images, outputs))
    transform = jnp.asarray(FOUR.filter, images.dtype)
    return jnp.einsum("ik,ijcd,jl->klcd", transform, points.reshape(6, 6, *points.shape[1:]), transform)


def _turned(filters: Array) -> Array:
    """The filters of the transposed convolution."""
    return jnp.swapaxes(filters[::-1, ::-1], 2, 3)


# The two are closed under differentiation, so that gradients of any order are Winograd's too.
winograd.defvjp(
    lambda *at: (winograd(*at), at[1:]),
    lambda in_bfloat16, kept, outputs: (
        winograd(in_bfloat16, outputs, _turned(kept[1])),
        _correlate(in_bfloat16, kept[0], outputs),
    ),
)
_correlate.defvjp(
    lambda *at: (_correlate(*at), at[1:]),
    lambda in_bfloat16, kept, filters: (
        winograd(in_bfloat16, kept[1], _turned(filters)),
        winograd(in_bfloat16, kept[0], filters),
    ),
)


def _outputs(
    transforms: Transforms,
    product: Callable[[Array, Array], Array],
    filter_points: list[Array],
    images: Array,
) -> Array:
    """The convolution of images by the points of the filters, each point one ``product``."""
    (tile, size), (n, height, breadth, _) = transforms.output.shape, images.shape
    ours = _points(transforms.input, tile, images, 1)
    points = [product(a, b) for a, b in zip(ours, filter_points, strict=True)]
    down, across = -(-height // tile), -(-breadth // tile)
    points = [point.reshape(n, down, across, -1) for point in points]
    columns = [_combine(transforms.output, points[j::size]) for j in range(size)]
    tiles = [_combine(transforms.output, [column[k] for column in columns]) for k in range(tile)]
    rows = jnp.stack([jnp.stack(row, 3) for row in tiles], 2)
    return rows.reshape(n, down * tile, across * tile, -1)[:, :height, :breadth]


def _combine(matrix: np.ndarray, parts: list[Array]) -> list[Array]:
    """``matrix @ parts`` written out: its entries are few and mostly 0 or 1."""
    scaled = [[float(weight) * part for weight, part in zip(row, parts, strict=True) if weight] for row in matrix]
    return [reduce(operator.add, row) for row in scaled]


def _points(matrix: np.ndarray, tile: int, images: Array, margin: int) -> list[Array]:
    """``matrix x matrix^T`` of the tiles ``x`` that start every ``tile`` pixels: every point ``[n tiles, c]``."""
    size = matrix.shape[1]
    sides = [(margin, math.ceil(side / tile) * tile - side + margin) for side in images.shape[1:3]]
    padded = jnp.pad(images, ((0, 0), *sides, (0, 0)))
    last = [side - size + 1 for side in padded.shape[1:3]]
    rows = _combine(matrix, [padded[:, i : last[0] + i : tile] for i in range(size)])
    return [
        point.reshape(-1, images.shape[-1])
        for row in rows
        for point in _combine(matrix, [row[:, :, j : last[1] + j : tile] for j in range(size)])
    ]
