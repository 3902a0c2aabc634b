"""Files that are either whole or not there: arrays, text, JSON. Pickled data is never loaded."""

import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from rdd_jax.errors import InputError

__all__ = ["check_new", "read_npz", "write_bytes", "write_json", "write_npz", "write_text"]


def check_new(path: Path) -> None:
    """Raises `InputError` where ``path`` exists: nothing is ever overwritten."""
    if path.exists():
        raise InputError(f"{str(path)!r} exists: give another --out, or remove it")


@contextmanager
def _replacing(file: Path) -> Iterator[IO[bytes]]:
    """A stream that becomes ``file`` in one move when the block ends, and nothing where it fails."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=file.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
        os.replace(name, file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_bytes(file: Path, content: bytes) -> None:
    """Makes or replaces a file in one move."""
    with _replacing(file) as stream:
        stream.write(content)


def write_text(file: Path, text: str) -> None:
    """Makes or replaces a text file in one move."""
    write_bytes(file, text.encode())


def write_json(file: Path, value: Any) -> None:
    """Makes or replaces a JSON file in one move."""
    write_text(file, json.dumps(value, indent=2) + "\n")


def write_npz(file: Path, **arrays: np.ndarray) -> None:
    """``np.savez`` that either writes the whole file or leaves what was there.

    Raises:
      TypeError: an array of objects, which would be pickled.
    """
    if objects := [key for key, array in arrays.items() if np.asarray(array).dtype.hasobject]:
        raise TypeError(f"{', '.join(objects)} hold objects: only numbers and texts are written")
    with _replacing(file) as stream:
        np.savez(stream, **arrays)  # pyright: ignore[reportArgumentType]


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Every array of an ``.npz``; pickled ones are refused, never loaded.

    Raises:
      InputError: the file is missing, truncated, no ``.npz``, or holds object arrays.
    """
    if not path.is_file():
        raise InputError(f"no file {str(path)!r}")
    try:
        # Opened here, not by NumPy, which leaves a file that it cannot read open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise InputError(f"{str(path)!r} is truncated or no .npz file ({error}): write it again") from error
    except ValueError as error:
        raise InputError(
            f"{str(path)!r} holds an array that cannot be read ({error}): pickled (object) arrays are never "
            "loaded; save plain numbers and strings"
        ) from error
