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

Where even the Jacobian :math:`\nabla f(S)` is too large for :math:`A` to be made of it, conjugate gradients work on
:math:`w` alone, as the release's Adam does. With :math:`B = \phi \phi^T + 1 + \lambda I`, :math:`m \times m`, the best
last layer leaves

.. math::
    (J^T B^{-1} J + I)\, w = J^T B^{-1} y ,

and its own :math:`h` follows from :math:`B^{-1}(y - Jw)`. Among all changes that so many passes can reach they find the
one of least inner loss. (On :math:`A \alpha = y` they find another, whose inner loss may be far above that of rest.)
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rdd_jax.errors import InputError
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
    where the Jacobian of the set fits ``jacobian`` bytes. Otherwise conjugate gradients find the change of the body, to
    a residual of ``tolerance`` times the first or in ``iterations``.

    Raises:
      InputError: a network that normalises over a batch, in which an output depends on more than its own image; when
        called or traced, conjugate gradients on a network whose last layer is no ``flax.linen.Dense`` named ``head``.
    """
    check_apart(network)

    def predict(model: Any, synthetic: Synthetic, images: Array) -> Array:
        ridge = reg * jnp.mean(jnp.sum(network.features(model, synthetic.images) ** 2, 1))
        if synthetic.labels.size * sum(leaf.nbytes for leaf in jax.tree.leaves(model)) <= jacobian:
            tangent = _by_factor(network, model, synthetic, ridge)
        else:
            tangent = _by_iteration(network, model, synthetic, ridge, tolerance, iterations)
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


# Of both the derivative is that of the solution, whatever finds it.


def _by_factor(network: Network, model: Any, synthetic: Synthetic, ridge: Array) -> Any:
    """The tangent of all weights that solves the problem."""
    push, pull = _tangents(network, model, synthetic.images)
    cholesky = _factor(network, model, *jax.lax.stop_gradient((synthetic.images, ridge)))
    solve = lambda _, b: krr.solve(cholesky, b.reshape(-1, 1)).reshape(b.shape)  # noqa: E731
    system = lambda alpha: push(pull(alpha)) + ridge * alpha  # noqa: E731
    return pull(jax.lax.custom_linear_solve(system, synthetic.labels, solve, symmetric=True))


def _by_iteration(
    network: Network, model: Any, synthetic: Synthetic, ridge: Array, tolerance: float, iterations: int
) -> Any:
    """The same; an iteration is a backward and a forward pass over the set, with the last layer solved for."""
    push, pull = _tangents(network, model, synthetic.images)
    features = network.features(model, synthetic.images)
    gram = features @ features.T + 1
    left = partial(krr.solve, jnp.linalg.cholesky(gram + ridge * jnp.eye(len(gram), dtype=gram.dtype)))
    still = jax.tree.map(jnp.zeros_like, _last_layer(model, (features.shape[1], synthetic.labels.shape[1])))
    moved = lambda body: push(_joined(body, still))  # noqa: E731
    back = lambda outputs: _body(pull(left(outputs)))  # noqa: E731
    system = lambda body: jax.tree.map(jnp.add, body, back(moved(body)))  # noqa: E731
    conjugate = partial(jax.scipy.sparse.linalg.cg, tol=tolerance, maxiter=iterations)
    solve = lambda system, b: conjugate(system, b)[0]  # noqa: E731
    body = jax.lax.custom_linear_solve(system, back(synthetic.labels), solve, symmetric=True)
    alpha = left(synthetic.labels - moved(body))
    return _joined(body, {"kernel": features.T @ alpha, "bias": jnp.sum(alpha, 0)})


def _last_layer(variables: Any, shape: tuple[int, int]) -> Any:
    """The weights under the name that the last layer has in every network here."""
    found = variables.get("params", {}).get("head", {}) if isinstance(variables, dict) else {}
    if jax.tree.map(jnp.shape, found) != {"kernel": shape, "bias": shape[1:]}:
        raise InputError(
            "the Jacobian of the set is too large to be held, and the last layer of this network is no "
            "flax.linen.Dense of the name 'head': call it so, raise jacobian, or take a smaller set or network"
        )
    return found


def _body(tangent: Any) -> Any:
    """The tangent without its last layer."""
    return {**tangent, "params": {name: part for name, part in tangent["params"].items() if name != "head"}}


def _joined(body: Any, last_layer: Any) -> Any:
    return {**body, "params": {**body["params"], "head": last_layer}}


def _factor(network: Network, model: Any, images: Array, ridge: Array) -> Float[Array, "mk mk"]:
    """The Cholesky factor of the tangent kernel and the ridge."""
    jacobian = jax.lax.map(lambda image: output_gradients(network.apply, model, image), images)
    jacobian = jacobian.reshape(-1, jacobian.shape[-1])
    gram = jacobian @ jacobian.T
    return jnp.linalg.cholesky(gram + ridge * jnp.eye(len(gram), dtype=gram.dtype))
