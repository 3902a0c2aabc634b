"""What a step of every method costs: the formulas beside XLA's own count, and ImageNet-1k on two machines from them.

    python -m benchmarks.costs [--check | --no-check] [--estimate | --no-estimate] [--devices N]

First the operations of `benchmarks.formulas` beside those that XLA counts in the compiled step (`benchmarks.counted`);
with several devices those of one, and what it sends. Eight of a CPU are had by
``XLA_FLAGS=--xla_force_host_platform_device_count=8``. Then the estimate, as a table in Markdown. Nothing is timed: the
peaks are published ones, the shares of them assumed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import rich
import tyro
from rich.table import Table

from benchmarks.counted import SIZES, counted, expected
from benchmarks.formulas import METHODS, NUMBER, REAL_BYTES, ConvNet, Cost, Size

PRODUCTS_SHARE = 0.5
"""Of the peak of products. A KIP step has reached 51 % of a CPU's (docs/results.md); assumed elsewhere."""
TRAFFIC_SHARE = 0.07
"""Of the peak of memory. A step of DC has taken 0.06 s on an NVIDIA H200 of 4.8 TB/s (docs/results.md), in which the
formula has 20 GB moved: whatever bounds such a step is taken to scale with memory."""
MOVED = 3.5
"""How many times a forward pass moves the outputs of its convolutions: written, read for the moments, read to be
normalised and pooled, a quarter of them written and read by the next convolution."""


@dataclass(frozen=True)
class Machine:
    """Devices by their published peaks.

    Attributes:
      products: operations a second of networks' products, at the precision that JAX takes there unless told otherwise.
      exact: of products in full single precision.
      memory: bytes a device; ``bandwidth``: bytes a second from it; ``link``: bytes a second that a device sends.
    """

    name: str
    devices: int
    products: float
    exact: float
    memory: float
    bandwidth: float
    link: float


MACHINES = (
    # bfloat16; XLA makes full single precision of six products of bfloat16. 1,600 Gbit/s a chip.
    Machine("v5e-16", 16, 197e12, 197e12 / 6, 16e9, 819e9, 200e9),
    # SXM: dense TensorFloat-32; float32 without tensor cores. Of NVLink's 900 GB/s half goes each way.
    Machine("8 x H100", 8, 494.5e12, 67e12, 80e9, 3.35e12, 450e9),
)

TRAINING_IMAGES, CLASSES = 1_281_167, 1000
"""Of ImageNet-1k."""
NETWORKS = {
    64: ConvNet(CLASSES, depth=4, width=128, side=64),
    224: ConvNet(CLASSES, depth=5, width=128, side=224),
}
REAL = {"kip": 5000, "frepo": 1024, "rfad": 5120, "rcig": 1024, "dm": 256_000, "dc, dsa, rdd": 256_000}
"""Real images a step, as published, of matching methods 256 a class; of others none."""
MIRRORED = ("frepo", "rfad", "rcig")
"""Whose regressions are fitted to the mirror images of the set too."""


def of_imagenet(method: str, side: int, ipc: int, devices: int) -> Size:
    """A step on ImageNet-1k with so many images a class."""
    images = CLASSES * ipc * (2 if method in MIRRORED else 1)
    return Size(NETWORKS[side], REAL.get(method, 0), images, devices, networks=8 if method == "rfad" else 1)


def seconds(cost: Cost, size: Size, machine: Machine) -> float:
    """Of a device: the longer one of operations, and of what activations move, at the shares that are assumed.

    ``sum of flops / (share peak)`` and ``looks MOVED 4 A / (share bandwidth)``; devices divide the shared parts.
    """
    products = moved = 0.0
    for part in cost.parts.values():
        along = size.devices if part.shared else 1
        products += part.flops / along / (PRODUCTS_SHARE * (machine.exact if part.exact else machine.products))
        moved += part.looks / along * MOVED * NUMBER * size.network.activations
    return max(products, moved / (TRAFFIC_SHARE * machine.bandwidth))


def held(cost: Cost, size: Size, ipc: int) -> float:
    """Bytes a device: its part of the real images, all labels, the batch, the set with Adam's moments, and the rest.

    ``n p / N + 4 n k + b p + 4 b (p + k) / N + 16 m p`` with ``p`` numbers an image, and what the method holds. A batch
    is on every device as it came, since its draw is a sum over devices, and in single precision in parts.
    """
    pixels, classes = size.network.pixels, size.network.classes
    data = REAL_BYTES * TRAINING_IMAGES * pixels / size.devices + NUMBER * TRAINING_IMAGES * classes
    batch = size.read + NUMBER * size.real * (pixels + classes) / size.devices
    return data + batch + 4 * NUMBER * classes * ipc * pixels + cost.held


# --- tables ------------------------------------------------------------------------------------------


def checked(devices: int) -> Table:
    """The formulas beside XLA's count."""
    table = Table("step", "operations", "by XLA", "ratio", "bytes sent", "by XLA", "ratio")
    for method, size in SIZES.items():
        if devices > 1:
            size = on_several(method, size, devices)
        ours, theirs = expected(method, size), counted(method, size)
        cells = [f"{ours.flops:.3g}", f"{theirs.flops:.3g}", f"{theirs.flops / ours.flops:.3f}"]
        if ours.sent:
            cells += [f"{ours.sent:.3g}", f"{theirs.sent:.3g}", f"{theirs.sent / ours.sent:.3f}"]
        table.add_row(method, *cells)
    return table


def on_several(method: str, size: Size, devices: int) -> Size:
    """The same step on several devices; of a matching method with two classes for each of them, in a loop."""
    if not method.startswith("d"):
        return replace(size, devices=devices)
    network = replace(size.network, classes=2 * devices)
    return replace(size, devices=devices, network=network, real=2 * devices**2, images=2 * devices, once=True)


def estimated() -> Iterator[str]:
    """The lines of the table of ImageNet-1k."""
    columns = ["step", "side", "images a class", "GB read", "TFLOP"]
    for machine in MACHINES:
        columns += [f"{machine.name}: s", "GB a device", "GB sent", "s to send"]
    yield "| " + " | ".join(columns) + " |"
    yield "|---" * len(columns) + "|"
    for method, formula in METHODS.items():
        for side in NETWORKS:
            for ipc in (1, 10):
                alone = of_imagenet(method, side, ipc, 1)
                cells = [method, f"{side}", f"{ipc}", *map(_short, (alone.read / 1e9, formula(alone).flops / 1e12))]
                for machine in MACHINES:
                    size = of_imagenet(method, side, ipc, machine.devices)
                    cost = formula(size)
                    needs, sent = held(cost, size, ipc), cost.sent + size.drawn
                    mark = "**" if needs > machine.memory else ""
                    cells += [_short(seconds(cost, size, machine)), f"{mark}{_short(needs / 1e9)}{mark}"]
                    cells += [_short(sent / 1e9), _short(sent / machine.link)]
                yield "| " + " | ".join(cells) + " |"


def _short(value: float) -> str:
    """Two digits."""
    return f"{float(f'{value:.2g}'):,.10g}"


def main(check: bool = True, estimate: bool = True, devices: int = 1) -> None:
    """Prints both."""
    if check:
        rich.print(checked(devices))
    if estimate:
        print("\n".join(estimated()))


if __name__ == "__main__":
    tyro.cli(main)
