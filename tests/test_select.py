"""``rdd select``, starts from selections and files, and importance batches, end to end on the embedded digits."""

import json

import numpy as np
import pytest

from rdd_jax.app.cli import main
from rdd_jax.app.distilling import distill
from rdd_jax.app.methods import configured
from rdd_jax.app.reading import splits_of
from rdd_jax.app.sections import SplitsOptions
from rdd_jax.arrays import read_npz
from rdd_jax.selection import SCORES, SELECTIONS

pytestmark = pytest.mark.usefixtures("quick_certificate")


def select(*arguments):
    ipc = [] if "--ipc" in arguments else ["--ipc", "3"]
    return main(["select", *ipc, *map(str, arguments)])


def read(file):
    return json.loads(file.read_text())


@pytest.fixture(scope="module")
def coreset(tmp_path_factory, quick_certificate):
    out = tmp_path_factory.mktemp("coreset") / "new" / "set.npz"
    assert select("--draw", "independent", "--eps", "0.4", "--out", out) == 0
    return out


def test_a_coreset_has_what_it_takes_to_use_it(coreset):
    arrays = read_npz(coreset)
    n = len(arrays["scores"])
    assert n == len(arrays["probabilities"]) > 1000
    m = len(arrays["indices"])
    assert m == len(set(arrays["indices"].tolist())) == len(arrays["weights"]) == len(arrays["labels"])
    assert m <= 30
    assert arrays["images"].shape == (m, 8, 8, 1)
    assert (np.diff(arrays["labels"]) >= 0).all()
    np.testing.assert_allclose(arrays["probabilities"].sum(), 30)
    # Independent draws: weights are counts over probabilities, so some may stand for several draws.
    draws = arrays["weights"] * arrays["probabilities"][arrays["indices"]]
    np.testing.assert_allclose(draws, np.round(draws), atol=1e-9)
    assert draws.sum() == pytest.approx(30)
    assert coreset.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_a_coreset_has_a_certificate_in_figures_and_words(coreset, capsys):
    report = read(coreset.with_suffix(".json"))
    certificate = report["certificate"]
    assert certificate["exact"]
    assert certificate["proven"]
    assert certificate["total_sensitivity"] <= certificate["effective_dimension"] + 1
    assert certificate["needed"] > certificate["drawn"] == 30
    assert certificate["bought"] > 1
    assert certificate["eps"] == 0.4
    assert 0 < certificate["worst_random"] <= certificate["worst"]
    assert any("it says nothing at this size" in sentence for sentence in report["words"])


@pytest.mark.slow
def test_a_coreset_is_evaluated_with_its_weights(coreset, tmp_path):
    arrays = dict(np.load(coreset))
    flat = tmp_path / "flat.npz"
    np.savez(flat, images=arrays["images"], labels=arrays["labels"])
    found = []
    for source, reg in ((coreset, 1e-6), (coreset, 1.0), (flat, 1e-6), (flat, 1.0)):
        out = tmp_path / f"{len(found)}.json"
        options = ["--data", "digits", "--no-baselines", "--reg", str(reg), "--out", str(out)]
        assert main(["evaluate", str(source), *options]) == 0
        found.append(read(out)["evaluations"][0]["mean"])
    assert found[0] == pytest.approx(found[2], abs=0.01)  # weights hardly matter without a ridge
    assert found[1] != found[3]


@pytest.mark.slow
@pytest.mark.parametrize("method", SELECTIONS)
def test_every_method_makes_a_coreset(method, tmp_path, capsys):
    out = tmp_path / "set.npz"
    assert select("--method", method, "--out", out) == 0
    printed = capsys.readouterr().out
    assert ("no theorem is claimed" in printed) == (method not in SCORES)
    assert ("without replacement" in printed) == (method in SCORES)
    arrays = np.load(out)
    np.testing.assert_array_equal(np.bincount(arrays["labels"]), [3] * 10)


@pytest.mark.slow
def test_by_group_every_group_is_covered(tmp_path):
    shift = ["--shift", "two-colours", "--bias", "0.97"]
    rows = {}
    for strata in ("class", "group"):
        out = tmp_path / f"{strata}.npz"
        assert select(*shift, "--method", "lightweight", "--strata", strata, "--out", out) == 0
        rows[strata] = np.load(out)
    groups = splits_of("digits", SplitsOptions("two-colours", 0.97), 0).train.groups
    assert groups is not None
    for c in range(10):
        chosen = rows["group"]["indices"][rows["group"]["labels"] == c]
        assert set(groups[chosen].tolist()) == {0, 1}


@pytest.mark.parametrize(
    "options, message",
    [
        (["--method", "krr-sensitivty"], "did you mean krr-sensitivity"),
        (["--draw", "independant"], "did you mean independent"),
        (["--strata", "grupo"], "unknown strata 'grupo'"),
        (["--strata", "group"], "needs group labels and the training data has none"),
        (["--strata", "group", "--grouping", "none"], "needs groups and there are none"),
        (["--ipc", "5000"], "ipc is 5000, but class"),
        (["--eps", "0"], "eps is 0"),
        (["--delta", "1"], "delta is 1"),
        (["--select-ridge", "0"], "select_ridge is 0"),
        (["--landmarks", "0"], "landmarks is 0"),
        (["--out", "set.zip"], "ends in .npz"),
        (["--data", "nowhere.npz"], "no file"),
        (["--kernel", "fc-ntc"], "did you mean fc-ntk"),
    ],
)
def test_bad_options_exit_with_2_and_write_nothing(options, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert select(*options) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path, capsys):
    (tmp_path / "set.png").write_text("mine")
    assert select("--out", tmp_path / "set.npz") == 2
    assert "exists" in capsys.readouterr().err
    assert (tmp_path / "set.png").read_text() == "mine"
    assert not (tmp_path / "set.npz").exists()


