r"""Kernel ridge regression on a small set, and the labels that suit it best.

With ``K = k(S, S)``, ``m`` synthetic images and :math:`\lambda = reg \cdot tr(K) / m`,

.. math::  f(x) = k(x, S)\, \alpha, \quad \alpha = (K + \lambda I)^{-1} Y_S .
"""

from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float

from rdd_jax.contracts import Kernel
from rdd_jax.errors import InputError
from rdd_jax.kernels.gram import BUDGET, block_rows, compile_kernel, predict, row_blocks
from rdd_jax.pixels import Images
from rdd_jax.types import Synthetic

__all__ = ["Regressor", "check_positive_definite", "factor", "fit", "label_solve", "ridge", "solve"]


def ridge(gram: Float[Array, "m m"], reg: float) -> Float[Array, ""]:
    r""":math:`\lambda = reg \cdot tr(K) / m`."""
    return reg * jnp.trace(gram) / len(gram)


def factor(gram: Float[Array, "m m"], reg: float) -> Float[Array, "m m"]:
    """The lower Cholesky factor of ``K + ridge I``; NaN where that is not positive definite."""
    return jnp.linalg.cholesky(gram + ridge(gram, reg) * jnp.eye(len(gram), dtype=gram.dtype))


def solve(cholesky: Float[Array, "m m"], b: Float[Array, "m k"]) -> Float[Array, "m k"]:
    """``(L L^T)^-1 b``."""
    return jax.scipy.linalg.cho_solve((cholesky, True), b)


def check_positive_definite(kernel: Kernel, images: Float[Array, "m h w c"], reg: float) -> None:
    """Raises `InputError` where ``K + ridge I`` cannot be factored, with the eigenvalue and the remedy."""
    gram = np.asarray(compile_kernel(kernel).own(images))
    if not np.isfinite(gram).all():
        raise InputError("the kernel of the synthetic images is not finite: look for huge or NaN pixels")
    if not np.isfinite(np.asarray(factor(jnp.asarray(gram), reg))).all():
        raise _not_positive_definite(gram, reg)


def _not_positive_definite(gram: np.ndarray, reg: float) -> InputError:
    mean = np.trace(gram) / len(gram)
    lowest = np.linalg.eigvalsh(gram.astype(np.float64))[0] / mean
    return InputError(
        f"the Gram matrix of the synthetic images is not positive definite with reg {reg:g} "
        f"(its smallest eigenvalue is {lowest:.1e} of the mean one): raise reg above "
        f"{max(2 * abs(lowest), 1e-6):.0e}, remove duplicate images, or use float64 (JAX_ENABLE_X64=1)"
    )


def _factor_on_host(kernel: Kernel, images: Array, reg: float, weight: Array | None = None) -> tuple[np.ndarray, float]:
    """The Cholesky factor of ``K + ridge diag(1 / w)`` in float64, and the mean of K's diagonal."""
    gram = np.asarray(compile_kernel(kernel).own(images), np.float64)
    mean = float(np.trace(gram)) / len(gram)
    relative = np.ones(len(gram)) if weight is None else np.asarray(weight, np.float64) / np.mean(weight)
    try:
        return np.linalg.cholesky(gram + reg * mean * np.diag(1 / relative)), mean
    except np.linalg.LinAlgError as error:
        raise _not_positive_definite(gram, reg) from error


class Regressor(NamedTuple):
    """A fitted kernel ridge regression."""

    kernel: Kernel
    support: Float[Array, "m h w c"]
    alpha: Float[Array, "m k"]

    def __call__(self, images: Images, budget: int = BUDGET) -> Float[np.ndarray, "n k"]:
        """Predictions for any number of images in model space, in blocks within ``budget`` bytes."""
        return predict(self.kernel, images, self.support, self.alpha, budget)


def fit(kernel: Kernel, synthetic: Synthetic, reg: float = 1e-6) -> Regressor:
    """Fits ridge regression to a synthetic set; the system is solved in float64 on the host.

    With weights ``w`` of mean 1 it minimises the weighted squares, ``alpha = (K + ridge diag(1 / w))^-1 Y``.

    Raises:
      InputError: the Gram matrix is not positive definite.
    """
    cholesky, _ = _factor_on_host(kernel, synthetic.images, reg, synthetic.weight)
    alpha = scipy.linalg.cho_solve((cholesky, True), np.asarray(synthetic.labels, np.float64))
    return Regressor(kernel, synthetic.images, jnp.asarray(alpha, synthetic.images.dtype))


@lru_cache(maxsize=16)
def _moments(kernel: Kernel):
    def moments(x, y, weight, support):
        cross = kernel(support, x)
        weighted = cross * weight[None, :]
        return weighted @ cross.T, weighted @ y

    return jax.jit(moments)


def label_solve(
    kernel: Kernel,
    support: Float[Array, "m h w c"],
    images: Images,
    labels: np.ndarray,
    reg: float = 1e-6,
    label_reg: float = 1e-8,
    budget: int = BUDGET,
) -> Float[Array, "m k"]:
    r"""The synthetic labels that fit all real data best, in closed form.

    .. math::
        \alpha = \arg\min \tfrac{1}{n} \|k(X, S) \alpha - Y\|_F^2 + \mu\, tr(\alpha^T (K + \lambda I) \alpha), \quad
        Y_S = (K + \lambda I)\, \alpha

    with :math:`\mu = label\_reg \cdot tr(K) / m`, solved in coordinates in which ``K + ridge I`` is the
    identity. One pass over the data in blocks; sums and solve in float64 on the host.

    Args:
      support: the synthetic images ``S``; ``images`` ``[n, h, w, c]`` and ``labels`` ``[n, k]`` the real data.

    Raises:
      InputError: the Gram matrix is not positive definite.
    """
    m, k = len(support), labels.shape[1]
    cholesky, mean = _factor_on_host(kernel, support, reg)
    second, first = np.zeros((m, m)), np.zeros((m, k))
    rows = block_rows(images[0].size, m, budget)
    for where, block in row_blocks(images, rows):
        size = where.stop - where.start
        weight = (np.arange(len(block)) < size).astype(np.float32)
        y = np.zeros((len(block), k), np.float32)
        y[:size] = labels[where]
        a, b = _moments(kernel)(jnp.asarray(block), y, weight, support)
        second += np.asarray(a, np.float64)
        first += np.asarray(b, np.float64)
    n = len(images)
    whiten = partial(scipy.linalg.solve_triangular, cholesky, lower=True)
    penalty = label_reg * mean * np.eye(m)
    beta = scipy.linalg.solve(whiten(whiten(second / n).T) + penalty, whiten(first / n), assume_a="pos")
    return jnp.asarray(cholesky @ beta, support.dtype)
