"""Where a synthetic set starts from.

``initialise(seed, images, labels, ipc) -> images [classes * ipc, h, w, c]``, class by class in order, with
``images`` in model space and integer ``labels``.
"""

from collections.abc import Callable

import jax
import numpy as np

from rdd_jax.errors import choose
from rdd_jax.kmeans import kmeans_within
from rdd_jax.selection import principal
from rdd_jax.selection import random as random_subset

Initialise = Callable[[int, np.ndarray, np.ndarray, int], np.ndarray]


def random(seed: int, images: np.ndarray, labels: np.ndarray, ipc: int) -> np.ndarray:
    """``ipc`` real images of every class."""
    return images[random_subset(seed, images, labels, ipc)]


def kmeans(seed: int, images: np.ndarray, labels: np.ndarray, ipc: int) -> np.ndarray:
    """The means of the ``ipc`` k-means clusters of every class, found in `selection.principal`."""
    classes = int(labels.max()) + 1
    cluster = np.asarray(kmeans_within(jax.random.key(seed), principal(images), labels, classes, ipc).assignment)
    return np.stack([images[(labels == c) & (cluster == k)].mean(0) for c in range(classes) for k in range(ipc)])


def noise(seed: int, images: np.ndarray, labels: np.ndarray, ipc: int) -> np.ndarray:
    """Gaussian noise with the mean and standard deviation of all pixels."""
    shape = (ipc * (int(labels.max()) + 1), *images.shape[1:])
    drawn = np.random.default_rng(seed).standard_normal(shape)
    return (images.mean() + images.std() * drawn).astype(images.dtype)


INITIALISERS: dict[str, Initialise] = {"random": random, "kmeans": kmeans, "noise": noise}


def initialiser_by_name(name: str) -> Initialise:
    """An initialiser of `INITIALISERS`; raises `InputError` on an unknown name."""
    return choose("init", name, INITIALISERS)
