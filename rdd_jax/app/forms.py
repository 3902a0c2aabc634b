"""The forms of an export, by name: how a set is written, and the lines that load it."""

import csv
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rdd_jax.arrays import write_npz
from rdd_jax.errors import InputError
from rdd_jax.files import write_bytes
from rdd_jax.saving import SavedSet

__all__ = ["FORMS"]


def _pixels(saved: SavedSet) -> np.ndarray:
    """The images as pixels, float32; learned ones may leave [0, 1]."""
    return saved.preprocess.invert(np.asarray(saved.synthetic.images))


def _distributions(saved: SavedSet) -> np.ndarray:
    """Labels ``[m, k]`` as they are learned from: one-hot where they were fixed, not centred."""
    labels = np.asarray(saved.synthetic.labels)
    return labels + 1 / labels.shape[1]


def _classes(saved: SavedSet) -> np.ndarray:
    """What each is an image of, whatever its label has become."""
    return np.asarray(saved.synthetic.of_class)


def _png(folder: Path, saved: SavedSet) -> None:
    """A folder of pictures a class, 8 bits, and a table of labels."""
    rows = []
    codes = np.rint(np.clip(_pixels(saved), 0, 1) * 255).astype(np.uint8)
    labels = _distributions(saved)
    names = _folder_names(saved.class_names)
    for i, (image, label) in enumerate(zip(codes, _classes(saved), strict=True)):
        file = folder / names[label] / f"{i:05d}.png"
        write_bytes(file, _encoded(image))
        rows.append([f"{names[label]}/{file.name}", int(label), *labels[i].tolist()])
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "class", *(f"label_{name}" for name in saved.class_names)])
        writer.writerows(rows)


LONGEST = 100
"""Characters of a class's name that its folder keeps."""


def _folder_names(class_names: Sequence[str]) -> list[str]:
    """A folder a class: its name; numbered, all of them, where one is no safe name or two would share a folder."""
    plain = [re.sub(r"[^\w .-]", "-", name).strip(" .-")[:LONGEST] for name in class_names]
    if plain == list(class_names) and all(plain) and len({name.casefold() for name in plain}) == len(plain):
        return plain
    return [f"{label}-{name}" for label, name in enumerate(plain)]


def _encoded(image: np.ndarray) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(stream, "PNG")
    return stream.getvalue()


def _npz(folder: Path, saved: SavedSet) -> None:
    """The arrays, without anything of this library's own."""
    write_npz(folder / "set.npz", **_arrays(saved))


def _arrays(saved: SavedSet) -> dict[str, np.ndarray]:
    return {
        "pixels": _pixels(saved),
        "images": np.asarray(saved.synthetic.images),
        "labels": _distributions(saved),
        "classes": _classes(saved),
        "class_names": np.array(saved.class_names),
        **saved.preprocess.to_arrays(),
    }


def _torch(folder: Path, saved: SavedSet) -> None:
    """A ``state_dict`` of tensors, images NCHW."""
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise InputError("--to torch needs PyTorch: pip install torch, or export --to npz") from error
    arrays = _arrays(saved)
    values: dict[str, Any] = {
        key: torch.from_numpy(np.array(array)) for key, array in arrays.items() if array.dtype.kind in "fi"
    }
    for key in ("pixels", "images"):
        values[key] = values[key].permute(0, 3, 1, 2).contiguous()
    values |= {"class_names": list(saved.class_names), "preprocess": saved.preprocess.kind}
    torch.save(values, folder / "set.pt")


def _parquet(folder: Path, saved: SavedSet) -> None:
    """A row an image: PNG bytes, pixels as they are, class and label."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pixels = _pixels(saved)
    codes = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    table = pa.table(
        {
            "image": [{"bytes": _encoded(image), "path": None} for image in codes],
            "pixels": [image.ravel().tolist() for image in pixels],
            "shape": [list(pixels.shape[1:])] * len(pixels),
            "class": _classes(saved).astype(np.int64),
            "label": _distributions(saved).tolist(),
        }
    )
    pq.write_table(table, folder / "set.parquet")


# --- how to load it ----------------------------------------------------------------------------------

MODEL_SPACE = """
with np.load("{file}") as file:
    data = dict(file)
mean, scale = data["preprocess_mean"], data["preprocess_scale"]
if data["preprocess"] == "zca":
    matrix = (data["preprocess_basis"].T * scale) @ data["preprocess_basis"]
    model_space = lambda pixels: ((pixels - mean).reshape(len(pixels), -1) @ matrix).reshape(pixels.shape)
else:
    model_space = lambda pixels: (pixels - mean) * scale  # pixels [n, h, w, c] in [0, 1]
"""

PNG = """from pathlib import Path
import numpy as np
from PIL import Image

files = sorted(Path(".").glob("*/*.png"))
pixels = np.stack([np.asarray(Image.open(file)) for file in files]) / 255  # rounded to 8 bits
classes = [file.parent.name for file in files]
""" + MODEL_SPACE.format(file="preprocess.npz")

NPZ = (
    "import numpy as np\n"
    + MODEL_SPACE.format(file="set.npz")
    + """images, labels = data["images"], data["labels"]  # [m, h, w, c] in model space; [m, k] distributions
"""
)

TORCH = """import torch  # pyright: ignore[reportMissingImports]

data = torch.load("set.pt", weights_only=True)
images, labels = data["images"], data["labels"]  # [m, c, h, w] in model space; [m, k] distributions over classes
if data["preprocess"] == "zca":
    basis, mean = data["preprocess_basis"], data["preprocess_mean"].permute(2, 0, 1)
    matrix = (basis.T * data["preprocess_scale"]) @ basis  # of pixels in the order h, w, c
    flat = lambda x: x.permute(0, 2, 3, 1).flatten(1)
    back = lambda x, shape: x.unflatten(1, (shape[2], shape[3], shape[1])).permute(0, 3, 1, 2)
    model_space = lambda pixels: back(flat(pixels - mean) @ matrix, pixels.shape)
else:
    mean, scale = (data[f"preprocess_{name}"].permute(2, 0, 1) for name in ("mean", "scale"))
    model_space = lambda pixels: (pixels - mean) * scale  # pixels [n, c, h, w] in [0, 1]
"""

PARQUET = """import numpy as np
import pyarrow.parquet as pq

table = pq.read_table("set.parquet").to_pydict()  # datasets.load_dataset("parquet", ...) reads it too
pixels = np.array([np.reshape(p, s) for p, s in zip(table["pixels"], table["shape"])], np.float32)
labels = np.array(table["label"], np.float32)  # [m, k] distributions over classes
""" + MODEL_SPACE.format(file="preprocess.npz")

FORMS: dict[str, tuple[Callable[[Path, SavedSet], None], str]] = {
    "png": (_png, PNG),
    "npz": (_npz, NPZ),
    "torch": (_torch, TORCH),
    "parquet": (_parquet, PARQUET),
}
"""By name: ``write(folder, saved)``, and a snippet for the README beside it."""
