"""Samplers: which real examples a step sees.

``sampler(key, data: Examples) -> (index [B], weight [B])``, inside ``jit``. Draws are with replacement,
so that a step is independent of the ones before it and a resumed run repeats an uninterrupted one.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.special import log_softmax

from rdd_jax.errors import InputError, at_least, choose, unknown
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


def importance(batch: int, mix: float = 0.1, strata: str = "class", unbiased: bool = True, groups: int = 1) -> Sampler:
    r"""``batch`` examples, the likelier the larger ``data.loss``, mixed with uniform draws.

    .. math::
        p_i = P_s \left((1 - \eta) \frac{l_i}{\sum_{j \in s} l_j} + \frac{\eta}{n_s}\right)

    in a stratum ``s`` of :math:`n_s` examples and with ``mix`` :math:`\eta`. Weights :math:`1 / (n p_i)`, at most
    :math:`1 / \eta` times what the stratum's share asks for, keep the gradient of the mean unbiased; without them hard
    examples count for more. The variance of the gradient is least where ``loss`` is the norm of an example's own
    gradient. Draws are stratified: one in each ``1 / batch`` of the cumulated probabilities, which lowers the variance
    further.

    Args:
      mix: in (0, 1]; 1 is uniform within the strata.
      strata: ``all``: one; ``class``: every class keeps its share, :math:`P_s = n_s / n`; ``group``: every group of
        ``data.groups`` gets the same, :math:`P_s = 1 / G`, as in `by_group`.
      groups: of ``group``: ``data.groups`` lies in ``0..groups-1``.
      unbiased: False leaves out the part of the weights that undoes the choice by loss.
    """
    at_least("batch", batch, 1)
    if not 0 < mix <= 1:
        raise InputError(f"mix is {mix}: it must lie in (0, 1], or examples could be out of reach")
    if strata not in ("all", "class", "group"):
        raise unknown("strata", strata, ("all", "class", "group"))

    def sample(key: PRNGKey, data: Examples):
        if data.loss is None:
            raise InputError("sampler 'importance' needs examples with losses: data._replace(loss=...)")
        n = len(data.labels)
        codes = {"all": (jnp.zeros(n, int), 1), "class": (jnp.argmax(data.labels, 1), data.labels.shape[1])}
        code, size = codes.get(strata, (data.groups, groups))
        counts = jnp.bincount(code, length=size)
        loss = jnp.asarray(data.loss, float)
        total = jax.ops.segment_sum(loss, code, size)[code]
        relative = jnp.where(total > 0, loss / jnp.where(total > 0, total, 1), 1 / counts[code])
        within = (1 - mix) * relative + mix / counts[code]
        share = 1 / jnp.sum(counts > 0) if strata == "group" else counts[code] / n
        cumulated = jnp.cumsum(share * within)
        at = (jnp.arange(batch) + jax.random.uniform(key, (batch,))) / batch
        index = jnp.minimum(jnp.searchsorted(cumulated, at * cumulated[-1], side="right"), n - 1)
        probability = share * (within if unbiased else 1 / counts[code])
        return index, 1 / (n * jnp.broadcast_to(probability, (n,)))[index]

    return sample


LOSSES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "residual": lambda outputs, labels: np.linalg.norm(outputs - labels, axis=1),
    "squared-error": lambda outputs, labels: np.sum((outputs - labels) ** 2, 1),
    "cross-entropy": lambda outputs, labels: -log_softmax(outputs, 1)[np.arange(len(labels)), labels.argmax(1)],
}
"""What ``Examples.loss`` may be: of ``outputs [n, k]`` and one-hot ``labels [n, k]``, ``[n]`` not negative."""

SAMPLERS = ("uniform", "balanced", "group", "importance", "group+importance")


def sampler_by_name(name: str, batch: int, groups: int = 1, mix: float = 0.1, unbiased: bool = True) -> Sampler:
    """A sampler of `SAMPLERS`; raises `InputError` on an unknown name or ``batch < 1``."""
    samplers = {
        "uniform": uniform,
        "balanced": balanced,
        "group": lambda batch: by_group(batch, groups),
        "importance": lambda batch: importance(batch, mix, "class", unbiased),
        "group+importance": lambda batch: importance(batch, mix, "group", unbiased, groups),
    }
    return choose("sampler", name, samplers)(batch)
