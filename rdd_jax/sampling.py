"""Samplers: which real examples a step sees.

``sampler(key, data: Examples) -> (index [B], weight [B])``, inside ``jit``. Draws are with replacement,
so that a step is independent of the ones before it and a resumed run repeats an uninterrupted one. The weights undo the
choice; how much an example counts, ``data.weight``, is multiplied by `counted`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.special import log_softmax

from rdd_jax.contracts import Sampler
from rdd_jax.errors import InputError, at_least, check_one_of
from rdd_jax.registry import Registry
from rdd_jax.tables import Ranked, masses, quantile, ranked
from rdd_jax.types import Examples, PRNGKey

__all__ = [
    "LOSSES",
    "SAMPLERS",
    "Drawing",
    "balanced",
    "by_group",
    "counted",
    "importance",
    "ready",
    "sampler_by_name",
    "stratified",
    "uniform",
]


@dataclass(frozen=True)
class Drawing:
    """A sampler whose tables can be made before the steps (`ready`); without them every draw makes its own.

    Attributes:
      tables: ``tables(data) -> {name: table}``; equal names mean equal tables, whatever sampler asks.
      draw: ``draw(key, data, tables) -> (index [B], weight [B])``.
    """

    tables: Callable[[Examples], dict[str, Any]]
    draw: Callable[[PRNGKey, Examples, dict[str, Any]], tuple[Int[Array, " b"], Float[Array, " b"]]]

    def __call__(self, key: PRNGKey, data: Examples) -> tuple[Int[Array, " b"], Float[Array, " b"]]:
        made = data.tables or {}
        missing = {} if _names(self, data) <= set(made) else self.tables(data)
        return self.draw(key, data, {**missing, **made})


def _names(sampler: Drawing, data: Examples) -> set[str]:
    return set(jax.eval_shape(sampler.tables, data))


def ready(sampler: Sampler, data: Examples) -> Examples:
    """The data with the tables of a sampler; those of `Examples.replace` are without again."""
    if not isinstance(sampler, Drawing):
        return data
    return data.replace(tables={**(data.tables or {}), **_made(sampler, data)})


@partial(jax.jit, static_argnums=0)
def _made(sampler: Drawing, data: Examples) -> dict[str, Any]:
    return sampler.tables(data)


def uniform(batch: int) -> Sampler:
    """``batch`` examples, every one equally likely."""
    at_least("batch", batch, 1)

    def sample(key: PRNGKey, data: Examples):
        return jax.random.randint(key, (batch,), 0, len(data.labels)), jnp.ones(batch)

    return sample


def balanced(batch: int) -> Sampler:
    """``batch`` examples; every class equally likely, and within a class every example."""
    at_least("batch", batch, 1)

    def sample(key: PRNGKey, data: Examples, tables: dict[str, Any]):
        index, _ = _evenly(key, tables["class"], batch)
        return index, jnp.ones(batch)

    return Drawing(lambda data: {"class": ranked(jnp.argmax(data.labels, 1), data.labels.shape[1])}, sample)


def counted(data: Examples, index: Int[Array, " b"], weight: Float[Array, " b"]) -> Float[Array, " b"]:
    """The weights of a batch: those of the sampler, times how much the examples count."""
    return weight if data.weight is None else weight * data.weight[index]


def by_group(batch: int) -> Sampler:
    r"""``batch`` examples; every group of ``data.groups`` that has any equally likely, and within it every example.

    With ``G`` groups that have examples, ``n_g`` of ``n`` in group ``g``, an example has the probability
    :math:`p_i = 1 / (G n_g)` and the weight :math:`1 / (n p_i)`, which undoes the choice on average: the sampler
    decides what is *seen*, the risk what *counts*. Under `risk.grouped` a rare group's loss then is a mean of ``batch /
    G`` examples and not of a few.

    Of data in one group it draws an example as often as it counts, :math:`p_i \propto` ``data.weight``: what `uniform`
    draws where all count the same.
    """
    plain = uniform(batch)

    def tables(data: Examples) -> dict[str, Any]:
        if data.group_count > 1:
            return _of_groups(data)
        return {} if data.weight is None else {"weight": masses(data.weight, jnp.array([len(data.weight)]))}

    def sample(key: PRNGKey, data: Examples, tables: dict[str, Any]):
        if data.group_count > 1:
            return _evenly(key, tables["groups"], batch)
        if data.weight is None:
            return plain(key, data)
        total = tables["weight"].total[0]
        wanted = jax.random.uniform(key, (batch,)) * total
        index = quantile(jax.random.fold_in(key, 1), tables["weight"], jnp.zeros(batch, int), wanted)
        return index, total / (len(data.weight) * data.weight[index])

    return Drawing(tables, sample)


def _of_groups(data: Examples) -> dict[str, Any]:
    return {"groups": ranked(data.groups, data.group_count)}


def _evenly(key: PRNGKey, table: Ranked, batch: int) -> tuple[Int[Array, " b"], Float[Array, " b"]]:
    """Draws a code that occurs, then an example that has it; and the weights that undo it."""
    code_key, member_key = jax.random.split(key)
    drawn = table.present[jax.random.randint(code_key, (batch,), 0, table.number)]
    member = jax.random.randint(member_key, (batch,), 0, table.counts[drawn])
    return table.order[table.first[drawn] + member], table.counts[drawn] * (table.number / len(table.order))


def importance(batch: int, mix: float = 0.1, strata: str = "class", unbiased: bool = True) -> Sampler:
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
      unbiased: False leaves out the part of the weights that undoes the choice by loss.
    """
    at_least("batch", batch, 1)
    _check_mix(mix)
    check_one_of("strata", strata, ("all", "class", "group"))
    name = f"importance-{strata}-{mix}-{unbiased}"

    def tables(data: Examples) -> dict[str, Any]:
        n = len(data.labels)
        # Not zeros that are made here: compiling would compute with them.
        codes = {"all": (data.groups, 1), "class": (jnp.argmax(data.labels, 1), data.labels.shape[1])}
        code, size = codes.get(strata, (data.groups, data.group_count))
        code = jnp.minimum(code, size - 1)
        counts = jnp.bincount(code, length=size)
        within = _within(data, code, size, counts, mix)
        share = 1 / jnp.sum(counts > 0) if strata == "group" else counts[code] / n
        probability = share * (within if unbiased else 1 / counts[code])
        return {name: (masses(share * within, jnp.array([n])), 1 / (n * jnp.broadcast_to(probability, (n,))))}

    def sample(key: PRNGKey, data: Examples, tables: dict[str, Any]):
        table, weight = tables[name]
        at = (jnp.arange(batch) + jax.random.uniform(key, (batch,))) / batch
        index = quantile(jax.random.fold_in(key, 1), table, jnp.zeros(batch, int), at * table.total[0])
        return index, weight[index]

    return Drawing(tables, sample)


