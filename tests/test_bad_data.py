"""Data that cannot be used are refused in one line that names them; data in odd but clear forms are read."""

import io
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rdd_jax import datasets
from rdd_jax.app.cli import main
from rdd_jax.arrays import read_npz, write_npz
from rdd_jax.datasets import tfds
from rdd_jax.datasets.images import read_image
from rdd_jax.datasets.preprocess import fit
from rdd_jax.errors import InputError, InputWarning
from rdd_jax.pixels import as_pixels
from rdd_jax.saving import foreign_set
from rdd_jax.types import Data

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 5, 4, 3), dtype=np.uint8)
LABELS = np.arange(12) % 3
TEST = {"test_images": IMAGES[:3], "test_labels": LABELS[:3]}


def save(path, **changes):
    arrays = {"images": IMAGES, "labels": LABELS} | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def refused(message, name, **options):
    """Raises unless the data are refused in one line that has ``message``."""
    with pytest.raises(InputError, match=re.escape(message)) as raised:
        datasets.load(name, **options)
    assert len(str(raised.value).splitlines()) == 1


# --- npz: what is in it ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, message",
    [
        ({"mirror": np.array([True, False])}, "mirror bool of shape (2,): give True or False"),
        ({"mirror": np.array("no")}, "mirror <U2 of shape (): give True or False"),
        ({"images": IMAGES[..., :2]}, "2 channels, not 1 or 3"),
        ({"images": np.zeros((12, 5, 4, 4), np.uint8)}, "drop the alpha channel"),
        ({"images": np.moveaxis(IMAGES, -1, 1)}, "4 channels, not 1 or 3"),
        ({"images": IMAGES.astype(np.float32)}, "give [0, 1], or uint8 in 0..255"),
        ({"images": IMAGES.astype(complex)}, "'images' as complex128"),
        ({"images": IMAGES.astype("datetime64[s]")}, "'images' as datetime64[s]"),
        ({"images": np.zeros((12, 5, 4, 3), "u1,u1")}, "save plain numbers"),
        ({"images": IMAGES > 3}, "images are bool"),
        ({"images": np.zeros((0, 5, 4, 3), np.uint8), "labels": LABELS[:0]}, "none of them 0"),
        ({"labels": LABELS.astype(str)}, "give one integer an image (and its name in class_names)"),
        ({"labels": LABELS.astype("S1")}, "'labels' as |S1"),
        ({"labels": np.where(LABELS == 2, -np.inf, LABELS)}, "hold -inf"),
        ({"labels": np.where(LABELS == 2, np.nan, LABELS)}, "hold nan"),
        ({"labels": np.where(LABELS == 2, 2.0**60, LABELS)}, "hold 1.15"),
        ({"labels": np.where(LABELS == 2, 2**64 - 1, LABELS.astype(np.uint64))}, "hold 18446744073709551615"),
        ({"labels": LABELS - 1}, "labels hold -1: number them from 0"),
        (
            {"labels": LABELS + 1, "class_names": np.array(["a", "b", "c"])},
            "they must lie in 0..2 (3 names): subtract 1",
        ),
        ({"labels": LABELS + 2**32, "class_names": np.array(["a", "b", "c"])}, "labels hold 4294967298"),
        ({"groups": LABELS + 2**32, "group_names": np.array(["a", "b", "c"])}, "groups hold 4294967298"),
        ({"class_names": np.array("abc")}, "class_names <U3 of shape (): give one text a code"),
        ({"class_names": np.array([["a", "b", "c"]])}, "of shape (1, 3)"),
        ({"class_names": np.array(["a", "b", "a"])}, "class_names hold 'a' more than once"),
        ({"class_names": np.array(["a", "b", "\udc80"])}, r"class_names hold '\udc80': give names of characters"),
        ({"class_names": np.array(["a", "b", "c\nd"])}, r"class_names hold 'c\nd'"),
        ({"class_names": np.array(["a", "b", " "])}, "class_names hold ' '"),
        ({"class_names": np.array([b"a", b"b", b"c"])}, "'class_names' as |S1"),
        (
            {"class_names": np.array(["a", "b", "c", "d"])},
            "class 'd' has 0 training examples, but 3 or more are needed",
        ),
        ({"groups": LABELS, "group_names": np.array(["a", "\x1b[2J", "c"])}, "group_names hold"),
        ({**TEST, "test_labels": LABELS[:3] + 7}, "test_labels hold 7, of which train has no example"),
        ({"test_groups": LABELS}, "test_groups but no test_images and no test_labels"),
        ({"labels": np.array([0] * 10 + [1, 1])}, "class '1' has 2 training examples, but 3 or more are needed"),
        ({"labels": np.arange(12)}, "class '0' has 1 training examples"),
    ],
)
def test_arrays_that_cannot_be_used_are_named(change, message, tmp_path):
    refused(message, str(save(tmp_path / "own.npz", **change)))


