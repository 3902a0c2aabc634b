r"""How far a weighted subset can be trusted: before the draw by a theorem, after it by measuring.

The cost is that of kernel ridge regression, :math:`F(W) = \sum_i \|\phi_i W - y_i\|^2 + \lambda \|W\|^2`, its estimate
from a subset :math:`F_S(W) = \sum_{i \in S} w_i \|\phi_i W - y_i\|^2 + \lambda \|W\|^2`.

**Theorem** (our own, from the matrix Bernstein inequality with intrinsic dimension, Tropp 2015, Theorem 7.3.1). Let
examples be drawn independently, a fixed number from every stratum, :math:`\pi_i` the expected number of times that
``i`` is drawn, and :math:`w_i = 1 / \pi_i`. With :math:`L = \max_i s_i / \pi_i`, ``k`` outputs and the effective
dimension :math:`d_\lambda`,

.. math::
    P\left(\sup_W \left|\frac{F_S(W)}{F(W)} - 1\right| > \epsilon\right)
    \le 8 (k d_\lambda + 1) \exp\left(-\frac{\epsilon^2 / 2}{L (1 + \epsilon / 3)}\right) .

*Proof sketch.* As a quadratic form in :math:`\theta = (W, 1)`, ``F`` has a matrix ``B``, and an example's term a matrix
:math:`R_i^T R_i` with :math:`\|R_i B^{-1/2}\|^2 = s_i`. The drawn terms :math:`B^{-1/2} R_i^T R_i B^{-1/2} / \pi_i` are
bounded by ``L``; the sum ``E`` of their means has norm 1 (attained at ``W = 0``) and trace at most
:math:`k d_\lambda + 1`; the sum of their variances is below ``L E``. Upper bounds of :math:`s_i` and
:math:`d_\lambda` will do.

Drawn by sensitivity alone, :math:`L = \sum_i s_i / m`. Without replacement nothing is proved here.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Float

from rdd_jax.contracts import Kernel
from rdd_jax.errors import InputError
from rdd_jax.kernels.gram import compile_kernel, row_blocks
from rdd_jax.progress import part
from rdd_jax.selection.base import Pool, Selection
from rdd_jax.selection.sensitivity import LANDMARKS, sensitivity

__all__ = ["Certificate", "Errors", "bought", "certify", "check_promise", "needed"]


@dataclass(frozen=True)
class Certificate:
    """What a weighted subset is good for, as a stand-in for the pool in ridge regression.

    Attributes:
      effective_dimension, total_sensitivity: upper bounds unless ``exact``.
      eps, delta: the relative error asked for, and the chance of missing it.
      needed: how many independent draws by the method's own probabilities would give ``eps``; None where the method
        does not draw, or can never take some examples.
      drawn: how many were drawn; ``bought``: the error that those are sure of, but for ``delta``; None as above.
      proven: whether the theorem covers this very draw: independent draws.
      worst_random: the largest relative error met over ``queries`` random ``W``.
      worst: the largest over all ``W`` spanned by ``landmarks`` examples (exactly: an eigenvalue).
    """

    effective_dimension: float
    total_sensitivity: float
    exact: bool
    eps: float
    delta: float
    needed: int | None
    drawn: int
    bought: float | None
    proven: bool
    worst_random: float
    worst: float
    queries: int
    landmarks: int

    def sentences(self) -> list[str]:
        """In words."""
        said = [
            f"Kernel ridge regression on all examples has effective dimension {self.effective_dimension:.0f}"
            f"{'' if self.exact else ' at most'}; their sensitivities sum to {self.total_sensitivity:.0f}"
            f"{'' if self.exact else ' at most'}."
        ]
        if self.needed is None or self.bought is None:
            said.append(
                "This choice is not drawn at random, or can never take some examples: no theorem is claimed for it."
            )
        else:
            bite = "it says nothing at this size" if self.bought >= 1 else "it bites"
            said.append(
                f"Independent draws with these probabilities keep the cost of every regressor within "
                f"{100 * self.eps:.0f} % with probability {1 - self.delta:g} from {self.needed:,} on; {self.drawn:,} "
                f"were drawn, which guarantees no better than {100 * self.bought:.0f} %: {bite}."
            )
            if not self.proven:
                said.append("The draws here are without replacement, which the theorem does not cover.")
        said.append(
            f"Measured: the cost is off by at most {100 * self.worst_random:.0f} % over {self.queries:,} random "
            f"regressors and {100 * self.worst:.0f} % over all that {self.landmarks:,} examples span."
        )
        return said


def needed(bound: float, dimension: float, outputs: int, eps: float, delta: float) -> int:
    """Draws for ``eps``, where ``m`` draws have ``L = bound / m``."""
    check_promise(eps, delta)
    return int(np.ceil(2 * bound * (1 + eps / 3) * _log(dimension, outputs, delta) / eps**2))


def bought(bound: float, dimension: float, outputs: int, draws: int, delta: float) -> float:
    """The ``eps`` that ``draws`` draws buy, where they have ``L = bound / draws``."""
    check_promise(1.0, delta)
    a = _log(dimension, outputs, delta) * bound / draws
    return float(a / 3 + np.sqrt((a / 3) ** 2 + 2 * a))


def _log(dimension: float, outputs: int, delta: float) -> float:
    return float(np.log(8 * (outputs * dimension + 1) / delta))


def check_promise(eps: float, delta: float) -> None:
    """Raises `InputError` where ``eps`` is not positive or ``delta`` not in (0, 1)."""
    if not eps > 0:
        raise InputError(f"eps is {eps}: it must be positive")
    if not 0 < delta < 1:
        raise InputError(f"delta is {delta}: it must lie in (0, 1)")


def certify(
    pool: Pool,
    selection: Selection,
    drawn: str | None,
    eps: float = 0.5,
    delta: float = 0.1,
    queries: int = 10_000,
    seed: int = 0,
) -> Certificate:
    """The certificate of a selection from the pool.

    Args:
      drawn: how: ``independent`` or ``distinct``; None where nothing was drawn.

    Raises:
      InputError: ``eps`` or ``delta`` out of range; see `scores.sensitivity`.
    """
    check_promise(eps, delta)
    with part(0, 3, "sensitivities"):
        known = sensitivity(pool, seed)
    m, k, dimension = len(selection.index), pool.classes, known.effective_dimension
    size = enough = None
    if drawn is not None:
        # Examples that can never be drawn make the bound infinite: nothing is sure then.
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(known.score > 0, known.score / selection.probability, 0)
        bound = m * float(ratio.max())
        if np.isfinite(bound):
            size, enough = needed(bound, dimension, k, eps, delta), bought(bound, dimension, k, m, delta)
    landmarks = np.random.default_rng([seed, 1]).permutation(len(pool))[:LANDMARKS]
    with part(1, 3, "errors"):
        errors = Errors(pool, selection, known.ridge, np.sort(landmarks))
    with part(2, 3, "random regressors"):
        met = float(np.max(errors.random(queries, seed)))
    return Certificate(
        dimension,
        known.total,
        known.exact,
        eps,
        delta,
        size,
        m,
        enough,
        drawn == "independent",
        met,
        errors.worst(),
        queries,
        len(landmarks),
    )


class Errors:
    r"""The relative errors of a weighted subset over the regressors that some examples span.

    With the optimum :math:`W^*` as origin and the square root of the cost's own curvature as coordinates ``U``, the
    cost is :math:`OPT + \|U\|^2`, and its error a quadratic function of ``U``, whose extremes relative to the cost are
    eigenvalues of an arrow matrix: diagonal but for a row and a column.
    """

    def __init__(self, pool: Pool, selection: Selection, ridge: float, landmarks: np.ndarray):
        basis, support = _basis(pool, landmarks)
        labels, z = pool.one_hot.astype(np.float64), basis.shape[1]
        second, first = np.zeros((z, z)), np.zeros((z, pool.classes))
        for where, block in row_blocks(pool.images, len(landmarks)):
            rows = _features(pool.kernel, block, support, basis)[: where.stop - where.start]
            second += rows.T @ rows
            first += rows.T @ labels[where]
        # U = root^T (W - W*), with root root^T the curvature.
        root = np.linalg.cholesky(second + ridge * np.eye(z))
        best = scipy.linalg.cho_solve((root, True), first)
        self.optimum = float(np.sum(labels**2) - np.sum(first * best))
        whiten = partial(scipy.linalg.solve_triangular, root, lower=True)
        chosen, w = selection.index, selection.weight
        rows = np.concatenate(
            [
                _features(pool.kernel, block, support, basis)[: where.stop - where.start]
                for where, block in row_blocks(pool.images[chosen], len(landmarks))
            ]
        )
        rest, white = labels[chosen] - rows @ best, whiten(rows.T)
        # Sums over the chosen, less the same sums over all, which the optimum knows.
        values, vectors = np.linalg.eigh((white * w) @ white.T - np.eye(z) + ridge * whiten(whiten(np.eye(z)).T))
        self.values = values
        self.slope = vectors.T @ ((white * w) @ rest - ridge * whiten(best))  # [z, k]
        self.constant = float(w @ np.sum(rest**2, 1)) - (self.optimum - ridge * float(np.sum(best**2)))
        some = _features(pool.kernel, np.asarray(support), support, basis)
        ways = vectors.T @ (root.T @ some.T)  # of the landmarks' own functions; their products are all that is needed
        self.norms, self.bends, self.pulls = ways.T @ ways, (ways.T * values) @ ways, ways.T @ self.slope

    def worst(self) -> float:
        """The supremum over all regressors of the span."""
        z = len(self.values)
        arrow = np.diag(np.append(self.values, 0.0))
        if self.optimum > 0:
            arrow[:z, z] = arrow[z, :z] = -np.linalg.norm(self.slope, axis=1) / np.sqrt(self.optimum)
            arrow[z, z] = self.constant / self.optimum
        return float(np.abs(np.linalg.eigvalsh(arrow)).max())

    def random(self, queries: int, seed: int = 0) -> Float[np.ndarray, " q"]:
        """Of ``queries`` regressors: the optimum and a random combination of one to ten examples, at random distances.

        The distances make the cost grow by a factor of 1.001 to 1000.
        """
        rng, (z, k) = np.random.default_rng(seed), self.pulls.shape
        which = rng.integers(0, z, (queries, 10))
        part = rng.standard_normal((queries, 10, k))
        part *= (np.arange(10) < rng.integers(1, 11, (queries, 1)))[:, :, None]
        pairs = which[:, :, None], which[:, None, :]
        norm, bend = (
            np.einsum("qck,qcd,qdk->q", part, products[pairs], part, optimize=True)
            for products in (self.norms, self.bends)
        )
        pull = np.einsum("qck,qck->q", part, self.pulls[which])
        scale = np.sqrt(self.optimum * 10 ** rng.uniform(-3, 3, queries) / np.maximum(norm, 1e-300))
        error = scale**2 * bend - 2 * scale * pull + self.constant
        return np.abs(error) / (self.optimum + scale**2 * norm)


def _basis(pool: Pool, landmarks: np.ndarray) -> tuple[np.ndarray, jax.Array]:
    """``(basis [l, z], landmarks)``: ``k(x, landmarks) @ basis`` are orthonormal coordinates in their span."""
    support = jnp.asarray(pool.images[landmarks])
    values, vectors = np.linalg.eigh(np.asarray(compile_kernel(pool.kernel).own(support), np.float64))
    keep = values > 1e-7 * values[-1]  # duplicates span nothing new
    return vectors[:, keep] / np.sqrt(values[keep]), support


def _features(kernel: Kernel, images: np.ndarray, support: jax.Array, basis: np.ndarray) -> np.ndarray:
    return np.asarray(compile_kernel(kernel).cross(jnp.asarray(images), support), np.float64) @ basis
