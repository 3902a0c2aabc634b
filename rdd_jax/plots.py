"""Pictures: image grids and curves, as PNG bytes."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

PER_CLASS = 10
"""Images of a class that a grid shows at most."""


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream)
    return stream.getvalue()


def grid(images: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """One picture of pixel-space ``images``, a class a row, at most `PER_CLASS` a class, a white line between."""
    height, width, channels = images.shape[1:]
    columns = min(PER_CLASS, int(np.bincount(labels, minlength=classes).max()))
    canvas = np.ones((classes * (height + 1) + 1, columns * (width + 1) + 1, channels), np.float32)
    for c in range(classes):
        for i, image in enumerate(images[labels == c][:columns]):
            top, left = c * (height + 1) + 1, i * (width + 1) + 1
            canvas[top : top + height, left : left + width] = np.clip(image, 0, 1)
    return canvas


def image_grids(
    sets: Mapping[str, np.ndarray], labels: np.ndarray, class_names: Sequence[str], title: str = ""
) -> bytes:
    """Grids of several sets of pixel-space images side by side, under their names, rows named by class."""
    grids = {name: grid(images, labels, len(class_names)) for name, images in sets.items()}
    height, width = next(iter(grids.values())).shape[:2]
    scale = 6.5 / max(height, width)
    figure = Figure((len(sets) * max(width * scale, 1.2) + 1.4, height * scale + 0.9), dpi=140, layout="constrained")
    step = height / len(class_names)
    for i, (name, canvas) in enumerate(grids.items()):
        axes = figure.add_subplot(1, len(sets), i + 1)
        axes.imshow(canvas.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(name, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([step * (c + 0.5) for c in range(len(class_names))], class_names if i == 0 else [], fontsize=8)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
    if title:
        figure.suptitle(title, fontsize=11)
    return _png(figure)


def curves(metrics: Sequence[Mapping], title: str = "") -> bytes:
    """Training loss and validation accuracy over steps."""
    figure = Figure((9, 3.4), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    loss = [(row["step"], row["loss"]) for row in metrics if "loss" in row]
    valid = [(row["step"], 100 * row["validation_accuracy"]) for row in metrics if "validation_accuracy" in row]
    if loss:
        left.plot(*zip(*loss, strict=True), lw=1)
        left.set_yscale("log")
    if valid:
        right.plot(*zip(*valid, strict=True), marker="o", ms=3, lw=1)
    left.set(xlabel="step", ylabel="loss of the batch")
    right.set(xlabel="step", ylabel="validation accuracy, %")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    if title:
        figure.suptitle(title, fontsize=11)
    return _png(figure)
