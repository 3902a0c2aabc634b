"""Gram matrices in tiles, so that memory follows a budget and not the data."""

from collections.abc import Iterator
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rdd_jax.errors import at_least
from rdd_jax.types import Kernel

BUDGET = 256 * 2**20
"""Bytes that one tile and its temporaries may take."""

TEMPORARIES = 8
"""Arrays of the tile's shape that evaluating a closed-form kernel holds at once, at most."""


def tiled(kernel: Kernel, rows: int, columns: int) -> Kernel:
    """The same kernel, evaluated ``rows x columns`` at a time inside one compiled loop.

    For kernels that need far more memory than their result, such as a convolutional NTK with pooling,
    which holds ``[n1, n2, P, P]`` for ``P`` pixels.
    """
    at_least("rows", rows, 1)
    at_least("columns", columns, 1)

    def evaluate(x1: Array, x2: Array) -> Array:
        left, right = _tiles(x1, rows), _tiles(x2, columns)
        blocks = jax.lax.map(lambda a: jax.lax.map(lambda b: kernel(a, b), right), left)
        full = jnp.moveaxis(blocks, 2, 1).reshape(len(left) * left.shape[1], -1)
        return full[: len(x1), : len(x2)]

    return evaluate


def _tiles(x: Array, size: int) -> Array:
    size = min(size, len(x))
    padding = -len(x) % size
    # The padding repeats real rows: a kernel is defined there, which it need not be at zero.
    return jnp.concatenate([x, x[:padding]]).reshape(-1, size, *x.shape[1:])


def block_rows(features: int, columns: int, budget: int = BUDGET) -> int:
    """How many rows of ``features`` numbers against ``columns`` others fit the budget, in float32."""
    return max(1, budget // (4 * (features + TEMPORARIES * columns)))


def row_blocks(images: np.ndarray, rows: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of ``rows`` images; the last one is padded by repetition, so that one shape is compiled."""
    rows = min(rows, len(images))
    for start in range(0, len(images), rows):
        stop = min(start + rows, len(images))
        block = images[start:stop]
        if stop - start < rows:
            block = np.concatenate([block, images[: rows - (stop - start)]])
        yield slice(start, stop), block


@lru_cache(maxsize=16)
def _predictor(kernel: Kernel):
    return jax.jit(lambda x, support, alpha: kernel(x, support) @ alpha)


def predict(
    kernel: Kernel,
    images: np.ndarray,
    support: Float[Array, "m h w c"],
    alpha: Float[Array, "m k"],
    budget: int = BUDGET,
) -> Float[np.ndarray, "n k"]:
    """``kernel(images, support) @ alpha`` for any number of images, in row blocks within ``budget`` bytes."""
    rows = block_rows(images[0].size, len(support), budget)
    outputs = np.empty((len(images), alpha.shape[1]), np.dtype(alpha.dtype))
    evaluate = _predictor(kernel)
    for where, block in row_blocks(images, rows):
        outputs[where] = np.asarray(evaluate(jnp.asarray(block), support, alpha))[: where.stop - where.start]
    return outputs
