"""Training finite networks on a small set alone, by a recipe (`rdd_jax.networks.recipes`)."""

from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from rdd_jax.augment import augment_by_name, check_augment, none
from rdd_jax.checks import are_distributions
from rdd_jax.contracts import Augment
from rdd_jax.devices import replicated, side_by_side, spread
from rdd_jax.errors import InputError
from rdd_jax.kernels.gram import BUDGET, row_blocks
from rdd_jax.networks.base import Centred, Network, check_batch, check_images
from rdd_jax.networks.recipes import Recipe
from rdd_jax.networks.stopping import right_of, until_no_better
from rdd_jax.pixels import Images
from rdd_jax.types import PRNGKey, Synthetic, Training

__all__ = [
    "DISPATCHED",
    "Training",
    "averaged",
    "check_training",
    "cross_entropy",
    "epoch",
    "logits",
    "mean_loss",
    "optimizer_of",
    "squared_error",
    "targets",
    "train",
    "update",
]


def optimizer_of(recipe: Recipe, images: int) -> optax.GradientTransformation:
    """The optimiser of a recipe on a set of so many images.

    Raises:
      InputError: a warm-up that is as long as the training.
    """
    rate = _rate(recipe, images)
    # What a centred network was at initialisation is no parameter.
    decayed = lambda variables: Centred(True, False) if isinstance(variables, Centred) else True  # noqa: E731
    decay = optax.add_decayed_weights(recipe.weight_decay, decayed)
    return optax.chain(decay, _sgd(recipe, rate, images) if recipe.optimizer == "sgd" else optax.adam(rate))


def _sgd(recipe: Recipe, rate: optax.ScalarOrSchedule, images: int) -> optax.GradientTransformation:
    if recipe.schedule != "drop":
        return optax.sgd(rate, recipe.momentum)
    drop = _drop(recipe, images)
    return optax.inject_hyperparams(optax.sgd)(rate, lambda step: jnp.where(step == drop, 0.0, recipe.momentum))


