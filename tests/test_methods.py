"""The methods that match by networks, end to end on the embedded digits: every one, resumed, refused."""

import json

import numpy as np
import pytest

from rdd_jax.app import build, job
from rdd_jax.app.config import MATCHING, Distill, Evaluate
from rdd_jax.app.optimise import SILENT, Progress
from rdd_jax.app.runs import Run
from rdd_jax.errors import InputError

SMALL = Distill(
    ipc=1,
    batch=200,
    seeds=1,
    baselines=False,
    net_depth=1,
    net_width=8,
    eval_epochs=60,
    eval_augment="none",
    init="noise",
    seed=1,
)
WAYS = {
    "dc": {"method": "dc"},
    "dsa": {"method": "dsa"},
    "dm": {"method": "dm"},
    "rdd": {"method": "rdd"},
    "dc, taught, squared": {"method": "dc", "net_period": 4, "net_pool": 2, "net_steps": 2, "distance": "squared"},
    "dm, robust": {"method": "dm", "shift": "two-colours", "robust": True},
    "dc, robust, nearest": {"method": "dc", "robust": True, "grouping": "nearest", "refit_every": 10},
    "rdd, groups of the data": {"method": "rdd", "shift": "two-colours", "grouping": "labels", "net_groups": "data"},
    "dm, several in one": {"method": "dm", "parameterisation": "multi-formation"},
    "dm, soft labels": {"method": "dm", "labels": "soft"},
    "dm, by importance": {"method": "dm", "sampler": "stratified+importance"},
    "dm, mlp": {"method": "dm", "network": "mlp", "net_width": 64, "eval_epochs": 300},
}


def config(way, **options):
    return Distill(**{**SMALL.__dict__, "steps": 30, "checkpoint_every": 30, **WAYS[way], **options})


def accuracy(report):
    (found,) = (one["mean"] for one in report["evaluations"] if one["metric"] == "accuracy")
    return found


def test_every_method_is_run():
    assert {options["method"] for options in WAYS.values()} == set(MATCHING) == set(build.METHODS[2:])


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """The accuracy that a network reaches on the noise that all runs start from: one step that does not move it."""
    still = config("dm", steps=1, lr=1e-12)
    return accuracy(job.distil(still, tmp_path_factory.mktemp("noise") / "run").report)


@pytest.mark.parametrize("way", WAYS)
def test_a_short_run_of_every_method_ends_above_its_start(way, noise, tmp_path):
    outcome = job.distil(config(way), tmp_path / "run")
    assert accuracy(outcome.report) > noise + 0.1
    formed = 4 if way == "dm, several in one" else 1
    assert outcome.saved.synthetic.images.shape == (10 * formed, 8, 8, 3 if "shift" in WAYS[way] else 1)
    assert (tmp_path / "run" / "curves.png").exists()
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert not [key for key, value in saved.items() if value == "auto"]


@pytest.mark.parametrize("way", ["dc, taught, squared", "rdd", "dm, by importance"])
def test_an_interrupted_run_ends_with_the_same_bytes(way, tmp_path):
    options = {"steps": 24, "checkpoint_every": 12, "eval_epochs": 2, "refresh_every": 8}
    whole = job.distil(config(way, **options), tmp_path / "whole").saved

    def stop(step, steps, loss):
        if step >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.distil(config(way, **options), tmp_path / "run", progress=Progress(SILENT.stage, stop))
    assert Run(tmp_path / "run").metrics()[-1]["step"] < 24
    resumed = job.distil(Run(tmp_path / "run").config(), tmp_path / "run", resume=True).saved
    np.testing.assert_array_equal(resumed.synthetic.images, whole.synthetic.images)


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, (60, "flip")),
        ({"eval_augment": "flip", "eval_epochs": 7}, (7, "flip")),
        ({"eval_augment": "dsa"}, (1000, "dsa")),
        ({"eval_augment": "none"}, (300, "none")),
    ],
)
def test_a_run_is_evaluated_again_by_its_own_recipe_unless_another_is_given(options, expected):
    found = job._with_recipe(Evaluate("run", **options), config("dm", eval_augment="flip"))
    assert (found.eval_epochs, found.eval_augment) == expected
    assert job._with_recipe(Evaluate("set.npz"), None).eval_augment == "none"


