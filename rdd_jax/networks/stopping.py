"""Trainings that end early, by real images that are held out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rdd_jax.kernels.blocks import in_blocks
from rdd_jax.networks.base import Network
from rdd_jax.types import Synthetic, Training

__all__ = ["LOOKS", "right_of", "until_no_better"]

LOOKS = 20
"""At held-out images in the course of a training."""


class _Looked(NamedTuple):
    """A training as it was last looked at, ``since`` looks after the best one."""

    trained: Training
    best: Any
    right: Float[Array, ""]
    since: Int[Array, ""]
    done: Int[Array, ""]


def until_no_better(
    training: Training,
    go_on: Callable[[Array, Array, Training], Training],
    last: int,
    tested: Callable[[Training], Any],
    right: Callable[[Any], Array],
    patience: int,
) -> Any:
    """Of a training that is looked at `LOOKS` times the variables of the best look; it ends after ``patience`` others.

    Args:
      go_on: ``go_on(first, until, training)``: its parts from ``first`` to ``until``, of ``last``.
      tested: the variables of a training.
      right: how good they are.
    """
    every = -(-last // LOOKS)

    def look(now: _Looked) -> _Looked:
        until = jnp.minimum(now.done + every, last)
        trained = go_on(now.done, until, now.trained)
        found = tested(trained)
        reached = right(found)
        better = reached > now.right
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), found, now.best)
        since = jnp.where(better, 0, now.since + 1)
        return _Looked(trained, best, jnp.maximum(reached, now.right), since, until)

    start = _Looked(training, tested(training), jnp.float32(-1), jnp.int32(0), jnp.int32(0))
    return jax.lax.while_loop(lambda now: (now.done < last) & (now.since < patience), look, start).best


def right_of(network: Network, held_out: Synthetic) -> Callable[[Any], Float[Array, ""]]:
    """``right(variables)``: the accuracy of a network on held-out images."""

    def right(variables: Any) -> Float[Array, ""]:
        outputs = in_blocks(lambda images: network.apply(variables, images), held_out.images)
        return jnp.mean(jnp.argmax(outputs, 1) == held_out.of_class)

    return right
