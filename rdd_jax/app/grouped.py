"""The groups of the training examples while a set is learned, and their losses."""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from rdd_jax.app import pieces
from rdd_jax.app.sections import BatchOptions, GroupOptions
from rdd_jax.contracts import Kernel
from rdd_jax.datasets.preprocess import Prepared
from rdd_jax.evaluation.metrics import group_match
from rdd_jax.grouping import Grouping, Subject, cells
from rdd_jax.kernels import krr
from rdd_jax.sampling import LOSSES
from rdd_jax.types import Examples, Synthetic

__all__ = ["Grouped", "Watched"]


class Grouped:
    """The groups of the training examples, fitted again as the synthetic set moves."""

    def __init__(self, options: GroupOptions, seed: int, prepared: Prepared, images: int = 1, by_class: bool = True):
        """``images``: a class of the synthetic set; ``by_class``: classes are the groups where no others are."""
        train = prepared.splits.train
        self.options, self.seed, self.train = options, seed, train
        self.grouping: Grouping | None = pieces.grouping_of(options, images)
        self.subject = Subject(prepared.train, train.labels, train.classes, train.groups)
        self.groups, self.count = np.zeros(len(train), np.int32), 1
        self.weight: np.ndarray | None = None
        self.by_class = by_class
        self.evidence: list[dict[str, Any]] = []

    @property
    def moves(self) -> bool:
        """Whether the groups follow the set."""
        return self.grouping is not None and self.grouping.moves

    def fit(self, step: int, synthetic: Synthetic | None = None) -> None:
        """Groups the training examples beside the set as it is after ``step`` steps; None where there is none yet."""
        if self.grouping is None:
            return
        seed = int(np.random.SeedSequence([self.seed, step]).generate_state(1)[0] >> 1)
        found = self.grouping.fit(seed, replace(self.subject, synthetic=synthetic))
        self.evidence = [_plain(row) for row in found.evidence]
        self.weight = found.weight
        # Groups that the user gave are what they are, however small.
        least = self.options.min_group if self.grouping.found else 0.0
        # No fewer cells than before: a number that went up and down with the fits would compile the step every time.
        self.groups, self.count = cells(found, self.train.labels, self.train.classes, least, self.count)

    def applied(self, examples: Examples) -> Examples:
        """The training examples in the groups that a risk is over, or with the weights that stand for them."""
        if self.weight is None:
            return examples.replace(groups=jnp.asarray(self.groups), group_count=self.count)
        classes = self.train.classes if self.by_class else 1
        weight = None if (self.weight == 1).all() else jnp.asarray(self.weight)
        groups = jnp.asarray(self.train.labels if self.by_class else np.zeros_like(self.groups))
        return examples.replace(groups=groups, weight=weight, group_count=classes)

    def described(self) -> dict[str, Any] | None:
        r"""How many groups there are and how large, how well they match the data's own where it has some, and why.

        Under ``evidence`` stands what the grouping looked at, where it tells: a row a candidate. Under ``weight`` how
        much the examples count, where that protects the groups; ``effective`` is the share of all examples that would
        tell as much if all counted the same, :math:`(\sum w)^2 / (n \sum w^2)`.
        """
        if self.grouping is None:
            return None
        train = self.train
        sizes = [
            sorted(np.unique(self.groups[train.labels == c], return_counts=True)[1].tolist(), reverse=True)
            for c in range(train.classes)
        ]
        values: dict[str, Any] = {"grouping": self.options.grouping, "groups": sum(map(len, sizes)), "sizes": sizes}
        if train.groups is not None:
            match = group_match(self.groups, train.labels, train.groups)
            values["match"] = {key: float(value) for key, value in match.items() if np.isfinite(value)}
        if self.weight is not None:
            w = self.weight.astype(float)
            values["weight"] = {
                "least": float(w.min()),
                "largest": float(w.max()),
                "effective": float(w.sum() ** 2 / (len(w) * (w**2).sum())),
            }
        if self.evidence:
            values["evidence"] = self.evidence
        return values


def _plain(row: Any) -> dict[str, Any]:
    """A row of evidence as JSON has it: what is not finite is None."""
    values = {key: value.item() if isinstance(value, np.generic) else value for key, value in row._asdict().items()}
    return {key: None if isinstance(v, float) and not np.isfinite(v) else v for key, v in values.items()}


class Watched:
    """The losses of the training examples under the set as it was when they were last looked at."""

    def __init__(self, options: BatchOptions, sampler: str, seed: int, prepared: Prepared, kernel: Kernel, reg: float):
        self.options, self.seed, self.prepared, self.kernel, self.reg = options, seed, prepared, kernel, reg
        self.loss = np.ones(len(prepared.train), np.float32) if "importance" in sampler else None

    def look(self, step: int, synthetic: Synthetic) -> None:
        """Looks at as many as the pool holds; the others count as average."""
        if self.loss is None:
            return
        n = len(self.loss)
        seen = np.sort(np.random.default_rng([self.seed, step]).permutation(n)[: self.options.pool])
        outputs = krr.fit(self.kernel, synthetic, self.reg)(self.prepared.train[seen])
        found = LOSSES[self.options.importance](outputs, self.prepared.one_hot[seen])
        self.loss = np.full(n, found.mean(), np.float32)
        self.loss[seen] = found
