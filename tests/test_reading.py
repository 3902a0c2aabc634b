"""What readers hold and what they make alike: one copy of the pixels, of one size, all grey or all RGB."""

import io
import tracemalloc
import types
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageOps

from rdd_jax import datasets
from rdd_jax.datasets import folder, npz, splits, tfds
from rdd_jax.datasets.images import MODES, Sizes, Stack, formed
from rdd_jax.errors import InputError
from rdd_jax.progress import Progress, heard
from rdd_jax.types import Data

RNG = np.random.default_rng(0)
CONSTANT = 2**20
"""Bytes of modules, lists and buffers that the pixels do not account for."""


def pixels(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


@contextmanager
def peak():
    """What is allocated at most within the block, in bytes, once it has ended."""
    found = types.SimpleNamespace(bytes=0)
    tracemalloc.start()
    try:
        yield found
        found.bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def lanczos(image, size):
    """One image ``[h, w, c]`` as Pillow makes it."""
    fitted = ImageOps.fit(Image.fromarray(np.squeeze(image)), (size, size), Image.Resampling.LANCZOS)
    return np.asarray(fitted).reshape(size, size, -1)


# --- folders -----------------------------------------------------------------------------------------


def every_kind(root):
    """Images of every kind, the same in each of two classes; what grey, RGB and palette ones look like."""
    rgb, grey = pixels(20, 30, 3), pixels(40, 24)
    palette = Image.fromarray(grey % 3)
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn
    clear = np.dstack([rgb, np.zeros((20, 30), np.uint8)])
    kinds = {
        "1.png": (Image.fromarray(grey), {}),
        "2.png": (Image.fromarray(grey.astype(np.uint16) * 257), {}),
        "3.png": (Image.fromarray(rgb), {}),
        "4.png": (palette, {}),
        "5.png": (Image.fromarray(rgb), {"exif": turned}),
        "6.png": (Image.fromarray(clear), {}),
        "7.tif": (Image.fromarray(grey > 127), {}),
    }
    for name in "ab":
        (root / name).mkdir(parents=True)
        for file, (image, options) in kinds.items():
            image.save(root / name / file, **options)
    return grey, rgb, np.asarray(palette.convert("RGB"))


def test_images_of_every_kind_in_one_folder_are_read_alike(tmp_path):
    grey, rgb, palette = every_kind(tmp_path)
    images = folder.read(str(tmp_path), 8)["train"].images
    assert (images.shape, images.dtype) == ((14, 8, 8, 3), np.uint8)
    small = np.repeat(lanczos(grey, 8), 3, 2)
    expected = [small, small, lanczos(rgb, 8), lanczos(palette, 8), lanczos(np.rot90(rgb, -1), 8)]
    expected += [np.full((8, 8, 3), 255), np.repeat(lanczos((grey > 127) * np.uint8(255), 8), 3, 2)]
    np.testing.assert_array_equal(images, expected * 2)


def test_a_mode_decides_against_the_files(tmp_path):
    every_kind(tmp_path)
    assert folder.read(str(tmp_path), 8, "grey")["train"].images.shape == (14, 8, 8, 1)
    assert folder.read(str(tmp_path), 8, "rgb")["train"].images.shape == (14, 8, 8, 3)


def test_grey_stays_grey_and_splits_have_the_same_channels(tmp_path):
    for split, shape in (("train", (6, 5)), ("val", (6, 5)), ("test", (6, 5, 3))):
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
            Image.fromarray(pixels(*shape)).save(tmp_path / split / name / "0.png")
    found = folder.read(str(tmp_path))
    assert {part.images.shape for part in found.values()} == {(2, 6, 5, 3)}
    assert (found["train"].images == found["train"].images[..., :1]).all()
    assert folder.read(str(tmp_path / "train"))["train"].images.shape == (2, 6, 5, 1)


def test_many_sizes_are_told_by_the_most_frequent():
    sizes = Sizes("photographs")
    for i in range(12):
        sizes.add(pixels(max(4, i), 9, 1), f"number {i}")
    told = r"photographs are of different sizes: 5 of 4x9 \(such as number 0\), 1 of 5x9 .*, 3 of 3 other sizes: "
    with pytest.raises(InputError, match=f"{told}give --resize 4$"):
        sizes.check()


def test_more_images_than_there_is_memory_for_are_refused():
    with pytest.raises(InputError, match=r"\(1099511627776, 8, 8, 3\) need more memory .*: give a smaller --resize"):
        Stack(2**40).add(pixels(8, 8, 3), "x")


def many(root, count, side, rgb_from=0):
    """A folder of two classes of images, grey before that number."""
    for i in range(count):
        (root / "ab"[i * 2 // count]).mkdir(parents=True, exist_ok=True)
        image = pixels(side, side, 3) if i >= rgb_from else pixels(side, side)
        Image.fromarray(image).save(root / "ab"[i * 2 // count] / f"{i:04}.bmp")
    return str(root)


@pytest.mark.parametrize("rgb_from", [0, 1, 119])
def test_a_folder_is_held_once(rgb_from, tmp_path):
    name = many(tmp_path, 120, 200, rgb_from)
    with peak() as held:
        parts = datasets.load(name)
    assert held.bytes < 1.4 * 120 * 200 * 200 * 3 + CONSTANT
    assert parts.train.images.shape[1:] == (200, 200, 3)


def test_it_is_told_how_many_images_have_been_read(tmp_path):
    name, steps = many(tmp_path, 220, 2), []
    with heard(Progress(lambda stage: None, lambda *step: steps.append(step))):
        datasets.load(name)
    assert [step for step in steps if step[2]] == [
        (0, 3, "0 of 220 images"), (1, 3, "100 of 220 images"), (2, 3, "200 of 220 images")
    ]  # fmt: skip


# --- arrays ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 12, 20, 1), (3, 20, 12, 3), (3, 4, 4, 3)])
def test_arrays_are_resized_as_files_are(shape):
    images = pixels(*shape) // 2 + 64  # nothing overshoots between the two passes, where bytes are clipped
    expected = [lanczos(image, 6) for image in images]
    np.testing.assert_array_equal(formed(images, 6), expected)
    floats = formed(images / 255, 6)
    assert (floats.dtype, floats.min() >= 0, floats.max() <= 1) == (np.float64, True, True)
    np.testing.assert_allclose(floats * 255, expected, atol=1.1)


def test_floats_stay_within_0_and_1():
    edges = np.kron(np.indices((6, 6)).sum(0) % 2, np.ones((5, 5)))[None, ..., None].astype(np.float32)
    found = formed(edges, 20)
    assert (found.min(), found.max(), found.dtype) == (0, 1, np.float32)


@pytest.mark.parametrize("scale", [1, 255])
@pytest.mark.parametrize("channels, mode", [(3, "grey"), (1, "rgb"), (1, "grey"), (3, "rgb"), (3, None)])
def test_channels_are_as_pillow_makes_them(channels, mode, scale):
    images = pixels(4, 5, 6, channels)
    given = images if scale == 1 else images / np.float32(scale)
    found = formed(given, mode=mode)
    pillow = MODES.get(mode, "RGB")
    wanted = [np.asarray(Image.fromarray(np.squeeze(image)).convert(pillow)).reshape(5, 6, -1) for image in images]
    np.testing.assert_allclose(found * float(scale), wanted, atol=0 if scale == 1 else 0.6)
    assert found.dtype == given.dtype
    if found.shape == given.shape:
        assert found is given


@pytest.mark.parametrize("options, shape", [({"resize": 5}, (5, 5, 1)), ({"mode": "rgb"}, (8, 8, 3))])
def test_digits_and_npz_take_a_form(options, shape, tmp_path):
    assert datasets.load("digits", **options).test.images.shape[1:] == shape
    labels = np.arange(12) % 3
    file, images = tmp_path / "own.npz", pixels(12, 8, 8, 1)
    np.savez(file, images=images, labels=labels, test_images=images[:3, :6], test_labels=labels[:3])
    if "resize" in options:  # one size for splits that have their own
        assert {part.images.shape[1:] for part in datasets.load(file, **options)[:3]} == {shape}
    with pytest.raises(InputError, match=r"different shapes .*: give --resize 6$"):
        datasets.load(file)
    np.savez(file, images=images, labels=labels, test_images=np.repeat(images[:3], 3, 3), test_labels=labels[:3])
    with pytest.raises(InputError, match=r"different shapes .*: give --mode rgb \(or grey\)$"):
        datasets.load(file)
    assert datasets.load(file, **{**options, "mode": "rgb"}).test.images.shape[3] == 3


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_an_npz_is_held_once(dtype, compress, tmp_path):
    images = np.zeros((200, 100, 100, 3), dtype)
    write = np.savez_compressed if compress else np.savez
    write(tmp_path / "own.npz", images=images, labels=np.arange(200) % 2)
    with peak() as held:
        found = datasets.load(tmp_path / "own.npz")
    assert held.bytes < 1.4 * images.nbytes + CONSTANT
    assert len(found.train) == 144
    with peak() as held:
        npz.read(str(tmp_path / "own.npz"))
    assert held.bytes < 1.3 * images.nbytes + CONSTANT


# --- TFDS --------------------------------------------------------------------------------------------


def prepared(monkeypatch, tmp_path, images, splits=("train", "test")):
    """A TFDS set of such images, three classes in turn; the splits that are decoded, in order."""
    import tensorflow_datasets

    def png(image):
        Image.fromarray(image).save(stream := io.BytesIO(), "png")
        return stream.getvalue()

    class Source:
        def __len__(self):
            return len(images)

        def __getitems__(self, index):
            return [{"image": png(images[i]), "label": i % 3} for i in index]

    features = {
        "image": tensorflow_datasets.features.Image(shape=(None, None, 3)),
        "label": tensorflow_datasets.features.ClassLabel(names=["x", "y", "z"]),
    }
    size = types.SimpleNamespace(num_examples=len(images), num_bytes=7)
    info = types.SimpleNamespace(features=features, splits=dict.fromkeys(splits, size), full_name="pets/1.0.0")
    asked = []
    builder = types.SimpleNamespace(
        name="pets", info=info, as_data_source=lambda split, decoders: asked.append(split) or Source()
    )
    monkeypatch.setattr(tensorflow_datasets, "builder", lambda name, data_dir: builder)
    monkeypatch.setenv("RDD_CACHE", str(tmp_path / "cache"))
    return asked


def test_a_tfds_set_is_decoded_once_in_every_form(tmp_path, monkeypatch):
    images = [pixels(9 + i, 7 + i % 4, 3) for i in range(12)]
    asked = prepared(monkeypatch, tmp_path, images, ["train"])
    with pytest.raises(InputError, match=r"images of TFDS set 'pets' are of different sizes: .*such as record 0 of tr"):
        datasets.load("pets")
    for resize, mode in ((4, None), (5, None), (5, "grey"), (5, "grey"), (4, None)):
        found = tfds.read("pets", resize, mode)["train"].images
        expected = [image if mode is None else np.asarray(Image.fromarray(image).convert("L")) for image in images]
        np.testing.assert_array_equal(found, [lanczos(image, resize) for image in expected])
        part = datasets.load("pets", resize=resize, mode=mode, groups_from="label").train
        assert (part.images.shape[1:], part.group_names) == (found.shape[1:], ("x", "y", "z"))
    kept = sorted(file.name for file in (tmp_path / "cache").iterdir())
    assert kept == [f"pets-1.0.0-train-12-7{end}.npz" for end in ("-4x4", "-5x5-grey", "-5x5", ".label")]
    assert len(asked) == 1 + len(kept)


def test_a_tfds_set_is_held_once(tmp_path, monkeypatch):
    images = np.zeros((1500, 160, 160, 3), np.uint8)  # of few bytes in a file
    asked = prepared(monkeypatch, tmp_path, images, ["train"])
    for _ in range(2):
        with peak() as held:
            datasets.load("pets")
        assert held.bytes < 1.3 * images.nbytes + CONSTANT
    assert asked == ["train"]


# --- splits ------------------------------------------------------------------------------------------


def data(n=2000, shape=(6, 5, 3), dtype=np.uint8):
    images = (RNG.random((n, *shape)) * (255 if dtype == np.uint8 else 1)).astype(dtype)
    labels = RNG.integers(0, 4, n).astype(np.int32)
    return Data(images, labels, tuple("abcd"), RNG.integers(0, 2, n).astype(np.int32), ("x", "y"), mirror=False)


def drawn(whole, *given):
    """The splits as copies, as they are documented."""
    rest, parts = whole, {}
    for split, fraction in (("test", 0.2), ("validation", 0.1)):
        if split not in given:
            rest, parts[split] = datasets.stratified_split(rest, fraction, 3)
    return {"train": rest, **parts}


def same(one, other):
    for name in ("images", "labels", "groups"):
        left, right = getattr(one, name), getattr(other, name)
        np.testing.assert_array_equal(left, right)
        assert left.dtype == right.dtype
    assert (one.class_names, one.group_names, one.mirror) == (other.class_names, other.group_names, other.mirror)


@pytest.mark.parametrize("given", [[], ["test"], ["validation"], ["validation", "test"]])
@pytest.mark.parametrize("dtype, n", [(np.uint8, 2000), (np.float32, 37)])
def test_splits_are_views_of_one_array_and_equal_to_copies(given, dtype, n):
    whole, own = data(n, dtype=dtype), data(40, dtype=dtype)
    expected = drawn(whole, *given)
    images = whole.images.copy()
    parts = {"train": replace(whole, images=images)} | dict.fromkeys(given[:1], own) | dict.fromkeys(given[1:], data(9))
    found = splits.complete(parts, "x", 3)
    for split, part in expected.items():
        same(getattr(found, split), part)
        assert np.shares_memory(getattr(found, split).images, images)
    for split in given:
        assert getattr(found, split) is parts[split]


def mapped(images, tmp_path):
    np.save(tmp_path / "x.npy", images)
    return np.asarray(np.load(tmp_path / "x.npy", mmap_mode="r+"))


def closed(images, _):
    images.flags.writeable = False
    return images


def borrowed(images, _):
    return np.frombuffer(bytearray(images.tobytes()), np.uint8).reshape(images.shape)


@pytest.mark.parametrize("make", [mapped, closed, borrowed])
def test_images_that_are_not_ours_are_copied(make, tmp_path):
    whole = data()
    images = make(whole.images.copy(), tmp_path)
    found = splits.complete({"train": replace(whole, images=images)}, "x", 3)
    for split, part in drawn(whole).items():
        same(getattr(found, split), part)
    np.testing.assert_array_equal(images, whole.images)


def test_images_that_two_splits_share_are_copied():
    whole = data()
    images = whole.images.copy()
    parts = {"train": replace(whole, images=images), "test": replace(whole, images=images)}
    found = splits.complete(parts, "x", 3)
    same(found.test, whole)
    same(found.train, drawn(whole, "test")["train"])


def test_what_callers_own_is_never_changed():
    whole = data()
    images, labels = whole.images.copy(), whole.labels.copy()
    halves = datasets.stratified_split(whole, 0.3, 0)
    np.testing.assert_array_equal(whole.images, images)
    np.testing.assert_array_equal(whole.labels, labels)
    assert not any(np.shares_memory(half.images, whole.images) for half in halves)


@pytest.mark.parametrize("seeds", [(0, 0), (0, 1)])
def test_loading_again_changes_nothing_that_was_loaded(seeds):
    first = datasets.load("digits", seeds[0])
    kept = [part.images.copy() for part in first[:3]]
    datasets.load("digits", seeds[1])
    again = datasets.load("digits", seeds[0])
    for part, copy, other in zip(first[:3], kept, again[:3], strict=True):
        np.testing.assert_array_equal(part.images, copy)
        np.testing.assert_array_equal(other.images, copy)


@pytest.mark.parametrize("dtype, most", [(np.uint8, 0.25), (np.float32, 0.4)])
def test_drawing_splits_holds_only_what_is_drawn(dtype, most):
    whole = data(4000, (30, 30, 3), dtype)
    with peak() as held:
        splits.complete({"train": whole}, "x", 0)
    assert held.bytes < most * whole.images.nbytes + CONSTANT
