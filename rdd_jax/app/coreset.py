"""The job behind ``rdd select``: a weighted subset of the real images as a product of its own, with its certificate."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rdd_jax import plots
from rdd_jax.app import build, runs
from rdd_jax.app.config import Distill, Select
from rdd_jax.app.environment import environment, peak_memory
from rdd_jax.app.optimise import SILENT, Grouped, Progress
from rdd_jax.datasets import shifts, write_npz
from rdd_jax.datasets.preprocess import Prepared, prepare
from rdd_jax.errors import InputError
from rdd_jax.kernels import kernel_by_name
from rdd_jax.selection import SCORES, certify, check_ipc, drawn_by, select_by_name, strata_of


def select_job(config: Select, progress: Progress = SILENT) -> dict[str, Any]:
    """Selects a weighted subset into ``config.out``, with a picture and a report beside it; the report.

    In the ``.npz``: ``indices`` ``[m]`` into train, each once, class by class, ``weights`` ``[m]``, ``scores`` and
    ``probabilities`` ``[n]``, and ``images``, ``labels`` and ``class_names``, so that `rdd evaluate` reads it.

    Raises:
      InputError: something that cannot be used; nothing was written.
    """
    build.check_select(config)
    out, picture, report = _files(config)
    kernel = kernel_by_name(config.kernel, config.depth)
    progress.stage(f"reading {config.data}")
    splits = build.splits_of(config.data, config.shift, config.bias, config.share, config.seed)
    train = splits.train
    check_ipc(train.labels, config.ipc, train.class_names)
    prepared = prepare(splits, config.preprocess, config.zca_reg)
    progress.stage("grouping")
    pool = build.pool_of(prepared, kernel, config, _groups(config, prepared))
    progress.stage("selecting")
    start = time.perf_counter()
    selection = select_by_name(config.method, config.draw)(
        config.seed, pool, strata_of(pool, config.strata, config.ipc)
    )
    seconds = time.perf_counter() - start
    progress.stage("certifying")
    how = drawn_by(config.method, config.draw)
    certificate = certify(pool, selection, how, config.eps, config.delta, seed=config.seed)
    chosen, weight = selection.merged(train.labels)
    values = {
        "data": shifts.described(config.data, config.shift, config.bias, config.share),
        "method": config.method,
        "draw": config.draw if config.method in SCORES else "greedy",
        "strata": config.strata,
        "ipc": config.ipc,
        "chosen": len(chosen),
        "seconds": round(seconds, 3),
        "peak_memory_bytes": peak_memory(),
        "device": environment()["device"],
        "config": asdict(config),
        "certificate": asdict(certificate),
        "words": certificate.sentences(),
    }
    subset = train.take(chosen)
    png = plots.image_grids({config.method: subset.pixels}, subset.labels, train.class_names)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_npz(
        out,
        indices=chosen,
        weights=weight,
        scores=selection.score,
        probabilities=selection.probability,
        images=subset.images,
        labels=subset.labels,
        class_names=np.array(train.class_names),
    )
    picture.write_bytes(png)
    runs.write_json(report, values)
    return {**values, "out": str(out)}


def _files(config: Select) -> tuple[Path, Path, Path]:
    """The subset, its picture and its report; none may exist."""
    out = Path(config.out or f"{Path(config.data).stem}-{config.method}.npz")
    if out.suffix != ".npz":
        raise InputError(f"out is {str(out)!r}: give a name that ends in .npz")
    files = out, out.with_suffix(".png"), out.with_suffix(".json")
    for file in files:
        runs.check_new(file)
    return files


def _groups(config: Select, prepared: Prepared) -> np.ndarray | None:
    """The group of every training example, where the strata are groups."""
    if config.strata != "group":
        return None
    grouped = Grouped(Distill(grouping=config.grouping, seed=config.seed), prepared)
    grouped.fit(0)
    return grouped.groups