def test_a_kip_set_starts_gradient_matching(tmp_path):
    kip = job.distil(Distill(ipc=1, steps=20, batch=200, seeds=1, baselines=False, seed=1), tmp_path / "kip")
    options = {"steps": 1, "lr": 1e-12, "init": str(tmp_path / "kip"), "eval_epochs": 2}
    started = job.distil(config("dc", **options), tmp_path / "dc")
    np.testing.assert_allclose(started.saved.synthetic.images, kip.saved.synthetic.images, atol=1e-4)


def test_published_settings_are_spelt_out():
    dc = [Distill(method="dc", ipc=ipc).resolved() for ipc in (1, 10, 50)]
    assert [(one.net_period, one.net_steps) for one in dc] == [(1, 1), (10, 50), (50, 10)]
    assert {(one.optimizer, one.lr, one.batch, one.learners) for one in dc} == {("sgd", 0.1, 2560, "convnet")}
    for method in ("dsa", "dm"):
        published = {data: Distill(method=method, data=data).resolved() for data in ("cifar10", "mnist:3.0.1")}
        found = {data: (one.eval_epochs, one.eval_augment, one.siamese) for data, one in published.items()}
        parts = "colour+crop+cutout+{}scale+rotate"
        assert found["cifar10"] == (1000, "dsa", parts.format("flip+"))
        assert found["mnist:3.0.1"] == (1000, "dsa-no-flip", parts.format(""))
    trained = [Distill(method="dc", data=data).resolved() for data in ("cifar10", "mnist")]
    assert [(one.eval_epochs, one.eval_augment) for one in trained] == [(300, "none"), (1000, "dc")]
    assert {one.siamese for one in trained} == {"none"}
    rdd = Distill(method="rdd").resolved()
    assert (rdd.within, rdd.across, rdd.tau, rdd.net_train, rdd.lr) == ("cvar", "mean+max", 0.8, "real", 1.0)
    assert Distill(method="dm", lr=0.3).resolved().lr == 0.3
    assert Distill().resolved().tau == 0.2


def test_robust_matching_starts_evenly_from_the_groups_where_there_are_any_yet():
    def strata(**options):
        return Distill(method="dm", **options).resolved().init_strata

    assert strata() == strata(grouping="labels") == "class"
    assert strata(robust=True) == strata(robust=True, grouping="labels") == "group"
    assert strata(robust=True, grouping="spurious+nearest") == strata(robust=True, init_strata="class") == "class"
    assert Distill(robust=True).resolved().init_strata == "class"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"network": "convnt"}, "unknown network 'convnt': did you mean convnet"),
        ({"norm": "instanse"}, "did you mean instance"),
        ({"distance": "cosin"}, "did you mean cosine"),
        ({"siamese": "colour+crap"}, "did you mean crop"),
        ({"labels": "learned"}, "unknown labels of dm 'learned'"),
        ({"net_train": "fake"}, "unknown net_train 'fake'"),
        ({"net_steps": -1}, "net_steps is -1"),
        ({"net_pool": 0}, "net_pool is 0"),
        ({"optimizer": "adma"}, "did you mean adam"),
        ({"factor": 0, "parameterisation": "multi-formation"}, "factor is 0"),
        ({"factor": 3, "parameterisation": "multi-formation"}, "factor 3 does not divide images of 8 x 8"),
        ({"net_depth": 4, "learners": "krr"}, "too small for network 'convnet'"),
        ({"net_depth": 4}, "too small for learner 'convnet'"),
        ({"grouping": "none"}, "grouping is 'none', but dm compares groups"),
        ({"method": "dc", "sampler": "uniform"}, "sampler is 'uniform', but dc compares gradients group by group"),
        ({"batch": 5}, "batch is 5"),
        ({"eval_average": 1.0}, "eval_average is 1.0"),
        ({"eval_augment": "flop"}, "did you mean flip"),
        ({"eval_epochs": -2}, "eval_epochs is -2"),
        (
            {"method": "dc", "norm": "batch"},
            "norm 'batch' takes statistics",
        ),
    ],
)
def test_bad_values_are_refused_and_nothing_is_written(options, message, tmp_path):
    with pytest.raises(InputError) as error:
        job.distil(config("dm", **options), tmp_path / "run")
    assert message in str(error.value)
    assert not (tmp_path / "run").exists()
