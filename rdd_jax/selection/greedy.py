"""Selectors that choose one example after another, each with the ones before it in mind.

``choose(...) -> (member [m], weight [m], score [i])`` within one stratum; deterministic but for `rp_cholesky`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from rdd_jax.contracts import Kernel, Select
from rdd_jax.grouping.features import principal
from rdd_jax.kernels import linear
from rdd_jax.kernels.gram import ROWS, compile_kernel, pad, row_blocks
from rdd_jax.kmeans import kmeans_within
from rdd_jax.pixels import Images, flat, parts, rows_of
from rdd_jax.progress import each
from rdd_jax.selection.base import Pool, Selection, Strata

__all__ = ["cholesky", "herding", "kmeans", "within"]

Choice = tuple[np.ndarray, np.ndarray, np.ndarray]


def kmeans(seed: int, pool: Pool, strata: Strata) -> Selection:
    """The examples nearest to the k-means centres of their stratum, each taken once, in `features.principal`.

    The weight is the size of the cluster, the score the squared distance to its centre.
    """
    points = pool.described(principal)
    weight = np.zeros(strata.take.sum())
    index, score = np.zeros(len(weight), np.int64), np.zeros(len(pool))
    last = np.cumsum(strata.take)
    for k in np.unique(strata.take[strata.take > 0]):
        which = np.flatnonzero(strata.take == k)
        part = np.flatnonzero(np.isin(strata.code, which))
        code = np.searchsorted(which, strata.code[part])
        found = kmeans_within(jax.random.key(seed), points[part], code, len(which), int(k))
        for j, s in enumerate(which):
            members, centres = part[code == j], np.asarray(found.centres[j])
            cluster = np.asarray(found.assignment)[code == j]
            at = slice(last[s] - k, last[s])
            index[at] = members[_nearest_to_centres(points[members], centres)]
            weight[at] = np.bincount(cluster, minlength=k)
            score[members] = np.sum((points[members] - centres[cluster]) ** 2, 1)
    probability = np.zeros(len(pool))
    probability[index] = 1
    return Selection(index, weight, score, probability)


def _nearest_to_centres(flat: np.ndarray, centres: np.ndarray) -> np.ndarray:
    distance = (flat**2).sum(1)[None] - 2 * centres @ flat.T
    chosen = np.empty(len(centres), np.int64)
    for i, row in enumerate(distance):
        chosen[i] = row.argmin()
        distance[:, chosen[i]] = np.inf
    return chosen


def herding(kernel: Kernel, images: Images, m: int) -> Choice:
    r"""Greedily the example that brings the mean of the chosen nearest to the mean of all, in feature space.

    That distance, :math:`\|\tfrac1m \sum_{j \in S} \phi_j - \tfrac1n \sum_i \phi_i\|`, is the largest error that the
    chosen make in the mean of any function of unit norm (the maximum mean discrepancy). Welling 2009, *Herding
    Dynamical Weights to Learn*; with kernels Chen, Welling & Smola 2010. The score is the embedding of the mean,
    :math:`\tfrac1n \sum_j k(x_i, x_j)`.
    """
    compiled = compile_kernel(kernel)
    mean = _mean_embedding(kernel, images)
    diagonal = _in_blocks(compiled.diagonal, images)
    total, free = np.zeros(len(images)), np.ones(len(images), bool)
    chosen = np.empty(m, np.int64)
    for i in each(range(m), lambda i: f"image {i + 1} of {m}"):
        # |mean - (total + phi) / (i + 1)|^2 up to a constant and a factor
        cost = diagonal + 2 * total - 2 * (i + 1) * mean
        chosen[i] = np.where(free, cost, np.inf).argmin()
        free[chosen[i]] = False
        total += _column(compiled.cross, images, chosen[i])
    return chosen, np.full(m, len(images) / m), mean


def _mean_embedding(kernel: Kernel, images: Images) -> np.ndarray:
    if kernel is linear:
        points = flat(images)
        mean = np.sum([part.sum(0, dtype=np.float64) for _, part in parts(points)], 0) / len(points)
        return np.concatenate([part @ mean for _, part in parts(points)])
    mean, cross = np.zeros(len(images)), compile_kernel(kernel).cross
    for where, block in row_blocks(images, ROWS):
        x = jnp.asarray(block)
        column = _in_blocks(lambda y, x=x: cross(x, y).T, images)  # [n, ROWS]
        mean[where] = column.mean(0)[: where.stop - where.start]
    return mean


def _in_blocks(function: Callable, images: Images) -> np.ndarray:
    """``function(images [b, h, w, c]) -> [b, ...]`` of all, a block at a time, float64; the last is padded."""
    found = []
    for where, block in parts(images, ROWS):
        values = function(jnp.asarray(pad(block, ROWS)))
        found.append(np.asarray(values, np.float64)[: where.stop - where.start])
    return np.concatenate(found)


def _column(cross: Callable, images: Images, i: np.int64) -> np.ndarray:
    one = jnp.asarray(images[i][None])
    return _in_blocks(lambda x: cross(one, x).T, images)[:, 0]


def cholesky(kernel: Kernel, images: Images, m: int, rng: np.random.Generator | None = None) -> Choice:
    r"""Pivots of a partial Cholesky factorisation of the Gram matrix: examples that the ones before do not explain.

    The next pivot has the largest conditional variance :math:`k(x, x) - k_S(x)^T K_{SS}^{-1} k_S(x)` given the pivots
    so far; with ``rng`` it is drawn by it (RPCholesky; Chen, Epperly, Tropp & Webber 2023), with guarantees near the
    best low-rank approximation. Both spread out; the greedy one seeks outliers. The score is the conditional variance
    given all pivots.
    """
    compiled = compile_kernel(kernel)
    left = _in_blocks(compiled.diagonal, images)
    floor = 1e-10 * left.max()
    free, rows, chosen = np.ones(len(images), bool), np.zeros((m, len(images))), np.empty(m, np.int64)
    for i in each(range(m), lambda i: f"image {i + 1} of {m}"):
        chance = np.where(free, np.maximum(left, floor), 0)  # duplicates of pivots last, but not never
        chosen[i] = chance.argmax() if rng is None else rng.choice(len(chance), p=chance / chance.sum())
        pivot = left[chosen[i]]
        free[chosen[i]] = False
        if pivot > floor:
            column = _column(compiled.cross, images, chosen[i])
            rows[i] = (column - rows[:i, chosen[i]] @ rows[:i]) / np.sqrt(pivot)
            left = np.maximum(left - rows[i] ** 2, 0)
        left[chosen[i]] = 0  # a column's own entry is not rounded as the diagonal is
    return chosen, np.full(m, len(images) / m), left


def within(choose: Callable[[int, Kernel, Images, int], Choice]) -> Select:
    """``choose(seed, kernel, images, m)`` of one stratum as a selection over all."""

    def select(seed: int, pool: Pool, strata: Strata) -> Selection:
        index, weight = [], []
        score, probability = np.zeros(len(pool)), np.zeros(len(pool))
        live = each(list(strata.live), lambda one: f"stratum of {len(one[0]):,} images")
        for s, (members, m) in enumerate(live):
            own_seed = int(np.random.SeedSequence([seed, s]).generate_state(1)[0])
            member, stands_for, score[members] = choose(own_seed, pool.kernel, rows_of(pool.images, members), m)
            index.append(members[member])
            weight.append(stands_for)
        chosen = np.concatenate(index)
        probability[chosen] = 1
        return Selection(chosen, np.concatenate(weight), score, probability)

    return select