@pytest.mark.parametrize(
    "codes, names",
    [(LABELS + 1, ("1", "2", "3")), (np.array([3, 7])[LABELS % 2], ("3", "7")), (LABELS * 2.0, ("0", "2", "4"))],
)
def test_other_numbers_than_0_to_k_are_renumbered_and_it_is_said(codes, names, tmp_path):
    with pytest.warns(InputWarning, match=f"labels {', '.join(names)}: taken as 0..{len(names) - 1}"):
        splits = datasets.load(save(tmp_path / "own.npz", labels=codes, images=np.repeat(IMAGES[:1], 12, 0)))
    assert splits.train.class_names == names
    found = np.concatenate([part.labels for part in splits[:3]])
    assert found.dtype == np.int32
    np.testing.assert_array_equal(np.bincount(found), np.unique(codes, return_counts=True)[1])


@pytest.mark.parametrize("code", [2**31 - 1, 2**32 + 2])
def test_one_large_label_makes_one_class(code, tmp_path):
    file = save(tmp_path / "own.npz", labels=np.where(LABELS == 2, code, LABELS))
    with pytest.warns(InputWarning, match=f"0, 1, {code}"):
        assert datasets.load(file).train.class_names == ("0", "1", str(code))


def test_one_large_group_makes_one_group_in_every_split(tmp_path):
    file = save(tmp_path / "own.npz", groups=LABELS % 2, **TEST, test_groups=np.array([0, 50_000, 1]))
    with pytest.warns(InputWarning, match="groups 0, 1, 50000"):
        splits = datasets.load(file)
    assert [part.group_names for part in splits[:3]] == [("0", "1", "50000")] * 3
    np.testing.assert_array_equal(splits.test.groups, [0, 2, 1])


def test_the_command_line_says_a_renumbering_in_one_line(tmp_path, capsys):
    file = save(tmp_path / "own.npz", labels=LABELS + 1)
    assert main(["data", str(file), "--out", str(tmp_path / "picture.png")]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rdd: ")
    assert line.endswith("taken as 0..2, with the old numbers as names")


@pytest.mark.parametrize("names", [("$x", "[bold]", "[/x]"), ("Löwe", "犬", "👩‍👩‍👧")])
def test_names_that_can_be_shown_are_taken(names, tmp_path):
    assert datasets.load(save(tmp_path / "own.npz", class_names=np.array(names))).train.class_names == names


# --- npz: the file -----------------------------------------------------------------------------------


def npy(array, **header):
    """The bytes of an ``.npy``, with another header than the array's."""
    stream = io.BytesIO()
    told = np.lib.format.header_data_from_array_1_0(array) | header
    np.lib.format.write_array_header_1_0(stream, told)
    return stream.getvalue() + array.tobytes()


def zipped(path, **members):
    """An ``.npz`` of images, labels, and those."""
    members = {"images.npy": npy(IMAGES), "labels.npy": npy(LABELS)} | members
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "members, message",
    [
        ({"images.npy": npy(IMAGES, shape=(2**40, 5, 4, 3))}, "not the bytes for it"),
        ({"images.npy": npy(IMAGES, shape=(-12, -5, 4, 3))}, "not the bytes for it"),
        ({"images.npy": npy(IMAGES)[:-1]}, "not the bytes for it"),
        ({"images.npy": npy(IMAGES, descr="|O")}, "never loaded"),
        ({"images.npy": npy(IMAGES, descr="?!")}, "damaged"),
        ({"images.npy": b"\x93NUMPY\x01\x00\x06\x00(((((("}, "damaged"),
        ({"images.npy": b""}, "damaged"),
        ({"images.npy": b"hello"}, "damaged"),
        ({"class_names.npy": npy(np.full(3, 0x7FFFFFFF, np.uint32), descr="<U1")}, "damaged"),
        ({"mirror": b"yes"}, "'mirror', which is no array"),
    ],
)
def test_members_that_cannot_be_read_are_named(members, message, tmp_path):
    refused(message, str(zipped(tmp_path / "own.npz", **members)))


