"""The PyTorch side of `benchmarks.kip_step`: steps of KIP on the FC NTK, written plainly.

Draws of ``batch`` of ``examples`` images, the closed-form NTK of ``depth`` hidden ReLU layers with biases, kernel ridge
regression from ``size`` learned images, half the squared error, its gradient, Adam. float32, products in full
precision; ``STEPS`` in one timing, with one wait for the device. Needs PyTorch alone, and NumPy to check. Prints one
JSON line; with ``--check FILE``, an ``.npz`` of ``images``, ``labels`` and a batch ``x``, ``y``, the loss of that and
the norm of its gradient.
"""

import argparse
import json
import math
import statistics
import time

import torch  # pyright: ignore[reportMissingImports]
from torch import Tensor  # pyright: ignore[reportMissingImports]

CLASSES, STEPS = 10, 10


def ntk(x: Tensor, s: Tensor, depth: int, same: bool = False) -> Tensor:
    """The kernel of ``[n, d]`` and ``[m, d]``: weights of variance 2, biases of 0.01."""
    w2, b2 = 2.0, 0.01
    nngp = w2 / x.shape[1] * (x @ s.T) + b2
    of_x = w2 / x.shape[1] * x.square().sum(1) + b2
    of_s = w2 / x.shape[1] * s.square().sum(1) + b2
    tangent = nngp
    for _ in range(depth):
        norms = of_x.sqrt()[:, None] * of_s.sqrt()[None, :]
        cosine = (nngp / norms).clamp(-1, 1)
        if same:
            cosine = cosine.masked_fill(torch.eye(len(x), dtype=torch.bool, device=x.device), 1)
        kappa0 = 1 - cosine.arccos() / math.pi
        kappa1 = cosine * kappa0 + (1 - cosine.square()).sqrt() / math.pi
        nngp = w2 / 2 * norms * kappa1 + b2
        tangent = nngp + w2 / 2 * tangent * kappa0
        of_x, of_s = w2 / 2 * of_x + b2, w2 / 2 * of_s + b2
    return tangent


def loss(images: Tensor, labels: Tensor, x: Tensor, y: Tensor, depth: int) -> Tensor:
    """KIP's, of one batch."""
    gram = ntk(images, images, depth, same=True)
    ridge = 1e-6 * gram.trace() / len(gram) * torch.eye(len(gram), device=gram.device)
    alpha = torch.cholesky_solve(labels, torch.linalg.cholesky(gram + ridge))
    return 0.5 * (ntk(x, images, depth) @ alpha - y).square().sum(1).mean()


def checked(file: str, depth: int, device: str) -> dict[str, float]:
    """Of the batch of a file."""
    import numpy as np

    images, labels, x, y = (torch.tensor(np.load(file)[name], device=device) for name in ("images", "labels", "x", "y"))
    images.requires_grad_()
    value = loss(images, labels, x, y, depth)
    [gradient] = torch.autograd.grad(value, images)
    return {"loss": value.item(), "gradient_norm": gradient.norm().item()}


def times(args: argparse.Namespace, device: str) -> list[float]:
    """Seconds a step, of every repeat."""
    real = torch.randn(args.examples, args.pixels, device=device)
    targets = torch.eye(CLASSES, device=device)[torch.arange(args.examples) % CLASSES] - 1 / CLASSES
    images = torch.randn(args.size, args.pixels, device=device, requires_grad=True)
    labels = targets[: args.size]
    adam = torch.optim.Adam([images], lr=4e-2)

    def steps() -> None:
        for _ in range(STEPS):
            drawn = torch.randint(args.examples, (args.batch,), device=device)
            adam.zero_grad()
            loss(images, labels, real[drawn], targets[drawn], args.depth).backward()
            adam.step()
        if device == "cuda":
            torch.cuda.synchronize()

    steps()
    seconds = []
    for _ in range(args.repeats):
        start = time.perf_counter()
        steps()
        seconds.append((time.perf_counter() - start) / STEPS)
    return seconds


def main() -> None:
    """Times the step, or checks it."""
    parser = argparse.ArgumentParser()
    for name, value in (("examples", 50_000), ("batch", 5000), ("size", 100), ("pixels", 3072), ("depth", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--check")
    args = parser.parse_args()
    torch.set_float32_matmul_precision("highest")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if args.check:
        print(json.dumps(checked(args.check, args.depth, device)))
        return
    seconds = times(args, device)
    figures = {"median_s": statistics.median(seconds), "min_s": min(seconds), "max_s": max(seconds)}
    print(json.dumps({"what": "torch KIP step", "device": device, **vars(args), **figures}))


if __name__ == "__main__":
    main()
