"""Samplers: which real examples a step sees.

``sampler(key, data: Examples) -> (index [B], weight [B])``, inside ``jit``. Draws are with replacement,
so that a step is independent of the ones before it and a resumed run repeats an uninterrupted one.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rdd_jax.errors import at_least, choose
from rdd_jax.types import Examples, PRNGKey

Sampler = Callable[[PRNGKey, Examples], tuple[Int[Array, " b"], Float[Array, " b"]]]


def uniform(batch: int) -> Sampler:
    """``batch`` examples, every one equally likely."""
    at_least("batch", batch, 1)

    def sample(key: PRNGKey, data: Examples):
        return jax.random.randint(key, (batch,), 0, len(data.labels)), jnp.ones(batch)

    return sample


def balanced(batch: int) -> Sampler:
    """``batch`` examples; every class equally likely, and within a class every example."""
    at_least("batch", batch, 1)

    def sample(key: PRNGKey, data: Examples):
        index, _ = _evenly(key, jnp.argmax(data.labels, 1), data.labels.shape[1], batch)
        return index, jnp.ones(batch)

    return sample


def by_group(batch: int, groups: int) -> Sampler:
    """``batch`` examples; every group of ``data.groups`` that has any equally likely, and within it every example.

    Weights ``n_g G / n`` (``G`` groups with examples, ``n_g`` of ``n`` in group ``g``) undo the choice on average:
    the sampler decides what is *seen*, the risk what *counts*. Under `risk.grouped` a rare group's loss then is a mean
    of ``batch / G`` examples and not of a few.

    Args:
      groups: ``data.groups`` lies in ``0..groups-1``.
    """
    at_least("batch", batch, 1)
    at_least("groups", groups, 1)

    def sample(key: PRNGKey, data: Examples):
        return _evenly(key, data.groups, groups, batch)

    return sample


def _evenly(
    key: PRNGKey, codes: Int[Array, " n"], size: int, batch: int
) -> tuple[Int[Array, " b"], Float[Array, " b"]]:
    """Draws a code ``0..size-1`` that occurs, then an example that has it; and the weights that undo it."""
    order = jnp.argsort(codes)
    counts = jnp.bincount(codes, length=size)
    first = jnp.cumsum(counts) - counts
    present = jnp.sum(counts > 0)
    ranked = jnp.argsort(counts == 0)  # stable: those with examples first
    code_key, member_key = jax.random.split(key)
    drawn = ranked[jax.random.randint(code_key, (batch,), 0, present)]
    member = jax.random.randint(member_key, (batch,), 0, counts[drawn])
    return order[first[drawn] + member], counts[drawn] * (present / len(codes))


SAMPLERS = ("uniform", "balanced", "group")


def sampler_by_name(name: str, batch: int, groups: int = 1) -> Sampler:
    """A sampler of `SAMPLERS`; raises `InputError` on an unknown name or ``batch < 1``."""
    samplers = {"uniform": uniform, "balanced": balanced, "group": lambda batch: by_group(batch, groups)}
    return choose("sampler", name, samplers)(batch)
