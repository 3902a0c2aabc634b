"""The steps of a run on disk: refits of the groups, validations, checkpoints, interruptions."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from rdd_jax.app.checkpoint import Checkpoints, Saved
from rdd_jax.app.grouped import Grouped, Watched
from rdd_jax.app.hosts import any_host
from rdd_jax.app.interrupting import signals_noted
from rdd_jax.app.methods import Method, Stepped
from rdd_jax.app.methods.kip import SolvedOptions
from rdd_jax.app.reading import streamed
from rdd_jax.app.run_folder import Run
from rdd_jax.contracts import Kernel
from rdd_jax.datasets.preprocess import Prepared
from rdd_jax.distill import Diverged, Info, State, Unread
from rdd_jax.errors import InputError
from rdd_jax.evaluation.metrics import accuracy
from rdd_jax.kernels import krr
from rdd_jax.progress import SILENT, Progress, heard
from rdd_jax.types import Examples, Synthetic

__all__ = ["Steps", "with_solved_labels"]


def with_solved_labels(
    config: Method, prepared: Prepared, kernel: Kernel, synthetic: Synthetic, progress: Progress = SILENT
) -> Synthetic:
    """The set with the labels that fit all training data best, where the method solves them; else as it is."""
    options = config.kernel
    if config.label_kind != "solved" or not isinstance(options, SolvedOptions):
        return synthetic
    of, train, one_hot = synthetic.images, prepared.train, prepared.one_hot
    with heard(progress):
        labels = krr.label_solve(kernel, of, train, one_hot, options.reg, options.label_reg)
    return synthetic._replace(labels=labels)


class Steps:
    """The steps of a run from its last checkpoint, or from a start, to the end; it keeps the books."""

    def __init__(
        self,
        config: Stepped,
        run: Run,
        prepared: Prepared,
        kernel: Kernel,
        start: Synthetic,
        grouped: Grouped,
        progress: Progress,
    ):
        self.config, self.run, self.prepared, self.kernel = config, run, prepared, kernel
        self.grouped, self.progress = grouped, progress
        batch = config.batch
        self.watched = Watched(batch, batch.sampler or "", config.seed, prepared, kernel, config.kernel.reg)
        self.streamed = streamed(config.data_on, prepared.train)
        self.distiller = config.distiller(kernel, prepared.splits.train)
        self.checkpoints = Checkpoints(run.checkpoints)
        self.best = Checkpoints(run.best) if config.optimiser.keep == "best" else None
        self.state = self._restored(self.distiller.init(start))
        rows = run.metrics(int(self.state.step))
        run.rewrite_metrics(rows)
        self.began = time.perf_counter() - (rows[-1]["seconds"] if rows else 0)
        self.validation = prepared.model_space(prepared.splits.validation)
        self.asked_to_stop: list[int] = []

    def take(self) -> Synthetic:
        """All steps; the set at the end.

        Raises:
          Diverged, Unread, KeyboardInterrupt: as `distilling.distill`; the state is checkpointed.
        """
        config, examples = self.config, self.prepared.examples(self.streamed)
        self.progress.step(int(self.state.step), config.steps, "")
        try:
            with signals_noted() as self.asked_to_stop:
                while (step := int(self.state.step)) < config.steps:
                    self._look_around(step)
                    data = self.grouped.applied(examples).replace(loss=self._beside(self.state).loss)
                    self._run(data, self._next_stop(step))
            return self._finished(self._kept())
        except Unread as stopped:
            self.checkpoints.save(self._beside(stopped.state))
            raise
        except Diverged as diverged:
            self.checkpoints.save(self._beside(diverged.state))
            if why := self._why(diverged):
                raise Diverged(diverged.step, diverged.state, why) from diverged
            raise
        finally:
            self.checkpoints.close()
            if self.best is not None:
                self.best.close()

    def _kept(self) -> State:
        """The state whose set is handed over."""
        if self.best is None:
            return self.state
        best = self.best.restore(self._beside(self.state))
        assert best is not None, "the last step is validated"
        return best.state

    def _run(self, data: Examples, until: int) -> None:
        key = jax.random.key(self.config.seed)
        images = self.prepared.train if self.streamed else None
        self.state, _ = self.distiller.run(key, self.state, data, until, [self._record], images)

    def _look_around(self, step: int) -> None:
        """Fits the groups and looks at the losses again where it is time to."""
        grouped, config = self.grouped, self.config
        if grouped.moves and step > 0 and step % config.groups.refit_every == 0:
            grouped.fit(step, self.distiller.decode(self.state))
        if self.watched.loss is not None and step % config.batch.refresh_every == 0:
            self.watched.look(step, self._finished(self.state))

    def _next_stop(self, step: int) -> int:
        """The step before which something is to be done again, or the last one."""
        stops = [self.config.groups.refit_every] * self.grouped.moves
        stops += [self.config.batch.refresh_every] * (self.watched.loss is not None)
        return min([self.config.steps, *((step // every + 1) * every for every in stops)])

    def _record(self, state: State, info: Info) -> None:
        """Keeps the books after a dispatch; a note that the run is to stop ends it here."""
        step, taken, config = int(state.step), len(info.loss), self.config
        now = round(time.perf_counter() - self.began, 3)
        rows: list[dict] = [
            {"step": step - taken + 1 + i, "loss": float(loss), "gradient_norm": float(norm), "seconds": now}
            for i, (loss, norm) in enumerate(zip(info.loss, info.gradient_norm, strict=True))
        ]
        validated = step % config.optimiser.checkpoint_every < taken or step == config.steps
        if validated:
            rows.append({"step": step, "validation_accuracy": self._validate(state), "seconds": now})
        self.run.append_metrics(rows)
        # Before the checkpoint: whoever goes on from that has the best of all steps before it.
        if self.best is not None and validated and self.run.best_row()["step"] == step:
            self.best.save(self._beside(state))
        stopped = any_host(bool(self.asked_to_stop))
        if stopped or validated:
            self.checkpoints.save(self._beside(state))
        if stopped:
            raise KeyboardInterrupt
        self.progress.step(step, config.steps, f"loss {info.loss[-1]:.4g}")

    def _finished(self, state: State) -> Synthetic:
        """The set as it would be handed over now."""
        return with_solved_labels(self.config, self.prepared, self.kernel, self.distiller.decode(state))

    def _validate(self, state: State) -> float:
        """The accuracy of the learner that the method is about: kernel regression, or one network from scratch."""
        learner = self.config.validator(self.kernel, self.prepared)
        predict = next(learner(self._finished(state), [self.config.seed]))
        return accuracy(predict(self.validation), self.prepared.splits.validation.labels)

    def _beside(self, state: State) -> Saved:
        """All that a checkpoint holds."""
        loss, weight = (None if x is None else jnp.asarray(x) for x in (self.watched.loss, self.grouped.weight))
        return Saved(state, jnp.asarray(self.grouped.groups), jnp.asarray(self.grouped.count), loss, weight)

    def _restored(self, start: State) -> State:
        """The newest checkpoint, with the groups and losses beside it; ``start`` where there is none."""
        found = self.checkpoints.restore(self._beside(start))
        if found is None:
            return start
        self.grouped.groups, self.grouped.count = np.asarray(found.groups), int(found.number)
        self.watched.loss, self.grouped.weight = (
            None if x is None else np.asarray(x) for x in (found.loss, found.weight)
        )
        return found.state

    def _why(self, diverged: Diverged) -> str:
        """The cause, where it is the kernel of the set."""
        try:
            self.config.check_start(self.kernel, self.distiller.decode(diverged.state))
        except InputError as cause:
            return str(cause)
        return ""
