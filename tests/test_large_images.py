"""Images of 128x128: methods run to their report, networks have the depth that fits, what cannot be is refused."""

import json

import numpy as np
import pytest

from rdd_jax.app import evaluating, options
from rdd_jax.app.commands import Train
from rdd_jax.app.distilling import distill
from rdd_jax.app.methods import configured
from rdd_jax.app.training import train
from rdd_jax.datasets import load, preprocess
from rdd_jax.errors import InputError
from rdd_jax.saving import load_set

SIDE, CLASSES = 128, 4
TINY = {"ipc": 1, "steps": 1, "batch": 2, "seeds": 1}
NETWORK = {"net_width": 2, "norm": "none", "recipe": "dc,depth=5,width=2,norm=none,epochs=1"}


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Six random images of every class."""
    file, rng = tmp_path_factory.mktemp("large") / "noise.npz", np.random.default_rng(0)
    images = rng.integers(0, 256, (6 * CLASSES, SIDE, SIDE, 3), np.uint8)
    np.savez(file, images=images, labels=np.repeat(np.arange(CLASSES), 6))
    return file


METHODS = {
    "kip": {"batch": 8, "learners": "krr"},
    "dc": {**NETWORK, "net_epochs": 1, "learners": "krr", "baselines": False},
}
"""One by a kernel and one by gradients; the others were run by hand."""


@pytest.mark.thorough
@pytest.mark.parametrize("name", METHODS)
def test_a_run_ends_with_its_report_and_is_evaluated_again(name, noise, tmp_path):
    given = configured(name, data=str(noise), **TINY | METHODS[name])
    outcome = distill(given, tmp_path / "run")
    assert np.isfinite([row["mean"] for row in outcome.report["evaluations"]]).all()
    assert load_set(tmp_path / "run" / "synthetic.npz").synthetic.images.shape == (CLASSES, SIDE, SIDE, 3)
    assert (tmp_path / "run" / "report.html").is_file()
    if name == "kip":
        again = evaluating.evaluate(evaluating.of_run(str(tmp_path / "run")))
        assert again["evaluations"] == outcome.report["evaluations"]
    else:
        # The run keeps what was asked.
        kept = json.loads((tmp_path / "run" / "config.json").read_text())
        assert kept["network"]["net_depth"] == "auto"


def test_the_column_of_every_table_has_the_depth_that_fits(noise):
    of = load(str(noise)).train
    assert evaluating.column(of).depth == 5
    assert configured("kip", data=str(noise)).resolved(of).evaluation.recipe == "dc,depth=5"


@pytest.mark.parametrize("name", ["dm", "rcig"])
def test_a_depth_that_leaves_no_pixel_is_refused_with_the_side_that_it_needs(name, noise, tmp_path):
    given = configured(name, data=str(noise), ipc=1, net_depth=8)
    with pytest.raises(InputError) as error:
        distill(given, tmp_path / "run")
    assert "images of 128 x 128 are too small for network 'convnet' of depth 8, which needs 256 x 256 or more" in str(
        error.value
    )
    assert "choose a shallower network" in str(error.value)
    assert not (tmp_path / "run").exists()


def test_zca_that_memory_cannot_hold_is_refused_before_anything_is_computed(noise, tmp_path, monkeypatch):
    monkeypatch.setattr(preprocess, "host_memory", lambda: 16 * 2**30)
    monkeypatch.setattr(preprocess.np.linalg, "eigh", None)
    monkeypatch.setattr(preprocess, "parts", None)
    images = np.zeros((2, SIDE, SIDE, 3), np.uint8)
    message = "128 x 128 x 3 has 49,152 rows and columns: fitting it needs 72.0 GiB, and there are 16.0"
    asked = [
        lambda: preprocess.fit("zca", images),
        lambda: distill(configured("kip", data=str(noise), ipc=1, preprocess="zca"), tmp_path / "run"),
        lambda: train(options.updated(Train(), {"data": str(noise), "preprocess": "zca", "out": tmp_path / "kept"})),
    ]
    for ask in asked:
        with pytest.raises(InputError, match=message):
            ask()
    assert not list(tmp_path.iterdir())
    preprocess.check_space("zca", (64, 64, 3))
    preprocess.check_space("standardise", images.shape[1:])
