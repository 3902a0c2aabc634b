"""The job behind ``rdd groups``: which groups a data set hides, without anything being distilled."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rdd_jax.app import found_page, options, pieces
from rdd_jax.app.commands import Find
from rdd_jax.app.environment import environment, peak_memory
from rdd_jax.app.grouped import Grouped
from rdd_jax.app.looks import set_apart, traits
from rdd_jax.app.reading import splits_of
from rdd_jax.app.reporting import described
from rdd_jax.arrays import write_npz
from rdd_jax.datasets.preprocess import Prepared, prepare
from rdd_jax.errors import InputError
from rdd_jax.files import as_json, check_new, new_folder, write_bytes, write_json, write_text
from rdd_jax.grouping import FEATURES, split_names
from rdd_jax.grouping.features import nystroem
from rdd_jax.grouping.reference import outputs, squared_errors
from rdd_jax.kernels import fc_ntk
from rdd_jax.progress import SILENT, Progress, Stages, heard
from rdd_jax.types import Data

__all__ = ["find"]

EXAMPLES = 6
"""Images of a cell that are shown: the most typical, and as many of the most wrong."""

FEW = 5
"""Examples below which a cell's loss says little: the hardest cells have as many or more."""

TAKEN = 0.2
"""Share of a cell from which on it is said which other class it is taken for."""


class _Measured(NamedTuple):
    """What is known of every training example."""

    cell: np.ndarray
    """``[n]``, of (class, group)."""
    loss: np.ndarray
    """``[n]``, of the reference."""
    taken_for: np.ndarray
    """``[n]``: the class that the reference predicts."""
    points: np.ndarray
    """``[n, d]``: the features in which the typical ones are in the middle of their cell."""
    traits: np.ndarray
    """``[n, t]``; see `looks`."""


