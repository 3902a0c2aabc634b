"""Decoded images in a file of the cache: written one after another, so that no more than a few are held."""

import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from rdd_jax.arrays import read_npz
from rdd_jax.datasets.images import Sizes
from rdd_jax.errors import InputError
from rdd_jax.files import replacing, room_for

__all__ = ["Wider", "cache_dir", "from_cache", "write_decoded"]


def cache_dir() -> Path:
    """Where decoded sets are kept, and what is compiled: ``$RDD_CACHE``, or ``~/.cache/rdd_jax``.

    Raises:
      RuntimeError: neither that nor a home is known.
    """
    return Path(os.environ.get("RDD_CACHE") or Path.home() / ".cache" / "rdd_jax")


class Wider(Exception):
    """An RGB image came behind grey ones: all are to be read as RGB."""


def write_decoded(
    file: Path, count: int, images: Iterable[tuple[np.ndarray, str]], what: str, labels: Callable[[], np.ndarray]
) -> None:
    """Writes an ``.npz`` with ``images`` ``[n, h, w, c]``, ``uint8``, and ``labels``, or leaves nothing.

    Args:
      count: ``n``.
      images: of one size, and a name of each for messages.
      what: the images, for messages.
      labels: asked for when all images have been written.

    Raises:
      InputError: images of different sizes, or no room for so many.
      Wider: an image has more channels than the ones before it.
    """
    images = iter(images)
    found = [*islice(images, 1)]  # before anything is made: what cannot be read says so here
    with replacing(file) as stream, zipfile.ZipFile(stream, "w") as archive:
        with archive.open("images.npy", "w", force_zip64=True) as member:
            _write_images(member, count, chain(found, images), what, file)
        with archive.open("labels.npy", "w") as member:
            npy.write_array(member, labels(), allow_pickle=False)


AT_ONCE = 2**20
"""Bytes that are written at a time: an archive takes its time for every piece."""


def _write_images(member: Any, count: int, images: Iterable[tuple[np.ndarray, str]], what: str, file: Path) -> None:
    sizes, shape, waiting = Sizes(what), None, bytearray()
    for image, name in images:
        sizes.add(image, name)
        if sizes.differ:
            continue  # to the end, to tell how many of which there are
        if shape is None:
            shape = image.shape
            _check_room(file, count * image.size, what)
            header = {"descr": npy.dtype_to_descr(image.dtype), "fortran_order": False, "shape": (count, *shape)}
            npy.write_array_header_1_0(member, header)
        if image.shape[2] > shape[2]:
            raise Wider
        waiting += np.broadcast_to(image, shape).tobytes()
        if len(waiting) >= AT_ONCE:
            member.write(waiting)
            waiting.clear()
    member.write(waiting)
    sizes.check()


def _check_room(file: Path, size: int, what: str) -> None:
    """Raises `InputError` where the disk has no room for so many bytes."""
    if (free := room_for(file)) < size:
        raise InputError(
            f"{what} need {size / 2**30:.1f} GiB when decoded, and {str(file.parent)!r} has room for "
            f"{free / 2**30:.1f}: give a smaller --resize, or let RDD_CACHE name a folder with more room"
        )


@contextmanager
def from_cache(
    file: Path, keys: tuple[str, ...], make: Callable[[Path], None], leave: Callable[[int], bool]
) -> Iterator[dict[str, Any]]:
    """The arrays of a file of the cache, which is made where it is not there.

    What is wrong with them in the block names the file.

    Args:
      make: ``make(file)`` writes it.
      leave: by the bytes of the images: whether they are to stay in the file.
    """
    if not file.is_file():
        make(file)
    try:
        yield read_npz(file, keys, leave=lambda key, size: key == "images" and leave(size))
    except InputError as error:
        raise InputError(f"{error}; {str(file)!r} is a decoded copy: remove it, and it is made again") from error
