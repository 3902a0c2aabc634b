r"""Kernel inducing points: distillation through kernel ridge regression.

Nguyen, Chen & Lee 2021, *Dataset Meta-Learning from Kernel Ridge-Regression*. For a batch of real
examples :math:`(x_j, y_j)` and a synthetic set :math:`(S, Y_S)`,

.. math::
    l_j = \tfrac12 \|k(x_j, S)\, \alpha - y_j\|^2, \quad \alpha = (K + \lambda I)^{-1} Y_S,
    \quad K = k(S, S), \quad \lambda = reg \cdot tr(K) / m .
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rdd_jax.contracts import Kernel, Objective
from rdd_jax.kernels import krr
from rdd_jax.types import Batch, Losses, PRNGKey, Synthetic

__all__ = ["kip", "kip_solved"]


def kip(kernel: Kernel, reg: float = 1e-6) -> Objective:
    """KIP with the labels of the synthetic set as they are; the parameterisation may learn them."""

    def objective(key: PRNGKey, model: None, synthetic: Synthetic, batch: Batch) -> Losses:
        del key, model
        gram = kernel(synthetic.images, synthetic.images)
        alpha = krr.solve(krr.factor(gram, reg), synthetic.labels)
        return _losses(kernel(synthetic.images, batch.images), alpha, batch)

    return objective


def kip_solved(kernel: Kernel, reg: float = 1e-6, label_reg: float = 1e-8) -> Objective:
    r"""KIP with the labels eliminated: at every step the best ones for the batch.

    Variable projection (Golub & Pereyra 1973) applied to KIP; our own combination. With
    :math:`\mu = label\_reg \cdot tr(K) / m` and batch weights :math:`w_j` of sum :math:`W`,

    .. math::
        \alpha^* = \arg\min_\alpha J(\alpha), \quad J(\alpha) =
        \sum_j \tfrac{w_j}{W} \tfrac12 \|k(x_j, S) \alpha - y_j\|^2
        + \tfrac{\mu}{2} tr(\alpha^T (K + \lambda I) \alpha) .

    The loss of an example is its term of ``J`` at ``alpha*``, the penalty shared evenly, so that the mean
    risk is ``J`` itself. At the minimum :math:`\partial J / \partial \alpha = 0`, so the gradient with
    respect to the images, ``mu`` and ``lambda`` held, needs no derivative of the solve. The labels of the synthetic set
    are not read; solve them over all data at the end (`rdd_jax.kernels.krr.label_solve`).
    """

    def objective(key: PRNGKey, model: None, synthetic: Synthetic, batch: Batch) -> Losses:
        del key, model
        gram = kernel(synthetic.images, synthetic.images)
        cross = kernel(synthetic.images, batch.images)
        fixed = jax.lax.stop_gradient
        penalty = label_reg * fixed(jnp.trace(gram)) / len(gram)
        alpha = _best_alpha(fixed(gram), fixed(cross), batch, reg, penalty)
        losses = _losses(cross, alpha, batch)
        norm = jnp.sum(alpha * (gram @ alpha)) + krr.ridge(fixed(gram), reg) * jnp.sum(alpha**2)
        return losses.replace(value=losses.value + penalty / 2 * norm)

    return objective


def _losses(cross: Float[Array, "m b"], alpha: Float[Array, "m k"], batch: Batch) -> Losses:
    error = cross.T @ alpha - batch.labels
    return batch.losses(0.5 * jnp.sum(error**2, 1))


def _best_alpha(gram: Array, cross: Array, batch: Batch, reg: float, penalty: Array) -> Array:
    """``alpha*``, in coordinates in which ``K + ridge I`` is the identity: the normal equations of
    ``alpha`` itself square a condition number that float32 does not have to spare."""
    cholesky = krr.factor(gram, reg)
    white = jax.scipy.linalg.solve_triangular(cholesky, cross, lower=True)
    weighted = white * (batch.weight / jnp.sum(batch.weight))[None, :]
    normal = weighted @ white.T + penalty * jnp.eye(len(gram), dtype=gram.dtype)
    beta = krr.solve(jnp.linalg.cholesky(normal), weighted @ batch.labels)
    return jax.scipy.linalg.solve_triangular(cholesky, beta, lower=True, trans=1)
