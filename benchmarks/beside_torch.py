"""What the benchmarks of networks share: images of noise, operations, and PyTorch's time for the same.

ConvNet-3-128 with instance norm, ten classes of 32 x 32 x 3 images: only the time counts. GFLOP/s count the
multiplications and additions of direct convolutions, although Winograd's do with fewer.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from rdd_jax.app.environment import peak_memory
from rdd_jax.types import Synthetic, centred_one_hot

CLASSES, SIDE, WIDTH = 10, 32, 128


@dataclass(frozen=True)
class Torch:
    """PyTorch's side; without it ours is timed alone."""

    torch: str | None = None
    """An interpreter that has PyTorch."""
    scripts: Path = Path("../shared/bench")
    """The folder of torch_matching_step.py and torch_evaluation.py."""

    def __post_init__(self) -> None:
        if self.torch is not None and not self.scripts.is_dir():
            sys.exit(f"no folder {self.scripts}: say where the PyTorch scripts are, --scripts FOLDER")

    def run(self, script: str, *arguments: str) -> dict | None:
        """What the script prints; None without PyTorch."""
        if self.torch is None:
            return None
        command = [self.torch, str((self.scripts / script).resolve()), *arguments]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def noise(n: int) -> Synthetic:
    """``n`` images, class by class in turn."""
    images = np.random.default_rng(0).standard_normal((n, SIDE, SIDE, 3), np.float32)
    return Synthetic(jnp.asarray(images), centred_one_hot(np.arange(n) % CLASSES, CLASSES))


def forward_flops() -> float:
    """Of one image: three convolutions and the linear layer."""
    sides, channels = (SIDE, SIDE // 2, SIDE // 4), (3, WIDTH, WIDTH)
    convolutions = sum(2 * side**2 * 9 * c * WIDTH for side, c in zip(sides, channels, strict=True))
    return convolutions + 2 * (SIDE // 8) ** 2 * WIDTH * CLASSES


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - start


def tell(what: str, ours: list[float], theirs: list[float], flops: float) -> None:
    middle = statistics.median(ours)
    spread = f"{min(ours):.2f} to {max(ours):.2f}"
    print(f"{what}: {middle:.2f} s ({spread}; {len(ours)} rounds), {flops / middle / 1e9:.0f} GFLOP/s", end="")
    if theirs:
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        print(
            f"; PyTorch {statistics.median(theirs):.2f} s ({min(theirs):.2f} to {max(theirs):.2f}): "
            f"{statistics.median(ratios):.2f} of its time ({min(ratios):.2f} to {max(ratios):.2f})",
            end="",
        )
    print(f"; peak memory {peak_memory() / 2**30:.1f} GiB", flush=True)
