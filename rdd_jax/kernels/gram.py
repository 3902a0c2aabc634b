"""Gram matrices in tiles, so that memory follows a budget and not the data."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rdd_jax.contracts import Kernel
from rdd_jax.devices import replicated, spread
from rdd_jax.errors import at_least
from rdd_jax.kernels.blocks import in_blocks
from rdd_jax.pixels import Images
from rdd_jax.progress import each

__all__ = [
    "BUDGET",
    "ROWS",
    "TEMPORARIES",
    "CompiledKernel",
    "block_rows",
    "compile_kernel",
    "gram_matrix",
    "gram_trace",
    "pad",
    "predict",
    "row_blocks",
    "starts",
    "tiled",
]

BUDGET = 256 * 2**20
"""Bytes that one tile and its temporaries may take."""

TEMPORARIES = 8
"""Arrays of the tile's shape that evaluating a closed-form kernel holds at once, at most."""


def tiled(kernel: Kernel, rows: int, columns: int) -> Kernel:
    """The same kernel, evaluated ``rows x columns`` at a time inside one compiled loop.

    For kernels that need far more memory than their result, such as a convolutional NTK with pooling,
    which holds ``[n1, n2, P, P]`` for ``P`` pixels. Tiles are evaluated again on the way back of a gradient, so that it
    needs no more.
    """
    at_least("rows", rows, 1)
    at_least("columns", columns, 1)
    tile = jax.checkpoint(kernel)
    return lambda x1, x2: in_blocks(lambda a: in_blocks(lambda b: tile(a, b).T, x2, columns).T, x1, rows)


def block_rows(features: int, columns: int, budget: int = BUDGET) -> int:
    """How many rows of ``features`` numbers against ``columns`` others fit the budget, in float32.

    Rows are held three times: on the host, on the device, and those of the block before.
    """
    return max(1, budget // (4 * (3 * features + TEMPORARIES * columns)))


def row_blocks(images: Images, rows: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of ``rows`` images; the last one is padded by repetition, so that one shape is compiled."""
    rows = min(rows, len(images))
    for start in starts(len(images), rows):
        stop = min(start + rows, len(images))
        block = images[start:stop]
        if stop - start < rows:
            block = np.concatenate([block, images[: rows - (stop - start)]])
        yield slice(start, stop), block


def starts(n: int, rows: int) -> Iterator[int]:
    """Where the blocks of ``rows`` of ``n`` images begin; how far they are is told (`rdd_jax.progress.each`)."""
    return each(range(0, n, rows), lambda start: f"{start:,} of {n:,} images")


class CompiledKernel(NamedTuple):
    """A kernel's uses, each compiled once for a shape.

    Attributes:
      cross: ``(x1, x2) -> [n1, n2]``; own: ``x -> [n, n]``, of a set with itself, which a kernel may know to have an
        exact diagonal; diagonal: ``x -> [n]``; predict: ``(x, support, alpha) -> k(x, support) alpha``.
    """

    cross: Callable[[Array, Array], Array]
    own: Callable[[Array], Array]
    diagonal: Callable[[Array], Array]
    predict: Callable[[Array, Array, Array], Array]


@lru_cache(maxsize=16)
def compile_kernel(kernel: Kernel) -> CompiledKernel:
    """The same object for the same kernel."""

    def one(x: Array) -> Array:
        x = x[None]
        return kernel(x, x)[0, 0]

    return CompiledKernel(
        jax.jit(lambda x1, x2: replicated(kernel(x1, spread(x2)))),
        jax.jit(lambda x: kernel(x, x)),
        # One after another: a kernel in tiles or blocks has the memory for no more at a time.
        jax.jit(lambda x: jax.lax.map(one, x)),
        jax.jit(lambda x, support, alpha: replicated(kernel(spread(x), support) @ alpha)),
    )


ROWS = 500
"""Images that `gram_trace` and `gram_matrix` take at a time; sets are padded to a multiple, so that few shapes are
compiled however many sets there are."""


def gram_trace(kernel: Kernel, images: Images) -> float:
    """The trace of the Gram matrix, without the matrix."""
    diagonal, total = compile_kernel(kernel).diagonal, 0.0
    for start in starts(len(images), ROWS):
        block = images[start : start + ROWS]
        values = np.asarray(diagonal(jnp.asarray(pad(block, ROWS))), np.float64)
        total += float(values[: len(block)].sum())
    return total


def gram_matrix(kernel: Kernel, images: Images) -> Float[np.ndarray, "n n"]:
    """The Gram matrix on the host, float64 in Fortran order."""
    compiled, n, padded = compile_kernel(kernel), len(images), pad(np.asarray(images), ROWS)
    full, everything = np.empty((n, n), np.float64, order="F"), jnp.asarray(padded)
    for start in starts(n, ROWS):
        x, stop = everything[start : start + ROWS], min(start + ROWS, n)
        full[:, start:stop] = np.asarray(compiled.cross(x, everything))[: stop - start, :n].T
        full[start:stop, start:stop] = np.asarray(compiled.own(x))[: stop - start, : stop - start]
    return full


def pad(images: np.ndarray, multiple: int) -> np.ndarray:
    """The images, repeated from the first on up to a multiple of ``multiple``."""
    n = len(images)
    return images if n % multiple == 0 else images[np.arange(n + -n % multiple) % n]


def predict(
    kernel: Kernel,
    images: Images,
    support: Float[Array, "m h w c"],
    alpha: Float[Array, "m k"],
    budget: int = BUDGET,
) -> Float[np.ndarray, "n k"]:
    """``kernel(images, support) @ alpha`` for any number of images, in row blocks within ``budget`` bytes."""
    rows = block_rows(images[0].size, len(support), budget)
    outputs = np.empty((len(images), alpha.shape[1]), np.dtype(alpha.dtype))
    evaluate = compile_kernel(kernel).predict
    for where, block in row_blocks(images, rows):
        outputs[where] = np.asarray(evaluate(jnp.asarray(block), support, alpha))[: where.stop - where.start]
    return outputs
