"""The optimiser's run on disk: steps, refits of the groups, validations, checkpoints, interruptions."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rdd_jax.app import build, runs
from rdd_jax.app.checkpoint import Checkpoints, Saved
from rdd_jax.app.config import Distill
from rdd_jax.contracts import Kernel
from rdd_jax.datasets.preprocess import Prepared
from rdd_jax.distill import Diverged, State
from rdd_jax.errors import InputError
from rdd_jax.evaluation import krr_learner, network_learner
from rdd_jax.evaluation.metrics import accuracy, group_match
from rdd_jax.grouping import Grouping, Subject, cells
from rdd_jax.kernels import krr
from rdd_jax.sampling import LOSSES
from rdd_jax.types import Synthetic


class Progress(NamedTuple):
    """What a job tells while it runs; the command line draws it."""

    stage: Callable[[str], None]
    step: Callable[[int, int, float], None]
    """``step(step, steps, loss)``."""


SILENT = Progress(lambda name: None, lambda step, steps, loss: None)


class Grouped:
    """The groups of the training examples, fitted again as the synthetic set moves."""

    def __init__(self, config: Distill, prepared: Prepared):
        train = prepared.splits.train
        self.config, self.prepared = config, prepared
        self.grouping: Grouping | None = build.grouping_of(config)
        self.subject = Subject(prepared.train, train.labels, train.classes, train.groups)
        self.groups = np.zeros(len(train), np.int32)
        self.count = 1

    @property
    def moves(self) -> bool:
        return self.grouping is not None and self.grouping.moves

    def fit(self, step: int, synthetic: Synthetic | None = None) -> None:
        """Groups the training examples beside the set as it is after ``step`` steps; None where there is none yet."""
        if self.grouping is None:
            return
        train = self.prepared.splits.train
        seed = int(np.random.SeedSequence([self.config.seed, step]).generate_state(1)[0] >> 1)
        found = self.grouping.fit(seed, replace(self.subject, synthetic=synthetic))
        # Groups that the user gave are what they are, however small.
        least = self.config.min_group if self.grouping.found else 0.0
        # No fewer cells than before: a number that went up and down with the fits would compile the step every time.
        self.groups, self.count = cells(found, train.labels, train.classes, least, self.count)

    def described(self) -> dict[str, Any] | None:
        """How many groups there are and how large, and how well they match the data's own where it has some."""
        if self.grouping is None:
            return None
        train = self.prepared.splits.train
        sizes = [
            sorted(np.unique(self.groups[train.labels == c], return_counts=True)[1].tolist(), reverse=True)
            for c in range(train.classes)
        ]
        values: dict[str, Any] = {"grouping": self.config.grouping, "groups": sum(map(len, sizes)), "sizes": sizes}
        if train.groups is not None:
            match = group_match(self.groups, train.labels, train.groups)
            values["match"] = {key: float(value) for key, value in match.items() if np.isfinite(value)}
        return values


class Watched:
    """The losses of the training examples under the synthetic set as it was when they were last looked at."""

    def __init__(self, config: Distill, prepared: Prepared, kernel: Kernel):
        self.config, self.prepared, self.kernel = config, prepared, kernel
        self.loss = np.ones(len(prepared.train), np.float32) if "importance" in config.sampler else None

    def look(self, step: int, synthetic: Synthetic) -> None:
        """Looks at as many as the pool holds; the others count as average."""
        if self.loss is None:
            return
        config, n = self.config, len(self.loss)
        seen = np.sort(np.random.default_rng([config.seed, step]).permutation(n)[: config.pool])
        outputs = krr.fit(self.kernel, synthetic, config.reg)(self.prepared.train[seen])
        found = LOSSES[config.importance](outputs, self.prepared.one_hot[seen])
        self.loss = np.full(n, found.mean(), np.float32)
        self.loss[seen] = found


def with_solved_labels(config: Distill, prepared: Prepared, kernel: Kernel, synthetic: Synthetic) -> Synthetic:
    """The set with the labels that fit all training data best."""
    labels = krr.label_solve(kernel, synthetic.images, prepared.train, prepared.one_hot, config.reg, config.label_reg)
    return synthetic._replace(labels=labels)