def _check_mix(mix: float) -> None:
    if not 0 < mix <= 1:
        raise InputError(f"mix is {mix}: it must lie in (0, 1], or examples could be out of reach")


def _within(data: Examples, code: Array, size: int, counts: Array, mix: float) -> Float[Array, " n"]:
    """The probability of every example within its stratum; ``n_s`` are its ``counts``."""
    if data.loss is None:
        raise InputError("drawing by importance needs examples with losses: data.replace(loss=...)")
    loss = jnp.asarray(data.loss, float)
    total = jax.ops.segment_sum(loss, code, size)[code]
    relative = jnp.where(total > 0, loss / jnp.where(total > 0, total, 1), 1 / counts[code])
    return (1 - mix) * relative + mix / counts[code]


def stratified(batch: int, mix: float = 1.0, unbiased: bool = True) -> Sampler:
    r"""As many examples of every group of ``data.groups``, group by group in order; for matching, group by group.

    Within a group ``p_i = (1 - mix) l_i / sum l + mix / n_g`` from ``data.loss`` as in `importance`, and weights
    :math:`1 / (n_g p_i)` unless ``unbiased`` is False; ``mix = 1`` draws uniformly and looks at no loss. What a group's
    draws have in common is left to the objective, which compares means over a group. Empty groups get weight 0.

    Args:
      batch: examples in all; groups get ``batch // group_count`` each, so it is at least ``group_count``.

    Raises:
      InputError: ``mix`` outside (0, 1]; when traced, ``batch < data.group_count``.
    """
    at_least("batch", batch, 1)
    _check_mix(mix)
    name = f"stratified-{mix}"

    def tables(data: Examples) -> dict[str, Any]:
        made = _of_groups(data)
        if mix == 1:
            return made
        table = made["groups"]
        within = _within(data, data.groups, data.group_count, table.counts, mix)[table.order]
        return {**made, name: (masses(within, table.counts), within)}

    def sample(key: PRNGKey, data: Examples, tables: dict[str, Any]):
        groups = data.group_count
        if batch < groups:
            raise InputError(
                f"a batch of {batch} does not hold an example of each of the {groups} groups: give a larger one"
            )
        table, per = tables["groups"], batch // groups
        counts, first = table.counts[:, None], table.first[:, None]
        at = jax.random.uniform(key, (groups, per))
        if mix == 1:
            place, weight = first + (at * counts).astype(int), jnp.ones((groups, per))
        else:
            mass, within = tables[name]
            code = jnp.repeat(jnp.arange(groups), per)
            wanted = (jnp.arange(per)[None] + at) / per * mass.total[:, None]
            place = quantile(jax.random.fold_in(key, 1), mass, code, wanted.reshape(-1)).reshape(groups, per)
            weight = 1 / (counts * within[place]) if unbiased else jnp.ones((groups, per))
        # After rounding a draw stays in its group; that of a group without examples is any.
        place = jnp.maximum(jnp.clip(place, first, first + counts - 1), 0)
        return table.order[place].reshape(-1), jnp.where(counts > 0, weight, 0).reshape(-1)

    return Drawing(tables, sample)


LOSSES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "residual": lambda outputs, labels: np.linalg.norm(outputs - labels, axis=1),
    "squared-error": lambda outputs, labels: np.sum((outputs - labels) ** 2, 1),
    "cross-entropy": lambda outputs, labels: -log_softmax(outputs, 1)[np.arange(len(labels)), labels.argmax(1)],
}
"""What ``Examples.loss`` may be: of ``outputs [n, k]`` and one-hot ``labels [n, k]``, ``[n]`` not negative."""

SAMPLERS: Registry[Sampler] = Registry(
    "sampler",
    {
        "uniform": uniform,
        "balanced": balanced,
        "group": by_group,
        "importance": lambda batch, mix, unbiased: importance(batch, mix, "class", unbiased),
        "group+importance": lambda batch, mix, unbiased: importance(batch, mix, "group", unbiased),
        "stratified": lambda batch: stratified(batch),
        "stratified+importance": stratified,
    },
)


def sampler_by_name(name: str, batch: int, mix: float = 0.1, unbiased: bool = True) -> Sampler:
    """A sampler of `SAMPLERS`; raises `InputError` on an unknown name or ``batch < 1``."""
    return SAMPLERS.make(name, batch=batch, mix=mix, unbiased=unbiased)
