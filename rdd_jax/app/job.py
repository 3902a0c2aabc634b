"""The jobs behind the commands: from a configuration to a run folder, an evaluation, a picture."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rdd_jax import plots
from rdd_jax.app import build, report, runs
from rdd_jax.app.config import Compare, Distill, Evaluate, Show, epochs_of
from rdd_jax.app.environment import environment, peak_memory
from rdd_jax.app.optimise import SILENT, Grouped, Progress, optimise, with_solved_labels
from rdd_jax.augment import check_augment
from rdd_jax.datasets import shifts
from rdd_jax.datasets.corruptions import corrupt
from rdd_jax.datasets.preprocess import Prepared, prepare
from rdd_jax.errors import InputError
from rdd_jax.evaluation import Evaluation, evaluate_sets
from rdd_jax.evaluation.metrics import Cells
from rdd_jax.kernels import kernel_by_name, krr
from rdd_jax.networks import NETWORKS, check_images
from rdd_jax.parameterise import check_factor
from rdd_jax.selection import IMPORTANCE, Certificate, certify, check_ipc, drawn_by
from rdd_jax.types import Data, Splits, Synthetic, as_pixels

Tables = Mapping[tuple[str, str], Cells]
"""The cells of every (set, learner)."""


# --- distilling --------------------------------------------------------------------------------------


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
    config = config.resolved()
    build.check_names(config)
    run = runs.Run(out)
    if not resume:
        runs.check_new(out)
    progress.stage(f"reading {config.data}")
    splits = build.splits_of(config.data, config.shift, config.bias, config.share, config.seed)
    check_ipc(splits.train.labels, config.ipc, splits.train.class_names)
    _check_shapes(config, splits)
    prepared = prepare(splits, config.preprocess, config.zca_reg)
    kernel = kernel_by_name(config.kernel, config.depth)
    grouped = Grouped(config, prepared)
    of_groups = config.init_strata == "group"
    if of_groups:
        progress.stage("grouping")
        grouped.fit(0)
    progress.stage("selecting")
    pool = build.pool_of(prepared, kernel, config, grouped.groups if of_groups else None)
    initial, selected = build.initial_set(config, prepared, pool)
    if not config.by_networks:
        krr.check_positive_definite(kernel, initial.images, config.reg)
    if not of_groups:
        progress.stage("grouping")
        grouped.fit(0, initial)
    build.sampler_of(config, grouped.count)  # raises where a batch cannot hold the groups
    if resume:
        run.check_data(splits)
    else:
        run.create(config, environment(), splits)
    progress.stage("distilling")
    start = time.perf_counter()
    if config.method != "label-solve":
        synthetic = optimise(config, run, prepared, kernel, initial, grouped, progress)
        seconds = run.metrics()[-1]["seconds"]
    else:
        synthetic = with_solved_labels(config, prepared, kernel, initial)
        seconds = time.perf_counter() - start
    saved = runs.SavedSet(synthetic, prepared.fitted, prepared.class_names)
    run.save_synthetic(saved)
    progress.stage("evaluating")
    learners = build.learners_of(config, kernel, config.reg, splits.train.classes)
    corruptions = build.corruption_names(config.corruptions)
    measured = evaluate_sets(synthetic, prepared, learners, config.seeds, config.baselines, corruptions, ipc=config.ipc)
    certificate = None
    if selected is not None and config.init in IMPORTANCE:
        progress.stage("certifying")
        certificate = certify(pool, selected, drawn_by(config.init, config.init_draw), seed=config.seed)
    values = _write_report(config, run, prepared, initial, saved, measured, grouped, certificate, seconds)
    return Outcome(run, saved, values)


def _check_shapes(config: Distill | Evaluate, splits: Splits) -> None:
    shape = splits.train.images.shape[1:]
    for name in build.learner_names(config.learners, config.seeds):
        if name in NETWORKS:
            check_images(build.network_of(config, name, splits.train.classes), shape, f"learner {name!r}")
    check_augment(config.eval_augment, shape)
    for name in build.corruption_names(config.corruptions):
        corrupt(name, 0, splits.test.images[:1])  # raises where it cannot take such images
    if isinstance(config, Evaluate):
        return
    check_augment(config.augment, shape)
    if config.by_networks:
        network = build.network_of(config, config.network, splits.train.classes)
        check_images(network, shape, f"network {config.network!r}")
    if config.parameterisation == "multi-formation":
        check_factor(config.factor, shape)
    counts = np.bincount(splits.train.labels, minlength=splits.train.classes)
    if "kmeans" in config.grouping.split("+") and counts.min() < config.groups_per_class:
        name = splits.train.class_names[counts.argmin()]
        raise InputError(
            f"groups_per_class is {config.groups_per_class}, but class {name!r} has {counts.min()} training examples: "
            "lower it"
        )


# --- reporting ---------------------------------------------------------------------------------------


def _write_report(
    config: Distill,
    run: runs.Run,
    prepared: Prepared,
    initial: Synthetic,
    saved: runs.SavedSet,
    measured: tuple[Sequence[Evaluation], Tables],
    grouped: Grouped,
    certificate: Certificate | None,
    seconds: float,
) -> dict[str, Any]:
    labels = np.repeat(np.arange(len(prepared.class_names)), config.ipc * build.formed(config))
    images = {
        f"start ({config.init})": prepared.fitted.invert(np.asarray(initial.images)),
        "distilled": prepared.fitted.invert(np.asarray(saved.synthetic.images)),
    }
    pictures = {"images": plots.image_grids(images, labels, prepared.class_names)}
    if config.method != "label-solve":
        pictures["curves"] = plots.curves(run.metrics())
    values = {
        "data": shifts.described(config.data, config.shift, config.bias, config.share),
        "method": config.method + (" (robust)" if config.robust else ""),
        "ipc": config.ipc,
        "steps": 0 if config.method == "label-solve" else config.steps,
        "seconds": round(seconds, 3),
        **_measured(prepared.splits, *measured),
        "notes": _notes(config),
    }
    if certificate is not None:
        values["certificate"] = asdict(certificate)
    if found := grouped.described():
        values["found_groups"] = found
        pictures["groups"] = _group_picture(grouped.groups, prepared.splits.train)
    if "subgroups" in values:
        pictures["subgroups"] = _subgroup_picture(values["subgroups"], ("synthetic", "random"))
    for name, png in pictures.items():
        (run.folder / f"{name}.png").write_bytes(png)
    runs.write_text(
        run.folder / "report.html",
        report.render_html(values, (run.folder / "config.json").read_text(), pictures),
    )
    runs.write_json(run.folder / "report.json", values)
    return values


def _group_picture(groups: np.ndarray, train: Data, columns: int = 4, most: int = 5) -> bytes:
    """Training images of the largest groups of every class, the largest group first; white where there is none."""
    by_size = []
    for c in range(train.classes):
        codes, counts = np.unique(groups[train.labels == c], return_counts=True)
        by_size.append(codes[np.argsort(-counts, kind="stable")][:most])
    sets = {}
    for j in range(max(map(len, by_size))):
        shown = np.ones((train.classes, columns, *train.images.shape[1:]), np.float32)
        for c, codes in enumerate(by_size):
            if j < len(codes):
                members = np.flatnonzero(groups == codes[j])[:columns]
                shown[c, : len(members)] = as_pixels(train.images[members])
        sets[f"group {j + 1}"] = shown.reshape(-1, *train.images.shape[1:])
    return plots.image_grids(sets, np.repeat(np.arange(train.classes), columns), train.class_names)


def _measured(splits: Splits, evaluations: Sequence[Evaluation], tables: Tables) -> dict[str, Any]:
    """What every report says of an evaluation; the table of subgroups where the data has groups."""
    values: dict[str, Any] = {
        "peak_memory_bytes": peak_memory(),
        "device": environment()["device"],
        "evaluations": [evaluation.to_dict() for evaluation in evaluations],
    }
    train, test = splits.train, splits.test
    if test.groups is not None:
        correct: dict[str, dict] = {}
        for (name, learner), table in tables.items():
            correct.setdefault(learner, {})[name] = {"correct": table.correct.tolist(), "count": table.count.tolist()}
        values["subgroups"] = {
            "class_names": list(test.class_names),
            "group_names": list(test.group_names),
            "train_count": None if train.groups is None else train.cell_counts.tolist(),
            "test_count": test.cell_counts.tolist(),
            "predictions": correct,
        }
    return values


def _subgroup_picture(subgroups: Mapping[str, Any], names: Sequence[str]) -> bytes:
    """Heat maps of some sets under the first learner."""
    tables = next(iter(subgroups["predictions"].values()))
    shown = {name: _table(tables[name]) for name in names if name in tables}
    return plots.before_after(shown, subgroups["class_names"], subgroups["group_names"])


def _table(values: Mapping[str, Any]) -> Cells:
    return Cells(np.array(values["correct"]), np.array(values["count"]))


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
    build.learner_names(config.learners, config.seeds)
    if config.out is not None:
        runs.check_new(Path(config.out))
    of_run = _run_config(config)
    config = _with_recipe(config, of_run)
    build.recipe_of(config)
    base = of_run or Distill(seed=config.seed)
    kernel = kernel_by_name(config.kernel or base.kernel, base.depth if config.depth is None else config.depth)
    reg = base.reg if config.reg is None else config.reg
    if not reg > 0:
        raise InputError(f"reg is {reg}: it must be a positive number")
    corruptions = build.corruption_names(config.corruptions)
    data, shift = config.data or base.data, config.shift or base.shift
    bias = base.bias if config.bias is None else config.bias
    share = base.share if config.share is None else config.share
    progress.stage(f"reading {data}")
    splits = build.splits_of(data, shift, bias, share, base.seed)
    synthetic, prepared = _subject(config, splits)
    _check_shapes(config, splits)
    progress.stage("evaluating")
    start = time.perf_counter()
    learners = build.learners_of(config, kernel, reg, splits.train.classes)
    measured = evaluate_sets(synthetic, prepared, learners, config.seeds, config.baselines, corruptions)
    values = {
        "source": config.source,
        "data": shifts.described(data, shift, bias, share),
        "method": of_run.method if of_run else "made elsewhere",
        "ipc": max(1, len(synthetic.images) // splits.train.classes),
        "steps": of_run.steps if of_run and of_run.method != "label-solve" else 0,
        "eval_epochs": config.eval_epochs,
        "eval_augment": config.eval_augment,
        "seconds": round(time.perf_counter() - start, 3),
        **_measured(splits, *measured),
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
    runs.check_source(source)
    if config.data is None:
        raise InputError("--data is missing: an .npz does not say which real data to test on")
    return None


def _with_recipe(config: Evaluate, of_run: Distill | None) -> Evaluate:
    """What is not given about the training of networks is the run's own."""
    own = of_run or Distill(eval_augment="none")
    augment = own.eval_augment if config.eval_augment == "auto" else config.eval_augment
    epochs = own.eval_epochs if augment == own.eval_augment else 0
    found = replace(config, eval_augment=augment, eval_epochs=config.eval_epochs or epochs)
    return replace(found, eval_epochs=epochs_of(found))


