"""The PyTorch side of `benchmarks.feature_step`: one step of FRePo, written plainly.

The features of 2 x ``ipc`` synthetic images a class (mirror images too) with their graph and of ``batch`` real ones
without, kernel ridge regression, half the squared error less the label margin, its gradient to images and labels, Adam;
then one step of Adam of the network on the set. ConvNet, depth 3, width 128, instance norm, 32x32x3, float32. Needs
PyTorch alone. Prints one JSON line.
"""

import argparse
import json
import statistics
import time

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

CLASSES, WIDTH = 10, 128


def body() -> nn.Sequential:
    """The blocks; their output is flattened."""
    layers: list[nn.Module] = []
    channels = 3
    for _ in range(3):
        layers += [nn.Conv2d(channels, WIDTH, 3, padding=1), nn.GroupNorm(WIDTH, WIDTH), nn.ReLU(), nn.AvgPool2d(2)]
        channels = WIDTH
    return nn.Sequential(*layers, nn.Flatten())


def main() -> None:
    """Times the step."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    embed, last = body().to(device), nn.Linear(WIDTH * 16, CLASSES).to(device)
    size = CLASSES * args.ipc
    images = torch.randn(size, 3, 32, 32, device=device, requires_grad=True)
    labels = torch.eye(CLASSES, device=device).repeat_interleave(args.ipc, 0).sub(0.1).requires_grad_()
    real = torch.randn(args.batch, 3, 32, 32, device=device)
    targets = torch.eye(CLASSES, device=device)[torch.arange(args.batch) % CLASSES] - 0.1
    of_set = torch.optim.Adam([images, labels], lr=3e-4)
    of_network = torch.optim.Adam([*embed.parameters(), *last.parameters()], lr=3e-4)

    def step() -> None:
        ours = embed(torch.cat([images, images.flip(3)]))
        with torch.no_grad():
            theirs = embed(real)
        both = torch.cat([labels, labels])
        kernel = ours @ ours.T
        ridge = 1e-6 * kernel.trace() / len(kernel) * torch.eye(len(kernel), device=device)
        error = 0.5 * (theirs @ ours.T @ torch.linalg.solve(kernel + ridge, both) - targets).square().sum(1).mean()
        top = labels.topk(2, 1).values
        margin = (top[:, 0] - top[:, 1]).clamp(max=1 / CLASSES).mean()
        of_set.zero_grad()
        (error - margin).backward(inputs=[images, labels])
        of_set.step()
        of_network.zero_grad()
        taught = 0.5 * (last(embed(images.detach())) - labels.detach()).square().sum(1).mean()
        taught.backward()
        of_network.step()
        if device == "cuda":
            torch.cuda.synchronize()

    step()
    seconds = []
    for _ in range(args.repeats):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    figures = {"median_s": statistics.median(seconds), "min_s": min(seconds), "max_s": max(seconds)}
    print(json.dumps({"what": "torch FRePo step", "device": device, "ipc": args.ipc, "batch": args.batch, **figures}))


if __name__ == "__main__":
    main()
