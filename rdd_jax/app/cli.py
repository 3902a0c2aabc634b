"""The command line ``rdd``: parsing, drawing and exit codes; the work is in `rdd_jax.app.job`.

Exit codes: 0 done, 2 something given cannot be used, 3 diverged, 130 interrupted (and resumable).
"""

import sys
from dataclasses import asdict, replace
from pathlib import Path

import tyro

from rdd_jax.app.config import Commands, Compare, Distill, DistillCommand, Evaluate, Select, Show
from rdd_jax.errors import InputError

DESCRIPTION = "Data set distillation: tiny synthetic sets that train nearly as well as the full one."


def main(arguments: list[str] | None = None) -> int:
    """The entry point of the console script; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command = tyro.cli(Commands, prog="rdd", description=DESCRIPTION, args=arguments)
    try:
        if isinstance(command, DistillCommand):
            return _distill(command, arguments)
        if isinstance(command, Evaluate):
            _evaluate(command)
        elif isinstance(command, Select):
            _select(command)
        elif isinstance(command, Compare):
            _compare(command)
        else:
            _show(command)
    except InputError as error:
        print(f"rdd: {error}", file=sys.stderr)
        return 2
    return 0


def _distill(command: DistillCommand, arguments: list[str]) -> int:
    config, out = _resolve(command, arguments)

    from rdd_jax.app.job import distil
    from rdd_jax.distill import Diverged

    resume = f"rdd distill --resume {out}"
    try:
        with _Drawn() as drawn:
            outcome = distil(config, out, resume=command.resume is not None, progress=drawn.progress)
    except Diverged as diverged:
        print(f"rdd: {diverged} (the last good state is kept in {out / 'checkpoints'})", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print(f"rdd: interrupted; go on with `{resume}`", file=sys.stderr)
        return 130
    _print_report(outcome.report)
    print(f"{out / 'report.html'}: the report, with pictures; {out / 'synthetic.npz'}: the set")
    return 0


def _resolve(command: DistillCommand, arguments: list[str]) -> tuple[Distill, Path]:
    """The configuration and folder; a resumed run's own, which options given beside must not contradict."""
    if command.resume is None:
        config = command.config
        name = Path(config.data).stem
        parts = [name, *([config.shift] if config.shift != "none" else []), config.method]
        parts += ["robust"] if config.robust else []
        return config, command.out or Path("runs") / "-".join([*parts, f"ipc{config.ipc}", f"seed{config.seed}"])

    from rdd_jax.app.runs import Run

    saved = Run(command.resume).config()
    given = tyro.cli(DistillCommand, args=arguments[1:], default=replace(command, config=saved)).config
    old, new = asdict(saved), asdict(given)
    if changed := [f"--{key.replace('_', '-')} {new[key]} (it has {old[key]})" for key in old if old[key] != new[key]]:
        raise InputError(
            f"cannot resume {str(command.resume)!r} with {', '.join(changed)}: leave it out or start a new run"
        )
    if command.out not in (None, command.resume):
        raise InputError(
            f"--out {str(command.out)!r} beside --resume {str(command.resume)!r}: a run stays in its folder"
        )
    return saved, command.resume


def _evaluate(config: Evaluate) -> None:
    from rdd_jax.app.job import evaluate_job

    with _Drawn() as drawn:
        values = evaluate_job(config, drawn.progress)
    _print_report(values)


def _compare(config: Compare) -> None:
    from rdd_jax.app.job import compare_job

    header, rows, pictured = compare_job(config)
    _draw_table(header, rows)
    if pictured:
        print(f"{config.out}: the accuracy of every class and group")


def _select(config: Select) -> None:
    from rdd_jax.app.coreset import select_job

    with _Drawn() as drawn:
        values = select_job(config, drawn.progress)
    print(
        f"{values['chosen']} of {values['data']} by {values['method']} ({values['draw']}, by {values['strata']}) in "
        f"{values['seconds']:.1f} s"
    )
    for sentence in values["words"]:
        print(sentence)
    print(f"{values['out']}: indices, weights, scores and images; a picture and a report beside it")


def _show(config: Show) -> None:
    from rdd_jax import plots
    from rdd_jax.app.job import describe

    stem = Path(config.name).stem
    out = Path(config.out or f"data-{stem}.png")
    splits, rows = describe(config)
    train = splits.train
    header = ["", "train", "validation", "test"]
    _draw_table(header, rows, title=f"{stem}: {train.images.shape[1:]} {train.images.dtype}")
    picture = plots.image_grids({stem: train.pixels}, train.labels, train.class_names)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(picture)
    print(f"{out}: the first images of every class")


def _print_report(values: dict) -> None:
    from rdd_jax.app.report import facts, sentences, table_rows

    header, rows = table_rows(values["evaluations"], short=True)
    title = f"{values['method']} on {values['data']}, {values['ipc']} images a class (test set; ± over seeds)"
    _draw_table(header, rows, title)
    for note in [*sentences(values), *values["notes"]]:
        print(note)
    print(", ".join(f"{name} {value}" for name, value in facts(values)[4:]))


def _draw_table(header: list[str], rows: list[list[str]], title: str | None = None) -> None:
    """On standard output; the line of the synthetic set in bold."""
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(*(Column(name, overflow="fold") for name in header), title=title)
    for row in rows:
        table.add_row(*row, style="bold" if row[0] == "synthetic" else None)
    Console().print(table)


class _Drawn:
    """A progress bar on standard error, cleared at the end."""

    def __init__(self):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> "_Drawn":
        self._bar.start()
        return self

    def __exit__(self, *exception) -> None:
        self._bar.stop()

    @property
    def progress(self):
        from rdd_jax.app.job import Progress

        def stage(name: str) -> None:
            self._bar.update(self._task, description=name, total=None, completed=0)

        def step(done: int, total: int, loss: float) -> None:
            self._bar.update(self._task, description=f"loss {loss:.4g}", completed=done, total=total)

        return Progress(stage, step)


if __name__ == "__main__":
    sys.exit(main())
