"""Training finite networks on a small set alone, by the recipe of the published tables."""

from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from rdd_jax.errors import InputError
from rdd_jax.kernels.gram import row_blocks
from rdd_jax.networks.base import Network
from rdd_jax.types import PRNGKey, Synthetic


class Recipe(NamedTuple):
    """SGD with momentum, weight decay and one drop of the rate by ten at half (Zhao et al. 2021)."""

    epochs: int = 300
    batch: int = 256
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def optimizer(self, images: int) -> optax.GradientTransformation:
        half = self.epochs // 2 * -(-images // self.batch)
        rate = optax.piecewise_constant_schedule(self.learning_rate, {half: 0.1})
        return optax.chain(optax.add_decayed_weights(self.weight_decay), optax.sgd(rate, self.momentum))


def targets(labels: Float[Array, "n k"], tolerance: float = 1e-4) -> Float[Array, "n k"]:
    """The distributions over classes that networks are trained on, from centred labels.

    Where every row of ``labels + 1/k`` is a distribution, those; else one-hot at the largest entry of each row. Labels
    learned by kernel regression are of the second kind: they grow to tens, on which a network trained by the recipe's
    rate diverges.
    """
    p = np.asarray(labels) + 1 / labels.shape[1]
    if (p > -tolerance).all() and np.allclose(p.sum(1), 1, atol=tolerance):
        return jnp.asarray(p)
    return jax.nn.one_hot(p.argmax(1), labels.shape[1], dtype=labels.dtype)


def train(network: Network, synthetic: Synthetic, seeds: list[int], recipe: Recipe | None = None) -> list[Any]:
    """Trains a network a seed on ``synthetic`` alone, by cross-entropy to its `targets`; the variables of each.

    All seeds at once in one compiled loop, except where that is slower: convolutions on a CPU.

    Raises:
      InputError: the images are too small for the network's pooling.
    """
    recipe = recipe or Recipe()
    side = min(synthetic.images.shape[1:3])
    if side < network.smallest:
        raise InputError(f"images of side {side} are too small for this network: it needs {network.smallest} or more")
    synthetic = synthetic._replace(labels=targets(synthetic.labels))
    if network.convolutional and jax.default_backend() == "cpu":
        return [_train_in_steps(network, recipe, synthetic, seed) for seed in seeds]
    keys = jax.vmap(jax.random.key)(jnp.array(seeds))
    variables = _train_together(network, recipe, synthetic, keys)
    return [jax.tree.map(itemgetter(i), variables) for i in range(len(seeds))]


def _start(network: Network, recipe: Recipe, images: Array, key: PRNGKey):
    optimizer = recipe.optimizer(len(images))
    init_key, order_key = jax.random.split(key)
    variables = network.init(init_key, images[:1])
    return (variables, optimizer.init(variables)), order_key


def _batches(order_key: PRNGKey, epoch: int | Array, images: int, batch: int) -> list[Array]:
    order = jax.random.permutation(jax.random.fold_in(order_key, epoch), images)
    return [order[start : start + batch] for start in range(0, images, batch)]


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _update(network: Network, recipe: Recipe, carry, synthetic: Synthetic, index: Array):
    variables, optimizer_state = carry
    images, labels = synthetic.images[index], synthetic.labels[index]
    loss = lambda v: jnp.mean(optax.softmax_cross_entropy(network.apply(v, images), labels))  # noqa: E731
    gradient = jax.grad(loss)(variables)
    updates, optimizer_state = recipe.optimizer(len(synthetic.images)).update(gradient, optimizer_state, variables)
    return optax.apply_updates(variables, updates), optimizer_state


@partial(jax.jit, static_argnums=(0, 1))
def _train_together(network: Network, recipe: Recipe, synthetic: Synthetic, keys: Array):
    """One compiled loop; the variables of every key, stacked."""

    def train_one(key: PRNGKey):
        carry, order_key = _start(network, recipe, synthetic.images, key)

        def epoch(i, carry):
            for index in _batches(order_key, i, len(synthetic.images), recipe.batch):
                carry = _update(network, recipe, carry, synthetic, index)
            return carry

        return jax.lax.fori_loop(0, recipe.epochs, epoch, carry)[0]

    return jax.vmap(train_one)(keys)


def _train_in_steps(network: Network, recipe: Recipe, synthetic: Synthetic, seed: int):
    """A call a step; the same variables as `_train_together`, up to rounding."""
    carry, order_key = _start(network, recipe, synthetic.images, jax.random.key(seed))
    for i in range(recipe.epochs):
        for index in _batches(order_key, i, len(synthetic.images), recipe.batch):
            carry = _update(network, recipe, carry, synthetic, index)
    return carry[0]


def logits(network: Network, variables: Any, images: np.ndarray, block: int = 500) -> Float[np.ndarray, "n k"]:
    """The network's outputs for any number of images, ``block`` at a time."""
    parts = [
        np.asarray(_apply(network.apply, variables, jnp.asarray(part)))[: where.stop - where.start]
        for where, part in row_blocks(images, block)
    ]
    return np.concatenate(parts)


@partial(jax.jit, static_argnums=0)
def _apply(apply, variables, images):
    return apply(variables, images)
