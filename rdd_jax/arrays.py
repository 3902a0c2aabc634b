"""Arrays in ``.npz`` files: read whole, or row by row where they lie. Pickled data is never loaded."""

import math
import os
import struct
import warnings
import weakref
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from rdd_jax.aligned import aligned
from rdd_jax.errors import InputError
from rdd_jax.files import replacing

__all__ = ["Stored", "read_npz", "write_npz"]


# --- rows where they lie -----------------------------------------------------------------------------


def _native(array: np.ndarray) -> np.ndarray:
    """The array in this machine's order of bytes, which JAX takes no other of; in the same memory."""
    if array.dtype.isnative:
        return array
    return array.byteswap(inplace=True).view(array.dtype.newbyteorder("="))


class _Opened:
    """A file that is open for as long as somebody has this."""

    def __init__(self, file: Path):
        self.number = os.open(file, os.O_RDONLY)
        weakref.finalize(self, os.close, self.number)


class Stored:
    """Rows of an array in a file, read when they are asked for; nothing is held of them.

    Indices along the first axis are NumPy's: a row, a slice, integers or booleans ``[b]``; what they give is in memory.
    Several threads may read at a time.

    Attributes:
      shape, dtype: of the array, its bytes in this machine's order.
      file: where it lies; ``begin``: its first byte.
      rows: which rows of the file these are, in order; None: all.

    Raises:
      InputError: when read: the file has been cut short, or cannot be read any more.
    """

    def __init__(
        self,
        file: Path,
        begin: int,
        shape: tuple[int, ...],
        dtype: np.dtype,
        rows: np.ndarray | None = None,
        opened: _Opened | None = None,
    ):
        self.file, self.begin, self.shape, self.rows, self._in_file = file, begin, shape, rows, dtype
        self.dtype = dtype.newbyteorder("=")
        self._opened = opened or _Opened(file)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def select(self, index: np.ndarray | slice) -> "Stored":
        """The rows at ``index``, still where they lie."""
        rows = self._places(index)
        return Stored(self.file, self.begin, (len(rows), *self.shape[1:]), self._in_file, rows, self._opened)

    def __getitem__(self, index: Any) -> np.ndarray:
        if isinstance(index, int | np.integer):
            return self[np.array([index])][0]
        rows = self._places(index)
        result = aligned((len(rows), *self.shape[1:]), self._in_file)
        if result.nbytes:
            self._read(rows, result.reshape(len(rows), -1).view(np.uint8))
        return _native(result)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def _places(self, index: Any) -> np.ndarray:
        """The rows of the file at an index."""
        if isinstance(index, slice) and self.rows is None:
            return np.arange(*index.indices(len(self)))
        return (np.arange(len(self)) if self.rows is None else self.rows)[index]

    def _read(self, rows: np.ndarray, into: np.ndarray) -> None:
        """Bytes of the rows; those that lie one after another in one go."""
        size, bytes_of, opened = into.shape[1], into.reshape(-1).data, self._opened.number
        starts = np.flatnonzero(np.diff(rows, prepend=rows[0] - 2) != 1)
        places = (self.begin + rows[starts] * size).tolist()
        ends = np.append(starts[1:], len(rows)) * size
        try:
            # Thousands of rows a batch: nothing is done for one that can be done for all.
            for place, start, end in zip(places, (starts * size).tolist(), ends.tolist(), strict=True):
                done = start + os.preadv(opened, (bytes_of[start:end],), place)
                while done < end:  # the system may read less than it is asked for
                    if not (count := os.preadv(opened, (bytes_of[done:end],), place + done - start)):
                        row = (place + done - start - self.begin) // size
                        raise InputError(f"{str(self.file)!r} ends before row {row}: it was cut short, make it again")
                    done += count
        except OSError as error:
            raise InputError(f"{str(self.file)!r} cannot be read any more ({error.strerror})") from error


# --- files of arrays -----------------------------------------------------------------------------------


def write_npz(file: Path, **arrays: np.ndarray) -> None:
    """``np.savez`` that either writes the whole file or leaves what was there.

    Raises:
      TypeError: an array of objects, which would be pickled.
    """
    if objects := [key for key, array in arrays.items() if np.asarray(array).dtype.hasobject]:
        raise TypeError(f"{', '.join(objects)} hold objects: only numbers and texts are written")
    with replacing(file) as stream:
        np.savez(stream, **arrays)  # pyright: ignore[reportArgumentType]


def read_npz(
    path: Path,
    needed: Collection[str] = (),
    optional: Collection[str] | None = None,
    leave: Callable[[str, int], bool] = lambda key, size: False,
) -> dict[str, Any]:
    """Arrays of numbers, truth values and texts from an ``.npz``; pickled ones are refused, never loaded.

    An array takes no more memory than the file can hold: what its header claims is compared with the archive first.

    Args:
      needed: arrays that must be there.
      optional: those to read where they are there; None: all. No others are looked at.
      leave: ``leave(name, bytes)``: whether an array is to stay in the file, as `Stored`; its checksum is then not
        compared. Otherwise they are NumPy's.

    Raises:
      InputError: the file is missing, damaged, no regular file or no ``.npz``, lacks an array, holds other kinds, or is
        compressed where an array is to stay in it.
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
            return {key: _array(archive, info, path, leave) for key, info in members.items() if key in wanted}
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


def _array(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, leave: Callable[[str, int], bool]
) -> np.ndarray | Stored:
    """One member, its header looked at before anything is allocated."""
    key = info.filename.removesuffix(".npy")
    what = f"{str(path)!r} holds {key!r}"
    shape, fortran, dtype, begin = _header(archive, info, what)
    claimed, left = math.prod(shape) * dtype.itemsize, info.file_size - begin
    most = min(info.compress_size, path.stat().st_size) * DEFLATE_MOST
    if claimed != left or claimed > most or min(shape, default=0) < 0:
        raise InputError(f"{what} of shape {shape}, but not the bytes for it: it is damaged, write it again")
    if leave(key, claimed):
        if fortran or info.compress_type != zipfile.ZIP_STORED:
            raise InputError(
                f"{what} {'column by column' if fortran else 'compressed'}, so that rows cannot be read one by one: "
                "write it with np.savez in row order, or have it read into memory (--data-on host)"
            )
        return Stored(path, _place(path, info) + begin, shape, dtype)
    array = aligned(shape[::-1] if fortran else shape, dtype)
    with archive.open(info) as stream:
        stream.seek(begin)
        if array.nbytes:
            _fill(stream, array.reshape(-1).view(np.uint8))
        stream.read()  # to the end, where the checksum is compared
    array = array.transpose() if fortran else array
    if dtype.kind == "U":
        array.tolist()  # raises where a number is no character
    return _native(array)


def _header(archive: zipfile.ZipFile, info: zipfile.ZipInfo, what: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """The shape of a member, whether it lies column by column, its dtype, and where in it the numbers begin."""
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
            return shape, fortran, dtype, stream.tell()


def _place(path: Path, info: zipfile.ZipInfo) -> int:
    """Where the bytes of a member begin in its archive: behind a header, a name and what else there is."""
    with path.open("rb") as stream:
        stream.seek(info.header_offset)
        name, extra = struct.unpack("<26x2H", stream.read(30))
    return info.header_offset + 30 + name + extra
