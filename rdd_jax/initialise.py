"""Where a synthetic set starts from.

``initialise(seed, images, labels, ipc) -> images [classes * ipc, h, w, c]``, class by class in order, with
``images`` in model space and integer ``labels``.
"""

from collections.abc import Callable

import numpy as np

from rdd_jax.errors import choose
from rdd_jax.selection import kmeans_centres
from rdd_jax.selection import random as random_subset

Initialise = Callable[[int, np.ndarray, np.ndarray, int], np.ndarray]


def random(seed: int, images: np.ndarray, labels: np.ndarray, ipc: int) -> np.ndarray:
    """``ipc`` real images of every class."""
    return images[random_subset(seed, images, labels, ipc)]


def kmeans(seed: int, images: np.ndarray, labels: np.ndarray, ipc: int) -> np.ndarray:
    """The ``ipc`` k-means centres of every class."""
    rng = np.random.default_rng(seed)
    shape = images.shape[1:]
    centres = [
        kmeans_centres(rng, images[labels == c].reshape(-1, np.prod(shape)), ipc) for c in range(labels.max() + 1)
    ]
    return np.concatenate(centres).reshape(-1, *shape).astype(images.dtype)


def noise(seed: int, images: np.ndarray, labels: np.ndarray, ipc: int) -> np.ndarray:
    """Gaussian noise with the mean and standard deviation of all pixels."""
    shape = (ipc * (int(labels.max()) + 1), *images.shape[1:])
    drawn = np.random.default_rng(seed).standard_normal(shape)
    return (images.mean() + images.std() * drawn).astype(images.dtype)


INITIALISERS: dict[str, Initialise] = {"random": random, "kmeans": kmeans, "noise": noise}


def initialiser_by_name(name: str) -> Initialise:
    """An initialiser of `INITIALISERS`; raises `InputError` on an unknown name."""
    return choose("init", name, INITIALISERS)
