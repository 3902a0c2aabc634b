r"""Sensitivity of kernel ridge regression: the largest share of its cost that an example can ever have.

**Sensitivity.** For a cost :math:`F(W) = \sum_i f_i(W)` it is the largest share that an example can ever have,
:math:`s_i = \sup_W f_i(W) / F(W)`. Examples drawn by it and weighted back keep the cost of *every* ``W``
(Langberg & Schulman 2010; Feldman & Langberg 2011); `rdd_jax.selection.certificate` says how well.

**Of kernel ridge regression**, with features :math:`\phi`, ``K`` the Gram matrix, ``A = (K + lam I)^-1``,
``alpha = A Y``, and the cost :math:`\|\Phi W - Y\|^2 + \lambda \|W\|^2`, it has a closed form (our own derivation):

.. math::
    s_i = h_i + \|r_i\|^2 / OPT, \quad h_i = 1 - \lambda A_{ii}, \quad r_i = \lambda \alpha_i, \quad
    OPT = \lambda\, tr(Y^T \alpha), \qquad \sum_i s_i \le d_\lambda + 1, \quad d_\lambda = \sum_i h_i .

``h`` are the ridge leverage scores (Alaoui & Mahoney 2015), ``d_lambda`` the effective dimension.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Float
from scipy.linalg import lapack

from rdd_jax.contracts import Kernel
from rdd_jax.errors import InputError, at_least
from rdd_jax.kernels.gram import compile_kernel, gram_matrix, gram_trace, row_blocks
from rdd_jax.pixels import Images
from rdd_jax.progress import each, part
from rdd_jax.selection.base import Pool

__all__ = [
    "EXACT",
    "LANDMARKS",
    "Sensitivity",
    "from_landmarks",
    "krr_sensitivity",
    "krr_sensitivity_bound",
    "sensitivity",
]

EXACT = 10_000
"""Examples up to which sensitivities are exact: one Cholesky factor of ``[n, n]`` float64, 0.8 GB."""

LANDMARKS = 1000


class Sensitivity(NamedTuple):
    """Of kernel ridge regression: exact, or upper bounds (``optimum``: a lower bound)."""

    score: Float[np.ndarray, " n"]
    leverage: Float[np.ndarray, " n"]
    ridge: float
    """``lam``, absolute."""
    optimum: float
    """The least cost, ``OPT``."""
    exact: bool

    @property
    def effective_dimension(self) -> float:
        return float(self.leverage.sum())

    @property
    def total(self) -> float:
        return float(self.score.sum())


def krr_sensitivity(gram: Float[np.ndarray, "n n"], labels: Float[np.ndarray, "n k"], ridge: float) -> Sensitivity:
    """The exact sensitivities; see the module. One float64 factorisation, ``2/3 n^3`` operations.

    Args:
      ridge: ``lam``, absolute.

    Raises:
      InputError: ``ridge`` not positive, a Gram matrix that is not positive semi-definite or not finite.
    """
    gram = np.array(gram, np.float64, order="F")  # a copy, to be factored in place
    _check_ridge(ridge)
    return _exact(gram, np.asarray(labels, np.float64), ridge)


def _exact(gram: np.ndarray, labels: np.ndarray, ridge: float) -> Sensitivity:
    """As `krr_sensitivity`; overwrites ``gram``."""
    inverse, alpha = _factored(gram, labels, ridge)
    leverage = _shares(1 - ridge * _squares(inverse))
    residual = ridge**2 * np.sum(alpha**2, 1)
    optimum = ridge * float(np.sum(labels * alpha))
    share = residual / optimum if optimum > 0 else 0.0
    return Sensitivity(np.minimum(leverage + share, 1), leverage, ridge, optimum, exact=True)


def _factored(gram: np.ndarray, labels: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """``(L^-1, (K + lam I)^-1 Y)`` of the lower Cholesky factor ``L`` of ``K + lam I``; overwrites ``gram``.

    The diagonal of ``(K + lam I)^-1`` is `_squares` of ``L^-1``.
    """
    if not np.isfinite(gram).all():
        raise InputError("the Gram matrix is not finite: look for huge or NaN pixels")
    gram[np.diag_indices(len(gram))] += ridge
    lower, info = lapack.dpotrf(gram, lower=True, clean=True, overwrite_a=True)
    if info:
        raise InputError(
            f"the Gram matrix is not positive semi-definite (with ridge {ridge:g} its leading minor of order {info} is "
            "not positive): use a kernel that is, or a larger ridge"
        )
    alpha = scipy.linalg.cho_solve((lower, True), labels)
    inverse, _ = lapack.dtrtri(lower, lower=True, overwrite_c=True)
    return inverse, alpha


def _squares(columns: np.ndarray) -> np.ndarray:
    """The squared norm of every column."""
    return np.einsum("ij,ij->j", columns, columns)


def _shares(leverage: np.ndarray) -> np.ndarray:
    """Leverages lie in [0, 1); rounding may say otherwise by a little, an indefinite kernel by more."""
    if leverage.min() < -1e-6:
        raise InputError(
            f"the Gram matrix is not positive semi-definite (a leverage score is {leverage.min():.1e}): use a kernel "
            "that is, or float64 (JAX_ENABLE_X64=1)"
        )
    return np.clip(leverage, 0, 1)


def krr_sensitivity_bound(
    kernel: Kernel,
    images: Images,
    labels: Float[np.ndarray, "n k"],
    ridge: float,
    landmarks: int = LANDMARKS,
    seed: int = 0,
) -> Sensitivity:
    r"""Upper bounds of the sensitivities from ``landmarks`` random examples ``Z``, in ``O(n z (z + d))``.

    Our own derivation. Leaving terms out of a cost can only make it smaller, so that three costs are below ``F``:
    that of ``Z``, with leverage :math:`h_i`, residual :math:`r_i` and optimum :math:`o`; the term of ``i`` itself;
    and, for a constant, the sum :math:`L` of the optima of disjoint blocks of the data that share the ridge out among
    them, which is at most ``OPT``. All three leave ``i`` out (the leave-one-out formulas of ridge regression), so
    they can be added. For every mixture of the first and the third, the best of which is known,

    .. math::
        s_i \le \frac{t_i}{1 + t_i}, \quad t_i = \begin{cases}
        (\|r_i\| + \sqrt{h_i (L - o)})^2 / L & \text{if } L > o,\; \|r_i\| \sqrt{L - o} \geq o \sqrt{h_i} \\
        h_i + \|r_i\|^2 / o & \text{otherwise.} \end{cases}

    Never below the exact value, up to the rounding of the kernel; ``leverage`` is bounded in the same way by
    :math:`h_i / (1 + h_i)`.

    Args:
      kernel: any; evaluated ``z`` examples at a time.
      ridge: ``lam``, absolute.

    Raises:
      InputError: as `krr_sensitivity`; ``landmarks < 1``.
    """
    _check_ridge(ridge)
    at_least("landmarks", landmarks, 1)
    n, z = len(images), min(landmarks, len(images))
    labels = np.asarray(labels, np.float64)
    order = np.random.default_rng(seed).permutation(n)
    with part(0, 2, "landmarks"):
        leverage, residual, optimum = from_landmarks(kernel, images, labels, ridge, order[:z])
    with part(1, 2, "optima"):
        below, own = _blocks_optimum(kernel, images, labels, ridge, np.array_split(order, -(-n // z)))
    least = below - own
    # The mixture u (cost of Z) + (1 - u) (least) with the smallest supremum.
    gain = np.maximum(least - optimum, 0)
    root_h, root_r = np.sqrt(leverage), np.sqrt(residual)
    mixed = root_h * optimum <= root_r * np.sqrt(gain)
    with np.errstate(divide="ignore", invalid="ignore"):
        plain = np.where(residual > 0, residual / optimum, 0) + leverage
        t = np.where(mixed & (least > 0), (root_r + root_h * np.sqrt(gain)) ** 2 / least, plain)
    score = np.where(np.isfinite(t), t / (1 + t), 1.0)
    return Sensitivity(score, leverage / (1 + leverage), ridge, below, exact=False)


def from_landmarks(
    kernel: Kernel, images: Images, labels: np.ndarray, ridge: float, chosen: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(h, |r|^2, o)`` ``[n]`` of the regression on the chosen examples, each without the example itself."""
    z = len(chosen)
    compiled = compile_kernel(kernel)
    support = jnp.asarray(images[chosen])
    inverse, alpha = _factored(np.array(compiled.own(support), np.float64, order="F"), labels[chosen], ridge)
    total = ridge * float(np.sum(labels[chosen] * alpha))
    leverage, residual = np.empty(len(images)), np.empty(len(images))
    for where, block in row_blocks(images, z):
        count = where.stop - where.start
        rows = np.asarray(compiled.cross(support, jnp.asarray(block)), np.float64)[:, :count]
        diagonal = np.asarray(compiled.diagonal(jnp.asarray(block)), np.float64)[:count]
        leverage[where] = (diagonal - _squares(inverse @ rows)) / ridge
        residual[where] = np.sum((labels[where] - rows.T @ alpha) ** 2, 1)
    leverage = np.maximum(leverage, 0)
    optimum = np.full(len(images), total)
    # Of the landmarks themselves: what is left when each is taken out.
    inside = _shares(1 - ridge * _squares(inverse))
    kept = np.maximum(1 - inside, 1e-12)
    leverage[chosen] = inside / kept
    own = ridge**2 * np.sum(alpha**2, 1)
    residual[chosen] = own / kept**2
    optimum[chosen] = np.maximum(total - own / kept, 0)
    return leverage, residual, optimum


