"""Pictures: image grids, curves and heat maps of cells, as PNG bytes.

Names stand as they are: nothing in them is read as a formula. Long ones are shortened in the middle.
"""

import io
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rdd_jax.errors import InputError
from rdd_jax.evaluation.metrics import Cells, average, worst

__all__ = [
    "ANNOTATED",
    "LONGEST",
    "PER_CLASS",
    "TICKS",
    "before_after",
    "curves",
    "epochs",
    "grid",
    "heat_map",
    "image_grids",
    "shortened",
]

PER_CLASS = 10
"""Images of a class that a grid shows at most."""

ANNOTATED = 12
"""Classes, and groups, up to which a heat map says the figures."""

TICKS = 40
"""Names that an axis of a heat map shows at most."""

LONGEST = 32
"""Characters of a name that a picture or table shows at most."""

PLAIN = rc_context({"text.parse_math": False})


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # Signs that the font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        FigureCanvasAgg(figure).print_png(stream)
    return stream.getvalue()


def shortened(name: str) -> str:
    """The name on one line; of one longer than `LONGEST` the middle is left out."""
    line, half = " ".join(name.split()), LONGEST // 2
    return line if len(line) <= LONGEST else f"{line[: half - 1]}\N{HORIZONTAL ELLIPSIS}{line[-half:]}"


def _shown(names: Sequence[str]) -> list[str]:
    return [shortened(name) for name in names]


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


@PLAIN
def image_grids(
    sets: Mapping[str, np.ndarray], labels: np.ndarray, class_names: Sequence[str], title: str = ""
) -> bytes:
    """Grids of several sets of pixel-space images side by side, under their names, rows named by class."""
    grids = {name: grid(images, labels, len(class_names)) for name, images in sets.items()}
    height, width = next(iter(grids.values())).shape[:2]
    scale = 6.5 / max(height, width)
    figure = Figure((len(sets) * max(width * scale, 1.2) + 1.4, height * scale + 0.9), dpi=140, layout="constrained")
    step, rows = height / len(class_names), _shown(class_names)
    for i, (name, canvas) in enumerate(zip(_shown(list(grids)), grids.values(), strict=True)):
        axes = figure.add_subplot(1, len(sets), i + 1)
        axes.imshow(canvas.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(name, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([step * (c + 0.5) for c in range(len(rows))], rows if i == 0 else [], fontsize=8)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
    if title:
        figure.suptitle(title, fontsize=11)
    return _png(figure)


def heat_map(cells: Cells, class_names: Sequence[str], group_names: Sequence[str], title: str = "") -> bytes:
    """The accuracy of every cell, a class a row, a group a column, under average and worst; see `before_after`."""
    return before_after({title: cells}, class_names, group_names)


@PLAIN
def before_after(cells_by_set: Mapping[str, Cells], class_names: Sequence[str], group_names: Sequence[str]) -> bytes:
    """Heat maps of several sets side by side, each under its name, its average and its worst cell.

    Colours run from 0 to 1 in every picture; cells without examples are hatched. Up to `ANNOTATED` classes and groups
    the accuracies stand in the cells, in per cent.

    Raises:
      InputError: no set, or cells of another shape than the names.
    """
    if not cells_by_set:
        raise InputError("cells_by_set holds 0 sets: give at least one")
    classes, groups = len(class_names), len(group_names)
    for name, cells in cells_by_set.items():
        if cells.count.shape != (classes, groups):
            raise InputError(f"cells of {name!r} have shape {cells.count.shape} for {classes} classes, {groups} groups")
    titles = [_summary(*one) for one in zip(_shown(list(cells_by_set)), cells_by_set.values(), strict=True)]
    width = max(min(0.36 * groups, 8), 0.075 * max(map(len, titles)))
    figure = Figure((len(titles) * (width + 0.2) + 1.9, min(0.32 * classes, 8) + 1.3), dpi=140, layout="constrained")
    row = figure.subplots(1, len(titles), squeeze=False)[0]
    for axes, title, cells in zip(row, titles, cells_by_set.values(), strict=True):
        _heat(axes, cells, _shown(class_names) if axes is row[0] else [], _shown(group_names))
        axes.set_title(title, fontsize=9)
    bar = figure.colorbar(row[0].images[0], ax=list(row), fraction=0.04, pad=0.02)
    bar.set_ticks([0, 0.25, 0.5, 0.75, 1], labels=["0", "25", "50", "75", "100 %"], fontsize=8)
    return _png(figure)


def _summary(name: str, cells: Cells) -> str:
    figures = f"{100 * average(cells):.1f} % average, worst {100 * worst(cells):.1f} %"
    return f"{name}: {figures}" if name else figures


def _heat(axes: Axes, cells: Cells, class_names: Sequence[str], group_names: Sequence[str]) -> None:
    accuracy = cells.accuracy
    classes, groups = accuracy.shape
    # NaN is transparent: the patch behind it shows.
    axes.patch.set(facecolor="0.92", edgecolor="0.6", hatch="////")
    axes.imshow(accuracy, cmap="viridis", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    if max(classes, groups) <= ANNOTATED:
        for (c, g), value in np.ndenumerate(accuracy):
            if np.isfinite(value):
                colour = "black" if value > 0.6 else "white"
                axes.text(g, c, f"{100 * value:.0f}", ha="center", va="center", fontsize=8, color=colour)
    columns, rows = _ticks(groups), _ticks(classes)
    crowded = sum(len(group_names[g]) + 1 for g in columns) > 28
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    axes.set_xticks(columns, [group_names[g] for g in columns], fontsize=8, **slanted)
    axes.set_yticks(rows, [class_names[c] for c in rows] if class_names else [], fontsize=8)
    axes.tick_params(length=0)


def _ticks(count: int) -> range:
    return range(0, count, -(-count // TICKS))


@PLAIN
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


@PLAIN
def epochs(rows: Sequence[Mapping]) -> bytes:
    """Validation accuracy over the epochs of a training, and that of the worst group where it is known."""
    figure = Figure((5.5, 3.4), dpi=120, layout="constrained")
    axes = figure.subplots()
    for name in ("validation_accuracy", "validation_worst_group"):
        if name in rows[0]:
            values = [100 * row[name] for row in rows]
            axes.plot([row["epoch"] for row in rows], values, marker="o", ms=3, lw=1, label=name.replace("_", " "))
    axes.set(xlabel="epoch", ylabel="%")
    axes.legend()
    axes.grid(alpha=0.3)
    return _png(figure)
