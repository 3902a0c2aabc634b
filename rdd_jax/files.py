"""Files that are either whole or not there: text, JSON, and what others write in one move."""

import fcntl
import json
import os
import shutil
import tempfile
import tomllib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from rdd_jax.errors import InputError

__all__ = [
    "append_text",
    "as_json",
    "check_new",
    "check_place",
    "locked",
    "new_folder",
    "read_values",
    "replacing",
    "room_for",
    "write_bytes",
    "write_json",
    "write_text",
]

PROBE = 1 << 16
"""Bytes that are written for a try: more than what a full device still takes."""


def check_new(path: Path) -> None:
    """Raises `InputError` where ``path`` exists, or cannot be made: nothing is ever overwritten."""
    if os.path.lexists(path):
        raise InputError(f"{str(path)!r} exists: give another --out, or remove it")
    check_place(path)


def check_place(path: Path) -> None:
    """Raises `InputError` where no file or folder ``path`` could be made: said before the work, not after it."""
    try:
        place = path.absolute()
        missing = []
        while not os.path.lexists(place):
            missing.append(place.name)
            place = place.parent
        for name in missing:
            with suppress(FileNotFoundError):
                os.lstat(place / name)  # raises where the name is too long
        with tempfile.TemporaryFile(dir=place if missing else place.parent) as probe:
            probe.write(bytes(PROBE))
            probe.flush()
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be written ({error.strerror}): give another --out") from error


def room_for(path: Path) -> int:
    """Bytes that are free on the disk where ``path`` is, or is to be."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """Errors of the system within the block name ``file``."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(file)) from error


@contextmanager
def replacing(file: Path) -> Iterator[IO[bytes]]:
    """A stream that becomes ``file`` in one move when the block ends, and nothing where it fails."""
    part = file.with_name(f".{uuid.uuid4().hex}.part")
    with _named(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("xb") as stream:
                yield stream
            part.replace(file)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which becomes ``folder`` in one move when the block ends, and nothing where it fails.

    Raises:
      InputError: ``folder`` exists, or cannot be made.
    """
    check_new(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".part-") as name:
        made = Path(name) / "made"
        made.mkdir()
        yield made
        try:
            made.rename(folder)
        except OSError:
            check_new(folder)  # another process was quicker
            raise


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder for this process alone; the system takes the lock back however the process ends.

    Raises:
      InputError: another process is at work there, or nothing can be written.
    """
    check_place(folder / "report.json")
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"another process is at work in {str(folder)!r}: wait until it has ended, or give another --out"
            ) from error
        for part in folder.glob(".*.part"):  # of a process that was killed while it wrote
            part.unlink()
        yield


def write_bytes(file: Path, content: bytes) -> None:
    """Makes or replaces a file in one move."""
    with replacing(file) as stream:
        stream.write(content)


def write_text(file: Path, text: str) -> None:
    """Makes or replaces a text file in one move."""
    write_bytes(file, text.encode())


def append_text(file: Path, text: str) -> None:
    """Adds text at the end of a file."""
    with _named(file), file.open("a", encoding="utf-8") as stream:
        stream.write(text)


def as_json(value: Any) -> bytes:
    """A value as a JSON file has it."""
    return (json.dumps(value, indent=2) + "\n").encode()


def write_json(file: Path, value: Any) -> None:
    """Makes or replaces a JSON file in one move."""
    write_bytes(file, as_json(value))


def read_values(file: Path, remedy: str = "mend it") -> dict[str, Any]:
    """The values of a TOML or JSON file; raises `InputError`, with the remedy, where it is missing or broken."""
    if file.suffix not in (".toml", ".json"):
        raise InputError(f"{str(file)!r} is no configuration: give a .toml or .json file")
    if not file.is_file():
        raise InputError(f"no file {str(file)!r}")
    try:
        values = (tomllib.loads if file.suffix == ".toml" else json.loads)(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # what is no TOML, no JSON, no UTF-8
        raise InputError(f"{str(file)!r} is broken ({error}): {remedy}") from error
    if not isinstance(values, dict):
        raise InputError(f"{str(file)!r} holds a {type(values).__name__}, expected names and values: {remedy}")
    return values
