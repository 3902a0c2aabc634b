r"""Groupings: which examples of a class belong together, so that a risk can protect every group.

A grouping looks at the training data, never at the given groups unless it is `given`, and numbers the groups *within
every class*: ``fit(seed, subject) -> Groups(code [n], size)`` with codes ``0..size-1``. The subgroups that a risk
sees are the **(class, group) cells**; `cells` numbers them. Groupings whose ``moves`` is true
look at the synthetic set and are fitted again as it moves.

`discovered` tries several and keeps what is worth protecting; ``--robust`` uses it. `spurious` finds hidden groups
where a class and an attribute go together (a colour, a style); `kmeans` those that lie apart in a view (inverted
images in texture, turned ones in a network's embedding). A **view** is what a grouping looks at, one of `FEATURES`.
"""

import inspect
from pathlib import Path

from rdd_jax.contracts import Features
from rdd_jax.errors import InputError, check_one_of
from rdd_jax.grouping.base import Grouping, Groups, Subject, cells, check_least, product
from rdd_jax.grouping.clustered import clusters, fine, kmeans
from rdd_jax.grouping.discovered import Candidate, discovered, views
from rdd_jax.grouping.features import FEATURES, embedding, kernel_map, pca, pixels, principal, texture
from rdd_jax.grouping.learned import network
from rdd_jax.grouping.predicted import errors, predicted, spurious
from rdd_jax.grouping.simple import from_file, given, is_file, listed, nearest, single, split_names
from rdd_jax.registry import Registry

__all__ = [
    "FEATURES",
    "GROUPINGS",
    "Candidate",
    "Features",
    "Grouping",
    "Groups",
    "Subject",
    "cells",
    "check_least",
    "clusters",
    "discovered",
    "embedding",
    "errors",
    "fine",
    "from_file",
    "given",
    "grouping_by_name",
    "is_file",
    "kernel_map",
    "kmeans",
    "listed",
    "nearest",
    "network",
    "pca",
    "pixels",
    "predicted",
    "principal",
    "product",
    "single",
    "split_names",
    "spurious",
    "texture",
    "view_of",
    "views",
]

GROUPINGS: Registry[Grouping] = Registry(
    "grouping",
    {
        "class": single,
        "labels": given,
        "kmeans": kmeans,
        "fine": fine,
        "clusters": clusters,
        "nearest": nearest,
        "predicted": predicted,
        "errors": errors,
        "spurious": spurious,
        "discovered": lambda: discovered(),
    },
)


def grouping_by_name(
    names: str, features: str = "texture", ipc: int = 1, groups_per_class: int | None = None, temperature: float = 0.0
) -> Grouping:
    """A grouping of `GROUPINGS`, one from an ``.npz`` file (`from_file`), or the `product` of several joined by ``+``.

    Args:
      names: such as ``kmeans``, or ``spurious:texture+fine:network``, every part with a view of its own.
      features: the view, of `FEATURES`, of the parts that name none and look at any.
      ipc: images a class of the synthetic set.
      groups_per_class: of k-means; None finds the number of ``kmeans``, and is 10 of ``clusters``.
      temperature: of ``kmeans``.

    Raises:
      InputError: an unknown name, a view of a grouping that looks at none, a parameter that its grouping cannot have,
        or a file that has no groups.
    """
    options = {"ipc": ipc, "temperature": temperature, "k": groups_per_class}
    views: dict[str, Features] = {}  # one of each name: what it sees is computed once

    def part(name: str) -> Grouping:
        if is_file(name):
            return from_file(Path(name))
        name, view = view_of(name)
        view = view or features
        if view not in views:
            views[view] = FEATURES.make(view)
        return GROUPINGS.make(name, features=views[view], **options)

    return product(*map(part, split_names(names)))


def view_of(part: str) -> tuple[str, str | None]:
    """``(grouping, view)`` of a part such as ``fine:network``; the view is None where none is named.

    Raises:
      InputError: an unknown grouping or view, or a view of a grouping that looks at none.
    """
    name, colon, view = part.partition(":")
    factory = GROUPINGS[name]
    if not colon:
        return name, None
    if "features" not in inspect.signature(factory).parameters:
        raise InputError(f"grouping {part!r}: {name!r} looks at no features, leave out {view!r}")
    check_one_of("view", view, FEATURES)
    return name, view
