"""``rdd export``: what other tools get, read by their own means and by the snippets beside it."""

import csv
import dataclasses
import json
import re

import numpy as np
import pytest

from rdd_jax.app.cli import main
from rdd_jax.app.distilling import distill
from rdd_jax.app.forms import FORMS
from rdd_jax.app.methods import configured
from rdd_jax.networks.recipe_files import read_recipe
from rdd_jax.networks.recipes import Recipe

pytestmark = pytest.mark.slow

SMALL = {"ipc": 2, "steps": 10, "batch": 100, "seeds": 1, "baselines": False, "labels": "learned"}


@pytest.fixture(scope="module", params=["standardise", "zca"])
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "run"
    return distill(configured("kip", **SMALL, preprocess=request.param), folder)


def exported(run, form, tmp_path):
    out = tmp_path / form
    assert main(["export", str(run.run.folder), "--to", form, "--out", str(out)]) == 0
    return out


def snippet(folder, monkeypatch):
    """What the README of an export has a reader run, run."""
    monkeypatch.chdir(folder)
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    found = {}
    exec(code, found)
    return found


def pixels_of(run):
    return run.saved.preprocess.invert(np.asarray(run.saved.synthetic.images))


@pytest.mark.parametrize("form", ["png", "npz"])
def test_an_image_stays_in_its_class_when_its_label_was_trained_past_another(run, form, tmp_path):
    synthetic = run.saved.synthetic
    turned = dataclasses.replace(run.saved, synthetic=synthetic._replace(labels=np.roll(synthetic.labels, 1, 1)))
    FORMS[form][0](tmp_path, turned)
    if form == "npz":
        found = np.load(tmp_path / "set.npz")["classes"]
    else:
        found = [int(file.parent.name) for file in sorted(tmp_path.glob("*/*.png"), key=lambda file: file.name)]
    np.testing.assert_array_equal(found, np.repeat(np.arange(10), 2))


def test_npz(run, tmp_path, monkeypatch):
    found = snippet(exported(run, "npz", tmp_path), monkeypatch)
    np.testing.assert_array_equal(found["images"], run.saved.synthetic.images)
    np.testing.assert_allclose(found["labels"] - 0.1, run.saved.synthetic.labels, atol=1e-6)
    np.testing.assert_allclose(found["model_space"](pixels_of(run)), found["images"], atol=1e-4)


def test_png(run, tmp_path, monkeypatch):
    folder = exported(run, "png", tmp_path)
    found = snippet(folder, monkeypatch)
    np.testing.assert_allclose(found["pixels"][..., None], np.clip(pixels_of(run), 0, 1), atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(found["model_space"](pixels_of(run)), run.saved.synthetic.images, atol=1e-4)
    assert found["classes"] == [str(c) for c in range(10) for _ in range(2)]
    with (folder / "labels.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["file"] for row in rows[:2]] == ["0/00000.png", "0/00001.png"]
    np.testing.assert_allclose(
        [[float(row[f"label_{c}"]) for c in range(10)] for row in rows], run.saved.synthetic.labels + 0.1, atol=1e-5
    )


def test_parquet(run, tmp_path, monkeypatch):
    found = snippet(exported(run, "parquet", tmp_path), monkeypatch)
    np.testing.assert_array_equal(found["pixels"], pixels_of(run))
    np.testing.assert_allclose(found["labels"], run.saved.synthetic.labels + 0.1, atol=1e-5)
    np.testing.assert_allclose(found["model_space"](pixels_of(run)), run.saved.synthetic.images, atol=1e-4)
    assert found["table"]["image"][0]["bytes"].startswith(b"\x89PNG")


def test_torch(run, tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="PyTorch is not installed: the export for it is not tried")
    import torch

    found = snippet(exported(run, "torch", tmp_path), monkeypatch)
    nchw = np.moveaxis(np.asarray(run.saved.synthetic.images), -1, 1)
    np.testing.assert_array_equal(found["images"].numpy(), nchw)
    pixels = torch.from_numpy(np.moveaxis(pixels_of(run), -1, 1).copy())
    np.testing.assert_allclose(found["model_space"](pixels).numpy(), nchw, atol=1e-4)


def test_the_preprocessing_and_the_recipe_are_told(run, tmp_path):
    folder = exported(run, "npz", tmp_path)
    assert read_recipe(folder / "recipe.json") == run.saved.recipe == Recipe()
    told = json.loads((folder / "preprocess.json").read_text())
    assert told["kind"] == run.saved.preprocess.kind
    assert told["class_names"] == list("0123456789")
    if told["kind"] == "standardise":
        assert told["mean"] == pytest.approx(run.saved.preprocess.mean.ravel().tolist())


def test_bad_exports_leave_nothing_behind(run, tmp_path, capsys):
    folder = str(run.run.folder)
    assert main(["export", folder, "--to", "pgn", "--out", str(tmp_path / "a")]) == 2
    assert "did you mean png" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    assert main(["export", folder, "--out", str(tmp_path / "mine")]) == 2
    assert "exists" in capsys.readouterr().err
    assert main(["export", str(tmp_path), "--out", str(tmp_path / "a")]) == 2
    assert "no run folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_without_pytorch_the_remedy_is_named(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    assert main(["export", str(run.run.folder), "--to", "torch", "--out", str(tmp_path / "a")]) == 2
    assert "pip install torch" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_every_form_is_tested():
    assert set(FORMS) == {"png", "npz", "torch", "parquet"}
