r"""Groupings: which examples of a class belong together, so that a risk can protect every group.

A grouping looks at the training data, never at the given groups unless it is `given`, and numbers the groups *within
every class*: ``fit(seed, subject) -> Groups(code [n], size)`` with codes ``0..size-1``. The subgroups that a risk
sees are the **(class, group) cells**; `cells` numbers them. Groupings whose ``moves`` is true
look at the synthetic set and are fitted again as it moves.

`spurious` is the one that finds hidden groups best where a class and an attribute go together (a colour, a style);
`kmeans` finds groups that merely look different (inverted images); ``product(spurious(), kmeans())`` finds both and is
what ``--robust`` uses.
"""

from pathlib import Path

from rdd_jax.contracts import Features
from rdd_jax.grouping.base import Grouping, Groups, Subject, cells, check_least, product
from rdd_jax.grouping.clustered import clusters, kmeans
from rdd_jax.grouping.features import FEATURES, embedding, kernel_map, pca, pixels, principal, texture
from rdd_jax.grouping.predicted import errors, predicted, spurious
from rdd_jax.grouping.simple import from_file, given, is_file, listed, nearest, single, split_names
from rdd_jax.registry import Registry

__all__ = [
    "FEATURES",
    "GROUPINGS",
    "Features",
    "Grouping",
    "Groups",
    "Subject",
    "cells",
    "check_least",
    "clusters",
    "embedding",
    "errors",
    "from_file",
    "given",
    "grouping_by_name",
    "is_file",
    "kernel_map",
    "kmeans",
    "listed",
    "nearest",
    "pca",
    "pixels",
    "predicted",
    "principal",
    "product",
    "single",
    "split_names",
    "spurious",
    "texture",
]

GROUPINGS: Registry[Grouping] = Registry(
    "grouping",
    {
        "class": single,
        "labels": given,
        "kmeans": kmeans,
        "clusters": clusters,
        "nearest": nearest,
        "predicted": predicted,
        "errors": errors,
        "spurious": spurious,
    },
)


def grouping_by_name(
    names: str, features: Features, ipc: int, groups_per_class: int | None = None, temperature: float = 0.0
) -> Grouping:
    """A grouping of `GROUPINGS`, one from an ``.npz`` file (`from_file`), or the `product` of several joined by ``+``.

    Args:
      features: of the groupings that look at any.
      ipc: images a class of the synthetic set.
      groups_per_class: of k-means; None finds the number of ``kmeans``, and is 10 of ``clusters``.
      temperature: of ``kmeans``.

    Raises:
      InputError: an unknown name, a parameter that its grouping cannot have, or a file that has no groups.
    """
    options = {"features": features, "ipc": ipc, "temperature": temperature, "k": groups_per_class}
    parts = split_names(names)
    return product(*(from_file(Path(name)) if is_file(name) else GROUPINGS.make(name, **options) for name in parts))