def _rate(recipe: Recipe, images: int) -> optax.ScalarOrSchedule:
    peak = recipe.learning_rate
    if recipe.schedule == "constant":
        return peak
    if recipe.schedule == "drop":
        return optax.piecewise_constant_schedule(peak, {_drop(recipe, images): 0.1})
    epochs, rest = recipe.length(images)
    steps = epochs * -(-images // recipe.batch) + rest
    if recipe.warmup >= steps:
        raise InputError(f"warmup is {recipe.warmup} of {steps} steps: leave some for the cosine")
    return optax.warmup_cosine_decay_schedule(0.0, peak, recipe.warmup, steps, 0.01 * peak)


def _drop(recipe: Recipe, images: int) -> int:
    """The step from which the rate is lower: at half of steps; of epochs, two past half, as in the published code."""
    if recipe.steps is not None:
        return recipe.steps // 2
    return (recipe.length(images)[0] // 2 + 2) * -(-images // recipe.batch)


def targets(labels: Float[Array, "n k"]) -> Float[Array, "n k"]:
    """The distributions over classes that networks are trained on, from centred labels.

    Where every row of ``labels + 1/k`` is a distribution, those; else one-hot at the largest entry of each row. Labels
    learned by kernel regression are of the second kind: they grow to tens, on which a network trained by the recipe's
    rate diverges.
    """
    if are_distributions(labels):
        return labels + 1 / labels.shape[1]
    return jax.nn.one_hot(jnp.argmax(labels, 1), labels.shape[1], dtype=labels.dtype)


def train(
    network: Network,
    synthetic: Synthetic,
    seeds: list[int],
    recipe: Recipe | None = None,
    held_out: Synthetic | None = None,
) -> list[Any]:
    """Trains a network a seed on ``synthetic`` alone, by a recipe (DC's); the variables of each.

    The network is the recipe's own (`recipes.network_by_recipe`), or another that it is tried on. One compiled loop for
    all seeds, `devices.side_by_side`.

    Args:
      held_out: real images and labels by which a recipe that stops (`Recipe.stop`) does so; others do not look at them.

    Raises:
      InputError: what `check_training` does, the network's outputs are not the classes, or a recipe that stops without
        ``held_out``.
    """
    recipe = recipe or Recipe()
    if recipe.stop and held_out is None:
        raise InputError(
            f"stop is {recipe.stop}, but there are no real images to stop by: give held_out, or a recipe with stop=0"
        )
    check_training(network, recipe, synthetic.images.shape)
    synthetic = synthetic._replace(labels=_lesson(recipe, synthetic.labels))
    keys = jax.vmap(jax.random.key)(jnp.array(seeds))
    # Waited for here, where an interrupt is heard; NumPy, which looks at what they predict, would hold it back.
    variables = jax.block_until_ready(_train(network, recipe, synthetic, keys, held_out if recipe.stop else None))
    return [jax.tree.map(itemgetter(i), variables) for i in range(len(seeds))]


def check_training(network: Network, recipe: Recipe, shape: tuple[int, ...], name: str = "this network") -> None:
    """Raises `InputError` where a recipe cannot train a network on images of ``shape``, ``(m, h, w, c)``.

    They are too small for the network's pooling or the augmentation, the network normalises over a batch of one, or the
    warm-up is as long as the training.
    """
    count = shape[0]
    check_images(network, shape[1:], name)
    check_augment(recipe.augment, shape[1:])
    check_batch(network, min(recipe.batch, count, count % recipe.batch or count))
    optimizer_of(recipe, count)


def _lesson(recipe: Recipe, labels: Float[Array, "n k"]) -> Float[Array, "n k"]:
    """What is learned of the labels."""
    return targets(labels) if recipe.loss == "cross-entropy" else recipe.label_scale * labels


@partial(jax.jit, static_argnums=(0, 1))
def _train(network: Network, recipe: Recipe, synthetic: Synthetic, keys: Array, held_out: Synthetic | None = None):
    """The variables of every key, stacked."""
    return replicated(side_by_side(partial(_train_one, network, recipe), (synthetic, held_out), keys))


def _train_one(network: Network, recipe: Recipe, given: tuple[Synthetic, Synthetic | None], key: PRNGKey) -> Any:
    synthetic, held_out = given
    images = len(synthetic.images)
    optimizer, augment = optimizer_of(recipe, images), augment_by_name(recipe.augment)
    scaled = lambda outputs, labels: squared_error(outputs, labels) / recipe.label_scale**2  # noqa: E731
    loss = mean_loss(network, cross_entropy if recipe.loss == "cross-entropy" else scaled)
    epochs, rest = recipe.length(images)

    init_key, epoch_key = jax.random.split(key)
    variables = network.init(init_key, synthetic.images[:1])

    def step(carry: Training, *batch: Array) -> Training:
        return averaged(recipe, update(loss, optimizer, carry, *batch))

    def one(i, carry, batches=None):
        return epoch(jax.random.fold_in(epoch_key, i), carry, synthetic, step, recipe.batch, augment, batches)

    def go_on(first, until, trained):
        trained = jax.lax.fori_loop(first, jnp.minimum(until, epochs), one, trained)
        return jax.lax.cond(until > epochs, lambda: one(epochs, trained, rest), lambda: trained) if rest else trained

    def handed(trained: Training) -> Any:
        """What is tested."""
        found = trained.average if recipe.average else trained.variables
        settled = network.settle
        return found if settled is None else settled(found, _mixed(init_key, synthetic.images, recipe))

    carry = Training(variables, optimizer.init(variables), variables)
    if held_out is not None:
        last = epochs + (rest > 0)
        return until_no_better(carry, go_on, last, handed, right_of(network, held_out), recipe.stop)
    trained = jax.lax.fori_loop(0, epochs, one, carry)
    return handed(one(epochs, trained, rest) if rest else trained)


def _mixed(key: PRNGKey, images: Array, recipe: Recipe) -> Array:
    """Whole batches ``[k, b, h, w, c]`` of the set in random order."""
    batch = min(recipe.batch, len(images))
    order = jax.random.permutation(key, len(images))[: len(images) // batch * batch]
    return images[order].reshape(-1, batch, *images.shape[1:])


def epoch(
    key: PRNGKey,
    carry: Any,
    data: Synthetic,
    step: Callable[..., Any],
    batch: int,
    augment: Augment = none,
    batches: int | None = None,
) -> Any:
    """``step(carry, images, labels) -> carry`` on every batch of ``data``, in random order; the last may be smaller.

    Args:
      batches: how many of them, None: all.
    """
    order_key, augment_key = jax.random.split(key)
    order = jax.random.permutation(order_key, len(data.images))[: None if batches is None else batches * batch]

    def one(number: int | Array, index: Array, carry: Any) -> Any:
        return step(carry, augment(jax.random.fold_in(augment_key, number), data.images[index]), data.labels[index])

    # One compiled step for all whole batches, and one for the rest.
    whole, rest = divmod(len(order), batch)
    if whole:
        parts = order[: whole * batch].reshape(whole, batch)
        carry = jax.lax.fori_loop(0, whole, lambda i, carry: one(i, parts[i], carry), carry)
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
    _check_outputs(logits, labels)
    return optax.softmax_cross_entropy(logits, labels)


def squared_error(outputs: Float[Array, "n j"], labels: Float[Array, "n k"]) -> Float[Array, " n"]:
    """Of every example: half the squared distance.

    Raises:
      InputError: when traced, another number of outputs than of classes.
    """
    _check_outputs(outputs, labels)
    return 0.5 * jnp.sum((outputs - labels) ** 2, -1)


def _check_outputs(outputs: Array, labels: Array) -> None:
    if outputs.shape[-1] != labels.shape[-1]:
        raise InputError(
            f"the network gives {outputs.shape[-1]} outputs for {labels.shape[-1]} classes: make it with as many"
        )


def mean_loss(
    network: Network, loss: Callable[[Array, Array], Array] = cross_entropy
) -> Callable[[Any, Array, Array], Float[Array, ""]]:
    """``loss(variables, images, labels)``: the mean of ``loss(outputs, labels)``."""
    return lambda variables, images, labels: jnp.mean(loss(network.apply(variables, images), labels))


def averaged(recipe: Recipe, carry: Training) -> Training:
    """With the average of the weights moved on, where the recipe has one."""
    if not recipe.average:
        return carry
    average = optax.incremental_update(carry.variables, carry.average, 1 - recipe.average)
    return carry._replace(average=average)


def logits(network: Network, variables: Any, images: Images, block: int = 100) -> Float[np.ndarray, "n k"]:
    """The network's outputs for any number of images, ``block`` at a time; not settled, it sees a block as a batch."""
    parts = []
    at_once = max(block, min(DISPATCHED, BUDGET // (4 * int(np.prod(images.shape[1:])))))
    for where, part in row_blocks(images, at_once):
        rows = np.concatenate([rows for _, rows in row_blocks(part, block)])
        blocks = jnp.asarray(rows.reshape(-1, min(block, len(part)), *images.shape[1:]))
        outputs = np.asarray(_apply(network.apply, variables, blocks))
        parts.append(outputs.reshape(len(rows), -1)[: where.stop - where.start])
    return np.concatenate(parts)


DISPATCHED = 10_000
"""Images on the device at a time, within the budget of `kernels.gram.BUDGET`."""


@partial(jax.jit, static_argnums=0)
def _apply(apply, variables, blocks):
    # In one loop, whose memory is taken once.
    return replicated(jax.lax.map(lambda images: apply(variables, images), spread(blocks, axis=1)))
