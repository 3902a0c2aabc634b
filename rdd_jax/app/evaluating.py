"""The job behind ``rdd evaluate``: a run folder, or a set made elsewhere."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rdd_jax.app import options, pieces
from rdd_jax.app.commands import Evaluate
from rdd_jax.app.digests import fingerprint
from rdd_jax.app.methods import Method, name_of
from rdd_jax.app.reading import splits_of
from rdd_jax.app.reporting import described, measured_values, notes
from rdd_jax.app.run_folder import Run
from rdd_jax.app.sections import EvaluationOptions, PrecisionOptions, RegressionOptions
from rdd_jax.app.sizes import check_recipes
from rdd_jax.datasets.preprocess import Prepared, prepare
from rdd_jax.devices import AUTO
from rdd_jax.errors import InputError
from rdd_jax.evaluation import evaluate_sets
from rdd_jax.files import check_new
from rdd_jax.networks.convnet import fitting_depth
from rdd_jax.networks.precision import at_precision
from rdd_jax.networks.recipe_files import carried, recipe_of, spelt
from rdd_jax.networks.recipes import Recipe, network_by_recipe
from rdd_jax.progress import SILENT, Progress, Stages
from rdd_jax.saving import SavedSet, check_source, foreign_set, set_of_run
from rdd_jax.types import Data, Splits

__all__ = ["OF_DATA", "column", "evaluate", "of_run"]


def of_run(source: str) -> Evaluate:
    """The evaluation that a run made of itself; for an ``.npz`` the plain one.

    Raises:
      InputError: neither of the two.
    """
    path = Path(source)
    if not path.is_dir():
        check_source(path)
        return Evaluate(source)
    own = Run(path).config()
    return Evaluate(
        source,
        seed=own.seed,
        data=own.data,
        kernel=options.narrowed(RegressionOptions, own.kernel),
        # Its recipe, with the rates that were found, is what the set carries.
        evaluation=replace(options.narrowed(EvaluationOptions, own.evaluation), recipe=None, find_rates=False),
        networks=PrecisionOptions(own.precision),
    )


OF_DATA = frozenset({"data", "groups_from", "shift", "bias", "share", "seed"})
"""The options that say which real data, and not that of the run, a run is evaluated on."""


def evaluate(config: Evaluate, progress: Progress = SILENT, elsewhere: Collection[str] = ()) -> dict[str, Any]:
    """Evaluates a run folder or an ``.npz`` made elsewhere; the report, to be written to ``config.out``.

    Networks are trained by the recipe that is given, else by the one that the set carries, else by DC's; beside any
    other stands DC's ConvNet (`column`).

    Args:
      elsewhere: those of `OF_DATA` that the user gave; without any, the data must be what the run was started with.

    Raises:
      InputError: see `saving.foreign_set`; other data than the run's that nobody asked for, or with other classes.
    """
    options.check(config)
    of = config.evaluation
    if of.recipe is not None and pieces.listed(of.learners) == ["krr"]:
        raise InputError(f"recipe is {of.recipe!r}, but learners is 'krr', which has none: add a network (convnet)")
    if config.out is not None:
        check_new(config.out)
    folder = Run(Path(config.source)) if Path(config.source).is_dir() else None
    run = None if folder is None else folder.config()
    stages = Stages(progress)
    stages.begin("reading", config.data.data)
    splits = splits_of(config.data.data, config.data, config.seed, config.data.mirror, progress, AUTO)
    other = folder is not None and _is_other(folder, splits, elsewhere)
    saved, prepared = _subject(config, splits)
    synthetic, images, classes = saved.synthetic, len(saved.synthetic.images), splits.train.classes
    recipe = saved.recipe if of.recipe is None else recipe_of(of.recipe, images, classes)
    if of.learners is None:
        of = replace(of, learners="krr" if recipe is None else recipe.network)
    recipe = recipe or column(splits.train)
    pieces.check_learners(of, recipe, images, splits)
    check_recipes(pieces.recipes_of(of, recipe), splits.train.images.shape[1:])
    ipc = None if run is None else run.set.ipc
    with at_precision(config.networks.precision):
        recipe = pieces.found_rates(of, recipe, synthetic, prepared, stages)
        recipes = pieces.recipes_of(of, recipe)
        recipes += _beside(recipes, splits.train)
        learners = pieces.learners_of(of, recipes, config.kernel, images, prepared)
        stages.begin("evaluating")
        measured = evaluate_sets(
            synthetic, prepared, learners, of.seeds, of.baselines, pieces.listed(of.corruptions), ipc, progress
        )
    kind = "fixed" if run is None else run.label_kind
    return {
        "source": config.source,
        "data": described(config.data.data, config.data),
        **_made(run, images // classes),
        "recipe": spelt(recipe, images, classes),
        "precision": config.networks.precision,
        "seconds": stages.seconds,
        **measured_values(prepared, synthetic, *measured),
        "notes": [*notes(kind, synthetic, recipes), *[OTHER] * other],
    }


OTHER = "The real data is not that of the run."


def _is_other(run: Run, splits: Splits, elsewhere: Collection[str]) -> bool:
    """Whether the data is not what the run was started with; raises `InputError` where nobody asked for other."""
    if run.data_fingerprint == fingerprint(splits):
        return False
    if not elsewhere:
        run.check_data(splits, "bring the old data back, or say --data to evaluate on other data")
    return True


def _made(run: Method | None, images: int) -> dict[str, Any]:
    """How the set was made."""
    if run is None:
        return {"method": "made elsewhere", "ipc": max(1, images), "steps": 0}
    return {"method": name_of(run), "ipc": run.set.ipc, "steps": run.steps}


def column(train: Data) -> Recipe:
    """DC's, of a ConvNet-128 in the depth that goes with the images: the column that every table of the field has."""
    return Recipe(depth=fitting_depth(train.images.shape[1:]))


def _beside(recipes: Sequence[Recipe], train: Data) -> list[Recipe]:
    """`column`, where networks learn by other recipes and the images are large enough for it; else nothing."""
    beside = column(train)
    other = [recipe for recipe in recipes if replace(recipe, network=beside.network) != beside]
    small = min(train.images.shape[1:3]) < network_by_recipe(beside, train.classes).smallest
    return [] if not other or small or beside in recipes else [beside]


def _subject(config: Evaluate, splits: Splits) -> tuple[SavedSet, Prepared]:
    """The set to evaluate, with what it carries, and the real data in the space that it lives in."""
    source, shape, classes = Path(config.source), splits.train.images.shape[1:], splits.train.classes
    if not source.is_dir():
        prepared = prepare(splits, config.data.preprocess, config.data.zca_reg)
        synthetic = foreign_set(source, shape, classes, config.space, prepared.fitted)
        return SavedSet(synthetic, prepared.fitted, prepared.class_names, carried(source)), prepared
    saved = set_of_run(source, shape, classes, "evaluate it on the data it was made from")
    if saved.class_names != (names := splits.train.class_names):
        raise InputError(
            f"the set has classes {', '.join(saved.class_names)}, the data {', '.join(names)}: evaluate it on data "
            "with the same classes, in the same order"
        )
    return saved, prepare(splits, saved.preprocess.kind, fitted=saved.preprocess)
