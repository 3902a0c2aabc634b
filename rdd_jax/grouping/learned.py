"""The view of networks that were briefly trained on the class labels."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from rdd_jax.contracts import Features
from rdd_jax.grouping.features import blocks, principal_map, sample
from rdd_jax.kernels.gram import row_blocks
from rdd_jax.networks import Network, convnet, training
from rdd_jax.networks.convnet import fitting_depth
from rdd_jax.pixels import Images, rows_of
from rdd_jax.progress import each
from rdd_jax.types import Subject, Synthetic, Training

__all__ = ["network"]

SIDE = 32
"""Pixels: larger images are averaged down to it, so that the time is bounded."""

MOST = 20_000
"""Examples that a network is trained on."""

LEAST_STEPS = 300
"""Of a training, on small data too."""

BATCH = 128
RATE = 4e-3
COMPONENTS = 32


def network(width: int = 32, epochs: int = 2, seed: int = 0) -> Features:
    r"""Embeddings of two ConvNets, each trained on the class labels of one half of the examples; ``d`` up to 64.

    What an early network sees lies between pixels and classes: a turned digit or a digit within "even" lies apart
    from the rest of its class, where texture and pixels do not tell them. Two epochs of Adam on the cross-entropy; both
    networks describe all examples, by the leading 32 principal components of the embedding under the last layer.
    Those have spreads :math:`\sigma_j` and are divided by :math:`\sqrt{\sigma_j}`: halfway to whitening, so that what
    tells classes apart does not drown the rest. Our own choice of all these; the idea of clusters in a trained
    network's embedding is that of George (Sohoni et al. 2020).

    Args:
      width: channels; up to three blocks, as many as the images take.
      epochs: of a half of at most `MOST` examples; more on small data, so that there are `LEAST_STEPS` steps.
      seed: of the halves, the weights and the batches.
    """

    def features(subject: Subject) -> Float[np.ndarray, "n d"]:
        images = subject.images
        depth = fitting_depth([min(SIDE, side) for side in images.shape[1:3]])
        model = convnet(subject.classes, depth, width)
        halves = np.array_split(np.random.default_rng(seed).permutation(len(images)), 2)
        found = []
        for number in each(range(2), lambda number: f"network {number + 1} of 2"):
            rows = np.sort(halves[number][:MOST])
            taught = Synthetic(
                jnp.concatenate([jnp.asarray(part) for part in blocks(_small, images[rows])]),
                jax.nn.one_hot(subject.labels[rows], subject.classes),
            )
            passes = max(epochs, -(-LEAST_STEPS * BATCH // max(len(rows), BATCH)))
            variables = _train(model, jax.random.fold_in(jax.random.key(seed), number), taught, passes)
            points = _described(model, variables, images)
            spread = points.std(0)
            found.append(points / np.sqrt(np.maximum(spread, 1e-6 * spread.max())))
        return np.concatenate(found, 1).astype(np.float32)

    return features


def _small(images: Array) -> Array:
    """The images with no side above `SIDE`."""
    height, width = (min(SIDE, size) for size in images.shape[1:3])
    return jax.image.resize(images, (len(images), height, width, images.shape[3]), "linear", antialias=True)


def _described(model: Network, variables: Any, images: Images) -> np.ndarray:
    """The leading principal components of the embeddings of all images; embeddings of `FITTED` are held at a time."""
    few = np.concatenate(list(_embedded(model, variables, rows_of(images, sample(len(images))))))
    project = principal_map(few, COMPONENTS)
    if len(few) == len(images):
        return project(few)
    return np.concatenate([project(block) for block in _embedded(model, variables, images)])


def _embedded(model: Network, variables: Any, images: Images, rows: int = 512) -> Iterator[np.ndarray]:
    """The embeddings, a block of images at a time."""
    for where, block in row_blocks(images, rows):
        yield np.asarray(_embed(model, variables, jnp.asarray(block)))[: where.stop - where.start]


@partial(jax.jit, static_argnums=0)
def _embed(model: Network, variables: Any, images: Array) -> Float[Array, "b d"]:
    # The variables are an argument: both networks share the compiled function.
    return model.features(variables, _small(images))


@partial(jax.jit, static_argnums=(0, 3))
def _train(model: Network, key: Array, taught: Synthetic, epochs: int) -> Any:
    """The variables after so many epochs."""
    init_key, epoch_key = jax.random.split(key)
    optimizer = optax.adam(RATE)
    variables = model.init(init_key, taught.images[:1])
    step = partial(training.update, training.mean_loss(model), optimizer)

    def one(i: Array, carry: Training) -> Training:
        return training.epoch(jax.random.fold_in(epoch_key, i), carry, taught, step, BATCH)

    return jax.lax.fori_loop(0, epochs, one, Training(variables, optimizer.init(variables))).variables