def test_a_subset_that_lacks_classes_says_so(tmp_path, capsys):
    lacking, complete, own = tmp_path / "all.npz", tmp_path / "class.npz", tmp_path / "own.npz"
    images = np.random.default_rng(0).integers(0, 256, (80, 4, 4, 1), dtype=np.uint8)
    np.savez(own, images=images, labels=np.arange(80) % 8)
    quick = ["--data", own, "--method", "random", "--ipc", 1]
    assert select("--strata", "all", *quick, "--out", lacking) == 0
    missing = sorted({*range(8)} - {*read_npz(lacking)["labels"].tolist()})
    assert (
        f"rdd: the subset has no image of {len(missing)} of 8 classes ('{missing[0]}' is one), so that `rdd evaluate` "
        "refuses it: choose --strata class, or a larger --ipc\n"
    ) in capsys.readouterr().err
    assert main(["evaluate", str(lacking), "--data", str(own)]) == 2
    assert f"no image of class {missing[0]}" in capsys.readouterr().err
    assert select("--strata", "class", *quick, "--out", complete) == 0
    assert "no image" not in capsys.readouterr().err


# --- distilling from selections and files ------------------------------------------------------------

CONFIG = configured("kip", ipc=2, steps=20, batch=200, seeds=1, baselines=False, checkpoint_every=10)


def accuracy(report):
    return report["evaluations"][0]["mean"]


@pytest.mark.slow
@pytest.mark.parametrize("init", ["krr-sensitivity", "kernel-herding"])
def test_a_run_from_an_importance_selection_has_a_certificate(init, tmp_path):
    report = distill(configured(CONFIG, init=init), tmp_path / "run").report
    assert ("certificate" in report) == (init == "krr-sensitivity")
    html = (tmp_path / "run" / "report.html").read_text()
    assert ("effective dimension" in html) == (init == "krr-sensitivity")


@pytest.mark.slow
def test_a_run_starts_from_a_coreset_and_from_another_run(coreset, tmp_path):
    first = distill(configured(CONFIG, init="kmeans"), tmp_path / "first")
    again = distill(configured(CONFIG, init=str(tmp_path / "first"), steps=1, lr=1e-9), tmp_path / "again")
    assert accuracy(again.report) == pytest.approx(accuracy(first.report), abs=0.005)
    np.testing.assert_allclose(again.saved.synthetic.images, first.saved.synthetic.images, atol=1e-4)
    arrays = np.load(coreset)
    one_each = [int(np.flatnonzero(arrays["labels"] == c)[0]) for c in range(10)]
    np.savez(tmp_path / "one.npz", images=arrays["images"][one_each[::-1]], labels=np.arange(10)[::-1])
    config = configured(CONFIG, ipc=1, init=str(tmp_path / "one.npz"), steps=1, lr=1e-9)
    run = distill(config, tmp_path / "one")
    np.testing.assert_allclose(
        run.saved.preprocess.invert(np.asarray(run.saved.synthetic.images)),
        arrays["images"][one_each] / 255,
        atol=1e-4,
    )


@pytest.mark.slow
def test_starts_that_do_not_fit_are_refused(coreset, tmp_path, capsys):
    def refused(*options):
        assert main(["distill", "kip", "--steps", "1", "--out", str(tmp_path / "run"), *map(str, options)]) == 2
        assert not (tmp_path / "run").exists()
        return capsys.readouterr().err

    assert "but 50 are wanted: give the same number" in refused("--init", coreset, "--ipc", 50)
    assert "did you mean kernel-herding" in refused("--init", "kernel-herdin")
    assert "neither a run folder nor an .npz" in refused("--init", coreset.with_suffix(".png"))
    assert "but grouping is 'none'" in refused("--init-strata", "group")
    assert "mix is 0" in refused("--sampler", "importance", "--mix", 0)
    assert "did you mean cross-entropy" in refused("--sampler", "importance", "--importance", "cross-entropie")
    assert "needs a synthetic set" in refused("--init-strata", "group", "--grouping", "nearest")


@pytest.mark.slow
def test_importance_batches_train_and_resume_to_the_same_bytes(stop_at, tmp_path):
    options = {"unbiased": False, "importance": "squared-error", "pool": 300}
    config = configured(CONFIG, sampler="importance", steps=40, refresh_every=15, **options)
    whole = distill(config, tmp_path / "whole")
    assert accuracy(whole.report) > 0.8

    with pytest.raises(KeyboardInterrupt):
        distill(config, tmp_path / "cut", progress=stop_at(20))
    resumed = distill(config, tmp_path / "cut", resume=True)
    np.testing.assert_array_equal(resumed.saved.synthetic.images, whole.saved.synthetic.images)


@pytest.mark.slow
def test_importance_goes_with_groups(tmp_path):
    config = configured(
        CONFIG,
        shift="two-colours",
        bias=0.97,
        grouping="labels",
        sampler="group+importance",
        across="entropic",
        init="krr-sensitivity",
        init_strata="group",
    )
    report = distill(config, tmp_path / "run").report
    plain = distill(configured(CONFIG, shift="two-colours", bias=0.97), tmp_path / "plain").report
    worst = {e["metric"]: e["mean"] for e in report["evaluations"]}["worst_group"]
    assert worst > {e["metric"]: e["mean"] for e in plain["evaluations"]}["worst_group"]