def _blocks_optimum(
    kernel: Kernel, images: Images, labels: np.ndarray, ridge: float, blocks: list[np.ndarray]
) -> tuple[float, np.ndarray]:
    """A lower bound of the optimum, and how much of it goes when each example is taken out."""
    below, own = 0.0, np.empty(len(images))
    for block in each(blocks, lambda block: f"block of {len(block):,} images"):
        share = ridge * len(block) / len(images)
        gram = np.array(compile_kernel(kernel).own(jnp.asarray(images[block])), np.float64, order="F")
        inverse, alpha = _factored(gram, labels[block], share)
        below += share * float(np.sum(labels[block] * alpha))
        own[block] = share * np.sum(alpha**2, 1) / _squares(inverse)
    return below, own


def _check_ridge(ridge: float) -> None:
    if not 0 < ridge < np.inf:
        raise InputError(f"ridge is {ridge}: it must be a positive number, or examples could matter without bound")


def sensitivity(pool: Pool, seed: int = 0) -> Sensitivity:
    """Of the regression that the pool is for: exact where it is small, a bound from landmarks beyond (`Pool`).

    Computed once for a pool (and seed, where landmarks are drawn): a selection and its certificate both ask.
    """
    exact = pool.landmarks == 0 and len(pool) <= EXACT
    key = None if exact else seed
    if key not in pool.known:
        pool.known[key] = _sensitivity(pool, exact, seed)
    return pool.known[key]


def _sensitivity(pool: Pool, exact: bool, seed: int) -> Sensitivity:
    ridge = pool.ridge * gram_trace(pool.kernel, pool.images)
    if exact:
        with part(0, 2, "Gram matrix"):
            gram = gram_matrix(pool.kernel, pool.images)
        with part(1, 2, "factor"):
            return _exact(gram, pool.one_hot.astype(np.float64), ridge)
    return krr_sensitivity_bound(pool.kernel, pool.images, pool.one_hot, ridge, pool.landmarks or LANDMARKS, seed)
