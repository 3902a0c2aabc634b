"""Images in a folder a class."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from rdd_jax.arrays import Stored
from rdd_jax.datasets.decoded import Wider, cache_dir, from_cache, write_decoded
from rdd_jax.datasets.images import SUFFIXES, Stack, check_form, each_image, read_image
from rdd_jax.errors import InputError
from rdd_jax.pixels import Pixels, rows_of
from rdd_jax.types import Data

__all__ = ["read"]

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""Names of folders, in any case, and the splits that they hold."""


def read(
    name: str,
    resize: int | None = None,
    mode: str | None = None,
    leave: Callable[[int], bool] = lambda size: False,
) -> dict[str, Data] | None:
    """A folder of class folders, or of splits of such, see `rdd_jax.datasets.load`; `rdd_jax.contracts.Reader`.

    The images of all splits are parts of one array, which is grey where all files are, and RGB otherwise.

    Args:
      resize, mode: see `rdd_jax.datasets.images.read_image`.
      leave: see `rdd_jax.datasets.load`; what is left is decoded once, into a file of the cache.

    Raises:
      InputError: folders that do not fit together, a file that is no image, or images of different sizes.
    """
    check_form(resize, mode)
    path = Path(name)
    if not path.is_dir():
        return None
    parts = _splits(path)
    class_names = tuple(folder.name for folder in _folders(parts["train"]))
    if not class_names:
        raise InputError(f"{str(parts['train'])!r} has no folders: expected one a class, with the images in it")
    found = {split: _labelled(part, class_names) for split, part in parts.items()}
    files = [file for inside, _ in found.values() for file in inside]
    one = read_image(files[0], resize, mode)
    if leave(len(files) * one.size):
        images: Pixels = _left(path, files, resize, mode)
    else:
        stack = Stack(len(files))
        for image, file in _images(files, resize, mode):
            stack.add(image, file)
        images = stack.images
    parts, start = {}, 0
    for split, (inside, labels) in found.items():
        part = rows_of(images, slice(start, start + len(inside)))
        parts[split] = Data(part, np.array(labels, np.int32), class_names)
        start += len(inside)
    return parts


def _images(files: list[Path], resize: int | None, mode: str | None) -> Iterator[tuple[np.ndarray, str]]:
    """The image of every file, and what it is called."""
    for file in each_image(files):
        yield read_image(file, resize, mode), repr(str(file))


def _left(path: Path, files: list[Path], resize: int | None, mode: str | None) -> Stored:
    """The images of the files, decoded once; afterwards read from the cache, unless a file has changed."""
    of = hashlib.blake2b(repr((str(path.resolve()), resize, mode)).encode(), digest_size=8)
    for file in files:
        about = file.stat()
        of.update(repr((str(file.relative_to(path)), about.st_size, about.st_mtime_ns)).encode())

    def make(copy: Path) -> None:
        none = lambda: np.zeros(0, np.int32)  # noqa: E731  # labels are told by the folders
        try:
            write_decoded(copy, len(files), _images(files, resize, mode), "images", none)
        except Wider:
            write_decoded(copy, len(files), _images(files, resize, "rgb"), "images", none)

    with from_cache(
        cache_dir() / f"{path.resolve().name}-{of.hexdigest()}.npz", ("images",), make, lambda size: True
    ) as found:
        return found["images"]


def _visible(path: Path) -> list[Path]:
    """What is in a folder, in order, without what systems and tools leave there."""
    return sorted(child for child in path.iterdir() if not child.name.startswith(".") and child.name != "__MACOSX")


def _folders(path: Path) -> list[Path]:
    return [child for child in _visible(path) if child.is_dir()]


def _splits(path: Path) -> dict[str, Path]:
    """The folder of every split; the folder itself as train where it holds classes."""
    folders = _folders(path)
    splits: dict[str, Path] = {}
    for folder in folders:
        if (split := SPLITS.get(folder.name.lower())) is None:
            continue
        if split in splits:
            raise InputError(f"{str(splits[split])!r} and {str(folder)!r} are both {split}: keep one")
        splits[split] = folder
    if "train" not in splits:
        if splits and len(splits) == len(folders):
            raise InputError(f"{str(path)!r} has {', '.join(splits)} but no train folder: add one")
        return {"train": path}
    if stray := [folder.name for folder in folders if folder not in splits.values()]:
        raise InputError(f"{str(path)!r} has {stray[0]!r} beside its splits: name it validation or test, or move it")
    return splits


def _labelled(path: Path, class_names: tuple[str, ...]) -> tuple[list[Path], list[int]]:
    """The image files of a split, and the class of each."""
    if strange := [folder.name for folder in _folders(path) if folder.name not in class_names]:
        raise InputError(
            f"{str(path)!r} has class {strange[0]!r}, which train has not ({', '.join(class_names[:20])}): rename or "
            "remove the folder"
        )
    files, labels = [], []
    for label, name in enumerate(class_names):
        folder = path / name
        inside = [file for file in _visible(folder) if file.suffix.lower() in SUFFIXES] if folder.is_dir() else []
        if odd := [file for file in inside if not file.is_file()]:
            raise InputError(f"{str(odd[0])!r} is no regular file, or a link to nowhere: remove it")
        files += inside
        labels += [label] * len(inside)
    if not files:
        raise InputError(f"no images under {str(path)!r}: expected {', '.join(sorted(SUFFIXES))} files a class folder")
    return files, labels
