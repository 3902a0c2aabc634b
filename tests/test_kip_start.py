"""``--init kip``: both stages of one run, resumed, refused, told."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from rdd_jax.app.distilling import distill
from rdd_jax.app.grouped import Grouped
from rdd_jax.app.kip_start import first_run, first_stage
from rdd_jax.app.methods import configured
from rdd_jax.app.reading import splits_of
from rdd_jax.app.run_folder import Run, from_anywhere
from rdd_jax.distill import Diverged
from rdd_jax.errors import InputError

SMALL = {
    "ipc": 1,
    "batch": 20,
    "baselines": False,
    "learners": "krr",
    "network": "mlp",
    "net_width": 16,
    "steps": 20,
    "checkpoint_every": 10,
    "init": "kip",
    "siamese": "none",
    "recipe": "dc,network=mlp,width=16,epochs=2",
    "init_steps": 20,
}
CONFIG = configured("dm", **SMALL)


def train_of(config):
    return splits_of(config.data.data, config.data, config.seed).train


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return distill(CONFIG, tmp_path_factory.mktemp("whole") / "run")


@pytest.mark.slow
def test_a_run_starts_from_what_kip_alone_would_have_made(whole, tmp_path):
    alone = distill(first_stage(CONFIG.resolved(train_of(CONFIG)), train_of(CONFIG)), tmp_path / "kip")
    told = {(row["set"], row["metric"]): row["mean"] for row in whole.report["evaluations"]}
    [own] = [row["mean"] for row in alone.report["evaluations"] if row["metric"] == "accuracy"]
    assert told["after KIP", "accuracy"] == pytest.approx(own)
    assert own > 0.6  # KIP has fitted the kernel
    losses = [row["loss"] for row in alone.run.metrics() if "loss" in row]
    assert [row["loss"] for row in first_run(whole.run).metrics() if "loss" in row] == losses
    assert len(losses) == 20
    assert len([row for row in whole.run.metrics() if "loss" in row]) == 20
    assert {"fitting the kernel", "distilling"} < set(whole.report["seconds"])
    assert (whole.run.folder / "start.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize("stage, taken", [("fitting the kernel", [10, 0]), ("distilling", [20, 10])])
def test_a_run_stopped_in_either_stage_ends_with_the_same_bytes(stage, taken, whole, stop_at, tmp_path):
    run = Run(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        distill(CONFIG, run.folder, progress=stop_at(10, stage))
    assert [len([row for row in one.metrics() if "loss" in row]) for one in (first_run(run), run)] == taken
    resumed = distill(run.config(), run.folder, resume=True)
    np.testing.assert_array_equal(resumed.saved.synthetic.images, whole.saved.synthetic.images)
    assert resumed.report["evaluations"] == whole.report["evaluations"]


def test_the_first_stage_has_the_data_groups_and_risk_of_the_run_and_else_what_is_kips():
    config = configured(CONFIG, robust=True, shift="two-colours", depth=2, seed=3, ipc=2)
    stage = first_stage(config.resolved(train_of(config)), train_of(config))
    assert (stage.seed, stage.set.ipc, stage.kernel.depth, stage.data) == (3, 2, 2, stage.data)
    assert (stage.groups.grouping, stage.risk.across, stage.batch.sampler) == ("discovered", "entropic", "group")
    plain = first_stage(CONFIG.resolved(train_of(CONFIG)), train_of(CONFIG))
    assert (plain.groups.grouping, plain.risk.across, plain.batch.sampler) == ("none", "mean", "uniform")
    assert (plain.optimiser.steps, plain.batch.batch, plain.optimiser.lr) == (20, 5000, 0.04)
    asked = configured(CONFIG, grouping="kmeans", across="max")
    stage = first_stage(asked.resolved(train_of(asked)), train_of(asked))
    assert (stage.groups.grouping, stage.risk.across) == ("kmeans", "max")
    rdd = configured("rdd", init="kip")
    assert first_stage(rdd.resolved(train_of(rdd)), train_of(rdd)).risk.within == "mean"


def test_methods_of_kernels_have_no_such_start():
    for method in ("kip", "label-solve"):
        with pytest.raises(InputError, match="init"):
            configured(method, init="kip").check()
    with pytest.raises(InputError, match="init_steps"):
        configured("kip", init_steps=3)


def test_a_folder_of_that_name_is_a_run_to_methods_of_kernels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kip").mkdir()
    assert from_anywhere(configured("kip", init="kip")).set.init == str(tmp_path / "kip")
    assert from_anywhere(CONFIG).set.init == "kip"


@pytest.mark.slow
def test_a_first_stage_that_diverges_says_so_and_keeps_its_state(tmp_path, monkeypatch):
    def broken(*sections):
        return lambda losses: jnp.sum(losses.value) / jnp.zeros(())

    monkeypatch.setattr("rdd_jax.app.methods.kip.pieces.risk_of", broken)
    with pytest.raises(Diverged, match=r"not finite at step 1: .*this is KIP, by which the set starts"):
        distill(CONFIG, tmp_path / "run")
    assert list((tmp_path / "run" / "start" / "checkpoints").iterdir())


@pytest.mark.thorough
def test_groups_are_found_once_for_both_stages(tmp_path, monkeypatch):
    fits, fit = [], Grouped.fit
    monkeypatch.setattr(Grouped, "fit", lambda self, *of: fits.append(self.by_class) or fit(self, *of))
    config = configured(CONFIG, shift="two-colours", grouping="labels", steps=2, init_steps=2)
    outcome = distill(config, tmp_path / "run")
    assert fits == [True]
    assert outcome.report["found_groups"]["groups"] == 20
    moving = replace(config, groups=replace(config.groups, grouping="nearest"))
    fits.clear()
    distill(moving, tmp_path / "moving")
    assert fits == [True, False]
