"""Our k-means within every class against scikit-learn's class by class, on CIFAR-10 pixels, in one run.

    TFDS_DATA_DIR=... python -m benchmarks.kmeans [--k 10 --rounds 3]

All 50,000 training images (train and validation), every pixel standardised, float32. Both start from their own
greedy k-means++ (scikit-learn with ``n_init=1``), stop by the same rule and run at most 100 iterations. Peak memory
is the process's own, data included, before scikit-learn runs. Compilation is timed apart. The rounds (one seed each)
alternate between the two, so that the ratio holds where the machine's speed drifts. Run it on an otherwise idle
machine.
"""

import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import rich
import tyro
from rich.table import Table

from rdd_jax.datasets import load
from rdd_jax.kmeans import kmeans_within
from rdd_jax.kmeans.lloyd import fit


@dataclass(frozen=True)
class Size:
    """What to time."""

    k: int = 10
    iterations: int = 100
    rounds: int = 3


def standardised_pixels() -> tuple[np.ndarray, np.ndarray]:
    """All training images of CIFAR-10, ``[50000, 3072]`` float32, and their labels; no copy of them is made."""
    splits = load("cifar10")
    parts = (splits.train, splits.validation)
    labels = np.concatenate([part.labels for part in parts])
    pixels = np.concatenate([part.loaded.reshape(len(part), -1) for part in parts], dtype=np.float32)
    pixels -= pixels.mean(0)
    pixels /= np.sqrt(np.einsum("ij,ij->j", pixels, pixels) / len(pixels))
    return pixels, labels


def peak_gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def compile_seconds(size: Size, n: int, d: int) -> float:
    rows, weight = jax.ShapeDtypeStruct((n, d), jnp.float32), jax.ShapeDtypeStruct((n,), jnp.float32)
    start = time.perf_counter()
    fit.lower(jax.random.key(0), rows, weight, None, size.iterations, 1e-4, k=size.k).compile()
    return time.perf_counter() - start


def ours(size: Size, pixels: np.ndarray, labels: np.ndarray, seed: int) -> tuple[float, int]:
    found = kmeans_within(jax.random.key(seed), pixels, labels, 10, size.k, size.iterations)
    return float(found.inertia.sum()), int(found.iterations.sum())


def scikit_learn(size: Size, pixels: np.ndarray, labels: np.ndarray, seed: int) -> tuple[float, int]:
    from sklearn.cluster import KMeans

    fitted = [
        KMeans(size.k, n_init=1, max_iter=size.iterations, random_state=seed).fit(pixels[labels == c])
        for c in range(10)
    ]
    return sum(float(f.inertia_) for f in fitted), sum(f.n_iter_ for f in fitted)


def main(size: Size) -> None:
    pixels, labels = standardised_pixels()
    before = peak_gigabytes()
    compiling = compile_seconds(size, int(np.bincount(labels).max()), pixels.shape[1])
    # Traced and compiled by a run of one iteration, so that the rounds time neither.
    kmeans_within(jax.random.key(0), pixels, labels, 10, size.k, 1)
    runs: dict[str, Callable[..., tuple[float, int]]] = {"scikit-learn": scikit_learn, "ours": ours}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    inertia: dict[str, list[float]] = {name: [] for name in runs}
    iterations: dict[str, list[int]] = {name: [] for name in runs}
    peak = before
    for seed in range(size.rounds):
        for name in ("ours", "scikit-learn"):
            start = time.perf_counter()
            total, moves = runs[name](size, pixels, labels, seed)
            seconds[name].append(time.perf_counter() - start)
            inertia[name].append(total)
            iterations[name].append(moves)
            if seed == 0 and name == "ours":
                peak = peak_gigabytes()
    title = f"k-means: {len(pixels)} x {pixels.shape[1]} {pixels.dtype}, {size.k} clusters in each of 10 classes; "
    columns = ("seconds, median (min to max)", "iterations", "ms an iteration", "total inertia")
    table = Table("", *columns, title=f"{title}{jax.devices()[0].device_kind}")
    for name in runs:
        times, each = seconds[name], sum(seconds[name]) / sum(iterations[name])
        table.add_row(
            name,
            f"{statistics.median(times):.1f} ({min(times):.1f} to {max(times):.1f})",
            f"{statistics.median(iterations[name]):.0f} ({min(iterations[name])} to {max(iterations[name])})",
            f"{1e3 * each:.1f}",
            f"{statistics.mean(inertia[name]):.4e}",
        )
    rich.print(table)
    ratios = [a / b for a, b in zip(seconds["scikit-learn"], seconds["ours"], strict=True)]
    print(f"ours is {statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f} over rounds)")
    print(f"inertia of ours over scikit-learn's: {sum(inertia['ours']) / sum(inertia['scikit-learn']):.4f}")
    print(f"compilation: {compiling:.1f} s; peak memory of ours: {peak:.2f} GB ({before:.2f} GB with the data alone)")


if __name__ == "__main__":
    main(tyro.cli(Size, description=__doc__))
