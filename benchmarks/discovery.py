"""What finding groups costs: time and memory of ``rdd groups``, each data set in a process of its own.

    python -m benchmarks.discovery [--data mnist cifar10 --noise 1000000 --side 14]

``--noise`` adds so many random grey images of ten classes, in which no group is (0: none). Prints the seconds of the
grouping and of the whole command, compilation included, and the most memory that the process had. Run it on an
otherwise idle machine.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rich
import tyro
from rich.table import Table


@dataclass(frozen=True)
class Options:
    """What to find groups in."""

    data: tuple[str, ...] = ("cifar10",)
    noise: int = 0
    side: int = 14
    """Of the random images."""


def noise(file: Path, n: int, side: int) -> None:
    """Random images whose classes differ in one bright column, in 8 bits."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 64, (n, side, side, 1), np.uint8)
    labels = rng.integers(0, 10, n)
    images[np.arange(n), :, labels % side, 0] += 96
    np.savez(file, images=images, labels=labels)


def found(data: str, folder: Path) -> dict:
    """The report of ``rdd groups``."""
    words = [sys.executable, "-m", "rdd_jax.app.cli", "groups", data, "--out", str(folder)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return json.loads((folder / "report.json").read_text())


def main(options: Options) -> None:
    table = Table("data", "images", "grouping, s", "in all, s", "memory, GiB")
    with tempfile.TemporaryDirectory() as folder:
        names = list(options.data)
        if options.noise:
            names.append(str(Path(folder) / "noise.npz"))
            noise(Path(names[-1]), options.noise, options.side)
        for number, name in enumerate(names):
            report = found(name, Path(folder) / str(number))
            seconds = report["seconds"]
            table.add_row(
                Path(name).stem,
                f"{report['examples']:,}",
                f"{seconds['grouping']:.0f}",
                f"{seconds['whole']:.0f}",
                f"{report['peak_memory_bytes'] / 2**30:.1f}",
            )
    rich.print(table)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
