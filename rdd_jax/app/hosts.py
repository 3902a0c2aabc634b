"""One run on several hosts: the same command on each, which `jax.distributed` brings together.

Every host computes the same, on a mesh of all devices; the first one keeps the run folder, and the others work in a
folder of their own that is thrown away.
"""

import os
import shutil
import socket
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rdd_jax.app.digests import digest
from rdd_jax.errors import InputError

__all__ = ["Hosts", "add_hosts", "agreed", "any_host", "check_alike", "own_folder"]

PATIENCE = 60
"""Seconds that hosts wait for each other at the start, unless ``RDD_HOSTS_TIMEOUT`` says otherwise."""

SILENCE = 20
"""Seconds after which a host that is no longer heard of has ended, unless ``RDD_HOSTS_SILENCE`` says otherwise."""


@dataclass(frozen=True)
class Hosts:
    """Which host this is, and how the others are found.

    Attributes:
      coordinator: ``ADDRESS:PORT`` of the first host, or ``auto``: as the environment says (TPU pods, Slurm). None:
        this is the only host.
      hosts: how many there are; ``host``: which one this is, from 0. None: as the environment says.
    """

    coordinator: str | None = None
    hosts: int | None = None
    host: int | None = None

    def check(self) -> None:
        """Raises `InputError` where the three do not go together."""
        if self.coordinator is None:
            if self.hosts is not None or self.host is not None:
                raise InputError("hosts and host are given without a coordinator: give --coordinator ADDRESS:PORT")
            return
        if self.coordinator == "auto":
            return
        address, _, port = self.coordinator.rpartition(":")
        if not address or not port.isdigit():
            raise InputError(f"coordinator is {self.coordinator!r}: give ADDRESS:PORT of the first host, or auto")
        if self.hosts is None or self.host is None or not 0 <= self.host < self.hosts:
            told = f"hosts is {self.hosts} and host is {self.host}"
            raise InputError(f"{told}: give --hosts N and, on every host, its own --host 0 to N-1")

    def join(self) -> None:
        """Waits for all hosts; does nothing where there is one.

        Raises:
          InputError: the others did not come.
        """
        self.check()
        if self.coordinator is None:
            return
        patience = int(os.environ.get("RDD_HOSTS_TIMEOUT", PATIENCE))
        silence = int(os.environ.get("RDD_HOSTS_SILENCE", SILENCE))
        if self.host:
            self._wait_for_first(patience)
        given: dict[str, Any] = {} if self.coordinator == "auto" else {"coordinator_address": self.coordinator}
        given |= {} if self.hosts is None else {"num_processes": self.hosts, "process_id": self.host}
        try:
            jax.distributed.initialize(**given, initialization_timeout=patience, heartbeat_timeout_seconds=silence)
        # As JAX tells of time-outs, addresses, and environments that name no hosts.
        except (RuntimeError, ValueError) as error:
            told = " ".join(str(error).split())[:200]
            raise InputError(
                f"coordinator {self.coordinator!r}: not all hosts came within {patience} s ({told}): start the same "
                "command on each, with the address of the first"
            ) from error

    def _wait_for_first(self, patience: int) -> None:
        """Raises `InputError` where the first host does not listen in time: JAX would end the process."""
        assert self.coordinator is not None
        address, _, port = self.coordinator.rpartition(":")
        deadline = time.monotonic() + patience
        while True:
            try:
                socket.create_connection((address, int(port)), timeout=1).close()
                return
            except OSError as error:
                if time.monotonic() > deadline:
                    told = error.strerror or error
                    raise InputError(
                        f"coordinator {self.coordinator!r} does not answer after {patience} s ({told}): "
                        "start the same command on the first host, and look whether its port can be reached"
                    ) from error
                time.sleep(0.2)


def add_hosts(parser: ArgumentParser) -> None:
    """The options of `Hosts`."""
    parser.add_argument("--coordinator", metavar="ADDRESS:PORT", help="several hosts: of the first one, or auto")
    parser.add_argument("--hosts", type=int, metavar="N", help="how many; the same command runs on each")
    parser.add_argument("--host", type=int, metavar="I", help="which one this is, 0 to N-1")


def check_alike(what: str, value: Callable[[], Mapping[str, Any]]) -> None:
    """Raises `InputError`, on every host, where hosts differ in a value, which JSON can hold."""
    if jax.process_count() == 1:
        return
    from jax.experimental import multihost_utils

    mine = np.frombuffer(bytes.fromhex(digest(value())), np.uint8)
    everyone = np.asarray(multihost_utils.process_allgather(mine)).reshape(jax.process_count(), -1)
    if other := [i for i, theirs in enumerate(everyone) if not np.array_equal(theirs, everyone[0])]:
        raise InputError(f"{what} of host {other[0]} is not that of host 0: give every host the same")


def any_host(here: bool) -> bool:
    """Whether it is so on any host; all have to ask."""
    if jax.process_count() == 1:
        return here
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.array(here))))


def agreed() -> None:
    """Waits until all hosts are here."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("rdd")


@contextmanager
def own_folder(out: Path, resume: bool) -> Iterator[Path]:
    """The folder that this host's run is in: ``out`` on the first one, elsewhere one that is thrown away.

    A run that is resumed is copied there, from the folder that all hosts see.

    Raises:
      InputError: a new run, and the folder exists; on every host.
    """
    if any_host(not resume and jax.process_index() == 0 and os.path.lexists(out)):
        raise InputError(f"{str(out)!r} exists: give another --out, or remove it")
    if jax.process_index() == 0:
        agreed()
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="rdd-host-") as scratch:
        own = Path(scratch) / "run"
        if resume:
            shutil.copytree(out, own)
        agreed()
        yield own
