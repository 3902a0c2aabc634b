"""The jobs behind the commands: from a configuration to a run folder, an evaluation, a picture."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rdd_jax import data as data_sets
from rdd_jax import initialise, krr, objectives, plots, preprocess, report, runs
from rdd_jax.augment import augment_by_name, check_augment
from rdd_jax.checkpoint import Checkpoints
from rdd_jax.config import Distill, Evaluate
from rdd_jax.distill import Distiller, Diverged, State, make_distiller
from rdd_jax.environment import environment, peak_memory
from rdd_jax.errors import InputError, at_least, unknown
from rdd_jax.evaluate import LEARNERS, Evaluation, evaluate_sets
from rdd_jax.kernels import kernel_by_name
from rdd_jax.metrics import accuracy
from rdd_jax.networks import NETWORKS, network_by_name
from rdd_jax.parameterise import pixels
from rdd_jax.preprocess import Prepared, prepare
from rdd_jax.sampling import sampler_by_name
from rdd_jax.selection import check_ipc
from rdd_jax.types import Data, Kernel, Splits, Synthetic, centred_one_hot

METHODS = ("kip", "label-solve")
LABELS = ("fixed", "learned", "solved")
SCHEDULES: dict[str, Callable[[float, int], optax.ScalarOrSchedule]] = {
    "constant": lambda rate, steps: rate,
    "cosine": lambda rate, steps: optax.cosine_decay_schedule(rate, max(steps, 1)),
}


class Progress(NamedTuple):
    """What a job tells while it runs; the command line draws it."""

    stage: Callable[[str], None]
    step: Callable[[int, int, float], None]
    """``step(step, steps, loss)``."""


SILENT = Progress(lambda name: None, lambda step, steps, loss: None)


# --- distilling --------------------------------------------------------------------------------------


def check_names(config: Distill) -> None:
    """Everything of a configuration that can be wrong without looking at the data; raises `InputError`."""
    for what, value, options in (
        ("method", config.method, METHODS),
        ("labels", config.labels, LABELS),
        ("schedule", config.schedule, SCHEDULES),
        ("init", config.init, initialise.INITIALISERS),
        ("preprocess", config.preprocess, preprocess.NAMES),
    ):
        if value not in options:
            raise unknown(what, value, options)
    kernel_by_name(config.kernel, config.depth)
    sampler_by_name(config.sampler, config.batch)
    augment_by_name(config.augment)
    check_learners(config.learners, config.seeds)
    for what in ("ipc", "steps", "checkpoint_every"):
        at_least(what, getattr(config, what), 1)
    for what in ("reg", "label_reg", "zca_reg", "lr"):
        if not 0 < getattr(config, what) < float("inf"):
            raise InputError(f"{what} is {getattr(config, what)}: it must be a positive number")


def check_learners(names: str, seeds: int) -> list[str]:
    """The learners of a comma-separated list; raises `InputError` on an unknown one or ``seeds < 1``."""
    at_least("seeds", seeds, 1)
    learners = [name.strip() for name in names.split(",")]
    for name in learners:
        if name not in LEARNERS:
            raise unknown("learner", name, LEARNERS)
    return learners


def distiller_of(config: Distill, kernel: Kernel) -> Distiller:
    """The distiller that a configuration names."""
    if config.labels == "solved":
        objective = objectives.kip_solved(kernel, config.reg, config.label_reg)
    else:
        objective = objectives.kip(kernel, config.reg)
    return make_distiller(
        objective,
        sampler=sampler_by_name(config.sampler, config.batch),
        optimizer=optax.adam(SCHEDULES[config.schedule](config.lr, config.steps)),
        parameterisation=pixels(learn_labels=config.labels == "learned"),
        augment=augment_by_name(config.augment),
    )


def initial_set(config: Distill, prepared: Prepared) -> Synthetic:
    """The synthetic set before the first step."""
    labels = prepared.splits.train.labels
    images = initialise.initialiser_by_name(config.init)(config.seed, prepared.train, labels, config.ipc)
    codes = np.repeat(np.arange(len(prepared.class_names)), config.ipc)
    return Synthetic(jnp.asarray(images), centred_one_hot(codes, len(prepared.class_names)))


class Outcome(NamedTuple):
    """A finished run."""

    run: runs.Run
    saved: runs.SavedSet
    report: dict[str, Any]


def distil(config: Distill, out: Path, resume: bool = False, progress: Progress = SILENT) -> Outcome:
    """Runs a configuration into the folder ``out``, or takes an interrupted run there up again.

    Whenever it is stopped, resuming gives the same bytes as not having been stopped.

    Raises:
      InputError: something of the configuration or the data cannot be used; nothing was written.
      Diverged: loss or gradient not finite; the last good state is checkpointed.
      KeyboardInterrupt: on an interrupt or SIGTERM; the state is checkpointed.
    """
    check_names(config)
    run = runs.Run(out)
    if not resume:
        runs.check_new(out)
    progress.stage(f"reading {config.data}")
    splits = data_sets.load(config.data, config.seed)
    check_ipc(splits.train.labels, config.ipc, splits.train.class_names)
    _check_shapes(config, splits)
    prepared = prepare(splits, config.preprocess, config.zca_reg)
    kernel = kernel_by_name(config.kernel, config.depth)
    initial = initial_set(config, prepared)
    krr.check_positive_definite(kernel, initial.images, config.reg)
    if resume:
        run.check_data(splits)
    else:
        run.create(config, environment(), splits)
    progress.stage("distilling")
    start = time.perf_counter()
    if config.method == "kip":
        synthetic = _optimise(config, run, prepared, kernel, initial, progress)
        seconds = run.metrics()[-1]["seconds"]
    else:
        synthetic = _with_solved_labels(config, prepared, kernel, initial)
        seconds = time.perf_counter() - start
    saved = runs.SavedSet(synthetic, prepared.fitted, prepared.class_names)
    run.save_synthetic(saved)
    progress.stage("evaluating")
    learners = check_learners(config.learners, config.seeds)
    evaluations = evaluate_sets(synthetic, prepared, kernel, config.reg, learners, config.seeds)
    return Outcome(run, saved, _write_report(config, run, prepared, initial, saved, evaluations, seconds))


def _check_shapes(config: Distill, splits: Splits) -> None:
    shape = splits.train.images.shape[1:]
    check_augment(config.augment, shape)
    for name in check_learners(config.learners, config.seeds):
        if name in NETWORKS and min(shape[:2]) < network_by_name(name, splits.train.classes).smallest:
            raise InputError(f"images of {shape[:2]} are too small for learner {name!r}")


def _with_solved_labels(config: Distill, prepared: Prepared, kernel: Kernel, synthetic: Synthetic) -> Synthetic:
    labels = krr.label_solve(kernel, synthetic.images, prepared.train, prepared.one_hot, config.reg, config.label_reg)
    return synthetic._replace(labels=labels)


def _optimise(
    config: Distill, run: runs.Run, prepared: Prepared, kernel: Kernel, initial: Synthetic, progress: Progress
) -> Synthetic:
    distiller = distiller_of(config, kernel)
    checkpoints = Checkpoints(run.checkpoints)
    state = checkpoints.restore(distiller.init(initial)) or distiller.init(initial)
    # Rows after the checkpoint belong to steps that are about to be taken again.
    rows = [row for row in run.metrics() if row["step"] <= int(state.step)]
    run.rewrite_metrics(rows)
    start = time.perf_counter() - (rows[-1]["seconds"] if rows else 0)
    validation = prepared.model_space(prepared.splits.validation)

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
            checkpoints.save(state)
        if asked_to_stop:
            raise KeyboardInterrupt
        progress.step(step, config.steps, float(losses[-1]))

    try:
        with _signals_noted() as asked_to_stop:
            state, _ = distiller.run(jax.random.key(config.seed), state, prepared.examples(), config.steps, record)
    except Diverged as diverged:
        checkpoints.save(diverged.state)
        try:
            krr.check_positive_definite(kernel, distiller.decode(diverged.state).images, config.reg)
        except InputError as cause:
            raise Diverged(diverged.step, diverged.state, str(cause)) from diverged
        raise
    finally:
        checkpoints.close()
    synthetic = distiller.decode(state)
    return _with_solved_labels(config, prepared, kernel, synthetic) if config.labels == "solved" else synthetic


def _validate(config: Distill, prepared: Prepared, kernel: Kernel, synthetic: Synthetic, images: np.ndarray) -> float:
    if config.labels == "solved":
        synthetic = _with_solved_labels(config, prepared, kernel, synthetic)
    return accuracy(krr.fit(kernel, synthetic, config.reg)(images), prepared.splits.validation.labels)


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


# --- reporting ---------------------------------------------------------------------------------------


def _write_report(
    config: Distill,
    run: runs.Run,
    prepared: Prepared,
    initial: Synthetic,
    saved: runs.SavedSet,
    evaluations: list[Evaluation],
    seconds: float,
) -> dict[str, Any]:
    labels = np.repeat(np.arange(len(prepared.class_names)), config.ipc)
    images = {
        f"start ({config.init})": prepared.fitted.invert(np.asarray(initial.images)),
        "distilled": prepared.fitted.invert(np.asarray(saved.synthetic.images)),
    }
    pictures = {"images": plots.image_grids(images, labels, prepared.class_names)}
    if config.method == "kip":
        pictures["curves"] = plots.curves(run.metrics())
    for name, png in pictures.items():
        (run.folder / f"{name}.png").write_bytes(png)
    values = {
        "data": config.data,
        "method": config.method,
        "ipc": config.ipc,
        "steps": config.steps if config.method == "kip" else 0,
        "seconds": round(seconds, 3),
        "peak_memory_bytes": peak_memory(),
        "device": environment()["device"],
        "evaluations": [evaluation.to_dict() for evaluation in evaluations],
        "notes": _notes(config),
    }
    runs.write_text(
        run.folder / "report.html",
        report.render_html(values, (run.folder / "config.json").read_text(), pictures),
    )
    runs.write_json(run.folder / "report.json", values)
    return values


def _notes(config: Distill) -> list[str]:
    kind = "solved" if config.method == "label-solve" else config.labels
    if kind == "fixed":
        return []
    return [
        f"The labels of the synthetic set were {kind}; the baselines keep one-hot labels. "
        "Finite networks are trained on the largest entry of each label."
    ]


# --- evaluating --------------------------------------------------------------------------------------


def evaluate_job(config: Evaluate, progress: Progress = SILENT) -> dict[str, Any]:
    """Evaluates a run folder or an ``.npz`` made elsewhere; the report, written to ``config.out`` where given.

    Raises:
      InputError: see `runs.foreign_set`; or no ``data`` where the source is no run folder.
    """
    learners = check_learners(config.learners, config.seeds)
    if config.out is not None:
        runs.check_new(Path(config.out))
    of_run = _run_config(config)
    base = of_run or Distill(seed=config.seed)
    kernel = kernel_by_name(config.kernel or base.kernel, base.depth if config.depth is None else config.depth)
    reg = base.reg if config.reg is None else config.reg
    if not reg > 0:
        raise InputError(f"reg is {reg}: it must be a positive number")
    data = config.data or base.data
    progress.stage(f"reading {data}")
    splits = data_sets.load(data, base.seed)
    synthetic, prepared = _subject(config, splits)
    _check_shapes(replace(base, learners=config.learners, augment="none"), splits)
    progress.stage("evaluating")
    start = time.perf_counter()
    evaluations = evaluate_sets(synthetic, prepared, kernel, reg, learners, config.seeds, config.baselines)
    values = {
        "source": config.source,
        "data": data,
        "method": of_run.method if of_run else "made elsewhere",
        "ipc": max(1, len(synthetic.images) // splits.train.classes),
        "steps": of_run.steps if of_run and of_run.method == "kip" else 0,
        "seconds": round(time.perf_counter() - start, 3),
        "peak_memory_bytes": peak_memory(),
        "device": environment()["device"],
        "evaluations": [evaluation.to_dict() for evaluation in evaluations],
        "notes": _notes(of_run) if of_run else [],
    }
    if config.out is not None:
        Path(config.out).parent.mkdir(parents=True, exist_ok=True)
        runs.write_json(Path(config.out), values)
    return values


def _run_config(config: Evaluate) -> Distill | None:
    """The configuration of the run folder that is to be evaluated; None for an ``.npz``."""
    source = Path(config.source)
    if source.is_dir():
        return runs.Run(source).config()
    if source.suffix != ".npz":
        raise InputError(f"{config.source!r} is neither a run folder nor an .npz file")
    if config.data is None:
        raise InputError("--data is missing: an .npz does not say which real data to test on")
    return None


def _subject(config: Evaluate, splits: Splits) -> tuple[Synthetic, Prepared]:
    """The set to evaluate, and the real data in the space that it lives in."""
    source, shape, classes = Path(config.source), splits.train.images.shape[1:], splits.train.classes
    if not source.is_dir():
        prepared = prepare(splits, config.preprocess, config.zca_reg)
        return runs.foreign_set(source, shape, classes, config.space, prepared.fitted), prepared
    saved = runs.load_synthetic(source / "synthetic.npz")
    synthetic = saved.synthetic
    if synthetic.images.shape[1:] != shape or synthetic.labels.shape[1] != classes:
        raise InputError(
            f"the set has images of {synthetic.images.shape[1:]} and {synthetic.labels.shape[1]} classes, the data "
            f"{shape} and {classes}: evaluate it on the data it was made from"
        )
    return synthetic, prepare(splits, saved.preprocess.kind, fitted=saved.preprocess)


# --- showing -----------------------------------------------------------------------------------------


def describe(name: str) -> tuple[Splits, list[list[str]]]:
    """The splits of a data set and a table of its counts: a class (and group) a row, a split a column."""
    splits = data_sets.load(name)
    parts: Mapping[str, Data] = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    rows = [["all", *(str(len(part)) for part in parts.values())]]
    for c, class_name in enumerate(splits.train.class_names):
        rows.append([f"class {class_name}", *(str(np.sum(part.labels == c)) for part in parts.values())])
    for g, group_name in enumerate(splits.train.group_names):
        counts = ("-" if part.groups is None else str(np.sum(part.groups == g)) for part in parts.values())
        rows.append([f"group {group_name}", *counts])
    return splits, rows
