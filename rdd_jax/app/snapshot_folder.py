"""A folder of snapshots: networks in training on real data, those of an epoch written whole or not at all.

``config.json``, ``environment.json``, ``lock``, ``epochs.jsonl``, ``epoch-0000.npz`` (random weights) and one an epoch,
all networks in it, ``state.npz``, from which a training that was broken off goes on, ``curves.png``, and in the end
``report.json``.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from rdd_jax.app import records
from rdd_jax.app.digests import of_file
from rdd_jax.arrays import read_npz, write_npz
from rdd_jax.errors import InputError
from rdd_jax.files import new_folder, read_values, write_json, write_text
from rdd_jax.types import Training

__all__ = ["SnapshotFolder"]

EVALUATION = {**records.EVALUATION, "values": [records.NUMBER]}
REPORT = {"network": {"network": str}, "epochs": [{"epoch": int}], "snapshots": {str: str}, "evaluations": [EVALUATION]}
CONFIG = {"data": {"preprocess": str, "zca_reg": records.NUMBER, "data": str}, "groups": {"grouping": str}}


@dataclass(frozen=True)
class SnapshotFolder:
    """The paths and files of one training."""

    folder: Path

    @property
    def finished(self) -> bool:
        """Whether the training has ended: its report is the last file that is written."""
        return (self.folder / "report.json").is_file()

    def snapshot(self, epoch: int) -> Path:
        """The file of the networks after so many epochs."""
        return self.folder / f"epoch-{epoch:04d}.npz"

    # --- while training --------------------------------------------------------------------------------

    def create(self, values: Mapping[str, Any], environment: Mapping[str, str], fingerprint: str) -> None:
        """Makes the folder; raises `InputError` where it exists."""
        with new_folder(self.folder) as made:
            write_json(made / "config.json", values)
            write_json(made / "environment.json", {**environment, "data_fingerprint": fingerprint})

    def check_same(self, values: Mapping[str, Any], fingerprint: str) -> None:
        """Raises `InputError` where the folder is of another training."""
        remedy = "give another --out"
        if not (self.folder / "config.json").is_file():
            raise InputError(f"{str(self.folder)!r} exists and holds no snapshots: {remedy}")
        before, now = _flat(self._read("config.json")), _flat(json.loads(json.dumps(values)))
        if changed := [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]:
            old, new = before.get(changed[0]), now.get(changed[0])
            raise InputError(
                f"{str(self.folder)!r} is of a training whose {changed[0]} is {old!r}, not {new!r}: {remedy}"
            )
        if self.data_fingerprint != fingerprint:
            raise InputError(f"{str(self.folder)!r} is of a training on other data: {remedy}")

    def save(self, step: int, seconds: float, trainings: Sequence[Training]) -> None:
        """The trainings after so many steps, from which they go on, and the seconds that they took."""
        leaves = {f"{i:04d}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(trainings))}
        write_npz(self.folder / "state.npz", step=np.array(step), **leaves, seconds=np.array(seconds))

    def restore(self, like: list[Training]) -> tuple[int, float, list[Training]]:
        """What was saved, in the form of ``like``; step 0, no seconds and ``like`` itself where nothing was yet.

        Raises:
          InputError: a state that is damaged, or of another form.
        """
        file = self.folder / "state.npz"
        if not file.exists():
            return 0, 0.0, like
        leaves, form = jax.tree.flatten(like)
        found = read_npz(file, ("step", *(f"{i:04d}" for i in range(len(leaves))), "seconds"))
        step, seconds = found.pop("step"), found.pop("seconds")
        same = [(a.shape, a.dtype) for a in found.values()] == [(a.shape, a.dtype) for a in map(np.asarray, leaves)]
        counted = not step.shape and step.dtype.kind == "i" and step >= 0
        timed = not seconds.shape and seconds.dtype.kind == "f" and seconds >= 0
        if not (same and counted and timed):
            raise InputError(f"{str(file)!r} does not hold this training: remove it, and the training begins anew")
        return int(step), float(seconds), jax.tree.unflatten(form, map(jnp.asarray, found.values()))

    def keep(self, epoch: int, variables: Sequence[Any]) -> None:
        """Writes the networks after so many epochs, each array with a leading axis of networks."""
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *variables)
        write_npz(self.snapshot(epoch), **{k: np.asarray(v) for k, v in flatten_dict(stacked, sep="/").items()})

    def rows(self, until: int) -> list[dict[str, Any]]:
        """What is known of every epoch, up to one; raises `InputError` where one is missing or no row."""
        file = self.folder / "epochs.jsonl"
        try:
            rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
        except ValueError:
            rows = []
        rows = [row for row in rows if records.fits(row, {"epoch": int}) and row["epoch"] <= until]
        if [row["epoch"] for row in rows] != list(range(until + 1)):
            raise InputError(f"{str(file)!r} is damaged: remove {str(self.folder)!r}, and train again")
        return rows

    def write_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replaces all rows."""
        write_text(self.folder / "epochs.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    # --- afterwards ------------------------------------------------------------------------------------

    def digests(self, epochs: int) -> dict[str, str]:
        """Of the networks of all epochs, by file."""
        files = [self.snapshot(epoch) for epoch in range(epochs + 1)]
        return {file.name: of_file(file) for file in files}

    def report(self) -> dict[str, Any]:
        """The report of a training that has ended; raises `InputError` where it has not, or the report is broken."""
        if not self.finished:
            if not (self.folder / "config.json").is_file():
                raise InputError(f"{str(self.folder)!r} is no folder of snapshots: give one that `rdd train` made")
            raise InputError(
                f"the training in {str(self.folder)!r} has not ended: give its `rdd train` command again, with "
                f"--out {shlex.quote(str(self.folder))}"
            )
        values = read_values(self.folder / "report.json", "train again")
        if not records.fits(values, REPORT):
            raise InputError(f"{str(self.folder / 'report.json')!r} is no report of a training: train again")
        return values

    @property
    def epochs(self) -> int:
        """Of a training that has ended; raises as `report`."""
        return len(self.report()["snapshots"]) - 1

    def check_network(self, asked: Mapping[str, Any], first: int) -> None:
        """Raises `InputError` where the networks are others than ``asked``, or there are none from epoch ``first``."""
        report = self.report()
        for name, value in report["network"].items():
            if asked.get(name) != value:
                flag = name if name in ("network", "norm") else f"net-{name}"
                raise InputError(
                    f"the snapshots in {str(self.folder)!r} are of a network whose {name} is {value}, not "
                    f"{asked.get(name)}: add --{flag} {value}"
                )
        if first > self.epochs:
            raise InputError(f"snapshots_from is {first}, but {str(self.folder)!r} has {self.epochs} epochs: lower it")

    def check_data(self, preprocess: str, zca_reg: float, fingerprint: str) -> None:
        """Raises `InputError` where the networks were trained on other data, or on data in another space."""
        own = self._config()["data"]
        for name, value in (("preprocess", preprocess), ("zca_reg", zca_reg)):
            if own[name] != value:
                raise InputError(
                    f"the snapshots in {str(self.folder)!r} are of data whose {name} is {own[name]}, not {value}: add "
                    f"--{name.replace('_', '-')} {own[name]}"
                )
        if self.data_fingerprint != fingerprint:
            raise InputError(
                f"the snapshots in {str(self.folder)!r} were trained on other data ({own['data']!r}): give the same "
                "data, shift and seed, by which validation is split off, or train others with `rdd train`"
            )

    @property
    def robust(self) -> bool:
        """Whether the training was under a risk over groups."""
        return self._config()["groups"]["grouping"] != "none"

    def load(self, first: int) -> list[Any]:
        """The variables of every epoch from one on, those of all networks stacked.

        Raises:
          InputError: `report` does, or a file is not what the training left.
        """
        known, found = self.report()["snapshots"], []
        for epoch in range(first, len(known)):
            file = self.snapshot(epoch)
            arrays = read_npz(file)
            if of_file(file) != known.get(file.name):
                raise InputError(f"{str(file)!r} is not what the training left: bring it back, or train again")
            found.append(unflatten_dict({key: jnp.asarray(value) for key, value in arrays.items()}, sep="/"))
        return found

    @property
    def data_fingerprint(self) -> str:
        """Of the data that the networks were trained on."""
        values = self._read("environment.json")
        if not records.fits(values, {"data_fingerprint": str}):
            raise InputError(f"{str(self.folder / 'environment.json')!r} was edited: train again")
        return values["data_fingerprint"]

    def _config(self) -> dict[str, Any]:
        config = self._read("config.json")
        if not records.fits(config, CONFIG):
            raise InputError(f"{str(self.folder / 'config.json')!r} was edited: train again")
        return config

    def _read(self, name: str) -> dict[str, Any]:
        return read_values(self.folder / name, "train again")


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options of all sections, by name."""
    parts = [value if isinstance(value, dict) else {key: value} for key, value in values.items()]
    return {key: value for part in parts for key, value in part.items()}
