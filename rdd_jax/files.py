"""Files that are either whole or not there: arrays, text, JSON. Pickled data is never loaded."""

import fcntl
import json
import math
import os
import tempfile
import tomllib
import uuid
import warnings
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from rdd_jax.aligned import aligned
from rdd_jax.errors import InputError

__all__ = [
    "append_text",
    "as_json",
    "check_new",
    "check_place",
    "locked",
    "new_folder",
    "read_npz",
    "read_values",
    "write_bytes",
    "write_json",
    "write_npz",
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


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """Errors of the system within the block name ``file``."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(file)) from error


@contextmanager
def _replacing(file: Path) -> Iterator[IO[bytes]]:
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
    with _replacing(file) as stream:
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


def write_npz(file: Path, **arrays: np.ndarray) -> None:
    """``np.savez`` that either writes the whole file or leaves what was there.

    Raises:
      TypeError: an array of objects, which would be pickled.
    """
    if objects := [key for key, array in arrays.items() if np.asarray(array).dtype.hasobject]:
        raise TypeError(f"{', '.join(objects)} hold objects: only numbers and texts are written")
    with _replacing(file) as stream:
        np.savez(stream, **arrays)  # pyright: ignore[reportArgumentType]


def read_npz(
    path: Path, needed: Collection[str] = (), optional: Collection[str] | None = None
) -> dict[str, np.ndarray]:
    """Arrays of numbers, truth values and texts from an ``.npz``; pickled ones are refused, never loaded.

    An array takes no more memory than the file can hold: what its header claims is compared with the archive first.

    Args:
      needed: arrays that must be there.
      optional: those to read where they are there; None: all. No others are looked at.

    Raises:
      InputError: the file is missing, damaged, no regular file or no ``.npz``, lacks an array, or holds other kinds.
    """
    try:
        if not path.is_file():
            kind = "is a folder or a device: give a file" if path.exists() else "is not there"
            raise InputError(f"no file {str(path)!r}: it {kind}")
        with path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if missing := [key for key in needed if key not in members]:
                raise InputError(f"{str(path)!r} has no {' and no '.join(missing)} (it has {_listed(members)})")
            wanted = members if optional is None else {*needed, *optional}
            return {key: _array(archive, info, path) for key, info in members.items() if key in wanted}
    except InputError:
        raise
    except (OSError, MemoryError) as error:
        told = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(f"{str(path)!r} cannot be read ({told})") from error
    # The zip reader, zlib and NumPy's parser of headers raise a dozen unrelated types for damaged bytes.
    except Exception as error:
        told = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{str(path)!r} is truncated, damaged or no .npz file ({told}): write it again") from error


def _listed(names: Collection[str], most: int = 20) -> str:
    """The names, of a long list the first."""
    shown = [name if name.isprintable() else repr(name) for name in [*names][:most]]
    return ", ".join(shown) + ", ..." * (len(names) > most) or "nothing"


CHUNK = 2**18
"""Bytes that are read at a time."""


def _fill(stream: Any, memory: np.ndarray) -> None:
    """Reads bytes from a file until the memory is full."""
    done = 0
    while done < len(memory):
        part = stream.read(min(CHUNK, len(memory) - done))
        if not part:
            raise EOFError("it ends too early")
        memory[done : done + len(part)] = np.frombuffer(part, np.uint8)
        done += len(part)


DEFLATE_MOST = 1032
"""Bytes that one byte of a deflated member can stand for at most."""


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> np.ndarray:
    """One member, its header looked at before anything is allocated."""
    what = f"{str(path)!r} holds {info.filename.removesuffix('.npy')!r}"
    if not info.filename.endswith(".npy"):
        raise InputError(f"{what}, which is no array: write it with np.savez")
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{what} encrypted or compressed in another way than by NumPy: write it with np.savez")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what a damaged header looks like to Python's parser
        with archive.open(info) as stream:
            # Of version 3 are structured arrays alone.
            first = npy.read_magic(stream) == (1, 0)
            shape, fortran, dtype = npy.read_array_header_1_0(stream) if first else npy.read_array_header_2_0(stream)
            if dtype.kind not in "biufU":
                raise InputError(
                    f"{what} as {dtype}: save plain numbers and texts (pickled (object) arrays are never loaded)"
                )
            begin, left = stream.tell(), info.file_size - stream.tell()
        claimed, most = math.prod(shape) * dtype.itemsize, min(info.compress_size, path.stat().st_size) * DEFLATE_MOST
        if claimed != left or claimed > most or min(shape, default=0) < 0:
            raise InputError(f"{what} of shape {shape}, but not the bytes for it: it is damaged, write it again")
        array = aligned(shape[::-1] if fortran else shape, dtype)
        with archive.open(info) as stream:
            stream.seek(begin)
            if array.nbytes:
                _fill(stream, array.reshape(-1).view(np.uint8))
            stream.read()  # to the end, where the checksum is compared
        array = array.transpose() if fortran else array
        if dtype.kind == "U":
            array.tolist()  # raises where a number is no character
    return array