def patched(path, signature, offset, value):
    """The archive with bytes of the directory's first entry changed."""
    content = bytearray(path.read_bytes())
    at = content.index(signature) + offset
    content[at : at + len(value)] = value
    path.write_bytes(content)
    return str(path)


HUGE = (2**31).to_bytes(4, "little")


@pytest.mark.parametrize(
    "offset, value, message",
    [
        (8, b"\x01", "encrypted or compressed in another way"),
        (10, b"\x0e", "encrypted or compressed in another way"),
        (16, b"abcd", "Bad CRC-32"),
        (20, HUGE + HUGE, "not the bytes for it"),  # sizes, packed and unpacked
    ],
)
def test_a_directory_that_lies_is_found_out_before_anything_is_read(offset, value, message, tmp_path):
    refused(message, patched(save(tmp_path / "own.npz"), b"PK\x01\x02", offset, value))


def test_other_compressions_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "own.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("images.npy", npy(IMAGES))
        archive.writestr("labels.npy", npy(LABELS))
    refused("compressed in another way", str(tmp_path / "own.npz"))
    np.savez_compressed(tmp_path / "packed.npz", images=IMAGES, labels=LABELS)
    assert len(datasets.load(tmp_path / "packed.npz").train) == 6


def test_members_that_are_not_needed_are_not_looked_at(tmp_path):
    others = {
        "notes.txt": b"hello",
        "embedding.npy": npy(LABELS, shape=(2**50,)),
        "objects.npy": npy(LABELS, descr="|O"),
    }
    file = zipped(tmp_path / "own.npz", **others)
    assert len(datasets.load(file).train) == 6
    with pytest.raises(InputError, match=r"no nothing \(it has images, labels, notes.txt, embedding, objects\)"):
        read_npz(file, ("images", "nothing"))
    with pytest.raises(InputError, match="no array"):
        read_npz(file)


def test_names_of_files_in_any_form(tmp_path, monkeypatch):
    save(tmp_path / "mine.npz").rename(tmp_path / "mine.NPZ")
    monkeypatch.chdir(tmp_path)
    given = ["mine.NPZ", "./mine.NPZ", Path("mine.NPZ"), tmp_path / "mine.NPZ", str(tmp_path / "mine.NPZ")]
    assert {datasets.load(name).name for name in given} == {"mine"}