def _subject(config: Evaluate, splits: Splits) -> tuple[Synthetic, Prepared]:
    """The set to evaluate, and the real data in the space that it lives in."""
    source, shape, classes = Path(config.source), splits.train.images.shape[1:], splits.train.classes
    if not source.is_dir():
        prepared = prepare(splits, config.preprocess, config.zca_reg)
        return runs.foreign_set(source, shape, classes, config.space, prepared.fitted), prepared
    saved = runs.set_of_run(source, shape, classes, "evaluate it on the data it was made from")
    return saved.synthetic, prepare(splits, saved.preprocess.kind, fitted=saved.preprocess)


# --- comparing and showing ---------------------------------------------------------------------------


def compare_job(config: Compare) -> tuple[list[str], list[list[str]], bool]:
    """A table of finished runs, a run a row, and whether a picture of subgroups was made: where the data has groups.

    Raises:
      InputError: fewer than two runs, a folder without a report, runs on different data.
    """
    if (count := len(set(config.runs))) < 2:
        raise InputError(f"compare needs two different runs or more, not {count}: rdd compare runs/A runs/B")
    names = _distinct(config.runs)
    reports = {name: runs.Run(Path(folder)).report() for name, folder in zip(names, config.runs, strict=True)}
    kinds = {values["data"] for values in reports.values()}
    if len(kinds) > 1:
        raise InputError(f"the runs are on different data ({'; '.join(sorted(kinds))}): compare runs on the same")
    lines = [
        {**evaluation, "set": name}
        for name, values in reports.items()
        for evaluation in values["evaluations"]
        if evaluation["set"] == "synthetic"
    ]
    pictured = all("subgroups" in values for values in reports.values())
    if pictured:
        first = next(iter(reports.values()))["subgroups"]
        tables = {
            folder: _table(next(iter(values["subgroups"]["predictions"].values()))["synthetic"])
            for folder, values in reports.items()
        }
        png = plots.before_after(tables, first["class_names"], first["group_names"])
        Path(config.out).parent.mkdir(parents=True, exist_ok=True)
        Path(config.out).write_bytes(png)
    return *report.table_rows(lines, short=True), pictured


