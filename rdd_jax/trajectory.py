r"""The networks that objectives look from, step by step of the distiller.

``follow(key, step, state, synthetic, data) -> state`` gives the network of a step: `fresh` weights (DM), a network in
training that starts anew every so often (`trained`), on the synthetic set (DC, DSA, FRePo, RCIG) or on real data (RDD),
or one of those that a training on real data left behind (`rdd_jax.snapshots`). Nothing here is differentiated with
respect to the synthetic set.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from rdd_jax.augment import none
from rdd_jax.contracts import Augment, Lesson, Risk, Sampler
from rdd_jax.errors import at_least, choose
from rdd_jax.networks.base import Network
from rdd_jax.networks.training import Training, cross_entropy, epoch, mean_loss, squared_error, update
from rdd_jax.sampling import counted
from rdd_jax.types import Examples, Losses, PRNGKey, Synthetic

__all__ = [
    "Trajectory",
    "fresh",
    "nearest_of_class",
    "on_real",
    "on_synthetic",
    "trained",
]


class Trajectory(NamedTuple):
    """A way of getting networks.

    Attributes:
      init: ``init(synthetic) -> state``, of the right form; its values do not count.
      follow: ``follow(key, step, state, synthetic, data) -> state``, inside ``jit``.
      model: ``model(state, step) -> variables``, what an objective is given.
      looks: ``looks(key, step, data) -> index [r]``: the real examples that ``follow`` looks at; none by default.
    """

    init: Callable[[Synthetic], Any]
    follow: Callable[[PRNGKey, Array, Any, Synthetic, Examples], Any]
    model: Callable[[Any, Array], Any]
    looks: Callable[[PRNGKey, Array, Examples], Int[Array, " r"]] = lambda key, step, data: jnp.zeros(0, jnp.int32)


kernel_only = Trajectory(
    lambda synthetic: None, lambda key, step, state, synthetic, data: None, lambda state, step: None
)
"""No network: for objectives of kernels."""


def fresh(network: Network) -> Trajectory:
    """Random weights, new at every step: DM's, and RFAD's of a `networks.ensemble`."""

    def start(key: PRNGKey, synthetic: Synthetic) -> Any:
        return network.init(key, synthetic.images[:1])

    return Trajectory(
        lambda synthetic: _zeros_like(start, synthetic),
        lambda key, step, state, synthetic, data: start(key, synthetic),
        lambda state, step: state,
    )


def trained(
    network: Network,
    lesson: Lesson,
    optimizer: optax.GradientTransformation,
    period: int,
    warm: bool = False,
    pool: int = 1,
) -> Trajectory:
    """A network that starts anew every ``period`` steps of its own and is given a lesson between them.

    Args:
      lesson: `on_synthetic` or `on_real`.
      optimizer: the one that the lesson uses.
      warm: whether there is a lesson before the first step too (RDD); otherwise that one sees random weights (DC).
      pool: networks that take turns, their ages evenly apart.
    """
    at_least("period", period, 1)
    at_least("pool", pool, 1)

    def start(key: PRNGKey, synthetic: Synthetic) -> Training:
        variables = network.init(key, synthetic.images[:1])
        return Training(variables, optimizer.init(variables))

    def follow(key: PRNGKey, step: Array, state: Training, synthetic: Synthetic, data: Examples) -> Training:
        turn = step % pool
        age = (step // pool + turn * period // pool) % period
        restart = (age == 0) | (step < pool)
        start_key, lesson_key = jax.random.split(key)
        one = jax.tree.map(lambda leaf: leaf[turn], state)
        one = jax.lax.cond(restart, lambda: start(start_key, synthetic), lambda: one)
        given = warm | ~restart
        one = jax.lax.cond(given, lambda: lesson(lesson_key, one, synthetic, data), lambda: one)
        return jax.tree.map(lambda leaf, new: leaf.at[turn].set(new), state, one)

    def init(synthetic: Synthetic) -> Training:
        one = _zeros_like(start, synthetic)
        return jax.tree.map(lambda leaf: jnp.zeros((pool, *leaf.shape), leaf.dtype), one)

    def model(state: Training, step: Array) -> Any:
        return jax.tree.map(lambda leaf: leaf[step % pool], state.variables)

    def looks(key: PRNGKey, step: Array, data: Examples) -> Int[Array, " r"]:
        return lesson.looks(jax.random.split(key)[1], data)

    return Trajectory(init, follow, model, looks)


def _zeros_like(start: Callable[[PRNGKey, Synthetic], Any], synthetic: Synthetic) -> Any:
    shapes = jax.eval_shape(start, jax.random.key(0), synthetic)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


# --- lessons -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Lesson:
    """A `Lesson` of two functions."""

    teach: Callable[[PRNGKey, Training, Synthetic, Examples], Training]
    looks: Callable[[PRNGKey, Examples], Int[Array, " r"]] = lambda key, data: jnp.zeros(0, jnp.int32)

    def __call__(self, key: PRNGKey, training: Training, synthetic: Synthetic, data: Examples) -> Training:
        return self.teach(key, training, synthetic, data)


ERRORS = {"cross-entropy": cross_entropy, "squared": squared_error}


def _targets(error: str, labels: Float[Array, "n k"]) -> Float[Array, "n k"]:
    """What an error of `ERRORS` is taken to, from centred labels."""
    return labels + 1 / labels.shape[1] if error == "cross-entropy" else labels


def on_synthetic(
    network: Network,
    optimizer: optax.GradientTransformation,
    epochs: int,
    batch: int = 256,
    augment: Augment = none,
    error: str = "cross-entropy",
) -> Lesson:
    """``epochs`` over the synthetic set, ``batch`` images a step.

    Args:
      error: ``cross-entropy`` to labels that are distributions, DC's inner loop; or ``squared``, half the squared error
        to the labels as they are, by which the networks of FRePo and RCIG learn.

    Raises:
      InputError: an unknown ``error``, ``epochs < 0`` or ``batch < 1``.
    """
    at_least("epochs", epochs, 0)
    at_least("batch", batch, 1)
    step = partial(update, mean_loss(network, choose("error", error, ERRORS)), optimizer)

    def lesson(key: PRNGKey, training: Training, synthetic: Synthetic, data: Examples) -> Training:
        taught = synthetic._replace(labels=_targets(error, synthetic.labels))
        one = lambda i, now: epoch(jax.random.fold_in(key, i), now, taught, step, batch, augment)  # noqa: E731
        return jax.lax.fori_loop(0, epochs, one, training)

    return _Lesson(lesson)


def on_real(
    network: Network,
    optimizer: optax.GradientTransformation,
    sampler: Sampler,
    steps: int,
    risk: Risk | None = None,
    nearest: bool = True,
    augment: Augment = none,
    error: str = "cross-entropy",
) -> Lesson:
    r"""``steps`` on real data: RDD's inner training under a robust risk.

    .. math::  L = \tfrac1n \sum_i w_i \ell_i + R(\ell, g, w)

    with the losses :math:`\ell_i` and a risk ``R`` across groups, such as RDD's :math:`\mathrm{mean}_g\,
    CVaR_\tau + \max_g CVaR_\tau` (`risk.grouped`); the gradient goes through it. Without ``risk``, plain training.

    Args:
      sampler: which real examples a step sees.
      nearest: groups are the synthetic images, an example belonging to the nearest one of its class in the network's
        embedding, computed for the synthetic set once a lesson (RDD's, no group labels). False: the groups of ``data``.
      error: as in `on_synthetic`.

    Raises:
      InputError: an unknown ``error``, or ``steps < 0``.
    """
    at_least("steps", steps, 0)
    of = choose("error", error, ERRORS)

    def keys_of(key: PRNGKey, number: Array) -> tuple[PRNGKey, PRNGKey]:
        sample_key, augment_key = jax.random.split(jax.random.fold_in(key, number))
        return sample_key, augment_key

    def looks(key: PRNGKey, data: Examples) -> Int[Array, " r"]:
        return jax.vmap(lambda number: sampler(keys_of(key, number)[0], data)[0])(jnp.arange(steps)).reshape(-1)

    def lesson(key: PRNGKey, training: Training, synthetic: Synthetic, data: Examples) -> Training:
        centres = network.features(training.variables, synthetic.images) if risk and nearest else None

        def loss(variables: Any, images: Array, labels: Array, weight: Array, group: Array) -> Array:
            value = of(network.apply(variables, images), labels)
            plain = jnp.mean(weight * value)
            if risk is None:
                return plain
            if centres is not None:
                found = jax.lax.stop_gradient(network.features(variables, images))  # shared with `apply` when compiled
                group = nearest_of_class(found, jnp.argmax(labels, 1), centres, synthetic.of_class)
            count = data.group_count if centres is None else len(centres)
            return plain + risk(Losses(value, group, weight, group_count=count))

        def one(i, training):
            sample_key, augment_key = keys_of(key, i)
            index, weight = sampler(sample_key, data)
            images, labels = augment(augment_key, data.look(index)), _targets(error, data.labels[index])
            return update(loss, optimizer, training, images, labels, counted(data, index, weight), data.groups[index])

        return jax.lax.fori_loop(0, steps, one, training)

    return _Lesson(lesson, looks)


def nearest_of_class(
    points: Float[Array, "n d"], classes: Int[Array, " n"], centres: Float[Array, "m d"], theirs: Int[Array, " m"]
) -> Int[Array, " n"]:
    """The centre ``0..m-1`` nearest to every point among those of its class; ``classes`` and ``theirs`` are numbers."""
    apart = jnp.sum(centres**2, 1)[None, :] - 2 * points @ centres.T
    other = classes[:, None] != theirs[None, :]
    return jnp.argmin(jnp.where(other, jnp.inf, apart), 1)