# --- names and paths ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, message",
    [
        ("", "data is '': give digits, a prepared TFDS name"),
        (" ", "data is ' '"),
        ("my pets", "no data at 'my pets'"),
        ("pets.zip", "no data at 'pets.zip'"),
        ("there.zip", "'there.zip' cannot be read as data: give digits"),
        ("there.npy", "np.savez an array"),
        ("mnist[train]", "no data at 'mnist[train]'"),
        ("mnist:3", "no data at 'mnist:3'"),
        ("ünïcode", "no data at 'ünïcode'"),
        ("a\0b", "no data at"),
        ("n" * 5000, "cannot be read"),
        (".", "expected one a class"),
        ("mine.NPZ", "no file 'mine.NPZ'"),
        ("pipe.npz", "it is a folder or a device"),
        ("folder.npz", "'folder.npz' has no folders"),
    ],
)
def test_mistyped_names_are_refused_with_what_can_be_given(name, message, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    if name != ".":
        for file in ("there.zip", "there.npy"):
            Path(file).write_bytes(b"PK")
        os.mkfifo("pipe.npz")
        Path("folder.npz").mkdir()
    refused(message, name)


def test_what_the_system_refuses_is_told_with_its_path(tmp_path, monkeypatch):
    def closed(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    file, folder = save(tmp_path / "own.npz"), tmp_path / "folder"
    folder.mkdir()
    monkeypatch.setattr(Path, "open", closed)
    refused(f"{str(file)!r} cannot be read (Permission denied)", file)
    monkeypatch.setattr(Path, "iterdir", closed)
    refused(f"Permission denied: {str(folder)!r}", folder)


# --- folders -----------------------------------------------------------------------------------------


def folder(root, *classes, split="", files=("0.png", "1.png", "2.png")):
    """A folder of class folders with an image in every file."""
    for name in classes:
        (root / split / name).mkdir(parents=True, exist_ok=True)
        for file in files:
            Image.fromarray(IMAGES[0]).save(root / split / name / file)
    return root


@pytest.mark.parametrize(
    "train, validation, test",
    [("Train", "val", "TEST"), ("training", "Valid", "testing"), ("train", "Validation", "test")],
)
def test_splits_go_by_their_usual_names(train, validation, test, tmp_path):
    for split, count in ((train, 3), (validation, 1), (test, 2)):
        folder(tmp_path, "a", "b", split=split, files=[f"{i}.png" for i in range(count)])
    assert [len(part) for part in datasets.load(tmp_path)[:3]] == [6, 2, 4]


@pytest.mark.parametrize(
    "folders, message",
    [
        (["train/a", "val/a", "valid/a"], "are both validation: keep one"),
        (["train/a", "train/b", "test/a", "test/c"], "has class 'c', which train has not (a, b)"),
        (["train/a", "trial/a"], "has 'trial' beside its splits"),
        (["val/a", "test/a"], "no train folder"),
    ],
)
def test_folders_that_do_not_fit_together_are_named(folders, message, tmp_path):
    for name in folders:
        folder(tmp_path, name)
    refused(message, tmp_path)


def test_what_systems_leave_in_folders_is_no_data(tmp_path):
    folder(tmp_path, "a", "b", ".git", ".ipynb_checkpoints", "__MACOSX")
    for name in ("._0.png", ".hidden.png", "Thumbs.db", "README"):
        (tmp_path / "a" / name).write_bytes(b"no image")
    splits = datasets.load(tmp_path)
    assert splits.train.class_names == ("a", "b")
    assert sum(len(part) for part in splits[:3]) == 6


def test_a_class_without_images_is_named(tmp_path):
    folder(tmp_path, "a")
    (tmp_path / "b").mkdir()
    refused("class 'b' has 0 training examples", tmp_path)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/nowhere", path)])
def test_only_regular_files_are_opened(make, tmp_path):
    make(folder(tmp_path, "a") / "a" / "9.png")
    refused("9.png' is no regular file", tmp_path)


def test_names_of_classes_that_cannot_be_shown_are_refused(tmp_path):
    folder(tmp_path, "a", "b\x1b[2J")
    refused(r"class_names hold 'b\x1b[2J'", tmp_path)


def test_sizes_that_differ_are_told_with_the_option_that_mends_it(tmp_path):
    folder(tmp_path, "a", "b")
    Image.fromarray(IMAGES[0, ..., 0]).save(tmp_path / "a" / "grey.png")
    Image.fromarray(RNG.integers(0, 256, (9, 6, 3), dtype=np.uint8)).save(tmp_path / "b" / "large.png")
    refused("images are of different sizes: 7 of 5x4 (such as", tmp_path)
    refused("1 of 9x6 (such as", tmp_path)
    refused("large.png'): give --resize 4", tmp_path)
    for mode, channels in ((None, 3), ("rgb", 3), ("grey", 1)):
        splits = datasets.load(tmp_path, resize=4, mode=mode)
        assert splits.train.images.shape[1:] == (4, 4, channels)


def test_the_command_line_resizes(tmp_path, capsys):
    folder(tmp_path / "pets", "a", "b")
    Image.fromarray(RNG.integers(0, 256, (9, 6), dtype=np.uint8)).save(tmp_path / "pets" / "a" / "grey.png")
    data = ["data", str(tmp_path / "pets"), "--out", str(tmp_path / "picture.png")]
    assert main(data) == 2
    assert main([*data, "--resize", "4"]) == 0
    assert "(4, 4, 3)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options, message",
    [({"resize": 0}, "resize is 0"), ({"resize": 10**6}, "1..4096"), ({"mode": "gray"}, "did you mean grey")],
)
def test_sizes_and_modes_are_checked_before_anything_is_read(options, message, tmp_path):
    refused(message, tmp_path, **options)


# --- image files -------------------------------------------------------------------------------------

STAIRS = np.arange(20, dtype=np.uint8).reshape(5, 4) * 12
"""Grey."""


def written(path, image, **options):
    image.save(path, **options)
    return read_image(path)


@pytest.mark.parametrize("suffix", ["png", "tif", "tiff", "TIFF", "bmp", "webp", "PNG"])
def test_images_are_read_as_they_were_written(suffix, tmp_path):
    options = {"lossless": True} if suffix == "webp" else {}
    np.testing.assert_array_equal(written(tmp_path / f"x.{suffix}", Image.fromarray(IMAGES[0]), **options), IMAGES[0])
    if suffix != "webp":
        np.testing.assert_array_equal(written(tmp_path / f"y.{suffix}", Image.fromarray(STAIRS)), STAIRS[..., None])


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled(suffix, tmp_path):
    deep = Image.fromarray(STAIRS.astype(np.uint16) * 257)
    np.testing.assert_array_equal(written(tmp_path / f"x.{suffix}", deep), STAIRS[..., None])


@pytest.mark.parametrize("dtype, message", [(np.float32, "floating-point pixels"), (np.int32, "pixels 0..70000")])
def test_pixels_of_no_fixed_range_are_refused(dtype, message, tmp_path):
    image = Image.fromarray(np.array([[0, 70_000]], dtype))
    with pytest.raises(InputError, match=rf"x\.tif.*{message}.*save eight or sixteen bits"):
        written(tmp_path / "x.tif", image)


def test_transparent_images_are_laid_on_white(tmp_path):
    alpha = np.array([[0, 255, 128, 255]] * 5, np.uint8)
    found = written(tmp_path / "x.png", Image.fromarray(np.dstack([IMAGES[0], alpha])))
    assert (found[:, 0] == 255).all()
    np.testing.assert_array_equal(found[:, [1, 3]], IMAGES[0][:, [1, 3]])
    np.testing.assert_allclose(found[:, 2], IMAGES[0][:, 2] * (128 / 255) + 255 * (127 / 255), atol=1)
    grey = written(tmp_path / "y.png", Image.fromarray(np.dstack([STAIRS, alpha])))
    assert grey.shape == (5, 4, 1)
    assert (grey[:, 0] == 255).all()
    # A palette with a transparent colour.
    palette = Image.fromarray(STAIRS % 3)
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    found = written(tmp_path / "z.png", palette, transparency=1)
    np.testing.assert_array_equal(found[0, 0], [10, 20, 30])
    assert (found[STAIRS % 3 == 1] == 255).all()


def test_photographs_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    found = written(tmp_path / "x.png", Image.fromarray(IMAGES[0]), exif=exif)
    np.testing.assert_array_equal(found, np.rot90(IMAGES[0], -1))


def test_resizing_keeps_the_middle_and_averages(tmp_path):
    wide = np.zeros((4, 12), np.uint8)
    wide[:, 4:8] = np.indices((4, 4)).sum(0) % 2 * 200
    Image.fromarray(wide).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_image(tmp_path / "x.png", 4)[..., 0], wide[:, 4:8])
    assert np.abs(read_image(tmp_path / "x.png", 2) - 100.0).max() < 50  # a filter without averaging gives 0 or 200


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 15)
    Image.fromarray(STAIRS).save(tmp_path / "x.png")
    with pytest.raises(InputError, match=r"x\.png.*decompression bomb"):
        read_image(tmp_path / "x.png")


