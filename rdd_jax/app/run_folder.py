"""A run folder: what is in it, written so that it is either whole or not there.

``config.json``, ``environment.json``, ``lock``, ``metrics.jsonl``, ``checkpoints/``, ``synthetic.npz``, ``images.png``,
``curves.png``, ``report.json``, ``report.html``.
"""

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdd_jax.app import options, records, settings
from rdd_jax.app.digests import digest, fingerprint, of_file
from rdd_jax.app.methods import METHODS, Method, name_of
from rdd_jax.errors import InputError
from rdd_jax.files import append_text, locked, new_folder, read_values, write_json, write_text
from rdd_jax.grouping import is_file, split_names
from rdd_jax.saving import SavedSet, save_set
from rdd_jax.types import Splits

__all__ = ["Run", "config_of", "folder_of", "from_anywhere"]


def _snapshots(config: Method) -> str | None:
    """The folder of networks that a method looks from, where it has such an option and it is given."""
    return {field.name: field.default for field in options.options(config)}.get("snapshots")


def _digests(config: Method) -> dict[str, str]:
    """Of every file beside the data that a run is made from, its start and its groups, by path."""
    start = Path(config.set.init)
    files = [] if config.set.init in config.set.STARTS else [start / "synthetic.npz" if start.is_dir() else start]
    snapshots = _snapshots(config)
    files += [] if snapshots is None else [Path(snapshots) / "report.json"]  # which has those of the networks
    files += [Path(part) for part in split_names(config.groups.grouping or "none") if is_file(part)]
    return {str(file): of_file(file) for file in files}


def from_anywhere(config: Method) -> Method:
    """The configuration with the paths of its data, start and groups in full, so that it holds in any directory."""
    given = {"data": (config.data.data, ("digits",)), "init": (config.set.init, config.set.STARTS)}
    if (snapshots := _snapshots(config)) is not None:
        given["snapshots"] = (snapshots, ())
    paths = {
        key: str(Path(value).absolute())
        for key, (value, names) in given.items()
        if value not in names and Path(value).exists()
    }
    if config.groups.grouping is not None:
        parts = split_names(config.groups.grouping)
        paths["grouping"] = "+".join(str(Path(part).absolute()) if is_file(part) else part for part in parts)
    return options.updated(config, paths)


def config_of(values: Mapping[str, Any], where: str, start: Method | None = None) -> Method:
    """The configuration that a file's values say, ``method`` among them.

    Args:
      where: the file, for messages.
      start: what is not in the file; None: the defaults of its method.

    Raises:
      InputError: no method, one that is not that of ``start``, or what `settings.from_values` raises.
    """
    rest = dict(values)
    name = rest.pop("method", None if start is None else name_of(start))
    if not isinstance(name, str):
        raise InputError(f"{where} names no method: give method = one of {', '.join(METHODS)}")
    if start is not None and name != name_of(start):
        raise InputError(f"{where} is of method {name!r}, not {name_of(start)!r}: say `rdd distill {name}`")
    return settings.from_values(METHODS.make(name) if start is None else start, rest, where)


def folder_of(config: Method) -> Path:
    """Where a run goes that was given no folder."""
    parts = [Path(config.data.data).stem, *([config.data.shift] if config.data.shift != "none" else [])]
    parts += [name_of(config), *(["robust"] if config.robust else []), f"ipc{config.set.ipc}", f"seed{config.seed}"]
    return Path("runs") / "-".join(parts)


def _remake(values: Mapping[str, Any]) -> str:
    """The command that makes a run of the old, flat configuration again."""
    config = METHODS.make(values["method"])
    words = ["rdd", "distill", str(values["method"])]
    for field in options.options(config):
        value = values.get(field.name, field.default)
        unset = [field.default, None, "auto", "", *([0] if field.optional else [])]
        if field.type is bool and field.name in values and value != field.default:
            words.append(f"--{'' if value else 'no-'}{field.name.replace('_', '-')}")
        elif value not in unset and field.type is not bool:
            words += [f"--{field.name.replace('_', '-')}", str(value)]
    return shlex.join(words)


