"""What ``rdd groups`` shows of the groups that it found: a table on the screen, a picture, a page."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from rdd_jax import plots
from rdd_jax.app.report import STYLE, looked_at, matched, times, weighed
from rdd_jax.pixels import as_pixels
from rdd_jax.plots import shortened

__all__ = ["picture", "render", "sentences", "shown", "table"]

ROWS = 20
"""Cells of the table on the screen and of the picture."""

PICTURED = 100
"""Cells of the page, which has pictures of each."""

SMALL = 32
"""Pixels of a side up to which the images of the page are kept without loss."""

LARGEST = 96
"""Pixels of a side that an image of the page has at most."""

OF_PAGE = """
.strip { height: 3rem; image-rendering: pixelated; max-width: none; display: block }
tr.hardest { background: #fff0e8 }
td, th { vertical-align: top; padding: .3rem .5rem }
body { max-width: 75rem }
"""

Rows = Sequence[Mapping[str, Any]]


# --- words -------------------------------------------------------------------------------------------


def shown(cells: Rows, most: int) -> list[Mapping[str, Any]]:
    """As many cells: the hardest and otherwise the largest, the largest first."""
    hardest = [row for row in cells if row["hardest"]]
    others = [row for row in cells if not row["hardest"]]
    return sorted([*hardest, *others[: most - len(hardest)]], key=lambda row: -row["size"])


def _name(row: Mapping[str, Any]) -> str:
    return f"{shortened(row['class'])} / {row['group']}"


def _apart(row: Mapping[str, Any]) -> list[str]:
    """What sets a cell apart from the rest of its class, in words."""
    taken = row["taken_for"]
    told = [f"taken for {taken['class']} ({100 * taken['share']:.0f} %)"] if taken else []
    return told + [f"{one['word']} ({_deviations(one['deviations'])})" for one in row["looks"]]


def _deviations(far: float, most: int = 10) -> str:
    return f"{far:.1f} sd" if far <= most else f"over {most} sd"


def table(values: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """``(header, rows)``: the cells of `shown`, a cell a row."""
    header = ["class / group", "size", "share, %", "loss", "what sets it apart"]
    rows = []
    for row in shown(values["cells"], ROWS):
        words = [f"as {row['taken_for']['class']}"] if row["taken_for"] else []
        words += [one["word"] for one in row["looks"]]
        loss = f"{row['loss']:.2f}{' *' if row['hardest'] else '  '}"
        rows.append([_name(row), str(row["size"]), f"{100 * row['share']:.1f}", loss, _fitting(words)])
    return header, rows


def _fitting(words: Sequence[str], room: int = 26) -> str:
    """As many of the words as fit, at least one."""
    told = ""
    for word in map(shortened, words):
        if told and len(told) + len(word) + 2 > room:
            break
        told = f"{told}, {word}" if told else word
    return told or "-"


def sentences(values: Mapping[str, Any]) -> list[str]:
    """What a reader wants to know of the whole."""
    found, reference, cells = values["found_groups"], values["reference"], values["cells"]
    classes = len({row["class"] for row in cells})
    said = [
        f"{found['grouping']} found {found['groups']} groups in {classes} classes of {values['examples']} training "
        f"images{matched(found.get('match', {}))}.{weighed(found)}",
        f"The loss is the squared error of a plain reference model that did not see the image: its mean is "
        f"{reference['loss']:.2f} (accuracy {100 * reference['accuracy']:.1f} %).",
    ]
    if found["groups"] == classes:
        said.append("Every class stays one group: no gap sets a part of one apart.")
    return said


# --- pictures ----------------------------------------------------------------------------------------


def picture(cells: Rows, images: np.ndarray) -> bytes:
    """PNG: the most typical and the most wrong images of the cells of `shown`, a cell a row."""
    rows = shown(cells, ROWS)
    columns, sets = max(len(row["typical"]) for row in rows), {}
    for kind in ("typical", "wrong"):
        canvas = np.ones((len(rows), columns, *images.shape[1:]), np.float32)
        for r, row in enumerate(rows):
            canvas[r, : len(row[kind])] = as_pixels(images[row[kind]])
        sets[f"most {kind}"] = canvas.reshape(-1, *images.shape[1:])
    labels = np.repeat(np.arange(len(rows)), columns)
    names = [f"{_name(row)} ({row['size']}){' *' if row['hardest'] else ''}" for row in rows]
    return plots.image_grids(sets, labels, names)


def _strip(images: np.ndarray) -> str:
    """Images side by side, as what an ``img`` shows; large ones smaller and as JPEG, so that the page stays small."""
    pixels = np.round(255 * np.clip(as_pixels(images), 0, 1)).astype(np.uint8)
    parts = [Image.fromarray(one.squeeze(2) if one.shape[2] == 1 else one) for one in pixels]
    for part in parts:
        part.thumbnail((LARGEST, LARGEST))
    width, height = parts[0].size
    joined = Image.new(parts[0].mode, (len(parts) * (width + 1) - 1, height), "white")
    for i, part in enumerate(parts):
        joined.paste(part, (i * (width + 1), 0))
    form = "png" if max(pixels.shape[1:3]) <= SMALL else "jpeg"
    joined.save(stream := io.BytesIO(), form, **({"quality": 85} if form == "jpeg" else {}))
    return f"data:image/{form};base64,{base64.b64encode(stream.getvalue()).decode()}"


# --- the page ----------------------------------------------------------------------------------------


def render(values: Mapping[str, Any], config: str, images: np.ndarray) -> str:
    """One self-contained page: every cell with its images, what the grouping looked at, the facts, the configuration.

    Args:
      images: of train, in pixel space.
    """
    cells = shown(values["cells"], PICTURED)
    truth = any("truth" in row for row in cells)
    names = ("class", "group", "size", "share, %", "loss", *(["mostly"] if truth else []), "what sets it apart")
    head = "".join(f"<th>{html.escape(name)}</th>" for name in (*names, "most typical", "most wrong"))
    body = "".join(_row(row, truth, images) for row in cells)
    title = html.escape(f"Groups of {values['data']}")
    left = len(values["cells"]) - len(cells)
    told = [*sentences(values), NOTE, *([f"{left} smaller groups are in report.json alone."] if left else [])]
    facts = {
        "data": values["data"],
        "time": times(values["seconds"]),
        "peak memory": f"{values['peak_memory_bytes'] / 2**30:.2f} GiB",
        "device": values["device"],
    }
    listed = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(v)}</td></tr>" for k, v in facts.items())
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{title}</title><style>{STYLE}{OF_PAGE}"
        f"</style></head><body><h1>{title}</h1>{''.join(f'<p>{html.escape(one)}</p>' for one in told)}"
        f"<table><tr>{head}</tr>{body}</table>{looked_at(values['found_groups'].get('evidence', []))}"
        f"<table>{listed}</table><details><summary>configuration</summary><pre>{html.escape(config)}</pre></details>"
        "</body></html>\n"
    )


NOTE = (
    "A row is one group of one class, the largest first; those of the largest loss are coloured. What sets a group "
    "apart is against the rest of its class: the class that the reference takes it for, and how far it looks "
    "different, in standard deviations."
)


def _row(row: Mapping[str, Any], truth: bool, images: np.ndarray) -> str:
    figures = [str(row["size"]), f"{100 * row['share']:.1f}", f"{row['loss']:.3f}"]
    numbers = "".join(f"<td class='number'>{figure}</td>" for figure in figures)
    mostly = f"{row['truth']['group']} ({100 * row['truth']['share']:.0f} %)" if truth else None
    words = "; ".join(_apart(row)) or "-"
    told = [html.escape(text).replace(" %)", "&nbsp;%)") for text in (mostly, words) if text is not None]
    texts = "".join(f"<td>{text}</td>" for text in told)
    strips = "".join(
        f"<td><img class='strip' alt='{kind}' src='{_strip(images[row[kind]])}'></td>" for kind in ("typical", "wrong")
    )
    first = f"<td>{html.escape(row['class'])}</td><td class='number'>{row['group']}</td>"
    return f"<tr{' class=' + repr('hardest') if row['hardest'] else ''}>{first}{numbers}{texts}{strips}</tr>"