def find(config: Find, progress: Progress = SILENT) -> dict[str, Any]:
    """Finds the groups of the training images and writes a folder about them; the values of its ``report.json``.

    ``groups.npz`` has ``codes`` ``[n]``, the group of every training example within its class, which ``--grouping``
    takes back, ``cells`` ``[n]``, the (class, group) cells, ``losses`` ``[n]``, ``labels`` ``[n]`` and
    ``class_names``, and for other tools ``weights`` ``[n]``, where the grouping tells how much each example counts;
    beside it ``report.json``, ``report.html`` and ``groups.png``.

    Raises:
      InputError: something that cannot be used; nothing was written.
    """
    _check(config)
    out = config.out or Path(f"groups-{Path(config.name).stem}")
    check_new(out)
    stages = Stages(progress)
    stages.begin("reading", config.name)
    splits = splits_of(config.name, config.data, config.seed, progress=progress)
    train = splits.train
    pieces.check_groups(config.groups, train)
    prepared = prepare(splits, config.space.preprocess, config.space.zca_reg)
    stages.begin("grouping")
    grouped = Grouped(config.groups, config.seed, prepared)
    with heard(progress):
        grouped.fit(0)
        stages.begin("measuring")
        measured = _measured(config, prepared, grouped)
    stages.begin("reporting")
    cells = _cells(measured, train, grouped.count // train.classes)
    values = {
        "data": described(config.name, config.data),
        "examples": len(train),
        "found_groups": grouped.described(),
        "reference": {
            "loss": float(measured.loss.mean()),
            "accuracy": float(np.mean(measured.taken_for == train.labels)),
        },
        "cells": cells,
        "seconds": stages.seconds,
        "peak_memory_bytes": peak_memory(),
        "device": environment()["device"],
        "config": {**asdict(config), "out": None if config.out is None else str(config.out)},
    }
    _write(out, values, train, measured, grouped)
    return {**values, "out": str(out)}


def _check(config: Find) -> None:
    """Everything that can be wrong without looking at the data."""
    options.check(config)
    parts = split_names(config.groups.grouping or "none")
    if "none" in parts:
        raise InputError("grouping is 'none': give the grouping that is to look for groups (discovered)")
    if "nearest" in parts:
        raise InputError("grouping 'nearest' looks at a synthetic set, and there is none: give discovered")


def _measured(config: Find, prepared: Prepared, grouped: Grouped) -> _Measured:
    train = prepared.splits.train
    points = nystroem(fc_ntk(), prepared.train, 500, config.seed)
    found = outputs(points, train.labels, train.classes, config.seed)
    features = FEATURES.make(config.groups.features)
    return _Measured(
        grouped.groups,
        squared_errors(found, train.labels),
        found.argmax(1),
        grouped.subject.described(features),
        traits(train.loaded),
    )


def _cells(measured: _Measured, train: Data, size: int) -> list[dict[str, Any]]:
    """What is said of every cell, the largest first."""
    found = []
    for c, class_name in enumerate(train.class_names):
        members = np.flatnonzero(train.labels == c)
        apart = measured.traits[members]
        for cell in np.unique(measured.cell[members]).tolist():
            inside = measured.cell[members] == cell
            own = members[inside]
            row = {
                "class": class_name,
                "group": cell - c * size,
                "size": len(own),
                "share": len(own) / len(members),
                "loss": float(measured.loss[own].mean()),
                "accuracy": float(np.mean(measured.taken_for[own] == c)),
                "taken_for": _taken_for(measured.taken_for[members], inside, c, train.class_names),
                "looks": [{"word": word, "deviations": far} for word, far in set_apart(apart, inside)],
                "typical": _typical(measured.points, own),
                "wrong": own[np.argsort(-measured.loss[own], kind="stable")[:EXAMPLES]].tolist(),
            }
            found.append(row if train.groups is None else row | {"truth": _truth(train, own)})
    found.sort(key=lambda row: -row["size"])
    candidates = [row for row in found if row["size"] >= FEW] or found
    hardest = sorted(candidates, key=lambda row: -row["loss"])[: max(1, min(3, len(found) // 4))]
    for row in found:
        row["hardest"] = any(row is one for one in hardest)
    return found


def _taken_for(predicted: np.ndarray, inside: np.ndarray, c: int, names: Sequence[str]) -> dict[str, Any] | None:
    """The other class that a cell is taken for by `TAKEN` of its examples or more, and twice as often as its rest."""
    counts = np.bincount(predicted[inside], minlength=len(names))
    counts[c] = 0
    other = int(counts.argmax())
    share = float(counts[other] / inside.sum())
    rest = float(np.mean(predicted[~inside] == other)) if not inside.all() else 0.0
    return {"class": names[other], "share": share} if share >= TAKEN and share >= 2 * rest else None


def _typical(points: np.ndarray, own: np.ndarray) -> list[int]:
    """The examples of a cell that lie nearest its mean."""
    here = points[own]
    return own[np.argsort(((here - here.mean(0)) ** 2).sum(1), kind="stable")[:EXAMPLES]].tolist()


def _truth(train: Data, own: np.ndarray) -> dict[str, Any]:
    """The data's own group that most of a cell is of."""
    assert train.groups is not None
    counts = np.bincount(train.groups[own])
    return {"group": train.group_names[int(counts.argmax())], "share": float(counts.max() / len(own))}


def _write(out: Path, values: Mapping[str, Any], train: Data, measured: _Measured, grouped: Grouped) -> None:
    """The folder, whole or not at all."""
    page = found_page.render(values, as_json(values["config"]).decode(), train.loaded)
    picture = found_page.picture(values["cells"], train.loaded)
    with new_folder(out) as made:
        write_npz(
            made / "groups.npz",
            codes=(measured.cell % (grouped.count // train.classes)).astype(np.int32),
            cells=measured.cell.astype(np.int32),
            losses=measured.loss,
            **({} if grouped.weight is None else {"weights": grouped.weight}),
            labels=train.labels,
            class_names=np.array(train.class_names),
        )
        write_bytes(made / "groups.png", picture)
        write_text(made / "report.html", page)
        write_json(made / "report.json", values)
