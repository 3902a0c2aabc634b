"""The job behind ``rdd train``: networks on the real data, kept as they are after every epoch."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rdd_jax import plots
from rdd_jax.app import options, pieces, settings
from rdd_jax.app.commands import Train
from rdd_jax.app.digests import digest, fingerprint
from rdd_jax.app.environment import environment, peak_memory
from rdd_jax.app.grouped import Grouped
from rdd_jax.app.interrupting import signals_noted
from rdd_jax.app.reading import splits_of
from rdd_jax.app.reporting import described
from rdd_jax.app.sizes import check_recipes
from rdd_jax.app.snapshot_folder import SnapshotFolder
from rdd_jax.contracts import Predict
from rdd_jax.datasets.preprocess import Prepared, check_space, prepare
from rdd_jax.distill import DISPATCH, Diverged, one_blas_thread
from rdd_jax.errors import InputError
from rdd_jax.evaluation import evaluate, learner_name, metrics, prepare_test
from rdd_jax.files import locked, write_bytes, write_json
from rdd_jax.grouping import split_names
from rdd_jax.networks import Network
from rdd_jax.networks.convnet import fitting_depth
from rdd_jax.networks.precision import at_precision
from rdd_jax.networks.recipe_files import recipe_of, spelt
from rdd_jax.networks.recipes import Recipe, network_by_recipe, sizes_of
from rdd_jax.networks.training import logits
from rdd_jax.progress import SILENT, Progress, Stages, heard
from rdd_jax.snapshots import RealTraining, check_real_recipe, real_training
from rdd_jax.types import Data, Examples, Splits, Synthetic

__all__ = ["ALL_DATA", "train"]

ALL_DATA = "all data"
"""What reports call the real data, as a set that networks learn from."""

EPOCHS = 20
"""Of a training for which no recipe is given."""

SETTLED = 10
"""Real batches from whose statistics a batch norm is settled, for its accuracy."""


def train(config: Train, progress: Progress = SILENT) -> dict[str, Any]:
    """Trains networks on the real data into a folder of snapshots, or goes on with a training there.

    Returns its report, the folder as ``out``, and whether anything was ``trained``.

    What has been trained is not trained again: the same command finds the same folder, whose name holds a digest of
    the data and of all options, unless ``config.out`` says another.

    Raises:
      InputError: something that cannot be used, or a folder of another training; nothing was written.
      Diverged: the weights are not finite; the epochs before are kept.
      KeyboardInterrupt: on an interrupt or SIGTERM; the state is kept.
    """
    _check(config)
    stages = Stages(progress)
    stages.begin("reading", config.data.data)
    splits = splits_of(config.data.data, config.data, config.seed, config.data.mirror, progress)
    config, recipe = _resolved(config, splits)
    check_space(config.data.preprocess, splits.train.images.shape[1:])
    check_real_recipe(recipe, splits.train.images.shape)
    check_recipes([recipe], splits.train.images.shape[1:])
    pieces.check_groups(config.groups, splits.train)
    values, data = _values(config), fingerprint(splits)
    kept = SnapshotFolder(config.out or _folder(config, recipe, digest({**values, "data_fingerprint": data})))
    if kept.folder.exists():
        kept.check_same(values, data)
        if kept.finished:
            return {**kept.report(), "out": str(kept.folder), "trained": False}
    else:
        kept.create(values, environment(), data)
    with locked(kept.folder), at_precision(config.training.precision):
        return {**_trained(config, recipe, splits, kept, stages), "out": str(kept.folder), "trained": True}


def _check(config: Train) -> None:
    """Everything that can be wrong without looking at the data."""
    options.check(config)
    parts = split_names(config.groups.grouping or "none")
    if "none" in parts and len(parts) > 1:
        raise InputError(f"grouping is {config.groups.grouping!r}: 'none' stands alone")
    if "none" in parts:
        for name, usual in vars(Train().risk).items():
            if (value := getattr(config.risk, name)) != usual:
                raise InputError(f"{name} is {value!r}, but grouping is 'none': add one (discovered)")
    if "nearest" in parts:
        raise InputError("grouping 'nearest' looks at a synthetic set, and there is none: give discovered")


def _resolved(config: Train, splits: Splits) -> tuple[Train, Recipe]:
    """With everything that is unset spelt out, and the recipe."""
    train, own = splits.train, config.training
    published = f"{'dsa' if train.mirror else 'dsa,augment=dsa-no-flip'},epochs={EPOCHS}"
    given = own.recipe or f"{published},depth={fitting_depth(train.images.shape[1:])}"
    recipe = recipe_of(given, len(train), train.classes)
    path = Path(config.data.data)
    changes = {"recipe": spelt(recipe, len(train), train.classes), "mirror": train.mirror}
    if config.data.data != "digits" and path.exists():
        changes["data"] = str(path.absolute())
    return options.updated(config, changes), recipe


def _values(config: Train) -> dict[str, Any]:
    """All that decides the result."""
    values = settings.to_values(config)
    del values["out"]
    return values


def _folder(config: Train, recipe: Recipe, key: str) -> Path:
    shift = [config.data.shift] if config.data.shift != "none" else []
    return Path("snapshots") / "-".join([Path(config.data.data).stem, *shift, recipe.network, key[:8]])


def _trained(config: Train, recipe: Recipe, splits: Splits, kept: SnapshotFolder, stages: Stages) -> dict[str, Any]:
    """Trains what is left; the report."""
    prepared = prepare(splits, config.data.preprocess, config.data.zca_reg)
    train, examples, risk, found = splits.train, prepared.examples(), None, None
    if config.groups.grouping not in (None, "none"):
        stages.begin("grouping")
        grouped = Grouped(config.groups, config.seed, prepared, by_class=False)
        with heard(stages.progress):
            grouped.fit(0)
        examples, risk, found = grouped.applied(examples), pieces.risk_of(config.risk), grouped.described()
    stages.begin("training")
    real = real_training(recipe, len(train), train.classes, risk)
    network, steps = network_by_recipe(recipe, train.classes), _Steps(config, real, real.ready(examples), kept)
    validation = prepared.model_space(splits.validation)
    with signals_noted() as asked_to_stop:
        for epoch in steps.epochs(stages.progress, asked_to_stop):
            variables = [real.kept(one) for one in steps.trainings]
            kept.keep(epoch, variables)
            predict = [_predict(network, one, prepared, recipe, config.seed) for one in variables]
            steps.record(epoch, _measured([one(validation) for one in predict], splits.validation))
    stages.began_before(steps.rows[-1]["seconds"])  # with what was trained before a kill
    stages.begin("evaluating")
    predict = [_predict(network, real.kept(one), prepared, recipe, config.seed) for one in steps.trainings]
    evaluations = _evaluated(predict, prepared, learner_name(recipe, len(train), train.classes))
    write_bytes(kept.folder / "curves.png", plots.epochs(steps.rows))
    report = {
        "data": described(config.data.data, config.data),
        "network": {"network": recipe.network, **sizes_of(recipe)},
        "recipe": config.training.recipe,
        "epochs": steps.rows,
        "evaluations": evaluations,
        **({} if found is None else {"found_groups": found}),
        "seconds": stages.seconds,
        "peak_memory_bytes": peak_memory(),
        "device": environment()["device"],
        "config": _values(config),
        "snapshots": kept.digests(real.epochs),
    }
    write_json(kept.folder / "report.json", report)
    return report


class _Steps:
    """The steps of all trainings from where they were broken off, epoch by epoch; it keeps the books.

    Networks are trained side by side, as many at a time as this host has devices, each on one of them by itself.
    """

    def __init__(self, config: Train, real: RealTraining, examples: Examples, kept: SnapshotFolder):
        self.real, self.kept = real, kept
        own = [jax.random.fold_in(jax.random.key(config.seed), i) for i in range(config.training.networks)]
        start_keys, self.keys = zip(*map(jax.random.split, own), strict=True)
        self.step, seconds, trainings = kept.restore([real.init(key, examples) for key in start_keys])
        devices = jax.local_devices()
        self.places = [devices[i % len(devices)] for i in range(len(own))]
        self.trainings = [jax.device_put(*pair) for pair in zip(trainings, self.places, strict=True)]
        self.examples = {device: jax.device_put(examples, device) for device in set(self.places)}
        self.begun = self.step > 0 or (kept.folder / "state.npz").exists()
        self.rows = kept.rows(self.step // real.steps) if self.begun else []
        self.began = time.perf_counter() - seconds

    def epochs(self, progress: Progress, asked_to_stop: Sequence[int]) -> Iterator[int]:
        """Every epoch that is left, as it ends; 0 is the start.

        Raises:
          Diverged, KeyboardInterrupt: as `train`.
        """
        last = self.real.steps * self.real.epochs
        if not self.begun:
            yield 0
        progress.step(self.step, last, "")
        while self.step < last:
            count = min(DISPATCH, self.real.steps - self.step % self.real.steps)
            first, many = jnp.asarray(self.step), jnp.asarray(count)
            with one_blas_thread():
                for i, (key, place) in enumerate(zip(self.keys, self.places, strict=True)):
                    self.trainings[i] = self.real.advance(key, self.trainings[i], self.examples[place], first, many)
                    if (i + 1) % len(self.examples) == 0:  # one at a time on each of them
                        jax.block_until_ready(self.trainings)
                jax.block_until_ready(self.trainings)
            self.step += count
            self._check_finite()
            if self.step % self.real.steps == 0:
                yield self.step // self.real.steps
            if asked_to_stop:
                self.kept.save(self.step, self._now(), self.trainings)
                raise KeyboardInterrupt
            progress.step(self.step, last, f"validation {100 * self.rows[-1]['validation_accuracy']:.1f} %")

    def record(self, epoch: int, measured: dict[str, float]) -> None:
        """What is known after an epoch, and the state: from here on it is not trained again."""
        now = self._now()
        self.rows.append({"epoch": epoch, "seconds": now, **measured})
        self.kept.write_rows(self.rows)
        self.kept.save(self.step, now, self.trainings)

    def _now(self) -> float:
        """Seconds of training, with those before a kill."""
        return round(time.perf_counter() - self.began, 3)

    def _check_finite(self) -> None:
        weights = [training.variables for training in self.trainings]
        if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(weights)):
            raise Diverged(self.step, self.trainings, "try a lower learning_rate in the recipe")


def _measured(outputs: Sequence[np.ndarray], data: Data) -> dict[str, float]:
    """Accuracy, and that of the worst group where there are groups; the mean over networks, of their ``outputs``."""
    right = [metrics.correct(one, data.labels) for one in outputs]
    found = {"validation_accuracy": float(np.mean(right))}
    if data.groups is not None:
        cells = [metrics.cells(one, data.labels, data.groups, *data.cell_shape) for one in right]
        found["validation_worst_group"] = float(np.mean([float(metrics.worst(one)) for one in cells]))
    return found


def _predict(network: Network, variables: Any, prepared: Prepared, recipe: Recipe, seed: int) -> Predict:
    """What the network makes of images; a batch norm is settled by real images."""
    if network.settle is not None:
        batch = min(recipe.batch, len(prepared.train))
        order = np.random.default_rng(seed).permutation(len(prepared.train))[: SETTLED * batch]
        images = jnp.asarray(prepared.train[order[: len(order) // batch * batch]])
        variables = network.settle(variables, images.reshape(-1, batch, *images.shape[1:]))
    return lambda images: logits(network, variables, images)


def _evaluated(predict: Sequence[Predict], prepared: Prepared, name: str) -> list[dict[str, Any]]:
    """The rows of a report, on test; a network takes the place of a seed."""

    def learn(synthetic: Synthetic, seeds: Sequence[int]) -> Iterator[Predict]:
        yield from (predict[number] for number in seeds)

    stands_for = Synthetic(jnp.asarray(prepared.train[:1]), jnp.asarray(prepared.one_hot[:1]))
    measured = evaluate(ALL_DATA, dict.fromkeys(range(len(predict)), stands_for), name, learn, prepare_test(prepared))
    return [evaluation.to_dict() for evaluation in measured.evaluations]
