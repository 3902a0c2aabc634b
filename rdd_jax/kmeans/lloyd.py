"""Lloyd's iterations from greedy k-means++, about the mean and in chunks: the numerical part of `rdd_jax.kmeans`."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rdd_jax.types import PRNGKey

__all__ = ["Clusters", "fit", "nearest"]

CHUNK = 2**20
"""Numbers in the rows of one chunk and their distances: few enough to stay in a core's cache for both products."""

T = TypeVar("T")


class Clusters(NamedTuple):
    """A local minimum of k-means; ``assignment`` and ``inertia`` are those of these ``centres``."""

    centres: Float[Array, "*c k d"]
    assignment: Int[Array, " n"]
    inertia: Float[Array, "*c"]
    """The weighted sum of squared distances to the nearest centre."""
    iterations: Int[Array, "*c"]
    """How often the centres were moved."""


class _Cloud(NamedTuple):
    """The points, with what every pass over them needs."""

    points: Float[Array, "n d"]
    mean: Float[Array, " d"]
    norms: Float[Array, " n"]
    """Squared distances to the mean."""
    weight: Float[Array, " n"]


@partial(jax.jit, static_argnames="k")
def fit(
    key: PRNGKey,
    points: Float[Array, "n d"],
    weight: Float[Array, " n"],
    centres: Float[Array, "k d"] | None,
    iterations: int | Int[Array, ""],
    tolerance: float | Float[Array, ""],
    k: int,
) -> Clusters:
    """K-means from ``centres``, or from k-means++ where they are None; ``k`` is static."""
    # Everything happens about the mean: |x|^2 - 2 x.c + |c|^2 cancels badly far from the origin.
    mean = _product(weight, points) / jnp.sum(weight)
    norms = jnp.sum((points - mean[None]) ** 2, axis=1)
    cloud = _Cloud(points, mean, norms, weight)
    centres = points[_plus_plus(key, cloud, k)] if centres is None else centres
    threshold = tolerance * jnp.sum(weight * norms) / (jnp.sum(weight) * points.shape[1])

    def move(state):
        centres, seen, moves, _ = state
        moved = _means(cloud, centres, seen)
        again = _look(cloud, moved)
        same = jnp.all((again.assignment == seen.assignment) | (weight == 0))
        return moved, again, moves + 1, same | (jnp.sum((moved - centres) ** 2) <= threshold)

    start = centres - mean[None]
    state = (start, _look(cloud, start), jnp.zeros((), jnp.int32), jnp.zeros((), bool))
    centres, seen, moves, _ = jax.lax.while_loop(lambda s: (s[2] < iterations) & ~s[3], move, state)
    inertia = _inertia(cloud, centres, seen.assignment)
    return Clusters(centres + mean[None], seen.assignment, inertia, moves)


class _Look(NamedTuple):
    """What one pass over the points finds out about some centres."""

    assignment: Int[Array, " n"]
    distance: Float[Array, " n"]
    """Squared, to the nearest centre, up to rounding."""
    sums: Float[Array, "k d"]
    mass: Float[Array, " k"]


def _look(cloud: _Cloud, centres: Float[Array, "k d"]) -> _Look:
    """Nearest centres and the sums of their points, chunk by chunk; ``centres`` are about the mean."""
    points, mean, norms, weight = cloud
    n, k = len(points), len(centres)

    def step(seen: _Look, start: Array, rows: Array, fresh: Array) -> _Look:
        rows = rows - mean[None]
        scores = _scores(rows, centres)
        nearest = jnp.argmin(scores, axis=1).astype(jnp.int32)
        mass = jnp.where(fresh, jax.lax.dynamic_slice_in_dim(weight, start, len(rows)), 0)
        # A product with one-hot rows, since sums by scattering are not repeatable on a GPU.
        members = jax.nn.one_hot(nearest, k, dtype=rows.dtype, axis=0) * mass[None]
        return _Look(
            jax.lax.dynamic_update_slice_in_dim(seen.assignment, nearest, start, 0),
            jax.lax.dynamic_update_slice_in_dim(seen.distance, jnp.min(scores, axis=1), start, 0),
            seen.sums + _product(members, rows),
            seen.mass + jnp.sum(members, axis=1),
        )

    nothing = _Look(jnp.zeros(n, jnp.int32), jnp.zeros_like(norms), jnp.zeros_like(centres), jnp.zeros(k, norms.dtype))
    seen = _fold(step, nothing, points, k)
    return seen._replace(distance=jnp.maximum(seen.distance + norms, 0))