@dataclass(frozen=True)
class Run:
    """The paths and files of one run folder."""

    folder: Path

    @property
    def checkpoints(self) -> Path:
        """Where the states are."""
        return self.folder / "checkpoints"

    @property
    def best(self) -> Path:
        """Where the states are that were the best on validation, under ``--keep best``."""
        return self.folder / "best"

    def best_row(self) -> dict:
        """Of the validations so far the one with the best accuracy, the first of equals."""
        validated = (row for row in self.metrics() if "validation_accuracy" in row)
        return max(validated, key=lambda row: row["validation_accuracy"])

    @property
    def finished(self) -> bool:
        """Whether the run has ended: its report is the last file that is written."""
        return all((self.folder / name).is_file() for name in ("report.json", "synthetic.npz"))

    @property
    def resumption(self) -> str:
        """The command that goes on with the run."""
        return shlex.join(["rdd", "distill", "--resume", str(self.folder)])

    def create(self, config: Method, environment: dict[str, str], data: Splits) -> None:
        """Makes the folder with its configuration and environment; raises `InputError` where it exists."""
        values = {"method": name_of(config), **settings.to_values(config)}
        digests = {
            "data_fingerprint": fingerprint(data),
            "config_digest": digest(values),
            "file_digests": _digests(config),
        }
        with new_folder(self.folder) as made:
            write_json(made / "config.json", values)
            write_json(made / "environment.json", {**environment, **digests})

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The folder for this process alone; the system takes the lock back however the process ends.

        Raises:
          InputError: another process is at work there, or nothing can be written.
        """
        with locked(self.folder):
            yield

    def check_data(self, data: Splits, remedy: str = "bring the old data back or start a new run") -> None:
        """Raises `InputError` where ``data`` is not what the run was started with."""
        if self.data_fingerprint != fingerprint(data):
            raise InputError(
                f"{str(self.folder)!r} was started on other data: what {self.config().data.data!r} holds is not what "
                f"it held: {remedy}"
            )

    def check_files(self, config: Method) -> None:
        """Raises `InputError` where a start or groups from a file are not what the run was started with."""
        known = self._environment().get("file_digests", {})
        for file, found in _digests(config).items():
            if known.get(file) != found:
                raise InputError(
                    f"{file!r} is not what it was when {str(self.folder)!r} was started: bring it back, or start a "
                    "new run"
                )

    @property
    def data_fingerprint(self) -> str:
        """The `fingerprint` of the data that the run was started with."""
        return self._environment()["data_fingerprint"]

    def _environment(self) -> dict[str, Any]:
        values = self._read("environment.json")
        if not records.fits(values, records.ENVIRONMENT):
            again = shlex.join(["rdd", "distill", "--config", str(self.folder / "config.json"), "--out", "NEW"])
            raise InputError(
                f"{str(self.folder / 'environment.json')!r} was made by an older version, or was edited: make the run "
                f"again with `{again}`"
            )
        return values

    def config(self) -> Method:
        """The configuration of the run.

        Raises:
          InputError: the folder is none, or of an older layout, or its configuration is not what it was started with.
        """
        values, file = self._read("config.json"), self.folder / "config.json"
        if "ipc" in values and values.get("method") in list(METHODS):
            raise InputError(
                f"{str(self.folder)!r} was made by an older version, whose configuration has no sections: make it "
                f"again with `{_remake(values)}`"
            )
        config = config_of(values, str(file))
        if self._environment()["config_digest"] != digest(values):
            again = shlex.join(["rdd", "distill", "--config", str(file), "--out", "NEW"])
            raise InputError(
                f"{str(file)!r} is not what the run was started with: bring it back, or start a new run with `{again}`"
            )
        return config

    def report(self) -> dict[str, Any]:
        """The report of a finished run; raises `InputError` where there is none, or a broken one."""
        file = self.folder / "report.json"
        if not file.is_file():
            raise InputError(f"{str(self.folder)!r} has no report.json: it is no run folder, or the run has not ended")
        remedy = f"remove it and make it again with `{self.resumption}`"
        values = read_values(file, remedy)
        if not records.is_report(values):
            raise InputError(f"{str(file)!r} is no report of a run: {remedy}")
        return values

    def _read(self, name: str) -> dict[str, Any]:
        file = self.folder / name
        if not file.is_file():
            raise InputError(f"{str(self.folder)!r} is no run folder: it has no {name}")
        return read_values(file, "bring it back or start a new run")

    def metrics(self, until: int | None = None) -> list[dict]:
        """The rows of ``metrics.jsonl``; a last line cut short by a kill is dropped.

        Args:
          until: only those of so many steps, of which none may be missing: later ones belong to steps that are about
            to be taken again.

        Raises:
          InputError: a line that is no row, or steps without one.
        """
        file, rows = self.folder / "metrics.jsonl", []
        text = file.read_bytes().decode(errors="replace") if file.is_file() else ""
        for number, line in enumerate(text.splitlines(keepends=True), 1):
            if not line.endswith("\n"):
                break
            row = records.row_of(line)
            if row is None:
                raise InputError(f"{str(file)!r}, line {number}, is no row of a run: bring it back or start a new run")
            rows.append(row)
        if until is None:
            return rows
        rows = [row for row in rows if row["step"] <= until]
        if [row["step"] for row in rows if "loss" in row] != list(range(1, until + 1)):
            raise InputError(
                f"{str(file)!r} does not have a row for each of the {until} steps that were taken: bring it back or "
                "start a new run"
            )
        return rows

    def rewrite_metrics(self, rows: Iterable[dict]) -> None:
        """Replaces all rows."""
        write_text(self.folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def append_metrics(self, rows: Iterable[dict]) -> None:
        """Adds rows at the end."""
        append_text(self.folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def save_synthetic(self, saved: SavedSet) -> None:
        """Writes ``synthetic.npz``."""
        save_set(self.folder / "synthetic.npz", saved)
