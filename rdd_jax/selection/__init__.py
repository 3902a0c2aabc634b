"""Which real examples stand for the rest: `Select` functions, by name in `SELECTIONS`.

Scores (`rdd_jax.selection.scores`) say how much an example matters, draws (`rdd_jax.selection.draw`) take examples by
score and weight them back, greedy choices (`rdd_jax.selection.greedy`) take one after another; a certificate
(`rdd_jax.selection.certificate`) says how far the chosen can be trusted.
"""

from functools import partial

import numpy as np

from rdd_jax.contracts import Draw, Score, Select
from rdd_jax.errors import check_one_of
from rdd_jax.kernels import linear
from rdd_jax.pixels import flat
from rdd_jax.progress import each
from rdd_jax.registry import Registry
from rdd_jax.selection import greedy, scores
from rdd_jax.selection.base import STRATA, Pool, Selection, Strata, check_ipc, strata_of
from rdd_jax.selection.certificate import Certificate, certify, check_promise
from rdd_jax.selection.draw import DRAWS, by_score, distinct, draw_by_name, independent, top

SCORES: dict[str, Score] = {
    "random": lambda seed, pool, m: np.ones(len(pool)),
    "krr-sensitivity": lambda seed, pool, m: scores.sensitivity(pool, seed).score,
    "kmeans-sensitivity": lambda seed, pool, m: scores.kmeans_sensitivity(flat(pool.images), m, seed),
    "lightweight": lambda seed, pool, m: scores.lightweight(flat(pool.images)),
    "relative-loss": lambda seed, pool, m: scores.relative_loss(scores.regression_loss(pool, seed)),
}

OF_THE_WHOLE = ("krr-sensitivity", "relative-loss")
"""Scores that are about all classes at once: computed over the whole pool unless the strata are groups."""

GREEDY: dict[str, Select] = {
    "kmeans": greedy.kmeans,
    "herding": greedy.within(lambda seed, kernel, x, m: greedy.herding(linear, x, m)),
    "kernel-herding": greedy.within(lambda seed, kernel, x, m: greedy.herding(kernel, x, m)),
    "pivoted-cholesky": greedy.within(lambda seed, kernel, x, m: greedy.cholesky(kernel, x, m)),
    "rp-cholesky": greedy.within(lambda seed, kernel, x, m: greedy.cholesky(kernel, x, m, np.random.default_rng(seed))),
}


def _drawn(name: str, draw: str = "distinct") -> Select:
    return scored(SCORES[name], draw_by_name(draw), name in OF_THE_WHOLE)


def _as_it_is(name: str) -> Select:
    return GREEDY[name]


def scored(score: Score, draw: Draw, of_the_whole: bool = False) -> Select:
    """Draws by score. Scores are taken stratum by stratum, or ``of_the_whole`` pool unless the strata stand apart."""

    def select(seed: int, pool: Pool, strata: Strata) -> Selection:
        values = np.zeros(len(pool))
        if of_the_whole and not strata.apart:
            values = score(seed, pool, int(strata.take.sum()))
        else:
            for members, m in each(list(strata.live), lambda one: f"stratum of {len(one[0]):,} images"):
                values[members] = score(seed, pool.take(members), m)
        return by_score(seed, values, strata, draw)

    return select


SELECTIONS: Registry[Select] = Registry(
    "selection",
    {
        **{name: partial(_drawn, name) for name in SCORES},
        **{name: partial(_as_it_is, name) for name in GREEDY},
    },
)

IMPORTANCE = tuple(name for name in SCORES if name != "random")
"""Selections that draw by importance: a run that starts from one has a certificate."""


def drawn_by(name: str, draw: str) -> str | None:
    """How a selection draws, for `certify`; None for those that do not."""
    return draw if name in SCORES and draw != "top" else None


def select_by_name(name: str, draw: str = "distinct") -> Select:
    """A way of selecting of `SELECTIONS`; ``draw``, of `DRAWS`, for those that draw by a score.

    Raises:
      InputError: an unknown name.
    """
    check_one_of("draw", draw, DRAWS)
    return SELECTIONS.make(name, draw=draw)


def subset(name: str, pool: Pool, ipc: int, seed: int = 0, strata: str = "class", draw: str = "distinct") -> Selection:
    """``ipc`` examples a class by the method of that name; see `select_by_name` and `strata_of`.

    >>> images, labels = np.random.default_rng(0).random((60, 8, 8, 1), np.float32), np.arange(60) % 3
    >>> chosen = subset("krr-sensitivity", Pool(images, labels, classes=3), ipc=4)
    >>> labels[chosen.index].tolist()
    [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]

    Raises:
      InputError: an unknown name; ``ipc`` below 1 or beyond a class; groups asked for where there are none.
    """
    return select_by_name(name, draw)(seed, pool, strata_of(pool, strata, ipc))


__all__ = [
    "DRAWS",
    "IMPORTANCE",
    "SCORES",
    "SELECTIONS",
    "STRATA",
    "Certificate",
    "Pool",
    "Select",
    "Selection",
    "Strata",
    "by_score",
    "certify",
    "check_ipc",
    "check_promise",
    "distinct",
    "drawn_by",
    "independent",
    "scored",
    "select_by_name",
    "strata_of",
    "subset",
    "top",
]
