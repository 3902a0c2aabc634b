"""Training finite networks on a small set alone, by the recipe of the published tables."""

from functools import partial
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


def loss(logits: Float[Array, "n k"], labels: Float[Array, "n k"], distribution: bool) -> Float[Array, ""]:
    """Cross-entropy where ``labels + 1/k`` are distributions, else half the squared error to ``labels``.

    Labels learned by kernel regression are no distributions; they are regressed, as they were learned.
    """
    if distribution:
        return jnp.mean(optax.softmax_cross_entropy(logits, labels + 1 / labels.shape[1]))
    return 0.5 * jnp.mean(jnp.sum((logits - labels) ** 2, 1))


def are_distributions(labels: Float[Array, "n k"], tolerance: float = 1e-4) -> bool:
    """Whether every row of ``labels + 1/k`` is non-negative and sums to 1."""
    p = np.asarray(labels) + 1 / labels.shape[1]
    return bool((p > -tolerance).all() and np.allclose(p.sum(1), 1, atol=tolerance))


def train(network: Network, synthetic: Synthetic, seeds: list[int], recipe: Recipe | None = None) -> list[Any]:
    """Trains a network a seed on ``synthetic`` alone; the variables of each.

    All seeds at once in one compiled loop, except where that is slower: convolutions on a CPU.

    Raises:
      InputError: the images are too small for the network's pooling.
    """
    recipe = recipe or Recipe()
    side = min(synthetic.images.shape[1:3])
    if side < network.smallest:
        raise InputError(f"images of side {side} are too small for this network: it needs {network.smallest} or more")
    one = partial(_train_compiled, network, recipe, are_distributions(synthetic.labels))
    if network.convolutional and jax.default_backend() == "cpu":
        return [_train_in_steps(network, recipe, synthetic, jax.random.key(seed)) for seed in seeds]
    keys = jax.vmap(jax.random.key)(jnp.array(seeds))
    variables = jax.jit(jax.vmap(one, in_axes=(None, 0)))(synthetic, keys)
    return [jax.tree.map(lambda leaf: leaf[i], variables) for i in range(len(seeds))]


def _update(network: Network, optimizer, distribution: bool, carry, images: Array, labels: Array):
    variables, optimizer_state = carry
    gradient = jax.grad(lambda v: loss(network.apply(v, images), labels, distribution))(variables)
    updates, optimizer_state = optimizer.update(gradient, optimizer_state, variables)
    return optax.apply_updates(variables, updates), optimizer_state


def _batches(order: Array, batch: int) -> list[Array]:
    return [order[start : start + batch] for start in range(0, len(order), batch)]


def _train_compiled(network: Network, recipe: Recipe, distribution: bool, synthetic: Synthetic, key: PRNGKey):
    images, labels = synthetic
    optimizer = recipe.optimizer(len(images))
    init_key, order_key = jax.random.split(key)
    variables = network.init(init_key, images[:1])

    def epoch(i, carry):
        order = jax.random.permutation(jax.random.fold_in(order_key, i), len(images))
        for index in _batches(order, recipe.batch):
            carry = _update(network, optimizer, distribution, carry, images[index], labels[index])
        return carry

    return jax.lax.fori_loop(0, recipe.epochs, epoch, (variables, optimizer.init(variables)))[0]


def _train_in_steps(network: Network, recipe: Recipe, synthetic: Synthetic, key: PRNGKey):
    images, labels = synthetic
    optimizer = recipe.optimizer(len(images))
    init_key, order_key = jax.random.split(key)
    variables = network.init(init_key, images[:1])
    carry = (variables, optimizer.init(variables))
    update = jax.jit(partial(_update, network, optimizer, are_distributions(labels)), donate_argnums=0)
    for i in range(recipe.epochs):
        order = jax.random.permutation(jax.random.fold_in(order_key, i), len(images))
        for index in _batches(order, recipe.batch):
            carry = update(carry, images[index], labels[index])
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
