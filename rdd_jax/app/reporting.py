"""What a run or an evaluation says in the end: the values of its report, the pictures, the files."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from rdd_jax import plots
from rdd_jax.app import report
from rdd_jax.app.environment import environment, peak_memory
from rdd_jax.app.grouped import Grouped
from rdd_jax.app.kip_start import first_run
from rdd_jax.app.methods import Method, Stepped, name_of
from rdd_jax.app.methods.networked import ByNetworks
from rdd_jax.app.run_folder import Run
from rdd_jax.app.sections import SplitsOptions
from rdd_jax.app.set_options import BY_KIP
from rdd_jax.checks import are_distributions
from rdd_jax.datasets import shifts
from rdd_jax.datasets.preprocess import Prepared
from rdd_jax.evaluation import Cells, Evaluation
from rdd_jax.files import write_bytes, write_json, write_text
from rdd_jax.networks.recipes import Recipe
from rdd_jax.pixels import as_pixels
from rdd_jax.progress import Stages
from rdd_jax.saving import SavedSet
from rdd_jax.selection import Certificate
from rdd_jax.types import Data, Synthetic

__all__ = ["LABELS", "Measured", "described", "measured_values", "notes", "table_of", "write_run"]

LABELS = {
    "soft": "distributions over the classes, learned with the images",
    "learned": "numbers, learned with the images",
    "solved": "numbers that fit all training examples best",
}
"""What a reader must know of labels that are not fixed."""

Measured = tuple[Sequence[Evaluation], Mapping[tuple[str, str], Cells]]
"""What `evaluation.evaluate_sets` gives: evaluations, and the cells of every (set, learner)."""


def described(name: str, data: SplitsOptions) -> str:
    """The data set with its groups or its shift, in words."""
    name = name if data.groups_from is None else f"{name}, groups from {data.groups_from}"
    return shifts.described(name, data.shift, data.bias, data.share)


def write_run(
    config: Method,
    run: Run,
    prepared: Prepared,
    start: Synthetic,
    saved: SavedSet,
    measured: Measured,
    grouped: Grouped,
    certificate: Certificate | None,
    stages: Stages,
) -> dict[str, Any]:
    """Writes the pictures and reports of a finished run; the values of ``report.json``."""
    train = prepared.splits.train
    values = {
        "data": described(config.data.data, config.data),
        "method": name_of(config) + (" (robust)" if config.robust else ""),
        "ipc": config.set.ipc,
        "steps": config.steps,
        **measured_values(prepared, saved.synthetic, *measured),
        "notes": notes(config.label_kind, saved.synthetic, config.recipes(train.classes)),
    }
    if isinstance(config, Stepped) and config.optimiser.keep == "best":
        best = run.best_row()
        values["best"] = {"step": best["step"], "validation_accuracy": best["validation_accuracy"]}
    pictures = {"images": _image_picture(config, prepared, start, saved)}
    if config.steps:
        pictures["curves"] = plots.curves(run.metrics())
    if isinstance(config, ByNetworks) and config.set.init == BY_KIP:
        pictures["start"] = plots.curves(first_run(run).metrics())
    if certificate is not None:
        values["certificate"] = asdict(certificate)
    if found := grouped.described():
        values["found_groups"] = found
        pictures["groups"] = _group_picture(grouped.groups, train)
    if "subgroups" in values:
        pictures["subgroups"] = _subgroup_picture(values["subgroups"], ("synthetic", "random"))
    for name, png in pictures.items():
        write_bytes(run.folder / f"{name}.png", png)
    values["seconds"] = stages.seconds
    configuration = (run.folder / "config.json").read_text(encoding="utf-8")
    write_text(run.folder / "report.html", report.render_html(values, configuration, pictures))
    write_json(run.folder / "report.json", values)
    return values


def measured_values(
    prepared: Prepared,
    synthetic: Synthetic,
    evaluations: Sequence[Evaluation],
    tables: Mapping[tuple[str, str], Cells],
) -> dict[str, Any]:
    """What every report says of an evaluation; the table of subgroups where the data has groups."""
    values: dict[str, Any] = {
        "peak_memory_bytes": peak_memory(),
        "device": environment()["device"],
        "pixels": _beyond(prepared.fitted.invert(np.asarray(synthetic.images))),
        "evaluations": [evaluation.to_dict() for evaluation in evaluations],
    }
    train, _, test, _ = prepared.splits
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


def _beyond(pixels: np.ndarray) -> dict[str, float]:
    """How many values lie outside [0, 1] by more than half a grey level, and how far the farthest."""
    beyond = np.maximum(-pixels, pixels - 1)
    return {"outside": float(np.mean(beyond > 0.5 / 255)), "farthest": max(0.0, float(beyond.max()))}


def notes(kind: str, synthetic: Synthetic, recipes: Sequence[Recipe]) -> list[str]:
    """What a reader must know of the set's labels, and of what networks make of them.

    Args:
      kind: of labels: one of `LABELS`, or ``fixed``.
      recipes: of the networks that are trained on them.
    """
    said = []
    if kind in LABELS:
        said.append(
            f"The labels of the synthetic set are {LABELS[kind]}. The class of an image is the one that it started "
            "with. The baselines keep one-hot labels."
        )
    losses = {recipe.loss for recipe in recipes}
    if "squared" in losses:
        said.append("Squared error is taken to the labels as they are.")
    if "cross-entropy" in losses and not are_distributions(synthetic.labels):
        said.append(
            "The labels are no distributions over the classes: cross-entropy is taken to one-hot labels at the largest "
            "entry of each."
        )
    return said


def table_of(values: Mapping[str, Any]) -> Cells:
    """The cells of one set in a report."""
    return Cells(np.array(values["correct"]), np.array(values["count"]))


# --- pictures ----------------------------------------------------------------------------------------


def _image_picture(config: Method, prepared: Prepared, start: Synthetic, saved: SavedSet) -> bytes:
    """The set at the start and at the end."""
    labels = np.repeat(np.arange(len(prepared.class_names)), config.images)
    images = {
        f"start ({config.set.init})": prepared.fitted.invert(np.asarray(start.images)),
        "distilled": prepared.fitted.invert(np.asarray(saved.synthetic.images)),
    }
    return plots.image_grids(images, labels, prepared.class_names)


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


def _subgroup_picture(subgroups: Mapping[str, Any], names: Sequence[str]) -> bytes:
    """Heat maps of some sets under the first learner."""
    tables = next(iter(subgroups["predictions"].values()))
    shown = {name: table_of(tables[name]) for name in names if name in tables}
    return plots.before_after(shown, subgroups["class_names"], subgroups["group_names"])
