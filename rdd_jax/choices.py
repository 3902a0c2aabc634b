"""What selections are asked for, and what they give."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

__all__ = ["Selection", "Strata"]


class Strata(NamedTuple):
    """From each stratum a fixed number of examples is taken: ``take[s]`` of those with ``code == s``.

    ``apart``: whether scores are about the stratum alone, so that each is covered for its own sake.
    """

    code: Int[np.ndarray, " n"]
    take: Int[np.ndarray, " s"]
    apart: bool = False

    @property
    def live(self) -> Iterator[tuple[Int[np.ndarray, " i"], int]]:
        """``(members, how many to take)`` of every stratum that gives any."""
        for s, m in enumerate(self.take.tolist()):
            if m > 0:
                yield np.flatnonzero(self.code == s), m


@dataclass(frozen=True)
class Selection:
    """What was chosen, stratum by stratum, and how.

    Attributes:
      index: the chosen examples; with independent draws one may occur more than once.
      weight: how many examples each stands for; sums over the chosen estimate sums over the pool. Unbiased where
        the choice was drawn.
      score: of every example of the pool, by the method's own measure.
      probability: of every example: the expected number of times that it is chosen. 1 or 0 where nothing is drawn.
    """

    index: Int[np.ndarray, " m"]
    weight: Float[np.ndarray, " m"]
    score: Float[np.ndarray, " n"]
    probability: Float[np.ndarray, " n"]

    def merged(self, labels: np.ndarray) -> tuple[Int[np.ndarray, " u"], Float[np.ndarray, " u"]]:
        """Every chosen example once, class by class, with the sum of its weights."""
        chosen, where = np.unique(self.index, return_inverse=True)
        order = np.argsort(labels[chosen], kind="stable")
        return chosen[order], np.bincount(where, self.weight)[order]
