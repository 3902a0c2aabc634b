"""Images in a folder a class."""

from pathlib import Path

import numpy as np

from rdd_jax.datasets.images import SUFFIXES, Stack, check_form, each_image, read_image
from rdd_jax.errors import InputError
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


def read(name: str, resize: int | None = None, mode: str | None = None) -> dict[str, Data] | None:
    """A folder of class folders, or of splits of such, see `rdd_jax.datasets.load`; `rdd_jax.contracts.Reader`.

    The images of all splits are parts of one array, which is grey where all files are, and RGB otherwise.

    Args:
      resize, mode: see `rdd_jax.datasets.images.read_image`.

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
    stack = Stack(len(files))
    for file in each_image(files):
        stack.add(read_image(file, resize, mode), repr(str(file)))
    ends = np.cumsum([len(labels) for _, labels in found.values()])
    images = np.split(stack.images, ends[:-1])
    return {
        split: Data(part, np.array(labels, np.int32), class_names)
        for (split, (_, labels)), part in zip(found.items(), images, strict=True)
    }


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
