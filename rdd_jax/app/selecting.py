"""The job behind ``rdd select``: a weighted subset of the real images as a product of its own, with its certificate."""

import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rdd_jax import plots
from rdd_jax.app import options, pieces
from rdd_jax.app.commands import Select
from rdd_jax.app.environment import environment, peak_memory
from rdd_jax.app.grouped import Grouped
from rdd_jax.app.reading import splits_of
from rdd_jax.app.reporting import described
from rdd_jax.arrays import write_npz
from rdd_jax.datasets.preprocess import Prepared, prepare
from rdd_jax.devices import AUTO
from rdd_jax.errors import InputError, InputWarning
from rdd_jax.files import check_new, write_bytes, write_json
from rdd_jax.progress import SILENT, Progress, heard
from rdd_jax.selection import (
    SCORES,
    Certificate,
    Selection,
    certify,
    check_ipc,
    check_promise,
    drawn_by,
    select_by_name,
    strata_of,
)
from rdd_jax.types import Data

__all__ = ["select"]


def select(config: Select, progress: Progress = SILENT) -> dict[str, Any]:
    """Selects a weighted subset into ``config.out``, with a picture and a report beside it; the report.

    In the ``.npz``: ``indices`` ``[m]`` into train, each once, class by class, ``weights`` ``[m]``, ``scores`` and
    ``probabilities`` ``[n]``, and ``images``, ``labels`` and ``class_names``, so that `rdd evaluate` reads it.

    Raises:
      InputError: something that cannot be used; nothing was written.
    """
    _check(config)
    out, picture, report = _files(config)
    choice = config.choice
    progress.stage(f"reading {config.data.data}")
    splits = splits_of(config.data.data, config.data, config.seed, config.data.mirror, progress, AUTO)
    train = splits.train
    check_ipc(train.labels, choice.ipc, train.class_names)
    if choice.strata == "group":
        pieces.check_groups(config.groups, train)
    kernel = pieces.kernel_of(config.kernel, train)
    prepared = prepare(splits, config.data.preprocess, config.data.zca_reg)
    with heard(progress):
        progress.stage("grouping")
        pool = pieces.pool_of(prepared, kernel, choice, _groups(config, prepared))
        progress.stage("selecting")
        start = time.perf_counter()
        strata = strata_of(pool, choice.strata, choice.ipc)
        selection = select_by_name(choice.method, choice.draw)(config.seed, pool, strata)
        seconds = time.perf_counter() - start
        progress.stage("certifying")
        how = drawn_by(choice.method, choice.draw)
        certificate = certify(pool, selection, how, choice.eps, choice.delta, seed=config.seed)
    chosen = _write(out, picture, choice.method, train, selection)
    _check_classes(train, chosen)
    values = _values(config, len(chosen), seconds, certificate)
    write_json(report, values)
    return {**values, "out": str(out)}


def _check(config: Select) -> None:
    """Everything that can be wrong without looking at the data."""
    options.check(config)
    check_promise(config.choice.eps, config.choice.delta)
    if config.choice.strata == "group" and config.groups.grouping in (None, "none"):
        raise InputError("strata 'group' needs groups and there are none: choose a grouping (labels, discovered)")


def _files(config: Select) -> tuple[Path, Path, Path]:
    """The subset, its picture and its report; none may exist."""
    out = config.out or Path(f"{Path(config.data.data).stem}-{config.choice.method}.npz")
    if out.suffix != ".npz":
        raise InputError(f"out is {str(out)!r}: give a name that ends in .npz")
    files = out, out.with_suffix(".png"), out.with_suffix(".json")
    for file in files:
        check_new(file)
    return files


def _groups(config: Select, prepared: Prepared) -> np.ndarray | None:
    """The group of every training example, where the strata are groups."""
    if config.choice.strata != "group":
        return None
    grouped = Grouped(config.groups, config.seed, prepared, config.choice.ipc)
    grouped.fit(0)
    return grouped.groups


def _write(out: Path, picture: Path, method: str, train: Data, selection: Selection) -> np.ndarray:
    """Writes the subset and its picture; the chosen examples, each once."""
    chosen, weight = selection.merged(train.labels)
    subset = train.take(chosen)
    png = plots.image_grids({method: subset.pixels}, subset.labels, train.class_names)
    write_npz(
        out,
        indices=chosen,
        weights=weight,
        scores=selection.score,
        probabilities=selection.probability,
        images=subset.loaded,
        labels=subset.labels,
        class_names=np.array(train.class_names),
    )
    write_bytes(picture, png)
    return chosen


def _check_classes(train: Data, chosen: np.ndarray) -> None:
    """Says so where a class is missing, as it may be where all are drawn from together."""
    missing = [train.class_names[c] for c in range(train.classes) if c not in train.labels[chosen]]
    if missing:
        warnings.warn(
            f"the subset has no image of {len(missing)} of {train.classes} classes ({missing[0]!r} is one), so that "
            "`rdd evaluate` refuses it: choose --strata class, or a larger --ipc",
            InputWarning,
            stacklevel=2,
        )


def _values(config: Select, chosen: int, seconds: float, certificate: Certificate) -> dict[str, Any]:
    """The report."""
    choice = config.choice
    settings = asdict(config)
    settings["out"] = None if config.out is None else str(config.out)
    return {
        "data": described(config.data.data, config.data),
        "method": choice.method,
        "draw": choice.draw if choice.method in SCORES else "greedy",
        "strata": choice.strata,
        "ipc": choice.ipc,
        "chosen": chosen,
        "seconds": round(seconds, 3),
        "peak_memory_bytes": peak_memory(),
        "device": environment()["device"],
        "config": settings,
        "certificate": asdict(certificate),
        "words": certificate.sentences(),
    }
