"""The methods, end to end on the embedded digits: every one of the registry, resumed, refused."""

import importlib
import json

import numpy as np
import pytest

from rdd_jax.app.commands import Train
from rdd_jax.app.distilling import distill
from rdd_jax.app.methods import METHODS, configured
from rdd_jax.app.methods.networked import ByNetworks
from rdd_jax.app.options import updated
from rdd_jax.app.run_folder import Run
from rdd_jax.app.training import train
from rdd_jax.checks import are_distributions
from rdd_jax.errors import InputError
from rdd_jax.grouping import spurious, texture

pytestmark = pytest.mark.usefixtures("quick_certificate")

discovering = importlib.import_module("rdd_jax.grouping.discovered")  # the package has a function of that name

SMALL = {
    "ipc": 1,
    "batch": 200,
    "seeds": 1,
    "baselines": False,
    "network": "mlp",
    "net_width": 32,
    "recipe": "dc,network=mlp,width=32,epochs=2",
    "learners": "krr",
    "init": "noise",
    "seed": 1,
    "steps": 30,
    "checkpoint_every": 30,
}
CONVNET = {"network": "convnet", "net_depth": 1, "net_width": 8}
CROPPED = {"siamese": "crop"}
"""One part of an augmentation in the place of all of them, which take most of the time of a step's compilation."""
WAYS = {
    "dc": {},
    "dm": CONVNET | CROPPED,
    "rdd": {"net_steps": 4, "siamese": "crop", "shift": "two-colours", "grouping": "labels", "net_groups": "data"},
    "dc, taught, squared": {"net_period": 4, "net_pool": 2, "net_epochs": 2, "distance": "squared", "lr": 0.5},
    "dm, robust": {
        "shift": "two-colours",
        "robust": True,
        "learners": "convnet",
        **CONVNET,
        **CROPPED,
        "recipe": "dc,depth=1,width=8,epochs=60",
    },
    "dsa, soft labels": {"labels": "soft"},
    "dc, robust, nearest, several in one": {
        "robust": True,
        "grouping": "nearest",
        "refit_every": 10,
        "parameterisation": "multi-formation",
    },
    "dm, by importance": {"sampler": "stratified+importance", **CROPPED},
    "mtt": {"snapshots": "traced", "siamese": "crop", "lr": 0.1, "net_lr": 0.1, "span": 2},
    "frepo": {"lr": 0.2, "net_pool": 2, "net_lr": 0.01, **CONVNET},
    "frepo, robust": {"lr": 0.2, "shift": "two-colours", "robust": True, "grouping": "labels", "labels": "fixed"}
    | CONVNET,
    "rfad": {"lr": 0.2, "net_count": 2, "net_width": 128},
    "rcig": {"lr": 0.2, "net_pool": 2, "net_epochs": 2},
}


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """Networks trained on the digits, for the ways that need some."""
    folder = tmp_path_factory.mktemp("traced") / "networks"
    recipe = "dc,network=mlp,width=32,epochs=4,learning_rate=0.1,momentum=0,schedule=constant"
    train(updated(Train(), {"seed": 1, "recipe": recipe, "networks": 2, "out": folder}))
    return {"snapshots": str(folder)}


def config(way, **options):
    given = {**SMALL, **WAYS[way], **options}
    if way == "mtt":
        del given["batch"]  # it looks at no real images
    return configured(way.partition(",")[0], **given)


def accuracy(report):
    rows = [one for one in report["evaluations"] if one["set"] == "synthetic"]
    (found,) = (one["mean"] for one in rows if one["metric"] == "accuracy")
    return found


def test_every_method_is_run():
    of_networks = {name for name in METHODS if isinstance(METHODS.make(name), ByNetworks)}
    assert {way.partition(",")[0] for way in WAYS} == of_networks


TAUGHT = 0.2
"""What a set must reach that starts from noise, on which networks learn about a tenth; the poorest here ends at .24."""

RESUMED = ("rdd",)
"""Those whose short run is also interrupted and resumed."""

SECOND = ("dc, taught, squared", "dsa, soft labels", "frepo, robust")
"""Second looks at a method: what is apart in them has tests of its own."""

SHORT = [pytest.param(way, marks=pytest.mark.thorough) if way in SECOND else way for way in WAYS if way not in RESUMED]


@pytest.fixture
def one_view(quick_discovery, monkeypatch):
    """`discovered` looks for attributes alone, without networks."""
    monkeypatch.setattr(discovering, "views", lambda: {"spurious:texture": spurious(texture())})


@pytest.mark.slow
@pytest.mark.usefixtures("one_view")
@pytest.mark.parametrize("way", SHORT)
def test_a_short_run_of_every_method_ends_above_its_start(way, tmp_path, request):
    own = request.getfixturevalue("traced") if "snapshots" in WAYS[way] else {}
    outcome = distill(config(way, **own), tmp_path / "run")
    assert accuracy(outcome.report) > TAUGHT
    formed = 4 if "several in one" in way else 1
    assert outcome.saved.synthetic.images.shape == (10 * formed, 8, 8, 3 if "shift" in WAYS[way] else 1)
    assert (tmp_path / "run" / "curves.png").exists()
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    unset = {key for section in saved.values() if isinstance(section, dict) for key, v in section.items() if v is None}
    assert unset <= {
        "landmarks",
        "groups_per_class",
        "resize",
        "mode",
        "groups_from",
        "snapshots",
        "snapshots_to",
    }  # found out, or none


