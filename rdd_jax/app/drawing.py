"""What the command line shows: tables on standard output, progress on standard error."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from rdd_jax.app import report
from rdd_jax.plots import shortened
from rdd_jax.progress import Course, Progress

__all__ = ["EVERY", "LONG", "Drawn", "draw_report", "draw_table"]

EVERY = 30
"""Seconds between lines where there is no terminal."""

LONG = 120
"""Seconds from which on it is said beforehand how long a stage will take."""


def draw_report(values: dict[str, Any]) -> None:
    """The short table of a report, and what a reader wants to know beside it."""
    header, rows = report.table_rows(values["evaluations"], short=True)
    title = f"{values['method']} on {values['data']}, {values['ipc']} images a class (test set; ± over seeds)"
    draw_table(header, rows, title)
    for note in [*report.sentences(values), *values["notes"]]:
        print(note)
    print(", ".join(f"{name} {value}" for name, value in report.facts(values)[4:]))


def draw_table(header: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """On standard output, the line of the synthetic set in bold; columns beyond the width follow in further tables.

    Words are not split; long names are shortened in the middle.
    """
    console = Console(markup=False, emoji=False, highlight=False)
    rows = [[shortened(row[0]), *row[1:]] for row in rows]

    def widths(broken: Callable[[str], list[str]]) -> list[int]:
        return [max(map(cell_len, [*broken(name), *cells, ""])) for name, *cells in zip(header, *rows, strict=True)]

    wide = widths(str.splitlines)
    width = wide if len(_pages(wide, console.width)) == 1 else widths(str.split)
    for columns in _pages(width, console.width):
        table = Table(title=title)
        for i in columns:
            table.add_column(header[i], width=width[i])
        for row in rows:
            table.add_row(*(row[i] for i in columns), style="bold" if row[0] == "synthetic" else None)
        console.print(table)
        title = None


def _pages(widths: Sequence[int], room: int) -> list[list[int]]:
    """The columns of every table: the first in each, and as many others as fit beside it."""
    pages, used = [[0]], widths[0] + 4
    for i, width in enumerate(widths[1:], 1):
        if used + width + 3 > room and len(pages[-1]) > 1:
            pages.append([0])
            used = widths[0] + 4
        pages[-1].append(i)
        used += width + 3
    return pages


class Drawn:
    """What a job does, on standard error: a bar that is cleared at the end; elsewhere than on a terminal, lines.

    Either way it is said beforehand where a stage will take long.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, console: Console | None = None):
        self._console = console or Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)
        self._course, self._warned = Course(clock), False
        name = TextColumn("{task.description}", markup=False)
        columns = (name, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._bar = Bar(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)
        self._task = self._bar.add_task("starting", total=None)
        self._over = threading.Event()
        self._speaker = threading.Thread(target=self._speak, daemon=True)

    def __enter__(self) -> "Drawn":
        self._bar.start()
        if self._bar.disable:
            self._speaker.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()
        if self._bar.disable:
            self._over.set()
            self._speaker.join()

    def _speak(self) -> None:
        while not self._over.wait(EVERY):
            self._console.print(self._course.words())

    @property
    def progress(self) -> Progress:
        """What a job tells."""

        def stage(name: str) -> None:
            self._course.stage(name)
            self._warned = False
            self._bar.reset(self._task, description=name, total=None)

        def step(done: int | float, pieces: int, note: str) -> None:
            self._course.step(done, pieces, note)
            self._bar.update(self._task, description=f"{self._course.name} {note}", completed=done, total=pieces)
            left = self._course.left
            if left is not None and left > LONG and not self._warned:
                self._console.print(self._course.words())
                self._warned = True

        return Progress(stage, step)
