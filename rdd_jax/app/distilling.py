"""The job behind ``rdd distill``: from a configuration to a run folder."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rdd_jax.app import options, pieces, reporting, settings
from rdd_jax.app.digests import fingerprint
from rdd_jax.app.environment import environment
from rdd_jax.app.grouped import Grouped
from rdd_jax.app.hosts import check_alike
from rdd_jax.app.kip_start import distilled_start
from rdd_jax.app.methods import Method, Stepped, name_of
from rdd_jax.app.methods.networked import ByNetworks
from rdd_jax.app.reading import splits_of
from rdd_jax.app.run_folder import Run, from_anywhere
from rdd_jax.app.set_options import BY_KIP
from rdd_jax.app.sizes import check_room, check_sizes
from rdd_jax.app.stepping import Steps, with_solved_labels
from rdd_jax.augment import check_augment
from rdd_jax.contracts import Kernel
from rdd_jax.datasets.preprocess import Prepared, check_space, prepare
from rdd_jax.devices import mesh_by_name, within
from rdd_jax.errors import InputError
from rdd_jax.evaluation import evaluate_sets
from rdd_jax.files import check_new
from rdd_jax.networks.precision import at_precision
from rdd_jax.progress import SILENT, Progress, Stages, heard
from rdd_jax.saving import SavedSet
from rdd_jax.selection import IMPORTANCE, Certificate, Pool, Selection, certify, check_ipc, drawn_by
from rdd_jax.types import Examples, Splits, Synthetic

__all__ = ["Outcome", "distill"]


class Outcome(NamedTuple):
    """A finished run."""

    run: Run
    saved: SavedSet
    report: dict[str, Any]


class _Start(NamedTuple):
    """Where a run starts: the set, what it was selected from and how, and the groups."""

    synthetic: Synthetic
    pool: Pool
    selection: Selection | None
    grouped: Grouped


def distill(config: Method, out: Path, resume: bool = False, progress: Progress = SILENT) -> Outcome:
    """Runs a configuration into the folder ``out``, or takes an interrupted run there up again.

    Whenever it is stopped, resuming gives the same bytes as not having been stopped.

    Raises:
      InputError: something of the configuration or the data cannot be used; nothing was written.
      Diverged: loss or gradient not finite; the last good state is checkpointed.
      KeyboardInterrupt: on an interrupt or SIGTERM; the state is checkpointed.
    """
    config.check()
    with ExitStack() as held:
        if resume:
            held.enter_context(Run(out).locked())
        else:
            check_new(out)
            _check_folder(out)
        return _distilled(from_anywhere(config), Run(out), resume, held, progress)


def _distilled(config: Method, run: Run, resume: bool, held: ExitStack, progress: Progress) -> Outcome:
    stages = Stages(progress)
    stages.begin("reading", config.data.data)
    splits = splits_of(config.data.data, config.data, config.seed, config.data.mirror, progress, config.data_on)
    config = config.resolved(splits.train)
    check_alike("the configuration", lambda: _compared(config))
    check_alike("the data", lambda: {"data": fingerprint(splits)})
    check_alike("a version", lambda: {**environment(), "platform": ""})
    if resume:
        run.check_data(splits)
        run.check_files(config)
    _check_data(config, splits)
    if not resume:
        check_room(config, splits.train, run.folder)
    held.enter_context(at_precision(config.precision))
    stepped = isinstance(config, Stepped)
    shares = (config.drawn(splits.train.classes).batch, config.networks_of_step) if stepped else ()
    held.enter_context(within(mesh_by_name(config.mesh, *shares)))
    kernel = pieces.kernel_of(config.kernel, splits.train)
    prepared = prepare(splits, config.data.preprocess, config.data.zca_reg)
    with heard(progress):
        start = _start(config, prepared, kernel, stages)
    if not resume:
        run.create(config, environment(), splits)
        held.enter_context(run.locked())
    between = {}
    if isinstance(config, ByNetworks) and config.set.init == BY_KIP:
        fitted = distilled_start(config, run, prepared, kernel, start.synthetic, start.grouped, stages)
        start, between = start._replace(synthetic=fitted), {"after KIP": fitted}
    stages.begin("distilling")
    synthetic = _learned(config, run, prepared, kernel, start, stages)
    classes, of = splits.train.classes, config.evaluation
    recipe = pieces.found_rates(of, config.recipe(classes), synthetic, prepared, stages)
    saved = SavedSet(synthetic, prepared.fitted, prepared.class_names, recipe)
    run.save_synthetic(saved)
    stages.begin("evaluating")
    recipes = pieces.recipes_of(of, recipe)
    learners = pieces.learners_of(of, recipes, config.kernel, len(synthetic.images), prepared)
    corruptions = pieces.listed(of.corruptions)
    measured = evaluate_sets(
        synthetic, prepared, learners, of.seeds, of.baselines, corruptions, config.set.ipc, progress, between
    )
    certificate = _certificate(config, start, stages)
    measured = [*measured[0], *config.all_data()], measured[1]
    stages.begin("reporting")
    values = reporting.write_run(
        config, run, prepared, start.synthetic, saved, measured, start.grouped, certificate, stages
    )
    return Outcome(run, saved, values)


def _compared(config: Method) -> dict[str, Any]:
    """The configuration as hosts compare it: the data may lie elsewhere on each."""
    return {"method": name_of(config), **settings.to_values(options.updated(config, {"data": "digits"}))}


def _check_folder(out: Path) -> None:
    """Raises `InputError` where Orbax could not read checkpoints back."""
    if "[" in str(out.absolute()):
        raise InputError(
            f"out is {str(out.absolute())!r}: checkpoints in a folder with '[' in its name cannot be read back, give "
            "another --out"
        )


def _check_data(config: Method, splits: Splits) -> None:
    """Raises `InputError` where the options do not go with the data."""
    train = splits.train
    check_ipc(train.labels, config.set.ipc, train.class_names)
    shape = train.images.shape[1:]
    images = config.images * train.classes
    check_space(config.data.preprocess, shape)
    config.check_images(shape)
    pieces.check_learners(config.evaluation, config.recipe(train.classes), images, splits)
    config.check_data(splits)
    check_sizes(config, train)
    if isinstance(config, Stepped):
        check_augment(config.batch.augment, shape)
    pieces.check_groups(config.groups, train)


def _start(config: Method, prepared: Prepared, kernel: Kernel, stages: Stages) -> _Start:
    """The initial set and groups; the set comes first unless it is drawn from the groups."""
    strata = getattr(config.set, "init_strata", None) or "class"
    grouped = Grouped(config.groups, config.seed, prepared, config.images, config.PLAIN["grouping"] == "class")
    if strata == "group":
        stages.begin("grouping")
        grouped.fit(0)
    stages.begin("selecting")
    pool = pieces.pool_of(prepared, kernel, config.set, grouped.groups if strata == "group" else None)
    synthetic, selection = pieces.initial_set(config.set, config.images, strata, config.seed, prepared, pool)
    synthetic = config.started(synthetic)
    config.check_start(kernel, synthetic)
    if strata != "group":
        stages.begin("grouping")
        grouped.fit(0, synthetic)
    if isinstance(config, Stepped):
        _check_batch(config, prepared, grouped)
    return _Start(synthetic, pool, selection, grouped)


def _check_batch(config: Stepped, prepared: Prepared, grouped: Grouped) -> None:
    """Raises `InputError` where a batch cannot hold the groups."""
    n, classes = prepared.one_hot.shape
    sampler = pieces.sampler_of(config.drawn(classes))

    def drawn():
        # Within the trace: nothing of the size of the images is made. A sampler looks at all but them.
        bare = Examples(jnp.zeros((n, 1, 1, 1)), jnp.zeros((n, classes)), jnp.zeros(n, int), jnp.ones(n), group_count=1)
        return sampler(jax.random.key(0), grouped.applied(bare))

    jax.eval_shape(drawn)


def _learned(config: Method, run: Run, prepared: Prepared, kernel: Kernel, start: _Start, stages: Stages) -> Synthetic:
    """The set at the end."""
    if not isinstance(config, Stepped):
        return with_solved_labels(config, prepared, kernel, start.synthetic, stages.progress)
    steps = Steps(config, run, prepared, kernel, start.synthetic, start.grouped, stages.progress)
    synthetic = steps.take()
    stages.began_before(run.metrics()[-1]["seconds"])  # with those before a kill
    return synthetic


def _certificate(config: Method, start: _Start, stages: Stages) -> Certificate | None:
    """Of a start that was drawn by importance."""
    if start.selection is None or config.set.init not in IMPORTANCE:
        return None
    stages.begin("certifying")
    how = drawn_by(config.set.init, config.set.init_draw)
    with heard(stages.progress):
        return certify(start.pool, start.selection, how, seed=config.seed)