def _distinct(folders: Sequence[str]) -> list[str]:
    """The folders without the parts that all of them begin or end with; as they are where one has no other."""
    parts = [Path(folder).parts for folder in folders]
    columns = list(zip(*parts, strict=False))
    first = next((i for i, column in enumerate(columns) if len(set(column)) > 1), len(columns))
    backwards = list(zip(*(p[: first - 1 if first else None : -1] for p in parts), strict=False))
    last = next((i for i, column in enumerate(backwards) if len(set(column)) > 1), len(backwards))
    names = ["/".join(p[first : len(p) - last]) for p in parts]
    return names if all(names) and len(set(names)) == len(names) else list(folders)


def describe(config: Show) -> tuple[Splits, list[list[str]]]:
    """The splits of a data set and a table of its counts: a class (and group) a row, a split a column.

    Raises:
      InputError: the data or shift cannot be had.
    """
    splits = build.splits_of(config.name, config.shift, config.bias, config.share, config.seed)
    parts: Mapping[str, Data] = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    rows = [["all", *(str(len(part)) for part in parts.values())]]
    for c, class_name in enumerate(splits.train.class_names):
        rows.append([f"class {class_name}", *(str(np.sum(part.labels == c)) for part in parts.values())])
    for g, group_name in enumerate(splits.train.group_names):
        counts = ("-" if part.groups is None else str(np.sum(part.groups == g)) for part in parts.values())
        rows.append([f"group {group_name}", *counts])
    return splits, rows
