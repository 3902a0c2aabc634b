"""A short distillation, by which groups are judged: what they cost a small set, models of all examples do not tell."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int

from rdd_jax.distill import Distiller, Diverged, compose
from rdd_jax.kernels import fc_ntk, krr
from rdd_jax.objectives import kip
from rdd_jax.parameterise import pixels
from rdd_jax.pixels import Images, on_device
from rdd_jax.sampling import by_group
from rdd_jax.types import Examples, Synthetic, centred_one_hot

__all__ = ["learned"]

IMAGES, STEPS, BATCH, RATE = 10, 300, 2000, 0.1
"""A class, and how they are learned; a set of that size is what users make, and the steps are enough to tell."""

REG = 1e-3
"""Of the regression: enough for a start that holds the same image twice."""


@cache
def _distiller(batch: int, steps: int) -> Distiller:
    """KIP with learned labels, by the examples' weights."""
    schedule = optax.cosine_decay_schedule(RATE, steps)
    return compose(
        kip(fc_ntk(3), REG), sampler=by_group(batch), optimizer=optax.adam(schedule), parameterisation=pixels("learned")
    )


def learned(
    images: Images,
    labels: Int[np.ndarray, " n"],
    classes: int,
    weight: Float[np.ndarray, " n"],
    seed: int,
) -> krr.Regressor:
    """Regression on a set that is learned by KIP from examples, drawn as often as they count.

    It starts at real images, `IMAGES` of every class or as many as there are. The same seed gives the same start and,
    for equal weights, the same draws, so that what two weights give is compared in pairs.

    Args:
      images: in model space.
      labels: ``0..classes-1``.
      weight: not negative, and not 0 everywhere.
    """
    rng = np.random.default_rng(seed)
    members = [rng.permutation(np.flatnonzero(labels == c))[:IMAGES] for c in range(classes)]
    start, targets = np.concatenate(members), centred_one_hot(labels, classes)
    synthetic = Synthetic(jnp.asarray(images[start]), targets[start])
    held, space = on_device(images)
    groups = jnp.zeros(len(images), jnp.int32)
    examples = Examples(held, targets, groups, weight=jnp.asarray(weight), space=space, group_count=1)
    distiller = _distiller(min(BATCH, len(images)), STEPS)
    try:
        state, _ = distiller.run(jax.random.key(seed), distiller.init(synthetic), examples, STEPS)
    except Diverged as ended:
        state = ended.state
    return krr.fit(fc_ntk(3), distiller.decode(state), REG)
