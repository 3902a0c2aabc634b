"""Several networks as one."""

import jax
import jax.numpy as jnp

from rdd_jax.errors import at_least
from rdd_jax.networks.base import Network

__all__ = ["ensemble"]


def ensemble(network: Network, count: int) -> Network:
    """``count`` networks of one kind: their embeddings side by side, the means of their outputs.

    Variables have a leading axis of networks, which are looked at one after another: the memory of one.

    Raises:
      InputError: ``count < 1``.
    """
    at_least("count", count, 1)

    def features(variables, images):
        each = jax.lax.map(lambda one: network.features(one, images), variables)
        return jnp.moveaxis(each, 0, 1).reshape(len(images), -1)

    def settled(settle):
        return lambda variables, batches: jax.lax.map(lambda one: settle(one, batches), variables)

    return Network(
        lambda key, images: jax.lax.map(lambda own: network.init(own, images), jax.random.split(key, count)),
        features,
        lambda variables, images: jnp.mean(jax.lax.map(lambda one: network.apply(one, images), variables), 0),
        network.smallest,
        None if network.settle is None else settled(network.settle),
    )
