"""How good a set is: learners fitted to it alone, tested on real data, beside the baselines."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import jax
import numpy as np

from rdd_jax.contracts import Learner, Predict
from rdd_jax.datasets.corruptions import corrupt
from rdd_jax.datasets.preprocess import Prepared, fit
from rdd_jax.evaluation import metrics
from rdd_jax.evaluation.baselines import baselines
from rdd_jax.evaluation.metrics import Cells, Metric
from rdd_jax.grouping.features import sample
from rdd_jax.kmeans import assign, kmeans
from rdd_jax.pixels import Images, flat, parts
from rdd_jax.progress import SILENT, Progress, heard
from rdd_jax.selection import check_ipc
from rdd_jax.types import Data, Synthetic

__all__ = ["Evaluated", "Evaluation", "Tested", "evaluate", "evaluate_sets", "prepare_test"]

CLUSTERS = 10
"""Of RDD's Cluster-min and Cluster-mean."""

TAIL = 0.2
"""Tail mass of ``cvar_error``."""


@dataclass(frozen=True)
class Evaluation:
    """One line of a report: a metric of a learner on a set, over seeds; fractions, not percent.

    Attributes:
      metric: ``accuracy``; ``accuracy:NAME`` under a corruption; ``cluster_min`` and ``cluster_mean``; with groups
        ``worst_group``, ``adjusted`` (where training examples have some of them too), ``deo_m``, ``deo_a`` and
        ``cvar_error`` (tail mass `TAIL`). See `rdd_jax.evaluation.metrics`.
      std: the sample standard deviation over seeds (0 for a single seed).
      interval: 95 % bootstrap interval over test examples, its ends averaged over seeds; None for cluster metrics.
      where: of ``worst_group``: the class, the group and the number of its test examples, all seeds together.
    """

    set: str
    learner: str
    metric: str
    mean: float
    std: float
    seeds: list[int]
    values: list[float]
    interval: list[float] | None = None
    where: dict | None = None

    def to_dict(self) -> dict:
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Tested:
    """What predictors are tested on.

    Attributes:
      images: ``[n, h, w, c]`` in model space; ``data``: labels, groups and names.
      train_count: ``[classes, groups]``, the training examples of each (class, group) cell; None where their groups are
        not known, and there is no ``adjusted`` accuracy then.
      cluster: ``[n]``, the pixel cluster of each image, or None.
      corrupted: the images under each corruption, in model space.
    """

    images: Images
    data: Data
    train_count: np.ndarray | None
    cluster: np.ndarray | None = None
    corrupted: Mapping[str, Images] = field(default_factory=dict)

    @property
    def groups(self) -> np.ndarray:
        return _groups(self.data)

    def cells(self, outputs: np.ndarray) -> Cells:
        """The table of predictions ``outputs [n, k]`` by class and group."""
        right = metrics.correct(outputs, self.data.labels)
        return metrics.cells(right, self.data.labels, self.groups, *self.data.cell_shape)


def _groups(data: Data) -> np.ndarray:
    return np.zeros(len(data), np.int32) if data.groups is None else data.groups


def prepare_test(prepared: Prepared, corruptions: Sequence[str] = ()) -> Tested:
    """The test split in model space, clustered, and corrupted as asked (seed 0)."""
    test = prepared.splits.test
    images = prepared.model_space(test)
    standard = prepared.fitted if prepared.fitted.kind == "standardise" else fit("standardise", test.images)
    cluster = _clustered(flat(standard.over(test.images)))
    corrupted = {name: prepared.fitted.over(corrupt(name, 0, test.loaded)) for name in corruptions}
    train = prepared.splits.train
    train_count = None if train.groups is None else train.cell_counts
    return Tested(images, test, train_count, cluster, corrupted)


def _clustered(points: Images) -> np.ndarray:
    """The cluster of every point; of many points clusters of a `features.sample` of them."""
    n, numbers = points.shape
    chosen = sample(n, 2 * numbers)  # for the device holds them too
    found = kmeans(jax.random.key(0), points[chosen], min(CLUSTERS, n))
    if isinstance(chosen, slice):
        return np.asarray(found.assignment)
    return np.concatenate([np.asarray(assign(part, found.centres)) for _, part in parts(points)])


class Evaluated(NamedTuple):
    """The evaluations of one learner on one set, and its table of cells, all seeds together."""

    evaluations: list[Evaluation]
    cells: Cells


