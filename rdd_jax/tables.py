"""What samplers look up: made once for a data set, so that a draw costs the same however many examples there are."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rdd_jax.types import PRNGKey

__all__ = ["BLOCK", "Masses", "Ranked", "masses", "quantile", "ranked"]

BLOCK = 1024
"""Examples whose masses are summed together; a sum over blocks, and one within a block, lose nothing in float32."""


class Ranked(NamedTuple):
    """The examples code by code.

    Attributes:
      order: the examples, those of code 0 first.
      first: where those of a code begin; ``counts``: how many they are.
      present: the codes, those that occur first; ``number``: how many occur.
    """

    order: Int[Array, " n"]
    first: Int[Array, " g"]
    counts: Int[Array, " g"]
    present: Int[Array, " g"]
    number: Int[Array, ""]


def ranked(codes: Int[Array, " n"], size: int) -> Ranked:
    """Of codes ``0..size-1``."""
    count = jnp.bincount(codes, length=size)
    present = jnp.argsort(count == 0)  # stable
    return Ranked(jnp.argsort(codes), jnp.cumsum(count) - count, count, present, jnp.sum(count > 0))


class Masses(NamedTuple):
    """Masses of examples that stand code by code, in blocks of `BLOCK`, none of which holds two codes.

    Attributes:
      place: where a block begins among the examples.
      within: the masses before an example in its block.
      mass: of a block; ``before``: of the blocks before it of the same code.
      first: the first block of a code; ``blocks``: how many it has; ``total``: its mass.
    """

    place: Int[Array, " b"]
    within: Float[Array, "b k"]
    mass: Float[Array, " b"]
    before: Float[Array, " b"]
    first: Int[Array, " g"]
    blocks: Int[Array, " g"]
    total: Float[Array, " g"]


def masses(mass: Float[Array, " n"], count: Int[Array, " g"]) -> Masses:
    """Of examples code by code, ``count`` of each."""
    n, codes = len(mass), len(count)
    blocks = -(-count // BLOCK)
    last = jnp.cumsum(blocks)
    number = jnp.arange(-(-n // BLOCK) + codes)  # at most; those beyond the last are empty
    code = jnp.minimum(jnp.searchsorted(last, number, side="right"), codes - 1)
    done = (number - (last - blocks)[code]) * BLOCK
    place = (jnp.cumsum(count) - count)[code] + done
    inside = jnp.arange(BLOCK)[None] < (count[code] - done)[:, None]
    own = jnp.where(inside, mass[jnp.clip(place[:, None] + jnp.arange(BLOCK)[None], 0, n - 1)], 0)
    cumulated = jnp.cumsum(own, 1)
    of_block = cumulated[:, -1]
    before = jnp.cumsum(of_block) - of_block
    first = jnp.minimum(last - blocks, len(number) - 1)
    total = jax.ops.segment_sum(of_block, code, codes)
    return Masses(place, cumulated - own, of_block, before - before[first][code], first, blocks, total)


def quantile(key: PRNGKey, table: Masses, code: Int[Array, " d"], wanted: Float[Array, " d"]) -> Int[Array, " d"]:
    """The places at which the masses of a code reach ``wanted``, in ``[0, total)`` of the code.

    ``wanted`` is a float32, which tells no more than 2^24 places apart: below that it is drawn.
    """
    low = table.first[code]
    block = _last_below(table.before, low, low + jnp.maximum(table.blocks[code], 1), wanted)
    drawn = jax.random.uniform(key, wanted.shape, wanted.dtype) * table.total[code] * jnp.finfo(wanted.dtype).eps
    rest = jnp.clip(wanted - table.before[block] + drawn, 0, table.mass[block] * (1 - 2 * jnp.finfo(wanted.dtype).eps))
    start = block * BLOCK
    return table.place[block] + _last_below(table.within.reshape(-1), start, start + BLOCK, rest) - start


def _last_below(
    values: Float[Array, " v"], low: Int[Array, " d"], high: Int[Array, " d"], wanted: Float[Array, " d"]
) -> Int[Array, " d"]:
    """The last place in ``low..high-1`` whose value is at most ``wanted``, of values that do not fall; else ``low``."""

    def halve(_, between):
        low, high = between
        middle = (low + high) // 2
        up = values[middle] <= wanted
        return jnp.where(up, middle, low), jnp.where(up, high, middle)

    return jax.lax.fori_loop(0, len(values).bit_length(), halve, (low, jnp.maximum(high, low + 1)))[0]
