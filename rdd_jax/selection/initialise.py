"""Where a synthetic set starts from.

Images ``[m, h, w, c]`` in model space, class by class in order: real ones, by any of `rdd_jax.selection.SELECTIONS`, or
made ones, by `INITIALISERS`: ``make(seed, pool, strata) -> images``.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from rdd_jax.errors import InputError, check_one_of
from rdd_jax.grouping.features import principal
from rdd_jax.kmeans import kmeans_within
from rdd_jax.pixels import parts
from rdd_jax.selection import SELECTIONS, Pool, Selection, Strata, select_by_name

__all__ = ["INITIALISERS", "STARTS", "Start", "initialise", "kmeans_centres", "noise"]

Make = Callable[[int, Pool, Strata], np.ndarray]


def kmeans_centres(seed: int, pool: Pool, strata: Strata) -> np.ndarray:
    """The means of the k-means clusters of every stratum, found in `features.principal`.

    Raises:
      InputError: strata that are to give different numbers.
    """
    k = int(strata.take[0])
    if (strata.take != k).any():
        raise InputError("init 'kmeans-centres' takes as many from every stratum: draw by class (--init-strata class)")
    found = kmeans_within(jax.random.key(seed), pool.described(principal), strata.code, len(strata.take), k)
    cell = strata.code * k + np.asarray(found.assignment)
    return np.stack([pool.images[cell == c].mean(0) for c in range(k * len(strata.take))])


def noise(seed: int, pool: Pool, strata: Strata) -> np.ndarray:
    """Gaussian noise with the mean and standard deviation of all pixels."""
    shape = (int(strata.take.sum()), *pool.images.shape[1:])
    drawn = np.random.default_rng(seed).standard_normal(shape)
    moments = [(part.mean(dtype=np.float64), part.var(dtype=np.float64), len(part)) for _, part in parts(pool.images)]
    means, variances, counts = map(np.array, zip(*moments, strict=True))
    mean = np.average(means, weights=counts)
    std = np.sqrt(np.average(variances + (means - mean) ** 2, weights=counts))
    return (mean + std * drawn).astype(np.float32)


INITIALISERS: dict[str, Make] = {"kmeans-centres": kmeans_centres, "noise": noise}
STARTS = (*SELECTIONS, *INITIALISERS)


class Start(NamedTuple):
    """Where a set starts, and the selection that it is, where it is one."""

    images: np.ndarray
    selection: Selection | None = None


def initialise(name: str, seed: int, pool: Pool, strata: Strata, draw: str = "distinct") -> Start:
    """The start of that name, of `STARTS`.

    Args:
      draw: of selections by score; see `selection.select_by_name`.

    Raises:
      InputError: an unknown name, or what its selection raises.
    """
    check_one_of("init", name, STARTS)
    if name in INITIALISERS:
        return Start(INITIALISERS[name](seed, pool, strata))
    selection = select_by_name(name, draw)(seed, pool, strata)
    return Start(pool.images[selection.index], selection)
