"""Which real examples stand for the rest: subsets of a class, the baselines of every table.

``select(seed, images, labels, ipc) -> index [classes * ipc]``, class by class in order, on the host.
``images`` ``[n, ...]`` are in whatever space distances should be taken, ``labels`` ``[n]`` are integers.
"""

from collections.abc import Callable
from functools import partial

import jax
import numpy as np

from rdd_jax.errors import InputError, at_least, choose
from rdd_jax.kmeans import kmeans_within

Select = Callable[[int, np.ndarray, np.ndarray, int], np.ndarray]


def check_ipc(labels: np.ndarray, ipc: int, class_names: tuple[str, ...]) -> None:
    """Raises `InputError` where ``ipc < 1`` or a class has fewer than ``ipc`` examples."""
    at_least("ipc", ipc, 1)
    counts = np.bincount(labels, minlength=len(class_names))
    if counts.min() < ipc:
        name = class_names[counts.argmin()]
        raise InputError(f"ipc is {ipc}, but class {name!r} has {counts.min()} training examples: lower ipc")


def _per_class(
    choose_members: Callable[[np.random.Generator, np.ndarray, int], np.ndarray],
    seed: int,
    images: np.ndarray,
    labels: np.ndarray,
    ipc: int,
) -> np.ndarray:
    rng = np.random.default_rng(seed)
    chosen = []
    for c in range(int(labels.max()) + 1):
        members = np.flatnonzero(labels == c)
        flat = images[members].reshape(len(members), -1)
        chosen.append(members[choose_members(rng, flat, ipc)])
    return np.concatenate(chosen)


def _random(rng: np.random.Generator, flat: np.ndarray, ipc: int) -> np.ndarray:
    return rng.choice(len(flat), ipc, replace=False)


def principal(images: np.ndarray, components: int = 64) -> np.ndarray:
    """``[n, components]``: the leading principal components, or the flat images where those are fewer numbers.

    Clusters of images live there, and k-means is far quicker there. Randomised PCA, fixed seed.
    """
    from sklearn.decomposition import PCA

    flat = images.reshape(len(images), -1)
    if min(flat.shape) <= components:
        return flat
    return PCA(components, svd_solver="randomized", iterated_power=2, random_state=0).fit_transform(flat)


def kmeans(seed: int, images: np.ndarray, labels: np.ndarray, ipc: int) -> np.ndarray:
    """The examples nearest to the k-means centres of their class, each taken once."""
    flat = images.reshape(len(images), -1)
    centres = kmeans_within(jax.random.key(seed), flat, labels, int(labels.max()) + 1, ipc).centres
    chosen = []
    for c, class_centres in enumerate(np.asarray(centres)):
        members = np.flatnonzero(labels == c)
        chosen.append(members[_nearest_to_centres(flat[members], class_centres)])
    return np.concatenate(chosen)


def _nearest_to_centres(flat: np.ndarray, centres: np.ndarray) -> np.ndarray:
    distance = (flat**2).sum(1)[None] - 2 * centres @ flat.T
    chosen = np.empty(len(centres), np.int64)
    for i, row in enumerate(distance):
        chosen[i] = row.argmin()
        distance[:, chosen[i]] = np.inf
    return chosen


def _herding(rng: np.random.Generator, flat: np.ndarray, ipc: int) -> np.ndarray:
    """Greedily the example that brings the mean of the chosen nearest to the mean of the class.

    Welling 2009, *Herding Dynamical Weights to Learn*, in the form of Rebuffi et al. 2017. Deterministic.
    """
    del rng
    mean = flat.mean(0)
    total = np.zeros_like(mean)
    norms = (flat**2).sum(1)
    free = np.ones(len(flat), bool)
    chosen = np.empty(ipc, np.int64)
    for i in range(ipc):
        # |mean - (total + x) / (i + 1)|^2 up to a constant and a factor
        cost = norms - 2 * flat @ ((i + 1) * mean - total)
        chosen[i] = np.where(free, cost, np.inf).argmin()
        free[chosen[i]] = False
        total += flat[chosen[i]]
    return chosen


random: Select = partial(_per_class, _random)
herding: Select = partial(_per_class, _herding)

SUBSETS: dict[str, Select] = {"random": random, "kmeans": kmeans, "herding": herding}


def subset_by_name(name: str) -> Select:
    """A selector of `SUBSETS`; raises `InputError` on an unknown name."""
    return choose("subset", name, SUBSETS)
