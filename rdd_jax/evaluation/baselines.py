"""The subsets of the real data that every set is compared with."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from rdd_jax.pixels import Images
from rdd_jax.selection import Pool, subset
from rdd_jax.types import Synthetic, centred_one_hot

__all__ = ["BASELINES", "baselines"]

BASELINES = ("random", "kmeans", "herding")
"""Selections of `rdd_jax.selection`."""


def baselines(
    images: Images, labels: np.ndarray, classes: int, ipc: int, seeds: Sequence[int]
) -> dict[str, dict[int, Synthetic]]:
    """Subsets of the real data, `BASELINES`: ``{name: {seed: set}}``; herding has the same set for all seeds."""
    sets: dict[str, dict[int, Synthetic]] = {}
    pool = Pool(images, labels, classes)
    for name in BASELINES:
        drawn: dict[int, Synthetic] = {}
        for seed in seeds:
            if name == "herding" and drawn:
                drawn[seed] = drawn[seeds[0]]
                continue
            index = subset(name, pool, ipc, seed).index
            drawn[seed] = Synthetic(jnp.asarray(images[index]), centred_one_hot(labels[index], classes))
        sets[name] = drawn
    return sets