def evaluate(
    name: str,
    sets: Mapping[int, Synthetic],
    learner_name: str,
    learner: Learner,
    test: Tested,
    done: Callable[[], None] = lambda: None,
) -> Evaluated:
    """Fits ``learner`` to the set of each seed and measures it on the test set.

    Args:
      name: of the set, for the record.
      sets: a set a seed; the same object under several seeds is learned with each of them.
      done: called after each seed.
    """
    lessons = _lessons(sets, learner_name)
    seeds = [seed for _, own in lessons for seed in own]
    tables: list[Cells] = []
    others: list[dict[str, float]] = []
    for one, own in lessons:
        for predict in learner(one, own):
            outputs = predict(test.images)
            tables.append(test.cells(outputs))
            others.append(_cluster_metrics(outputs, test) | _corrupted(predict, test))
            done()
    pooled = Cells(*(np.sum(counts, 0) for counts in zip(*tables, strict=True)))
    found = []

    def record(metric: str, values: list[float], interval: list[float] | None = None, where: dict | None = None):
        std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        found.append(
            Evaluation(name, learner_name, metric, float(np.mean(values)), std, seeds, values, interval, where)
        )

    for metric, statistic in _statistics(test).items():
        bounds = [metrics.bootstrap(table, statistic, seed=seed) for seed, table in zip(seeds, tables, strict=True)]
        where = _where(pooled, test) if metric == "worst_group" else None
        record(metric, [float(statistic(table)) for table in tables], np.mean(bounds, 0).tolist(), where)
    for metric in others[0]:
        record(metric, [other[metric] for other in others])
    return Evaluated(found, pooled)


def _lessons(sets: Mapping[int, Synthetic], learner_name: str) -> list[tuple[Synthetic, list[int]]]:
    """What is learned with which seeds."""
    seeds = sorted(sets)
    if any(sets[seed] is not sets[seeds[0]] for seed in seeds):
        return [(sets[seed], [seed]) for seed in seeds]
    return [(sets[seeds[0]], seeds[:1] if learner_name == "krr" else seeds)]


def _statistics(test: Tested) -> dict[str, Callable[[Cells], Metric]]:
    """What is counted from the table of cells; without groups only the accuracy."""
    if test.data.groups is None:
        return {"accuracy": metrics.average}
    count, adjusted = test.train_count, {}
    if count is not None and count[test.data.cell_counts > 0].any():
        adjusted = {"adjusted": lambda table: metrics.adjusted(table, count)}
    return {
        "accuracy": metrics.average,
        "worst_group": metrics.worst,
        **adjusted,
        "deo_m": lambda table: metrics.deo(table)[0],
        "deo_a": lambda table: metrics.deo(table)[1],
        "cvar_error": lambda table: metrics.cvar_error(table, TAIL),
    }


def _where(pooled: Cells, test: Tested) -> dict:
    c, g = metrics.worst_cell(pooled)
    size = int(np.sum((test.data.labels == c) & (test.groups == g)))
    return {"class": test.data.class_names[c], "group": test.data.group_names[g], "size": size}


def _cluster_metrics(outputs: np.ndarray, test: Tested) -> dict[str, float]:
    if test.cluster is None:
        return {}
    right = metrics.correct(outputs, test.data.labels)
    by_cluster = metrics.cluster_accuracies(right, test.cluster, int(test.cluster.max()) + 1)
    return {"cluster_min": float(np.nanmin(by_cluster)), "cluster_mean": float(np.nanmean(by_cluster))}


def _corrupted(predict: Predict, test: Tested) -> dict[str, float]:
    return {
        f"accuracy:{name}": metrics.accuracy(predict(images), test.data.labels)
        for name, images in test.corrupted.items()
    }


def evaluate_sets(
    synthetic: Synthetic,
    prepared: Prepared,
    learners: Mapping[str, Learner],
    seeds: int,
    with_baselines: bool = True,
    corruptions: Sequence[str] = (),
    ipc: int | None = None,
    progress: Progress = SILENT,
    also: Mapping[str, Synthetic] | None = None,
) -> tuple[list[Evaluation], dict[tuple[str, str], Cells]]:
    """A set and, with as many images a class, the baselines: every learner, on the test images.

    Args:
      learners: by name; ``krr`` is the one without randomness.
      ipc: images a class of the baselines; default: as many as the set has. Fewer where its storage holds fewer.
      also: more sets, by name.

    Returns:
      The evaluations, and the cells of each (set, learner).
    """
    progress.stage("preparing the test images")
    test = prepare_test(prepared, corruptions)
    sets = {name: dict.fromkeys(range(seeds), one) for name, one in {"synthetic": synthetic, **(also or {})}.items()}
    if with_baselines:
        train = prepared.splits.train
        ipc = ipc or max(1, len(synthetic.images) // train.classes)
        check_ipc(train.labels, ipc, train.class_names)
        progress.stage("choosing the baselines")
        with heard(progress):
            sets |= baselines(prepared.train, train.labels, train.classes, ipc, range(seeds))
    results, tables = [], {}
    for name, learner in learners.items():
        progress.stage(f"evaluating by {name}")
        pieces = sum(len(own) for members in sets.values() for _, own in _lessons(members, name))
        done = _counter(pieces, progress)
        for set_name, members in sets.items():
            evaluated = evaluate(set_name, members, name, learner, test, done)
            results += evaluated.evaluations
            tables[set_name, name] = evaluated.cells
    return results, tables


def _counter(pieces: int, progress: Progress) -> Callable[[], None]:
    """Tells that none is done, and at every call that one more is."""
    done = itertools.count()

    def tell() -> None:
        progress.step(next(done), pieces, "")

    tell()
    return tell