@pytest.mark.slow
@pytest.mark.parametrize("way", RESUMED)
def test_an_interrupted_run_ends_with_the_same_bytes_and_above_its_start(way, stop_at, tmp_path):
    options = {"checkpoint_every": 15, "refresh_every": 10}
    outcome = distill(config(way, **options), tmp_path / "whole")
    assert accuracy(outcome.report) > TAUGHT

    with pytest.raises(KeyboardInterrupt):
        distill(config(way, **options), tmp_path / "run", progress=stop_at(15))
    assert Run(tmp_path / "run").metrics()[-1]["step"] < 30
    resumed = distill(Run(tmp_path / "run").config(), tmp_path / "run", resume=True).saved
    np.testing.assert_array_equal(resumed.synthetic.images, outcome.saved.synthetic.images)


@pytest.mark.slow
def test_a_kip_set_starts_gradient_matching(tmp_path):
    options = {"ipc": 1, "steps": 20, "batch": 200, "seeds": 1, "baselines": False, "seed": 1, "labels": "learned"}
    kip = distill(configured("kip", **options), tmp_path / "kip")
    options = {"steps": 1, "lr": 1e-12, "init": str(tmp_path / "kip")}
    started = distill(config("dc", **options), tmp_path / "dc")
    np.testing.assert_allclose(started.saved.synthetic.images, kip.saved.synthetic.images, atol=1e-4)
    # Targets of a regression are no distributions: networks start from the classes that the set was made for.
    assert not are_distributions(kip.saved.synthetic.labels)
    np.testing.assert_allclose(started.saved.synthetic.labels, np.eye(10) - 0.1, atol=1e-6)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"network": "convnt"}, "unknown network 'convnt': did you mean convnet"),
        ({"norm": "instanse"}, "did you mean instance"),
        ({"method": "dc", "distance": "cosin"}, "did you mean cosine"),
        ({"siamese": "colour+crap"}, "did you mean crop"),
        ({"method": "dc", "labels": "learned"}, "unknown labels 'learned'"),
        ({"method": "rdd", "net_groups": "fake"}, "unknown net_groups 'fake'"),
        ({"method": "dc", "net_epochs": -1}, "net_epochs is -1"),
        ({"method": "rdd", "net_steps": -1}, "net_steps is -1"),
        ({"method": "dc", "net_pool": 0}, "net_pool is 0"),
        ({"optimizer": "adma"}, "did you mean adam"),
        ({"factor": 0, "parameterisation": "multi-formation"}, "factor is 0"),
        ({"factor": 3, "parameterisation": "multi-formation"}, "factor 3 does not divide images of 8 x 8"),
        ({"network": "convnet", "net_depth": 4, "learners": "krr"}, "too small for network 'convnet'"),
        ({"recipe": "dc,depth=4", "learners": "convnet"}, "too small for learner 'convnet'"),
        ({"grouping": "none"}, "grouping is 'none', but matching compares groups"),
        ({"method": "dc", "sampler": "uniform"}, "unknown sampler 'uniform'"),
        (
            {"batch": 1, "shift": "two-colours", "grouping": "labels"},
            "a batch of 10 does not hold an example of each of the 20 groups",
        ),
        ({"recipe": "dc,average=1.0"}, "average is 1.0"),
        ({"recipe": "dc,augment=flop"}, "did you mean flip"),
        ({"recipe": "dc,epochs=-2"}, "epochs is -2"),
        ({"recipe": "dc,augment=shift8", "learners": "mlp"}, "shift by fewer pixels"),
        ({"recipe": "dc,width=1000000", "learners": "mlp"}, "width is 1000000: that needs"),
        ({"recipe": "dc,norm=group,width=6"}, "group norm has 4 groups"),
        ({"recipe": "dc,schedule=cosine,warmup=9,epochs=9", "learners": "mlp"}, "warmup is 9 of 9 steps"),
        ({"recipe": "dc,depth=1,norm=batch,batch=9", "learners": "convnet"}, "would hold a single image"),
        ({"recipe": "dc,growth=double,depth=30"}, "doubled 29 times"),
        (
            {"method": "dc", "network": "convnet", "net_depth": 1, "net_width": 8, "norm": "batch"},
            "norm 'batch' takes statistics",
        ),
    ],
)
def test_bad_values_are_refused_and_nothing_is_written(options, message, tmp_path):
    of = config(options.pop("method", "dm"), **SMALL | options)
    with pytest.raises(InputError) as error:
        distill(of, tmp_path / "run")
    assert message in str(error.value)
    assert not (tmp_path / "run").exists()
