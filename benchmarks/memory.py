"""The most memory that a run of KIP takes, a report with its baselines included, on random images of 8 bits.

    python -m benchmarks.memory [--images 100000 --side 64 --classes 200]

The pixels alone are told beside it. The run is a process of its own; what it learns means nothing.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro


@dataclass(frozen=True)
class Options:
    """The images."""

    images: int = 100_000
    side: int = 64
    classes: int = 200
    steps: int = 20


def main(options: Options) -> None:
    rng, n, side = np.random.default_rng(0), options.images, options.side
    with tempfile.TemporaryDirectory() as folder:
        file, run = Path(folder) / "noise.npz", Path(folder) / "run"
        pixels = rng.integers(0, 256, (n, side, side, 3), np.uint8)
        size = pixels.nbytes
        np.savez(file, images=pixels, labels=np.arange(n) % options.classes)
        del pixels
        words = [sys.executable, "-m", "rdd_jax.app.cli", "distill", "kip", "--data", str(file), "--ipc", "1"]
        words += ["--steps", str(options.steps), "--out", str(run)]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        report = json.loads((run / "report.json").read_text())
    peak = report["peak_memory_bytes"]
    print(
        f"{n:,} x {side}x{side}x3, {size / 2**30:.2f} GiB: {peak / 2**30:.2f} GiB, {peak / size:.2f} times the pixels"
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