def _means(cloud: _Cloud, centres: Float[Array, "k d"], seen: _Look) -> Float[Array, "k d"]:
    """The means of the clusters; each empty one takes, as its only point, the farthest point of another."""
    points, mean, _, weight = cloud
    k = len(centres)
    empty = seen.mass == 0

    def reseed(sums: Array, mass: Array) -> tuple[Array, Array]:
        _, far = jax.lax.top_k(jnp.where(weight > 0, seen.distance, -1), k)
        to, origin = jnp.argsort(~empty), seen.assignment[far]
        lent = jnp.where(jnp.arange(k) < jnp.sum(empty), weight[far], 0)
        rows = lent[:, None] * (points[far] - mean[None])
        return sums.at[origin].add(-rows).at[to].add(rows), mass.at[origin].add(-lent).at[to].add(lent)

    sums, mass = jax.lax.cond(jnp.any(empty), reseed, lambda *unchanged: unchanged, seen.sums, seen.mass)
    return jnp.where((mass > 0)[:, None], sums / jnp.where(mass > 0, mass, 1)[:, None], centres)


def _plus_plus(key: PRNGKey, cloud: _Cloud, k: int) -> Int[Array, " k"]:
    """The seeds of greedy k-means++: of ``2 + log k`` points drawn by squared distance the one that helps most."""
    points, mean, norms, weight = cloud
    n, limits = len(points), jnp.finfo(points.dtype)
    # At most k, so that padding is never drawn while there are k points.
    candidates = min(k, 2 + int(math.log(k)))

    def draw(key: PRNGKey, distance: Array) -> Array:
        # The largest of log p + Gumbel noise are draws without replacement; points at distance 0 come last.
        noise = jax.random.gumbel(key, (n,), points.dtype)
        return jax.lax.top_k(jnp.log(weight) + jnp.log(jnp.maximum(distance, limits.tiny)) + noise, candidates)[1]

    def add(i: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        chosen, nearest = state
        index = draw(jax.random.fold_in(key, i), nearest)
        rows = points[index] - mean[None]
        products = _product(points, rows.T) - _product(mean, rows.T)[None]
        distance = jnp.maximum(norms[:, None] - 2 * products + norms[index][None], 0)
        possible = jnp.minimum(nearest[:, None], distance)
        best = jnp.argmin(_product(weight, possible))
        return chosen.at[i].set(index[best]), possible[:, best]

    # As long as there is no seed, all points are as far as can be.
    start = jnp.zeros(k, jnp.int32), jnp.full_like(norms, limits.max)
    return jax.lax.fori_loop(0, k, add, start)[0]


def _inertia(cloud: _Cloud, centres: Float[Array, "k d"], assignment: Int[Array, " n"]) -> Float[Array, ""]:
    """From the differences themselves: exact also where clusters are small and far apart."""
    points, mean, _, weight = cloud

    def step(total: Array, start: Array, rows: Array, fresh: Array) -> Array:
        of = partial(jax.lax.dynamic_slice_in_dim, start_index=start, slice_size=len(rows))
        distance = jnp.sum((rows - mean[None] - centres[of(assignment)]) ** 2, axis=1)
        return total + jnp.sum(jnp.where(fresh, of(weight), 0) * distance)

    return _fold(step, jnp.zeros((), points.dtype), points, len(centres))


@jax.jit
def nearest(points: Float[Array, "n d"], centres: Float[Array, "k d"]) -> Int[Array, " n"]:
    """The nearest of ``centres`` to every point, about their own mean."""
    middle = jnp.mean(centres, axis=0)

    def step(nearest: Array, start: Array, rows: Array, _: Array) -> Array:
        found = jnp.argmin(_scores(rows - middle[None], centres - middle[None]), axis=1)
        return jax.lax.dynamic_update_slice_in_dim(nearest, found.astype(jnp.int32), start, 0)

    return _fold(step, jnp.zeros(len(points), jnp.int32), points, len(centres))


def _scores(rows: Float[Array, "b d"], centres: Float[Array, "k d"]) -> Float[Array, "b k"]:
    """Squared distances less the squared norm of the row."""
    return jnp.sum(centres**2, axis=1)[None] - 2 * _product(rows, centres.T)


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _fold(
    step: Callable[[T, Array, Float[Array, "b d"], Bool[Array, " b"]], T],
    carry: T,
    points: Float[Array, "n d"],
    columns: int,
) -> T:
    """``step(carry, start, rows, fresh)`` over chunks of rows; ``fresh`` marks those that no chunk before it held."""
    n, d = points.shape
    size = min(n, max(1, CHUNK // (d + columns)))

    def body(i: Array, carry: T) -> T:
        # The last chunk reaches back into the one before it: padding would copy the data.
        start = jnp.minimum(i * size, n - size)
        fresh = start + jnp.arange(size) >= i * size
        return step(carry, start, jax.lax.dynamic_slice_in_dim(points, start, size), fresh)

    return jax.lax.fori_loop(0, -(-n // size), body, carry)
