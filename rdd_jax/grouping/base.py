"""What a grouping looks at and gives, and the (class, group) cells that a risk sees."""

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from rdd_jax.contracts import FitGroups
from rdd_jax.errors import InputError
from rdd_jax.types import Groups, Subject

__all__ = ["Grouping", "Groups", "Subject", "cells", "check_least", "crossed", "product"]


class Grouping(NamedTuple):
    """A way of grouping.

    Attributes:
      moves: whether it depends on the synthetic set, or is drawn anew every time.
      found: whether its groups are guesses, of which tiny ones had better be merged; False for given ones.
      attribute: whether its codes are values of an attribute, the same in every class.
    """

    fit: FitGroups
    moves: bool = False
    found: bool = True
    attribute: bool = False


def product(*groupings: Grouping) -> Grouping:
    """Examples are together where all groupings put them together; a risk protects them, whatever their weights."""

    def fit(seed: int, subject: Subject) -> Groups:
        return crossed([grouping.fit(seed, subject) for grouping in groupings])

    return Grouping(fit, any(g.moves for g in groupings), any(g.found for g in groupings))


def crossed(parts: Sequence[Groups]) -> Groups:
    """Together where all parts put them together, with the evidence of all."""
    both = reduce(lambda a, b: Groups(a.code * b.size + b.code, a.size * b.size), parts)
    return both._replace(evidence=tuple(row for part in parts for row in part.evidence))


def cells(
    groups: Groups, labels: np.ndarray, classes: int, least: float = 0.005, count: int = 0
) -> tuple[Int[np.ndarray, " n"], int]:
    """``(cell [n], count)``: the (class, group) cell of every example, and how many there are: as many of each class.

    Groups of a class that hold less than the share ``least`` of it are merged: with one another if together they hold
    that much, otherwise into the largest. A handful of examples that a grouping got wrong would else weigh as much as
    a real group. Class ``c`` has the cells from ``c * count / classes`` on, as many as the most groups of any class;
    those with examples come first, in the order of their codes. (Most codes of a `product` have none, but batches and
    distances are dealt out by cell.)

    Args:
      count: the least number of cells.

    Raises:
      InputError: ``least`` outside [0, 1).
    """
    check_least(least)
    code, size = np.empty(len(labels), np.int32), -(-count // classes)
    for c in range(classes):
        members = np.flatnonzero(labels == c)
        own = groups.code[members]
        counts = np.bincount(own, minlength=groups.size)
        small = (counts > 0) & (counts < least * len(members))
        if small.any():
            enough = counts[small].sum() >= least * len(members)
            own = np.where(small[own], np.flatnonzero(small)[0] if enough else counts.argmax(), own)
        found, code[members] = np.unique(own, return_inverse=True)
        size = max(size, len(found))
    return (labels * size + code).astype(np.int32), classes * size


def check_least(least: float) -> None:
    """Raises `InputError` where ``least`` is outside [0, 1)."""
    if not 0 <= least < 1:
        raise InputError(f"min_group is {least}: it is a share of a class, at least 0 and below 1")
