import io
import types

import numpy as np
import pytest
from PIL import Image

from rdd_jax import datasets
from rdd_jax.arrays import read_npz, write_npz
from rdd_jax.datasets import tfds
from rdd_jax.errors import InputError
from rdd_jax.types import Data


def save(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def images(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 5, 4, 3), dtype=np.uint8)


def test_digits_are_split_with_stratification():
    splits = datasets.load("digits")
    assert sum(map(len, splits[:3])) == 1797
    assert splits.train.images.shape[1:] == (8, 8, 1)
    for c in range(10):
        counts = [np.sum(part.labels == c) for part in splits[:3]]
        total = sum(counts)
        assert counts[2] == round(0.2 * total)
        assert counts[1] == round(0.1 * (total - counts[2]))


def test_splits_depend_on_the_seed_alone():
    one, same, other = datasets.load("digits", 1), datasets.load("digits", 1), datasets.load("digits", 2)
    np.testing.assert_array_equal(one.test.images, same.test.images)
    assert not np.array_equal(one.test.images, other.test.images)


def test_stratified_split_is_a_partition():
    whole = Data(images(40), np.repeat(np.arange(4, dtype=np.int32), 10), tuple("abcd"))
    rest, part = datasets.stratified_split(whole, 0.3, 0)
    assert rest.mirror
    assert part.mirror
    assert (np.bincount(part.labels), np.bincount(rest.labels)) == (pytest.approx([3] * 4), pytest.approx([7] * 4))
    both = np.concatenate([rest.images, part.images]).reshape(40, -1)
    assert {row.tobytes() for row in both} == {row.tobytes() for row in whole.images.reshape(40, -1)}


def test_npz_with_groups_and_splits(tmp_path):
    file = save(
        tmp_path / "own.npz",
        images=images(12),
        labels=np.arange(12) % 3,
        groups=np.arange(12) % 2,
        class_names=np.array(["x", "y", "z"]),
        group_names=np.array(["red", "blue"]),
        test_images=images(6, 1),
        test_labels=np.arange(6) % 3,
        test_groups=np.arange(6) % 2,
    )
    splits = datasets.load(file)
    assert splits.name == "own"
    assert splits.train.class_names == ("x", "y", "z")
    assert splits.train.group_names == ("red", "blue")
    assert len(splits.test) == 6
    assert len(splits.train) + len(splits.validation) == 12
    assert splits.train.groups is not None
    np.testing.assert_array_equal(splits.test.groups, np.arange(6) % 2)


@pytest.mark.parametrize("given, mirror", [({}, True), ({"mirror": False}, False), ({"mirror": np.array(True)}, True)])
def test_whether_images_may_be_mirrored_is_said_by_the_file_of_every_split(given, mirror, tmp_path):
    test = {"test_images": images(6, 1), "test_labels": np.arange(6) % 3}
    splits = datasets.load(save(tmp_path / "own.npz", images=images(12), labels=np.arange(12) % 3, **test, **given))
    assert [part.mirror for part in splits[:3]] == [mirror] * 3


def test_digits_are_not_mirrored():
    splits = datasets.load("digits")
    assert [part.mirror for part in splits[:3]] == [False] * 3
    assert not splits.train.take(np.arange(5)).mirror


@pytest.mark.parametrize(
    "name, mirror", [("mnist", False), ("kmnist", False), ("svhn_cropped", False), ("flowers", True)]
)
def test_a_tfds_set_is_decoded_once_and_mirrored_unless_it_is_of_characters(name, mirror, tmp_path, monkeypatch):
    import tensorflow_datasets

    pixels, labels = images(12), np.arange(12) % 3

    def png(image):
        Image.fromarray(image).save(stream := io.BytesIO(), "png")
        return stream.getvalue()

    class Source:
        def __len__(self):
            return 12

        def __getitems__(self, index):
            return [{"image": png(pixels[i]), "label": labels[i]} for i in index]

    features = {
        "image": tensorflow_datasets.features.Image(shape=(5, 4, 3)),
        "label": tensorflow_datasets.features.ClassLabel(names=["x", "y", "z"]),
    }
    size = types.SimpleNamespace(num_examples=12, num_bytes=7)
    info = types.SimpleNamespace(features=features, splits={"train": size, "test": size}, full_name=f"{name}/1.0.0")
    asked = []
    builder = types.SimpleNamespace(
        name=name, info=info, as_data_source=lambda split, decoders: asked.append(split) or Source()
    )
    monkeypatch.setattr(tensorflow_datasets, "builder", lambda name, data_dir: builder)
    monkeypatch.setenv("RDD_CACHE", str(tmp_path))
    for _ in range(2):
        parts = tfds.read(name)
        assert list(parts) == ["train", "test"]
        for part in parts.values():
            np.testing.assert_array_equal(part.images, pixels)
            np.testing.assert_array_equal(part.labels, labels)
            assert (part.class_names, part.mirror) == (("x", "y", "z"), mirror)
    assert asked == ["train", "test"]  # the second time from the cache


# Every reader's own name, and what it reads there; see `test_a_tfds_set_is_decoded_once...` for the last.
def names_of(tmp_path):
    (tmp_path / "folder").mkdir()
    for name in "ab":
        (tmp_path / "folder" / name).mkdir()
        Image.fromarray(images(1)[0]).save(tmp_path / "folder" / name / "0.png")
    npz = save(tmp_path / "own.npz", images=images(12), labels=np.arange(12) % 3)
    return {"digits": "digits", "npz": npz, "folder": str(tmp_path / "folder")}


