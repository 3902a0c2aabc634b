"""Images in a folder a class."""

from pathlib import Path

import numpy as np

from rdd_jax.errors import InputError
from rdd_jax.types import Data

__all__ = ["read"]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"})


def read(name: str) -> dict[str, Data] | None:
    """A folder of class folders, or of splits of such, see `rdd_jax.datasets.load`; `rdd_jax.contracts.Reader`."""
    path = Path(name)
    if not path.is_dir():
        return None
    inside = {child.name for child in path.iterdir() if child.is_dir()}
    if "train" not in inside:
        return {"train": _class_folders(path, _class_names(path))}
    names = _class_names(path / "train")
    return {split: _class_folders(path / split, names) for split in ("train", "validation", "test") if split in inside}


def _class_names(path: Path) -> tuple[str, ...]:
    names = tuple(sorted(child.name for child in path.iterdir() if child.is_dir()))
    if not names:
        raise InputError(f"{str(path)!r} has no folders: expected one a class, with the images in it")
    return names


def _class_folders(path: Path, class_names: tuple[str, ...]) -> Data:
    from PIL import Image, UnidentifiedImageError

    images, labels = [], []
    first = None
    for label, name in enumerate(class_names):
        for file in sorted((path / name).glob("*")):
            if file.suffix.lower() not in IMAGE_SUFFIXES:
                continue
            try:
                with Image.open(file) as image:
                    pixels = np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
            except (UnidentifiedImageError, OSError) as error:
                raise InputError(f"{str(file)!r} is truncated or no image ({error}): mend or remove it") from error
            pixels = pixels[..., None] if pixels.ndim == 2 else pixels
            first = first or (file, pixels.shape)
            if pixels.shape != first[1]:
                raise InputError(
                    f"{str(file)!r} is {pixels.shape}, but {str(first[0])!r} is {first[1]}: "
                    "resize all images to one size and mode first"
                )
            images.append(pixels)
            labels.append(label)
    if not images:
        raise InputError(
            f"no images under {str(path)!r}: expected files ({', '.join(sorted(IMAGE_SUFFIXES))}) a class folder"
        )
    return Data(np.stack(images), np.array(labels, np.int32), class_names)
