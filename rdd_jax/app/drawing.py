"""What the command line shows: tables on standard output, progress on standard error."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column, Table

from rdd_jax.app import report
from rdd_jax.app.progress import Progress

__all__ = ["Drawn", "draw_report", "draw_table"]


def draw_report(values: dict[str, Any]) -> None:
    """The short table of a report, and what a reader wants to know beside it."""
    header, rows = report.table_rows(values["evaluations"], short=True)
    title = f"{values['method']} on {values['data']}, {values['ipc']} images a class (test set; ± over seeds)"
    draw_table(header, rows, title)
    for note in [*report.sentences(values), *values["notes"]]:
        print(note)
    print(", ".join(f"{name} {value}" for name, value in report.facts(values)[4:]))


def draw_table(header: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """On standard output; the line of the synthetic set in bold."""
    table = Table(*(Column(name, overflow="fold") for name in header), title=title)
    for row in rows:
        table.add_row(*row, style="bold" if row[0] == "synthetic" else None)
    Console().print(table)


class Drawn:
    """A progress bar on standard error, cleared at the end."""

    def __init__(self):
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        self._bar = Bar(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> "Drawn":
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    @property
    def progress(self) -> Progress:
        """What a job tells the bar."""

        def stage(name: str) -> None:
            self._bar.update(self._task, description=name, total=None, completed=0)

        def step(done: int, total: int, loss: float) -> None:
            self._bar.update(self._task, description=f"loss {loss:.4g}", completed=done, total=total)

        return Progress(stage, step)
