r"""Ridge regression with a network linearised in its weights, solved exactly: RCIG's inner problem.

RCIG (Loo, Hasani, Lechner & Rus 2023) fits to the synthetic set the last layer :math:`h` of a network and, linearised
at the weights :math:`\theta` that the network has, a change :math:`w` of all others:

.. math::
    \min_{h, w} \tfrac12 \sum_{i \in S} \| h^T \phi(x_i) + J_i w - y_i \|^2
    + \tfrac{\lambda}{2} (\|h\|^2 + \|w\|^2), \quad J_i = \partial_\theta f(x_i) .

The release takes some steps of Adam towards the minimum, and as many for the implicit gradient. **Ours is the minimum
itself**; the derivation is our own. An output is linear in the last layer, so :math:`h^T \phi` is its tangent in that
direction, and :math:`v = (h, w)` is one tangent of *all* weights: the problem is ridge regression with the features
:math:`\nabla f`, that is kernel ridge regression with the network's empirical tangent kernel

.. math::
    \Theta_{ij} = \nabla f(x_i) \nabla f(x_j)^T = (\phi_i^T \phi_j + 1) I_k + J_i J_j^T \in R^{k \times k}

(the 1 is the last layer's bias). With :math:`A = \Theta_{SS} + \lambda I`, which is :math:`mk \times mk`,

.. math::
    \alpha = A^{-1} y, \quad v = \sum_i \nabla f(x_i)^T \alpha_i, \quad f(x) = \nabla f(x)\, v .

:math:`\Theta` is never needed as a matrix: :math:`\nabla f(S)^T \alpha` is one backward pass over the set, and
:math:`\nabla f(x)\, v` one forward pass of a tangent. A loss :math:`L` of the predictions has
:math:`u = \partial L / \partial v`, :math:`\beta = A^{-1} \nabla f(S) u`, and so

.. math::
    dL = u^T\, d(\nabla f(S))^T \alpha + \beta^T (dy - dA\, \alpha) :

one more solve with the same matrix, and derivatives of the same two passes.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rdd_jax.kernels import krr
from rdd_jax.kernels.blocks import in_blocks
from rdd_jax.kernels.finite import output_gradients
from rdd_jax.networks import Network, check_apart
from rdd_jax.objectives.regression import Regression
from rdd_jax.types import Synthetic

__all__ = ["JACOBIAN", "on_tangents"]

JACOBIAN = 2**29
"""Bytes of the largest Jacobian of the set that is held to solve by Cholesky."""


def on_tangents(
    network: Network, reg: float = 1e-3, jacobian: int = JACOBIAN, tolerance: float = 1e-4, iterations: int = 100
) -> Regression:
    r"""Ridge regression on the tangents of ``network`` at ``model``, as said above.

    :math:`\lambda = reg \cdot tr(K) / m` with the kernel :math:`\phi^T \phi` of the last layer. The system is factored
    where the Jacobian of the set fits ``jacobian`` bytes; otherwise conjugate gradients solve it, to a residual of
    ``tolerance`` times the labels or in ``iterations``, each a backward and a forward pass over the set.

    Raises:
      InputError: a network that normalises over a batch, in which an output depends on more than its own image.
    """
    check_apart(network)

    def predict(model: Any, synthetic: Synthetic, images: Array) -> Array:
        push, pull = _tangents(network, model, synthetic.images)
        ridge = reg * jnp.mean(jnp.sum(network.features(model, synthetic.images) ** 2, 1))
        system = lambda alpha: push(pull(alpha)) + ridge * alpha  # noqa: E731

        # The derivative is that of the solution, whatever finds it.
        if synthetic.labels.size * sum(leaf.nbytes for leaf in jax.tree.leaves(model)) <= jacobian:
            cholesky = _factor(network, model, *jax.lax.stop_gradient((synthetic.images, ridge)))
            solve = lambda _, b: krr.solve(cholesky, b.reshape(-1, 1)).reshape(b.shape)  # noqa: E731
        else:
            solve = lambda a, b: jax.scipy.sparse.linalg.cg(a, b, tol=tolerance, maxiter=iterations)[0]  # noqa: E731
        alpha = jax.lax.custom_linear_solve(system, synthetic.labels, solve, symmetric=True)
        tangent = pull(alpha)
        # Looked at again on the way back, so that a block is all that is held.
        moved = jax.checkpoint(lambda block, tangent: _tangents(network, model, block)[0](tangent))
        return in_blocks(lambda block: moved(block, tangent), images)

    def exactly(model: Any, synthetic: Synthetic, images: Array) -> Array:
        # Products that are rounded to fewer digits, as on GPUs, make the system indefinite.
        with jax.default_matmul_precision("highest"):
            return predict(model, synthetic, images)

    return exactly


def _tangents(network: Network, model: Any, images: Array) -> tuple[Callable, Callable]:
    """``(push, pull)``: how outputs ``[m, k]`` move with the weights, and the transpose of that.

    ``push`` is the transpose of ``pull`` in its turn: convolutions here have reverse derivatives alone.
    """
    outputs, pull = jax.vjp(lambda variables: network.apply(variables, images), model)
    _, push = jax.vjp(lambda alpha: pull(alpha)[0], jnp.zeros_like(outputs))
    return lambda tangent: push(tangent)[0], lambda alpha: pull(alpha)[0]


def _factor(network: Network, model: Any, images: Array, ridge: Array) -> Float[Array, "mk mk"]:
    """The Cholesky factor of the tangent kernel and the ridge."""
    jacobian = jax.lax.map(lambda image: output_gradients(network.apply, model, image), images)
    jacobian = jacobian.reshape(-1, jacobian.shape[-1])
    gram = jacobian @ jacobian.T
    return jnp.linalg.cholesky(gram + ridge * jnp.eye(len(gram), dtype=gram.dtype))
