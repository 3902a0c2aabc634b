"""Every long stage of a job tells how far it is, and what is being done."""

import numpy as np
import pytest

from rdd_jax.app.distilling import distill
from rdd_jax.app.methods import configured
from rdd_jax.grouping import GROUPINGS, Subject, discovered, kmeans, pixels, predicted
from rdd_jax.kernels import linear
from rdd_jax.progress import SILENT, Progress, heard
from rdd_jax.selection import Pool, certify, select_by_name, strata_of

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.random((60, 4, 4, 1), np.float32), np.arange(60) % 2


def pool(landmarks=0):
    return Pool(IMAGES, LABELS, 2, kernel=linear, landmarks=landmarks)


def chosen(name, landmarks=0, ipc=3):
    own = pool(landmarks)
    return select_by_name(name)(0, own, strata_of(own, "class", ipc))


def grouped(grouping):
    grouping.fit(0, Subject(IMAGES, LABELS, 2))


LOOKING = {"spurious:pixels": predicted(lambda subject: pixels(subject)), "kmeans:pixels": kmeans(pixels, k=2)}
TOLD = {
    "exact sensitivities": (lambda: chosen("krr-sensitivity"), ["Gram matrix", "factor"]),
    "bounds": (lambda: chosen("krr-sensitivity", 20), ["landmarks, 20 of 60 images", "optima, block of 20 images"]),
    "scores by class": (lambda: chosen("lightweight"), ["stratum of 30 images"]),
    "herding": (lambda: chosen("herding"), ["stratum of 30 images, image 2 of 3"]),
    "pivots": (lambda: chosen("rp-cholesky"), ["stratum of 30 images, image 3 of 3"]),
    "k-means": (lambda: chosen("kmeans"), ["k-means in class 2 of 2"]),
    "certificate": (
        lambda: certify(pool(20), chosen("random"), None, queries=10),
        ["sensitivities, landmarks", "errors", "random regressors"],
    ),
    "gaps": (lambda: grouped(kmeans(pixels)), ["k-means in class 1 of 2", "gaps in class 2 of 2"]),
    "discovery": (
        lambda: grouped(discovered(LOOKING)),
        ["spurious:pixels, round 1 of 1", "kmeans:pixels, k-means in class 1", "trial of kmeans:pixels"],
    ),
    "networks": (
        lambda: grouped(GROUPINGS.make("fine", features=_network())),
        ["network 1 of 2", "network 2 of 2, 0 of 60 images"],
    ),
}


def _network():
    from rdd_jax.grouping import network

    return network(width=2)


@pytest.mark.parametrize("what", TOLD)
def test_what_takes_long_tells_what_is_being_done(what, monkeypatch):
    monkeypatch.setattr("rdd_jax.grouping.learned.LEAST_STEPS", 1)
    (work, expected), told = TOLD[what], []
    with heard(Progress(SILENT.stage, lambda *step: told.append(step))):
        work()
    for note in expected:
        assert any(note in one for *_, one in told), told
    assert len({done / pieces for done, pieces, _ in told}) > 2
    done, pieces, _ = told[-1]
    assert done == pieces


def test_every_long_stage_of_a_run_tells_its_pieces(tmp_path):
    stages = {}

    def stage(name):
        stages[name] = set()

    config = configured("kip", init="krr-sensitivity", grouping="kmeans", features="pixels", steps=1, ipc=2, seeds=1)
    distill(config, tmp_path / "run", progress=Progress(stage, lambda *step: stages[[*stages][-1]].add(step[:2])))
    for name in ("grouping", "selecting", "certifying", "choosing the baselines"):
        assert len(stages[name]) > 2, name
