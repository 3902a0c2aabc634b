r"""Ridge regression on what a network is: its features, or its tangents.

For a batch of real examples :math:`(x_j, y_j)` and a synthetic set :math:`(S, Y_S)`, a network at ``model`` gives a
kernel, the regression with it that is fitted to the set predicts :math:`f(x_j)`, and

.. math::
    l_j = \tfrac12 \|f(x_j) - y_j\|^2 \quad\text{or}\quad l_j = CE(s f(x_j), y_j) ,

each plus a term that keeps labels that are learned apart. One loss an example: every risk over groups applies.

* FRePo (Zhou, Nezhadarya & Ba 2022, *Dataset Distillation using Neural Feature Regression*): the features of networks
  that are trained on the set as it grows, squared error.
* RFAD (Loo, Hasani, Amini & Rus 2022, *Efficient Dataset Distillation Using Random Feature Approximation*): the
  features of several random networks (`networks.ensemble`), cross-entropy.
* RCIG (Loo, Hasani, Lechner & Rus 2023, *Dataset Distillation with Convexified Implicit Gradients*): as FRePo, with the
  network linearised in its weights (`tangents`), cross-entropy.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rdd_jax.contracts import Objective
from rdd_jax.errors import choose
from rdd_jax.kernels import krr
from rdd_jax.kernels.blocks import in_blocks
from rdd_jax.networks import Network
from rdd_jax.networks.training import cross_entropy, squared_error
from rdd_jax.types import Batch, Losses, PRNGKey, Synthetic

__all__ = [
    "ERRORS",
    "Regression",
    "best_scale",
    "feature_regression",
    "label_margin",
    "on_features",
    "with_mirror_images",
]


Regression = Callable[[Any, Synthetic, Array], Array]
"""``predict(model, synthetic, images [b, h, w, c]) -> [b, k]``: fitted to ``synthetic``, at a network's variables."""


def feature_regression(
    predict: Regression, error: str = "squared", margin: int | float = 1.0, mirror: bool = False
) -> Objective:
    """The error of a regression that is fitted to the synthetic set. The defaults are FRePo's.

    Args:
      predict: `on_features` or `tangents.on_tangents` of a network.
      error: of `ERRORS`: ``squared``, or ``cross-entropy`` at the `best_scale`.
      margin: of labels, see `label_margin`; 0 leaves it out.
      mirror: whether the regression is fitted to the mirror images of the set too.

    Raises:
      InputError: an unknown ``error``.
    """
    of = choose("error", error, ERRORS)

    def objective(key: PRNGKey, model: Any, synthetic: Synthetic, batch: Batch) -> Losses:
        del key
        support = with_mirror_images(synthetic) if mirror else synthetic
        found = of(predict(model, support, batch.images), batch)
        return batch.losses(found - label_margin(synthetic.labels, margin))

    return objective


def on_features(network: Network, reg: float = 1e-6, constant: int | float = 0.0) -> Regression:
    r"""Kernel ridge regression on the ``d`` features :math:`\phi` of ``network``, of real images in blocks.

    .. math::
        k(x, x') = \tfrac1d \phi(x)^T \phi(x') + constant, \quad
        f(x) = k(x, S) (K + \lambda I)^{-1} Y_S, \quad \lambda = reg \cdot tr(K) / m
    """

    def predict(model: Any, synthetic: Synthetic, images: Array) -> Array:
        embed = partial(network.features, model)
        ours, theirs = embed(synthetic.images), in_blocks(embed, images)

        def kernel(left: Array) -> Array:
            # "highest": as in `fc_ntk`.
            return jnp.matmul(left, ours.T, precision="highest") / ours.shape[1] + constant

        return kernel(theirs) @ krr.solve(krr.factor(kernel(ours), reg), synthetic.labels)

    return predict


def with_mirror_images(synthetic: Synthetic) -> Synthetic:
    """The images, and after them their mirror images with the same labels."""
    both = jnp.concatenate([synthetic.images, synthetic.images[:, :, ::-1]])
    return Synthetic(both, jnp.concatenate([synthetic.labels, synthetic.labels]))


def label_margin(labels: Float[Array, "m k"], most: int | float = 1.0) -> Float[Array, ""]:
    r"""How far the largest entry of a label is above the next one, at most ``most / k``; the mean over labels."""
    top, next_ = jax.lax.top_k(labels, 2)[0].T
    return jnp.mean(jnp.minimum(top - next_, most / labels.shape[1]))


# --- errors ------------------------------------------------------------------------------------------


def _scaled_cross_entropy(outputs: Array, batch: Batch) -> Array:
    distributions = batch.labels + 1 / batch.labels.shape[1]
    scale = best_scale(*jax.lax.stop_gradient((outputs, distributions, batch.weight)))
    return cross_entropy(scale * outputs, distributions)


ERRORS: dict[str, Callable[[Array, Batch], Array]] = {
    "squared": lambda outputs, batch: squared_error(outputs, batch.labels),
    "cross-entropy": _scaled_cross_entropy,
}
"""``error(outputs [b, k], batch) -> [b]``."""

SMALLEST, LARGEST = 1e-3, 1e3
"""Between which a scale is looked for."""


def best_scale(
    outputs: Float[Array, "b k"], distributions: Float[Array, "b k"], weight: Float[Array, " b"]
) -> Float[Array, ""]:
    r"""The ``s`` from `SMALLEST` to `LARGEST` with the least weighted mean cross-entropy of ``s outputs``.

    Outputs of a regression are no logits: their scale is that of the labels. RFAD and RCIG learn ``log s`` beside the
    set (Platt 1999). Ours is the best of every batch: the cross-entropy is convex in ``s``, its derivative
    :math:`\sum_j w_j (p_j - y_j)^T f(x_j)` rises with ``s``, and bisection of ``log s`` finds where it is zero. Under
    the mean risk the gradient of the set needs no derivative of ``s`` there (envelope theorem).
    """

    def halve(_: int | Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        surplus = jax.nn.softmax(jnp.exp(middle) * outputs) - distributions
        too_large = jnp.sum(weight[:, None] * surplus * outputs) > 0
        return jnp.where(too_large, low, middle), jnp.where(too_large, middle, high)

    ends = jnp.log(jnp.asarray([SMALLEST, LARGEST], outputs.dtype))
    return jnp.exp(sum(jax.lax.fori_loop(0, 40, halve, (ends[0], ends[1]))) / 2)
