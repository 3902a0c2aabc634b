"""The job behind ``rdd compare``: finished runs side by side."""

from collections.abc import Sequence
from pathlib import Path

from rdd_jax import plots
from rdd_jax.app import report
from rdd_jax.app.commands import Compare
from rdd_jax.app.reporting import table_of
from rdd_jax.app.run_folder import Run
from rdd_jax.errors import InputError

__all__ = ["compare"]


def compare(config: Compare) -> tuple[list[str], list[list[str]], bool]:
    """A table of finished runs, a run a row, and whether a picture of subgroups was made: where the data has groups.

    Raises:
      InputError: fewer than two runs, a folder without a report, runs on different data.
    """
    if (count := len(set(config.runs))) < 2:
        raise InputError(f"compare needs two different runs or more, not {count}: rdd compare runs/A runs/B")
    names = _distinct(config.runs)
    reports = {name: Run(Path(folder)).report() for name, folder in zip(names, config.runs, strict=True)}
    kinds = {values["data"] for values in reports.values()}
    if len(kinds) > 1:
        raise InputError(f"the runs are on different data ({'; '.join(sorted(kinds))}): compare runs on the same")
    lines = [
        {**evaluation, "set": name}
        for name, values in reports.items()
        for evaluation in values["evaluations"]
        if evaluation["set"] == "synthetic"
    ]
    pictured = all("subgroups" in values for values in reports.values())
    if pictured:
        first = next(iter(reports.values()))["subgroups"]
        tables = {
            folder: table_of(next(iter(values["subgroups"]["predictions"].values()))["synthetic"])
            for folder, values in reports.items()
        }
        png = plots.before_after(tables, first["class_names"], first["group_names"])
        config.out.parent.mkdir(parents=True, exist_ok=True)
        config.out.write_bytes(png)
    return *report.table_rows(lines, short=True), pictured


def _distinct(folders: Sequence[str]) -> list[str]:
    """The folders without the parts that all of them begin or end with; as they are where one has no other."""
    parts = [Path(folder).parts for folder in folders]
    columns = list(zip(*parts, strict=False))
    first = next((i for i, column in enumerate(columns) if len(set(column)) > 1), len(columns))
    backwards = list(zip(*(p[: first - 1 if first else None : -1] for p in parts), strict=False))
    last = next((i for i, column in enumerate(backwards) if len(set(column)) > 1), len(backwards))
    names = ["/".join(p[first : len(p) - last]) for p in parts]
    return names if all(names) and len(set(names)) == len(names) else list(folders)
