"""The most memory that a run of KIP takes, and the time of a step, on random images of 8 bits, by where they stay.

    python -m benchmarks.memory [--images 100000 --side 64 --classes 200]
    python -m benchmarks.memory --images 3000000 --side 32 --classes 10 --places device disk --no-report
    python -m benchmarks.memory --images 3000000 --side 32 --classes 10 --places disk --limit 8 --no-report

The pixels alone are told beside it. A run is a process of its own; what it learns means nothing. Steps are timed from
the 21st on; run it on an otherwise idle machine.
"""

import json
import resource
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tyro
from numpy.lib import format as npy

AFTER = 20
"""Steps that are not timed: what is compiled, and what is read for the first time."""


@dataclass(frozen=True)
class Options:
    """The images and the runs.

    Args:
      places: of ``--data-on``, a run each.
      limit: GiB of addresses that a run may take, as by ``ulimit -v``.
      report: with the report and its baselines; otherwise with nothing but the steps.
      init: of ``--init``, how the set starts; ``ipc``: its images of each class.
    """

    images: int = 100_000
    side: int = 64
    classes: int = 200
    steps: int = 60
    batch: int = 5000
    places: tuple[str, ...] = ("auto",)
    limit: float | None = None
    report: bool = True
    init: str = "random"
    ipc: int = 1


def noise(file: Path, options: Options, block: int = 10_000) -> int:
    """Writes an ``.npz`` a block at a time; the bytes of its pixels."""
    rng, shape = np.random.default_rng(0), (options.images, options.side, options.side, 3)
    with zipfile.ZipFile(file, "w") as archive:
        with archive.open("images.npy", "w", force_zip64=True) as member:
            npy.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for start in range(0, options.images, block):
                count = min(block, options.images - start)
                member.write(rng.integers(0, 256, (count, *shape[1:]), np.uint8).tobytes())
        with archive.open("labels.npy", "w") as member:
            npy.write_array(member, np.arange(options.images) % options.classes)
    return int(np.prod(shape))


def measured(file: Path, run: Path, place: str, options: Options) -> tuple[int, float]:
    """The peak in bytes, and milliseconds a step."""
    words = [sys.executable, "-m", "rdd_jax.app.cli", "distill", "kip", "--data", str(file), "--ipc", str(options.ipc)]
    words += [
        "--steps",
        str(options.steps),
        "--checkpoint-every",
        str(options.steps),
        "--batch",
        str(options.batch),
        "--out",
        str(run),
        "--data-on",
        place,
    ]
    words += ["--init", options.init]
    words += [] if options.report else ["--no-baselines"]
    bytes_ = None if options.limit is None else int(options.limit * 2**30)
    limited = None if bytes_ is None else partial(resource.setrlimit, resource.RLIMIT_AS, (bytes_, bytes_))
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, preexec_fn=limited)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    seconds = {row["step"]: row["seconds"] for row in rows if "loss" in row}
    took = (seconds[options.steps] - seconds[AFTER]) / (options.steps - AFTER)
    return json.loads((run / "report.json").read_text())["peak_memory_bytes"], 1000 * took


def main(options: Options) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "noise.npz"
        size = noise(file, options)
        for place in options.places:
            peak, step = measured(file, Path(folder) / place, place, options)
            print(
                f"{options.images:,} x {options.side}x{options.side}x3, {size / 2**30:.2f} GiB, {place}: "
                f"{peak / 2**30:.2f} GiB, {peak / size:.2f} times the pixels; {step:.1f} ms a step"
            )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
