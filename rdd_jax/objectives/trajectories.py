"""Matching trajectories: a training on the set is to end where a training on the real data did."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from rdd_jax.augment import none
from rdd_jax.contracts import Augment, Objective
from rdd_jax.devices import side_by_side
from rdd_jax.errors import InputError, at_least
from rdd_jax.networks import Network, check_batch
from rdd_jax.networks.training import mean_loss
from rdd_jax.types import Batch, Losses, PRNGKey, Synthetic

__all__ = ["ENDS", "angle", "missed", "trajectory_matching"]

Distance = Callable[[Any, Any], Array]
"""``distance(moved, asked) -> scalar`` of two changes of all weights."""


def missed(moved: Any, asked: Any) -> Float[Array, ""]:
    r"""MTT's :math:`\|m - a\|^2 / \|a\|^2`: 1 where nothing has moved, more where too much has."""
    return _squared(optax.tree.sub(moved, asked)) / _squared(asked)


def angle(moved: Any, asked: Any) -> Float[Array, ""]:
    r"""One less the cosine, :math:`1 - \langle m, a\rangle / (\|m\| \|a\|)`: how far does not matter, only where to.

    Ours. Where the rate of the training on the set is much too low or too high for the stretch, `missed` makes
    images strange to bring the lengths together; 1 less the square of the cosine is what it would be at the best
    multiple of :math:`m`.
    """
    lengths = jnp.sqrt(jnp.maximum(_squared(moved) * _squared(asked), 1e-36))  # with a gradient where nothing has moved
    return 1 - optax.tree.vdot(moved, asked) / lengths


def _squared(a: Any) -> Array:
    return optax.tree.norm(a, squared=True)


ENDS: dict[str, Distance] = {"missed": missed, "angle": angle}


def trajectory_matching(
    network: Network,
    steps: int,
    rate: int | float,
    batch: int = 256,
    augment: Augment = none,
    distance: Distance = missed,
    asked: int | None = None,
) -> Objective:
    r"""How far a training on the set, from where a stretch of a training on real data begins, is from where it ends.

    .. math::
        l = d(\theta_N - \theta_0, \theta^* - \theta_0), \qquad
        \theta_{i+1} = \theta_i - \alpha \nabla_\theta \tfrac{1}{|B_i|} \sum_{j \in B_i} \ell(f(a(s_j); \theta_i), y_j)

    with the two ends :math:`\theta_0, \theta^*` of a stretch, which `snapshots.between_snapshots` gives, and the
    cross-entropy :math:`\ell`. Cazenavette et al. 2022, *Dataset Distillation by Matching Training Trajectories*, who
    go through the set batch by batch and learn the rate; here batches are drawn, each without replacement, and the rate
    is given. Real images have no part in it: there is a loss for each stretch of the step, of the whole set, and
    stretches are looked at `devices.side_by_side`.

    Theirs is unrolled: the gradient with respect to the set goes through the weights, too. By the chain rule it is then
    a sum of products of up to :math:`N - 1` factors :math:`I - \alpha \nabla^2_\theta \ell`, which grow where
    :math:`\alpha` is more than 2 over the curvature. Ours, where some steps are ``asked``, holds the weights as they
    are,

    .. math::
        \frac{dl}{ds} \approx
        -\alpha \frac{N}{|A|} \sum_{i \in A} \nabla_s \langle \nabla_\theta \ell_i(\theta_i; s), v \rangle , \qquad
        v = \nabla_{\theta_N} l :

    each is to push where the whole should have gone. That is the chain truncated to single steps, and of them a part
    :math:`A` drawn at random, since neighbours say nearly the same; what is left out costs no second derivative. The
    value is the same. Feng et al. 2024, *Embarrassingly Simple Dataset Distillation*, cut unrolled gradients to one
    window of many steps at random, for the same reason. Either way a step is taken anew on the way back: what is held
    is one set of weights each.

    Args:
      steps: ``N``, at ``rate`` :math:`\alpha`.
      batch: images of a step, all where the set has no more.
      augment: of the images of a step.
      distance: `missed` or `angle`.
      asked: ``|A|``; None: unrolled.

    Raises:
      InputError: ``steps < 1``, ``batch < 1``, a rate that is not positive, ``asked`` not from 1 to ``steps``; when
        traced, batch statistics of one image.
    """
    at_least("steps", steps, 1)
    at_least("batch", batch, 1)
    if rate <= 0:
        raise InputError(f"rate is {rate}: it must be positive")
    if asked is not None and not 1 <= asked <= steps:
        raise InputError(f"asked is {asked} of {steps} steps: it must be at least 1, at most all of them")
    loss, share = mean_loss(network), steps / (asked or steps)

    def objective(key: PRNGKey, model: Any, synthetic: Synthetic, batch_of_real: Batch) -> Losses:
        check_batch(network, min(batch, len(synthetic.images)))
        labels = synthetic.labels + 1 / synthetic.labels.shape[1]
        stretches = len(jax.tree.leaves(model)[0])
        each = jax.random.split(key, stretches), *model
        value = side_by_side(of_stretch, (synthetic.images, labels), each)
        return Losses(value, jnp.zeros(stretches, jnp.int32), jnp.ones(stretches), group_count=1)

    def of_stretch(given: tuple[Array, Array], stretch: tuple[PRNGKey, Any, Any]) -> Array:
        key, start, end = stretch
        draw_key, steps_key = jax.random.split(key)
        chosen = jax.random.permutation(draw_key, steps) < (asked or 0)

        def one(weights: Any, step: tuple[PRNGKey, Array]) -> tuple[Any, None]:
            at = weights, *given, step[0]
            gradient = slope(*at) if asked is None else jax.lax.cond(step[1], asked_for, held, *at)
            return optax.tree.add_scale(weights, -rate, gradient), None

        reached, _ = jax.lax.scan(one, start, (jax.random.split(steps_key, steps), chosen))
        return distance(optax.tree.sub(reached, start), optax.tree.sub(end, start))

    @jax.checkpoint
    def slope(weights: Any, images: Array, labels: Array, key: PRNGKey) -> Any:
        draw_key, augment_key = jax.random.split(key)
        if batch < len(images):
            drawn = jax.random.permutation(draw_key, len(images))[:batch]
            images, labels = images[drawn], labels[drawn]
        return jax.grad(loss)(weights, augment(augment_key, images), labels)

    def held(*at: Any) -> Any:
        return slope(*jax.lax.stop_gradient(at))

    def asked_for(weights: Any, *at: Any) -> Any:
        """With the derivative of all the steps that this one stands for."""
        own = slope(jax.lax.stop_gradient(weights), *at)
        return jax.tree.map(lambda a: share * a + jax.lax.stop_gradient((1 - share) * a), own)

    return objective