def optimise(
    config: Distill,
    run: runs.Run,
    prepared: Prepared,
    kernel: Kernel,
    initial: Synthetic,
    grouped: Grouped,
    progress: Progress,
) -> Synthetic:
    """Takes the optimiser's steps from the last checkpoint, or from ``initial``, to the end; keeps the books.

    Raises:
      Diverged, KeyboardInterrupt: as `job.distil`; the state is checkpointed.
    """
    distiller = build.distiller_of(config, kernel, grouped.count, len(prepared.class_names))
    checkpoints = Checkpoints(run.checkpoints)
    state = distiller.init(initial)
    watched = Watched(config, prepared, kernel)

    def beside(state: State) -> Saved:
        loss = None if watched.loss is None else jnp.asarray(watched.loss)
        return Saved(state, jnp.asarray(grouped.groups), jnp.asarray(grouped.count), loss)

    if found := checkpoints.restore(beside(state)):
        state = found.state
        grouped.groups, grouped.count = np.asarray(found.groups), int(found.number)
        watched.loss = None if found.loss is None else np.asarray(found.loss)
        distiller = build.distiller_of(config, kernel, grouped.count, len(prepared.class_names))
    # Rows after the checkpoint belong to steps that are about to be taken again.
    rows = [row for row in run.metrics() if row["step"] <= int(state.step)]
    run.rewrite_metrics(rows)
    start = time.perf_counter() - (rows[-1]["seconds"] if rows else 0)
    validation = prepared.model_space(prepared.splits.validation)
    examples = prepared.examples()

    def record(state: State, losses: np.ndarray) -> None:
        step = int(state.step)
        now = round(time.perf_counter() - start, 3)
        first = step - len(losses) + 1
        new: list[dict] = [{"step": first + i, "loss": float(loss), "seconds": now} for i, loss in enumerate(losses)]
        if step % config.checkpoint_every < len(losses) or step == config.steps:
            score = _validate(config, prepared, kernel, distiller.decode(state), validation)
            new.append({"step": step, "validation_accuracy": score, "seconds": now})
        run.append_metrics(new)
        if asked_to_stop or "validation_accuracy" in new[-1]:
            checkpoints.save(beside(state))
        if asked_to_stop:
            raise KeyboardInterrupt
        progress.step(step, config.steps, float(losses[-1]))

    try:
        with _signals_noted() as asked_to_stop:
            while (step := int(state.step)) < config.steps:
                if grouped.moves and step > 0 and step % config.refit_every == 0:
                    before = grouped.count
                    grouped.fit(step, distiller.decode(state))
                    if grouped.count != before:  # such as a part more or less of `spurious`
                        distiller = build.distiller_of(config, kernel, grouped.count, len(prepared.class_names))
                if watched.loss is not None and step % config.refresh_every == 0:
                    watched.look(step, _finished(config, prepared, kernel, distiller.decode(state)))
                stops = [config.refit_every] * grouped.moves + [config.refresh_every] * (watched.loss is not None)
                stop = min([config.steps, *((step // every + 1) * every for every in stops)])
                now = beside(state)
                data = examples._replace(groups=now.groups, loss=now.loss)
                state, _ = distiller.run(jax.random.key(config.seed), state, data, stop, record)
    except Diverged as diverged:
        checkpoints.save(beside(diverged.state))
        if config.by_networks:
            raise
        try:
            krr.check_positive_definite(kernel, distiller.decode(diverged.state).images, config.reg)
        except InputError as cause:
            raise Diverged(diverged.step, diverged.state, str(cause)) from diverged
        raise
    finally:
        checkpoints.close()
    return _finished(config, prepared, kernel, distiller.decode(state))


def _finished(config: Distill, prepared: Prepared, kernel: Kernel, synthetic: Synthetic) -> Synthetic:
    """The set as it would be handed over now."""
    return with_solved_labels(config, prepared, kernel, synthetic) if config.labels == "solved" else synthetic


def _validate(config: Distill, prepared: Prepared, kernel: Kernel, synthetic: Synthetic, images: np.ndarray) -> float:
    """The accuracy of the learner that the method is about: kernel regression, or one network from scratch."""
    if config.by_networks:
        network = build.network_of(config, config.network, len(prepared.class_names))
        learner = network_learner(network, build.recipe_of(config))
    else:
        learner = krr_learner(kernel, config.reg)
    predict = next(learner(_finished(config, prepared, kernel, synthetic), [config.seed]))
    return accuracy(predict(images), prepared.splits.validation.labels)


@contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM, which schedulers send first, are noted for the end of the dispatch; a second one is obeyed.

    Raised at once, an interrupt could surface anywhere inside JAX or Orbax, as any exception.
    """
    noted: list[int] = []

    def note(number: int, frame: object) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield noted  # only the main thread may set handlers
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