# --- TFDS --------------------------------------------------------------------------------------------

JSON = {
    "dataset_info.json": """{"name": "pets", "version": "1.0.0", "fileFormat": "array_record", "splits": [
    {"name": "train", "shardLengths": ["3"], "numBytes": "7",
    "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"}]}""",
    "features.json": """{"pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
    "featuresDict": {"features": {
    "image": {"pythonClassName": "tensorflow_datasets.core.features.image_feature.Image", "image":
    {"shape": {"dimensions": ["5", "4", "3"]}, "dtype": "uint8", "encodingFormat": "png"}},
    "label": {"pythonClassName": "tensorflow_datasets.core.features.class_label_feature.ClassLabel",
    "classLabel": {"numClasses": "3"}}}}}""",
    "pets-train.array_record-00000-of-00001": "hello",
}


@pytest.fixture
def pets(tmp_path, monkeypatch):
    """The folder of a prepared TFDS set that has all but its records."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("RDD_CACHE", str(tmp_path / "cache"))
    home = tmp_path / "pets" / "1.0.0"
    home.mkdir(parents=True)
    for name, text in JSON.items():
        (home / name).write_text(text)
    return home


@pytest.mark.parametrize(
    "file, content, name, message",
    [
        ("dataset_info.json", "{", "pets", r"1\.0\.0/dataset_info\.json .*is damaged"),
        ("dataset_info.json", None, "pets", r"1\.0\.0/dataset_info\.json"),
        ("features.json", "{", "pets", r"1\.0\.0/features\.json .*is damaged"),
        ("features.json", None, "pets", "'pets' cannot be read: .*pets lacks"),
        ("pets-train.array_record-00000-of-00001", "x", "pets", r"pets/1\.0\.0, split 'train'.*64KB"),
        ("pets-train.array_record-00000-of-00001", None, "pets", r"split 'train'.*No such file"),
        ("features.json", JSON["features.json"], "pets:2.0.0", "'pets:2.0.0' cannot be read: .*pets lacks"),
    ],
)
def test_damaged_tfds_sets_are_named(file, content, name, message, pets, tmp_path):
    (pets / file).unlink() if content is None else (pets / file).write_text(content)
    with pytest.raises(InputError, match=message) as raised:
        datasets.load(name)
    assert len(str(raised.value).splitlines()) == 1
    assert len(str(raised.value)) < 600
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("arrays, message", [({}, "has no labels"), ({"labels": LABELS + 1}, "labels hold 3")])
def test_a_damaged_copy_of_a_tfds_set_says_that_it_can_go(arrays, message, pets, tmp_path):
    copy = tmp_path / "cache" / "pets-1.0.0-train-3-7 bytes.npz"
    write_npz(copy, images=IMAGES, **arrays)
    refused(message, "pets")
    refused(f"{str(copy)!r} is a decoded copy: remove it, and it is made again", "pets")
    write_npz(copy, images=IMAGES, labels=LABELS)
    assert len(tfds.read("pets")["train"]) == 12


# --- preprocessing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["standardise", "zca", "none"])
def test_bytes_are_scaled_before_they_are_preprocessed(kind):
    fitted = fit(kind, as_pixels(IMAGES))
    np.testing.assert_array_equal(fitted.apply(IMAGES), fitted.apply(as_pixels(IMAGES)))


@pytest.mark.parametrize("images, message", [(IMAGES * 1.0, "divide by 255"), (IMAGES.astype(int), "images are int64")])
def test_what_is_plainly_no_pixels_is_not_preprocessed(images, message):
    fitted = fit("standardise", as_pixels(IMAGES))
    with pytest.raises(InputError, match=message):
        fitted.apply(images)
    learned = as_pixels(IMAGES) * 5 - 2
    assert np.isfinite(fitted.apply(learned)).all()


def test_standardising_in_blocks_is_standardising():
    pixels = np.random.default_rng(1).random((9000, 2, 2, 3), np.float32) * np.float32([1, 0.5, 0.1])
    fitted = fit("standardise", pixels)
    np.testing.assert_allclose(fitted.mean[0, 0], pixels.mean((0, 1, 2), dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(1 / fitted.scale[0, 0], pixels.std((0, 1, 2), dtype=np.float64), rtol=1e-6)


# --- sets made elsewhere -----------------------------------------------------------------------------

PIXELS = np.random.default_rng(2).random((6, 5, 4, 3)).astype(np.float32)
FITTED = fit("standardise", PIXELS)
OF = np.arange(6) % 3
ONE_HOT = np.eye(3)[OF]


def foreign(tmp_path, images=PIXELS, labels=OF, space="pixel"):
    np.savez(tmp_path / "set.npz", images=images, labels=labels)
    return foreign_set(tmp_path / "set.npz", (5, 4, 3), 3, space, FITTED)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"images": (PIXELS - 0.5) / 0.25}, "where the data has 0.49"),
        ({"images": np.where(PIXELS < 0.8, -0.42, 2)}, "say --space model"),
        ({"images": PIXELS * 2 - 1}, "where the data has 0.49"),
        ({"images": PIXELS * 15}, "of mean 7.3 where the data has 0.49"),
        ({"images": PIXELS * 255}, "divide by 255"),
        ({"images": (PIXELS * 17).astype(np.uint8)}, "integer pixels 0..16, where white is 255: give images / 16"),
        ({"images": (PIXELS > 0.5).astype(np.uint8)}, "integer pixels 0..1"),
        ({"images": (PIXELS * 65535).astype(np.uint16)}, "expected 0..255"),
        ({"images": PIXELS > 0.5}, "images bool: give numbers"),
        ({"images": PIXELS.astype(str)}, "give numbers"),
        ({"images": np.where(PIXELS < 0.5, np.nan, PIXELS)}, "NaN or infinite pixels"),
        ({"labels": ONE_HOT * 0}, "the label of image 0 is 0 for every class"),
        ({"labels": np.array([1.2, -0.1, -0.1])[(np.arange(3) - OF[:, None]) % 3]}, "soft labels down to -0.1"),
        ({"labels": -1 - ONE_HOT}, "no logarithms of them"),
        ({"labels": ONE_HOT.astype(str)}, "no numbers"),
        ({"labels": np.where(ONE_HOT, np.nan, 0)}, "NaN"),
        ({"labels": OF % 2}, "no image of class 2 of 0..2"),
        ({"labels": np.eye(3)[OF % 2]}, "no image of class 2 of 0..2"),
        ({"labels": OF + 2**32}, "labels hold 4294967298"),
        ({"labels": np.where(OF == 0, -np.inf, OF)}, "hold -inf"),
        ({"labels": OF[:5]}, "(5,) for 6 images"),
    ],
)
def test_sets_in_another_form_than_said_are_refused(change, message, tmp_path):
    with pytest.raises(InputError, match=rf"set\.npz.*{re.escape(message)}"):
        foreign(tmp_path, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"images": PIXELS + np.random.default_rng(3).normal(0, 0.4, PIXELS.shape)},  # learned
        {"images": 0.5 + (PIXELS - 0.5) * 5},  # by matching, for long
        {"images": np.moveaxis(PIXELS, -1, 1)},
        {"images": (PIXELS * 255).astype(np.int64)},
        {"images": (PIXELS - 0.5) / 0.25, "space": "model"},
        {"labels": ONE_HOT * 0.8 + 0.2 / 3},
        {"labels": ONE_HOT - 1 / 3},
        {"labels": ONE_HOT.astype(bool)},
        {"labels": OF.astype(np.float32)},
    ],
)
def test_sets_in_every_form_that_can_be_told_are_taken(change, tmp_path):
    found = foreign(tmp_path, **change)
    assert found.images.shape == (6, 5, 4, 3)
    np.testing.assert_array_equal(np.argmax(found.labels, 1), OF)
    np.testing.assert_allclose(found.labels.sum(1), 0, atol=1e-6)


def test_targets_of_a_regression_stay_as_they_are(tmp_path):
    labels = 7 * np.roll(ONE_HOT, 1, 1) - np.arange(6)[:, None] * 0.4 + 0.3
    np.testing.assert_allclose(foreign(tmp_path, labels=labels.astype(np.float32)).labels, labels, atol=1e-6)


def test_the_names_of_data_are_checked_wherever_they_come_from():
    with pytest.raises(InputError, match="more than once"):
        Data(IMAGES, LABELS, ("a", "b", "b"))
