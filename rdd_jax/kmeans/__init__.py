r"""K-means: ``k`` centres with the least sum of squared distances from the points to the nearest of them.

.. math::  \min_{c_1 \ldots c_k} \sum_i w_i \min_j \|x_i - c_j\|^2

Lloyd 1982, *Least Squares Quantization in PCM*, from the greedy k-means++ seeding of Arthur and Vassilvitskii
2007, *k-means++: The Advantages of Careful Seeding*.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Int

from rdd_jax.errors import InputError, at_least
from rdd_jax.kmeans.lloyd import Clusters, fit
from rdd_jax.kmeans.lloyd import nearest as nearest_centres
from rdd_jax.progress import each
from rdd_jax.types import PRNGKey

__all__ = ["Clusters", "assign", "kmeans", "kmeans_within"]

Points = Array | np.ndarray


def kmeans(
    key: PRNGKey,
    points: Points,
    k: int,
    weight: Points | None = None,
    centres: Points | None = None,
    iterations: int = 100,
    tolerance: float = 1e-4,
) -> Clusters:
    """Clusters ``points`` ``[n, d]``, floating point, in their own precision.

    Stops once an iteration changes no assignment, or moves the centres by a sum of squares of at most
    ``tolerance`` times the mean variance of a feature. A cluster that loses all its points starts again from the
    point that lies farthest from its centre. Beyond the points it needs ``O(n + k d)`` memory. Can be `vmap`ped.

    Args:
      key: of the seeding; the same key gives the same clusters.
      k: the number of clusters.
      weight: ``[n]``, not negative; 2 counts as a duplicate, 0 as absent (padding). None is 1 for all.
      centres: ``[k, d]`` to start from. None seeds with greedy k-means++.

    Raises:
      InputError: shapes that do not fit, numbers out of range or not finite, fewer points (of positive weight)
        than clusters. Under a transformation only shapes can be checked.

    >>> found = kmeans(jax.random.key(0), np.array([[0.0], [1.0], [9.0], [10.0]]), 2)
    >>> sorted(found.centres.ravel().tolist()), float(found.inertia)
    ([0.5, 9.5], 1.0)
    """
    _check_options(k, iterations, tolerance)
    _check_points(points)
    n, d = points.shape
    if n < k:
        raise InputError(f"k is {k}, but there are {n} points: lower k")
    if weight is not None:
        _check_weight(weight, n, k)
    if centres is not None:
        _check_shape("centres", centres, (k, d))
        _check_finite("centres", centres)
    points = jnp.asarray(points)
    weight = jnp.ones(n, points.dtype) if weight is None else jnp.asarray(weight, points.dtype)
    centres = None if centres is None else jnp.asarray(centres, points.dtype)
    return fit(key, points, weight, centres, iterations, tolerance, k)


def assign(points: Points, centres: Points) -> Int[Array, " n"]:
    """The nearest of ``centres`` ``[k, d]`` to each of ``points`` ``[n, d]``; the first of equally near ones.

    Raises:
      InputError: shapes that do not fit, numbers that are not finite.
    """
    _check_points(points)
    if centres.ndim != 2 or 0 in centres.shape or centres.shape[1] != points.shape[1]:
        raise InputError(f"centres have shape {centres.shape}: expected [k, {points.shape[1]}], with k at least 1")
    _check_finite("centres", centres)
    return nearest_centres(jnp.asarray(points), jnp.asarray(centres))


def kmeans_within(
    key: PRNGKey,
    points: Points,
    labels: Points,
    classes: int,
    k: int,
    iterations: int = 100,
    tolerance: float = 1e-4,
    restarts: int = 1,
) -> Clusters:
    """`kmeans` of the points of every class by themselves: class ``c`` with the key ``split(key, classes)[c]``.

    One class at a time, padded to the largest: compiled once, and one class is all that is ever copied. The data
    may stay on the host as a NumPy array.

    Args:
      labels: ``[n]`` integers in ``0..classes-1``.
      restarts: seedings, of which each class keeps the one of least inertia; further ones fold their number into the
        key.

    Returns:
      What `kmeans` finds, a class a row: ``centres [classes, k, d]``, ``inertia`` and ``iterations`` ``[classes]``;
      but ``assignment [n]``, of every point its cluster ``0..k-1`` within its class.

    Raises:
      InputError: as `kmeans`; a class of fewer than ``k`` points.
    """
    _check_options(k, iterations, tolerance)
    at_least("restarts", restarts, 1)
    _check_points(points)
    labels = np.asarray(labels)
    size = int(_class_sizes(labels, len(points), classes, k).max())
    assignment = np.empty(len(points), np.int32)
    found, class_keys = [], jax.random.split(key, classes)
    for c in each(range(classes), lambda c: f"k-means in class {c + 1} of {classes}"):
        members = np.flatnonzero(labels == c)
        padded = np.pad(members, (0, size - len(members)), constant_values=members[0])
        rows = jnp.asarray(points[padded])
        weight = jnp.asarray(np.arange(size) < len(members), rows.dtype)
        keys = [class_keys[c], *(jax.random.fold_in(class_keys[c], i) for i in range(1, restarts))]
        one = min(
            (fit(k_, rows, weight, None, iterations, tolerance, k) for k_ in keys), key=lambda c: float(c.inertia)
        )
        # Waits for the class, so that the next one is not copied beside it.
        assignment[members] = np.asarray(one.assignment)[: len(members)]
        found.append(one)
    centres, _, inertia, moves = (jnp.stack(values) for values in zip(*found, strict=True))
    return Clusters(centres, jnp.asarray(assignment), inertia, moves)


def _check_options(k: int, iterations: int, tolerance: float) -> None:
    at_least("k", k, 1)
    at_least("iterations", iterations, 1)
    at_least("tolerance", tolerance, 0)


def _check_points(points: Points) -> None:
    if points.ndim != 2 or 0 in points.shape:
        raise InputError(f"points have shape {points.shape}: expected [n, d], none of them 0")
    if not jnp.issubdtype(points.dtype, jnp.floating):
        raise InputError(f"points are {points.dtype}: give floating point")
    _check_finite("points", points)


def _check_finite(what: str, values: Points) -> None:
    if isinstance(values, Tracer):
        return
    finite = (np if isinstance(values, np.ndarray) else jnp).isfinite(values)
    if not finite.all():
        raise InputError(f"{what} hold {int((~finite).sum())} NaN or infinite numbers: mend or drop them")


def _check_shape(what: str, values: Points, shape: tuple[int, ...]) -> None:
    if values.shape != shape:
        raise InputError(f"{what} have shape {values.shape}: expected {shape}")


def _check_weight(weight: Points, n: int, k: int) -> None:
    _check_shape("weight", weight, (n,))
    _check_finite("weight", weight)
    if isinstance(weight, Tracer):
        return
    if (weight < 0).any():
        raise InputError(f"weight holds {float(weight.min()):g}: none may be negative")
    if (present := int((weight > 0).sum())) < k:
        raise InputError(f"k is {k}, but {present} points have a positive weight: lower k")


def _class_sizes(labels: np.ndarray, n: int, classes: int, k: int) -> np.ndarray:
    at_least("classes", classes, 1)
    _check_shape("labels", labels, (n,))
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"labels are {labels.dtype}: give integers 0..{classes - 1}")
    if labels.min() < 0 or labels.max() >= classes:
        bad = labels.min() if labels.min() < 0 else labels.max()
        raise InputError(f"labels hold {bad}: they must lie in 0..{classes - 1} ({classes} classes)")
    counts = np.bincount(labels, minlength=classes)
    if counts.min() < k:
        raise InputError(f"k is {k}, but class {counts.argmin()} has {counts.min()} examples: lower k")
    return counts
