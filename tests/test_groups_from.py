"""``groups_from``: the groups of a TFDS set from any of its features."""

import io
import json
import os
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rdd_jax import datasets
from rdd_jax.app import reporting
from rdd_jax.app.cli import main
from rdd_jax.app.sections import SplitsOptions
from rdd_jax.arrays import read_npz
from rdd_jax.errors import InputError

N = 36
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 5, 4, 3), dtype=np.uint8)
VALUES = {
    "label": np.arange(N) % 3,
    "leaf": np.arange(N) % 6,
    "age": np.arange(N) // 9 * 10 - 10,
    "wild": np.arange(N) % 2 == 0,
}


def png(image):
    Image.fromarray(image).save(stream := io.BytesIO(), "png")
    return stream.getvalue()


@pytest.fixture
def pets(tmp_path, monkeypatch):
    """A set of TFDS with features of many kinds; which splits were read, in order, whatever for."""
    import tensorflow_datasets as tfds

    class Source:
        def __len__(self):
            return N

        def __getitems__(self, index):
            values = {key: value.copy() for key, value in VALUES.items()}
            return [{"image": png(PIXELS[i]), **{key: value[i] for key, value in values.items()}} for i in index]

    features = {
        "image": tfds.features.Image(shape=(5, 4, 3)),
        "label": tfds.features.ClassLabel(names=["x", "y", "z"]),
        "leaf": tfds.features.ClassLabel(names=["a", "b", "c", "d", "e", "f", "none"]),
        "age": tfds.features.Scalar(np.int64),
        "wild": tfds.features.Scalar(np.bool_),
        "weight": tfds.features.Scalar(np.float32),
        "box": tfds.features.Tensor(shape=(4,), dtype=np.int64),
        "name": tfds.features.Text(),
    }
    size = types.SimpleNamespace(num_examples=N, num_bytes=7)
    info = types.SimpleNamespace(features=features, splits={"train": size, "test": size}, full_name="pets/1.0.0")
    asked = []
    builder = types.SimpleNamespace(
        name="pets", info=info, as_data_source=lambda split, decoders: asked.append(split) or Source()
    )
    monkeypatch.setattr(tfds, "builder", lambda name, data_dir: builder)
    monkeypatch.setenv("RDD_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return asked


@pytest.mark.parametrize(
    "feature, names",
    [
        ("leaf", ("a", "b", "c", "d", "e", "f", "none")),
        ("age", ("-10", "0", "10", "20")),
        ("wild", ("0", "1")),
        ("label", ("x", "y", "z")),
    ],
)
def test_groups_are_the_values_of_the_feature_by_their_names(feature, names, pets):
    splits = datasets.load("pets", groups_from=feature)
    assert [part.group_names for part in splits[:3]] == [names] * 3
    wanted = VALUES[feature] if feature in ("leaf", "label") else np.unique(VALUES[feature], return_inverse=True)[1]
    np.testing.assert_array_equal(splits.test.groups, wanted)
    assert splits.test.groups.dtype == np.int32
    # The drawn splits take the groups with their images.
    for part in splits[:2]:
        where = [np.flatnonzero((image == PIXELS).all((1, 2, 3)))[0] for image in part.images]
        np.testing.assert_array_equal(part.groups, wanted[where])


def test_copies_with_and_without_groups_are_not_mixed_up(pets, tmp_path):
    assert datasets.load("pets").train.groups is None
    assert pets == ["train", "test"]
    leaf = datasets.load("pets", groups_from="leaf")
    assert pets == ["train", "test"] * 2  # images are decoded once, the feature is read beside them
    age = datasets.load("pets", groups_from="age")
    assert pets == ["train", "test"] * 3
    assert datasets.load("pets").train.groups is None
    for feature, splits in (("leaf", leaf), ("age", age)):
        np.testing.assert_array_equal(datasets.load("pets", groups_from=feature).train.groups, splits.train.groups)
    assert len(pets) == 6  # all from the cache
    kept = sorted(path.name.partition("7")[2] for path in (tmp_path / "cache").glob("*train*"))
    assert kept == [".age.npz", ".leaf.npz", ".npz"]


def test_a_damaged_copy_of_a_feature_says_that_it_can_go(pets, tmp_path):
    datasets.load("pets", groups_from="leaf")
    (copy,) = (tmp_path / "cache").glob("*train*.leaf.npz")
    for arrays, message in (({}, "has no values"), ({"values": np.arange(3)}, r"shape \(3,\)")):
        np.savez(copy, **arrays)
        with pytest.raises(InputError, match=f"{message}.*{copy.name}.* is a decoded copy: remove it"):
            datasets.load("pets", groups_from="leaf")


@pytest.mark.parametrize(
    "feature, message",
    [
        ("leef", "unknown groups_from 'leef': did you mean leaf.*choose from age, box, label, leaf"),
        ("image", "unknown groups_from 'image': .*choose from"),
        ("weight", "'weight', which TFDS set 'pets' has as Scalar: give a feature of classes or whole numbers"),
        ("box", "has as Tensor"),
        ("name", "has as Text"),
    ],
)
def test_features_that_are_no_groups_are_refused_before_anything_is_read(feature, message, pets):
    with pytest.raises(InputError, match=message):
        datasets.load("pets", groups_from=feature)
    assert pets == []


def test_a_class_that_is_not_known_is_refused(pets, monkeypatch):
    monkeypatch.setitem(VALUES, "leaf", VALUES["leaf"] - 1)
    with pytest.raises(InputError, match="feature 'leaf' of split 'train' hold -1"):
        datasets.load("pets", groups_from="leaf")


@pytest.mark.parametrize("name", ["digits", "own.npz", "folder", "no/where"])
def test_other_data_have_no_features(name, pets, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"groups_from is 'leaf', .*is none: give one.*\(an \.npz has its groups"):
        datasets.load(name, groups_from="leaf")


def test_a_shift_would_replace_the_groups(pets, capsys):
    assert main(["data", "pets", "--groups-from", "leaf", "--shift", "rare-invert"]) == 2
    assert "already has groups a, b, c" in capsys.readouterr().err


def test_a_report_says_where_its_groups_are_from():
    options = SplitsOptions(groups_from="leaf")
    assert reporting.described("pets", options) == "pets, groups from leaf"
    assert reporting.described("pets", SplitsOptions("rare-invert")) == "pets, rare-invert (share 0.05)"


@pytest.mark.slow
def test_a_run_keeps_its_groups(pets, tmp_path, capsys):
    words = "distill kip --data pets --groups-from leaf --grouping labels --ipc 1 --steps 2 --batch 12 --seeds 1"
    assert main([*words.split(), "--no-baselines", "--out", "run"]) == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["data"] == "pets, groups from leaf"
    assert report["subgroups"]["group_names"] == [*list("abcdef"), "none"]
    assert report["found_groups"]["groups"] == 6  # two leaves a class; cells without examples are none
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"]["groups_from"] == "leaf"
    capsys.readouterr()
    assert main(["evaluate", "run", "--no-baselines", "--out", "same.json"]) == 0
    same = json.loads((tmp_path / "same.json").read_text())
    assert same["subgroups"] == report["subgroups"]
    assert same["notes"] == report["notes"]
    assert main(["evaluate", "run", "--groups-from", "age", "--no-baselines", "--out", "other.json"]) == 0
    other = json.loads((tmp_path / "other.json").read_text())
    assert other["subgroups"]["group_names"] == ["-10", "0", "10", "20"]
    assert "The real data is not that of the run." in other["notes"]
    assert main(["distill", "--resume", "run", "--groups-from", "age"]) == 2
    assert "--groups-from age (it has leaf)" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.real_data
def test_photographs_have_their_leaves(tmp_path, monkeypatch):
    if not (Path(os.environ["TFDS_DATA_DIR"]) / "tiny_strata").is_dir():
        pytest.skip("no tiny_strata in TFDS_DATA_DIR")
    monkeypatch.setenv("RDD_CACHE", str(tmp_path))
    splits = datasets.load("tiny_strata", groups_from="leaf")
    assert len(splits.train.group_names) == 35
    assert (splits.test.cell_counts > 0).sum() == 35
    assert splits.test.cell_counts.max() == 50
    assert splits.train.cell_counts.sum(0)[splits.train.group_names.index("lion")] <= 40
    (kept,) = tmp_path.glob("*test*leaf.npz")
    assert read_npz(kept)["values"].shape == (1750,)