@pytest.mark.parametrize("name", datasets.READERS)
def test_a_reader_reads_its_own_names_and_leaves_the_others(name, tmp_path):
    read, own = datasets.READERS[name], names_of(tmp_path)
    for kind, given in own.items():
        if name == "tfds" and kind == "digits":
            continue  # read before TFDS is asked
        parts = read(given)
        assert (parts is not None) == (kind == name)
        if parts is not None:
            assert list(parts) == ["train"]
            assert isinstance(parts["train"], Data)
    assert read(str(tmp_path / "no" / "where")) is None
    assert {*datasets.READERS} == {*own, "tfds"}


def test_folder_of_images(tmp_path):
    pixels = images(12)
    for i, image in enumerate(pixels):
        folder = tmp_path / ["cat", "dog"][i % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / f"{i:02}.png")
    splits = datasets.load(str(tmp_path))
    assert splits.train.class_names == ("cat", "dog")
    assert splits.train.mirror
    found = np.concatenate([part.images for part in splits[:3]]).reshape(12, -1)
    assert {row.tobytes() for row in found} == {row.tobytes() for row in pixels.reshape(12, -1)}


def test_folder_with_given_splits(tmp_path):
    for split, count in (("train", 6), ("test", 2)):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(images(1, i)[0]).save(tmp_path / split / name / f"{i}.png")
    splits = datasets.load(str(tmp_path))
    assert [len(part) for part in splits[:3]] == [10, 2, 4]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"images": None}, "has no images"),
        ({"labels": None}, "has no labels"),
        ({"labels": np.array([object()] * 12)}, "never loaded"),
        ({"images": np.full((12, 5, 4, 3), np.nan)}, "NaN"),
        ({"images": np.full((12, 5, 4, 3), np.inf)}, "NaN or infinite"),
        ({"images": np.full((12, 5, 4, 3), 200.0)}, "200"),
        ({"images": np.zeros((12, 5, 4), np.uint8)}, r"\(12, 5, 4\)"),
        ({"images": np.zeros((0, 5, 4, 3), np.uint8)}, r"\(0, 5, 4, 3\)"),
        ({"labels": np.arange(11) % 3}, r"\(11,\) for 12 images"),
        ({"labels": np.arange(12) % 3 - 1}, "-1"),
        ({"labels": np.arange(12) % 3 + 0.5}, "float64"),
        ({"labels": np.array(["a"] * 12)}, "one integer"),
        ({"labels": np.eye(3)[np.arange(12) % 3]}, r"\(12, 3\)"),
        ({"class_names": np.array(["a", "b"])}, "2"),
        ({"class_names": np.array(["a", "b", "c", "d"])}, "class 'd' has 0 training examples"),
        ({"groups": np.arange(12) % 2 + 0.5}, "groups"),
        ({"groups": np.arange(5)}, "groups"),
        ({"test_images": images(3)}, "test_labels"),
        ({"test_images": images(3)[:, :4], "test_labels": np.arange(3)}, "different shapes"),
        ({"labels": np.array([0] * 11 + [1])}, "3 or more"),
    ],
)
def test_a_bad_npz_is_named(tmp_path, change, message):
    arrays = {"images": images(12), "labels": np.arange(12) % 3} | change
    file = save(tmp_path / "bad.npz", **{key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(InputError, match=message):
        datasets.load(file)


def test_a_truncated_npz_is_named(tmp_path):
    file = tmp_path / "cut.npz"
    save(file, images=images(12), labels=np.arange(12) % 3)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"cut\.npz.*truncated"):
        datasets.load(str(file))


def test_a_file_that_only_calls_itself_npz_is_named(tmp_path):
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(InputError, match=r"text\.npz"):
        datasets.load(str(tmp_path / "text.npz"))


def test_bad_folders_are_named(tmp_path):
    with pytest.raises(InputError, match="no folders"):
        datasets.load(str(tmp_path))
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match="no images"):
        datasets.load(str(tmp_path))
    Image.fromarray(images(1)[0]).save(tmp_path / "a" / "0.png")
    whole = (tmp_path / "a" / "0.png").read_bytes()
    (tmp_path / "a" / "1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"1\.png.*truncated"):
        datasets.load(str(tmp_path))
    Image.fromarray(images(1)[0, :3]).save(tmp_path / "a" / "1.png")
    with pytest.raises(InputError, match="different sizes"):
        datasets.load(str(tmp_path))


@pytest.mark.parametrize("name, message", [("nowhere.npz", "no file"), ("no/where", "no file or folder")])
def test_missing_paths_are_named(name, message):
    with pytest.raises(InputError, match=message):
        datasets.load(name)


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(InputError, match=r"did you mean.*mnist"):
        datasets.load("mnst")
    with pytest.raises(InputError, match="digits"):
        datasets.load("digts")


def test_an_unprepared_tfds_set_says_how_to_prepare_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(InputError, match="download_and_prepare"):
        datasets.load("mnist")


def test_write_npz_keeps_what_was_there_when_it_fails(tmp_path, monkeypatch):
    file = tmp_path / "x.npz"
    write_npz(file, a=np.arange(3))

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        write_npz(file, a=np.arange(4))
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]
    np.testing.assert_array_equal(read_npz(file)["a"], np.arange(3))


@pytest.mark.slow
@pytest.mark.real_data
def test_tfds_sets_are_read_and_cached(tmp_path, monkeypatch):
    monkeypatch.setenv("RDD_CACHE", str(tmp_path))
    splits = datasets.load("mnist")
    assert len(splits.train) + len(splits.validation) == 60_000
    assert len(splits.test) == 10_000
    assert splits.train.images.shape[1:] == (28, 28, 1)
    assert [part.mirror for part in splits[:3]] == [False] * 3
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(tfds, "_decode", None)  # a second reading must not decode
    again = datasets.load("mnist")
    np.testing.assert_array_equal(again.test.images, splits.test.images)
