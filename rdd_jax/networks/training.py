"""Training finite networks on a small set alone, by the recipe of the published tables."""

from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from rdd_jax.augment import none
from rdd_jax.checks import are_distributions
from rdd_jax.contracts import Augment
from rdd_jax.errors import InputError
from rdd_jax.kernels.gram import row_blocks
from rdd_jax.networks.base import Network, check_batch, check_images
from rdd_jax.types import PRNGKey, Synthetic, Training

__all__ = [
    "DISPATCHED",
    "Recipe",
    "Training",
    "cross_entropy",
    "epoch",
    "logits",
    "mean_loss",
    "squared_error",
    "targets",
    "train",
    "update",
]


class Recipe(NamedTuple):
    """SGD with momentum and weight decay; past half the rate drops to a tenth and the momentum begins anew.

    As in the code of the published tables (Zhao et al. 2021), whose loop over what it calls 300 epochs takes 301, and
    makes its optimiser again, at a tenth of the rate, after 152 of them.

    Attributes:
      augment: of every batch; published with 1,001 epochs for sets that were distilled under DSA.
      average: decay of an exponential average of the weights, which is then what is tested; 0: the last weights.
    """

    epochs: int = 301
    batch: int = 256
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augment: Augment = none
    average: float = 0.0

    def optimizer(self, images: int) -> optax.GradientTransformation:
        drop = (self.epochs // 2 + 2) * -(-images // self.batch)
        rate = optax.piecewise_constant_schedule(self.learning_rate, {drop: 0.1})
        sgd = optax.inject_hyperparams(optax.sgd)(rate, lambda step: jnp.where(step == drop, 0.0, self.momentum))
        return optax.chain(optax.add_decayed_weights(self.weight_decay), sgd)


def targets(labels: Float[Array, "n k"]) -> Float[Array, "n k"]:
    """The distributions over classes that networks are trained on, from centred labels.

    Where every row of ``labels + 1/k`` is a distribution, those; else one-hot at the largest entry of each row. Labels
    learned by kernel regression are of the second kind: they grow to tens, on which a network trained by the recipe's
    rate diverges.
    """
    if are_distributions(labels):
        return labels + 1 / labels.shape[1]
    return jax.nn.one_hot(jnp.argmax(labels, 1), labels.shape[1], dtype=labels.dtype)


def train(network: Network, synthetic: Synthetic, seeds: list[int], recipe: Recipe | None = None) -> list[Any]:
    """Trains a network a seed on ``synthetic`` alone, by cross-entropy to its `targets`; the variables of each.

    One compiled loop for all seeds: one after another on a CPU, whose cores a single network keeps busy, all at once
    elsewhere.

    Raises:
      InputError: the images are too small for the network's pooling, its outputs are not the classes, or it normalises
        over a batch of one.
    """
    check_images(network, synthetic.images.shape[1:])
    recipe = recipe or Recipe()
    count = len(synthetic.images)
    check_batch(network, min(recipe.batch, count, count % recipe.batch or count))
    synthetic = synthetic._replace(labels=targets(synthetic.labels))
    keys = jax.vmap(jax.random.key)(jnp.array(seeds))
    together = jax.default_backend() != "cpu"
    variables = _train(network, recipe, synthetic, keys, together)
    return [jax.tree.map(itemgetter(i), variables) for i in range(len(seeds))]


@partial(jax.jit, static_argnums=(0, 1, 4))
def _train(network: Network, recipe: Recipe, synthetic: Synthetic, keys: Array, together: bool):
    """The variables of every key, stacked."""
    images = len(synthetic.images)
    optimizer = recipe.optimizer(images)

    def train_one(key: PRNGKey):
        init_key, epoch_key = jax.random.split(key)
        variables = network.init(init_key, synthetic.images[:1])

        def step(carry: Training, *batch: Array) -> Training:
            return _averaged(recipe, update(mean_loss(network), optimizer, carry, *batch))

        def one(i, carry):
            return epoch(jax.random.fold_in(epoch_key, i), carry, synthetic, step, recipe.batch, recipe.augment)

        carry = Training(variables, optimizer.init(variables), variables)
        trained = jax.lax.fori_loop(0, recipe.epochs, one, carry)
        found = trained.average if recipe.average else trained.variables
        return found if network.settle is None else network.settle(found, _mixed(init_key, synthetic.images, recipe))

    return jax.vmap(train_one)(keys) if together else jax.lax.map(train_one, keys)


def _mixed(key: PRNGKey, images: Array, recipe: Recipe) -> Array:
    """Whole batches ``[k, b, h, w, c]`` of the set in random order."""
    batch = min(recipe.batch, len(images))
    order = jax.random.permutation(key, len(images))[: len(images) // batch * batch]
    return images[order].reshape(-1, batch, *images.shape[1:])


def epoch(
    key: PRNGKey, carry: Any, data: Synthetic, step: Callable[..., Any], batch: int, augment: Augment = none
) -> Any:
    """``step(carry, images, labels) -> carry`` on every batch of ``data``, in random order; the last may be smaller."""
    order_key, augment_key = jax.random.split(key)
    order = jax.random.permutation(order_key, len(data.images))

    def one(number: int | Array, index: Array, carry: Any) -> Any:
        return step(carry, augment(jax.random.fold_in(augment_key, number), data.images[index]), data.labels[index])

    # One compiled step for all whole batches, and one for the rest.
    whole, rest = divmod(len(order), batch)
    if whole:
        batches = order[: whole * batch].reshape(whole, batch)
        carry = jax.lax.fori_loop(0, whole, lambda i, carry: one(i, batches[i], carry), carry)
    return one(whole, order[whole * batch :], carry) if rest else carry


def update(loss: Callable, optimizer: optax.GradientTransformation, carry: Training, *batch: Array) -> Training:
    """One step of ``optimizer`` on ``loss(variables, *batch)``."""
    gradient = jax.grad(loss)(carry.variables, *batch)
    updates, state = optimizer.update(gradient, carry.optimizer, carry.variables)
    return carry._replace(variables=optax.apply_updates(carry.variables, updates), optimizer=state)


def cross_entropy(logits: Float[Array, "n j"], labels: Float[Array, "n k"]) -> Float[Array, " n"]:
    """Of every example, to distributions over classes.

    Raises:
      InputError: when traced, another number of logits than of classes.
    """
    if logits.shape[-1] != labels.shape[-1]:
        raise InputError(
            f"the network gives {logits.shape[-1]} outputs for {labels.shape[-1]} classes: make it with as many"
        )
    return optax.softmax_cross_entropy(logits, labels)


def squared_error(outputs: Float[Array, "n k"], labels: Float[Array, "n k"]) -> Float[Array, " n"]:
    """Half the squared distance of every example's outputs to its label, whatever that is."""
    return 0.5 * jnp.sum((outputs - labels) ** 2, 1)


def mean_loss(
    network: Network, error: Callable[[Array, Array], Array] = cross_entropy
) -> Callable[[Any, Array, Array], Float[Array, ""]]:
    """``loss(variables, images, labels)``: the mean of ``error(outputs, labels)``."""
    return lambda variables, images, labels: jnp.mean(error(network.apply(variables, images), labels))


def _averaged(recipe: Recipe, carry: Training) -> Training:
    if not recipe.average:
        return carry
    average = optax.incremental_update(carry.variables, carry.average, 1 - recipe.average)
    return carry._replace(average=average)


def logits(network: Network, variables: Any, images: np.ndarray, block: int = 100) -> Float[np.ndarray, "n k"]:
    """The network's outputs for any number of images, ``block`` at a time; not settled, it sees a block as a batch."""
    parts = []
    for where, part in row_blocks(images, DISPATCHED):
        rows = np.concatenate([rows for _, rows in row_blocks(part, block)])
        blocks = jnp.asarray(rows.reshape(-1, min(block, len(part)), *images.shape[1:]))
        outputs = np.asarray(_apply(network.apply, variables, blocks))
        parts.append(outputs.reshape(len(rows), -1)[: where.stop - where.start])
    return np.concatenate(parts)


DISPATCHED = 10_000
"""Images on the device at a time."""


@partial(jax.jit, static_argnums=0)
def _apply(apply, variables, blocks):
    # In one loop, whose memory is taken once.
    return jax.lax.map(lambda images: apply(variables, images), blocks)
