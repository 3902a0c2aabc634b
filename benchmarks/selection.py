"""What selection costs and keeps, on CIFAR-10 (FC NTK of depth 1, ridge 1e-3 of the trace).

    TFDS_DATA_DIR=... python -m benchmarks.selection [--only scores]

``scores``: seconds and peak memory of the KRR sensitivities of all 50,000 training images from 1,000 landmarks, and of
10,000 exactly; compilation included. ``ranks``: the bound against the exact score on 5,000 images. ``promise``: how far
the draws that the theorem needs are off, over 100 draws of each of two ridges, on 2,000 images: over 10,000 queries and
over all that 1,000 images span. ``variance``: of the gradient of KIP, importance batches against uniform ones, after 0,
100 and 300 steps; mean over 40 batches of the squared distance to the full gradient. Run it on an otherwise idle
machine.
"""

import resource
import time
from dataclasses import replace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from scipy.stats import spearmanr

from rdd_jax.datasets import load
from rdd_jax.datasets.preprocess import prepare
from rdd_jax.distill import compose
from rdd_jax.kernels import fc_ntk, krr
from rdd_jax.objectives import kip
from rdd_jax.pixels import as_pixels
from rdd_jax.sampling import LOSSES, Sampler, importance, uniform
from rdd_jax.selection import Pool, certify, select_by_name, strata_of
from rdd_jax.selection.certificate import Errors
from rdd_jax.selection.initialise import initialise
from rdd_jax.selection.scores import krr_sensitivity_bound, sensitivity
from rdd_jax.types import Batch, Synthetic, centred_one_hot

PARTS = ("scores", "ranks", "promise", "variance")


def cifar10(n: int) -> Pool:
    """``n`` of the training images, validation included, standardised."""
    splits = load("cifar10")
    images = np.concatenate([splits.train.images, splits.validation.images])[:n]
    labels = np.concatenate([splits.train.labels, splits.validation.labels])[:n]
    fitted = prepare(splits, "standardise").fitted
    return Pool(fitted.apply(as_pixels(images)), labels, 10)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def scores() -> None:
    for n in (50_000, 10_000):
        pool = cifar10(n)
        before = peak()
        start = time.perf_counter()
        found = sensitivity(pool)
        seconds = time.perf_counter() - start
        how = "exact" if found.exact else "from 1,000 landmarks"
        print(
            f"{n:,} images, {how}: {seconds:.1f} s, peak {peak():.2f} GiB (data alone {before:.2f}); "
            f"effective dimension {found.effective_dimension:.0f}, total {found.total:.0f}"
        )


def ranks() -> None:
    for ridge in (1e-4, 1e-3, 1e-2):
        pool = replace(cifar10(5000), ridge=ridge)
        exact = sensitivity(pool)
        bound = krr_sensitivity_bound(pool.kernel, pool.images, pool.one_hot, exact.ridge, 1000)
        print(
            f"5,000 images, ridge {ridge:g} of the trace: Spearman "
            f"{spearmanr(bound.score, exact.score).statistic:.4f}, least bound over exact "
            f"{np.min(bound.score / exact.score):.4f}, totals {bound.total:.0f} and {exact.total:.0f}"
        )


def promise() -> None:
    for ridge in (1e-2, 1e-1):
        pool = replace(cifar10(2000), ridge=ridge)
        known, eps = sensitivity(pool), 0.5
        few = strata_of(pool, "all", 1)
        select = select_by_name("krr-sensitivity", "independent")
        size = certify(pool, select(0, pool, few), "independent", eps, 0.1, 10).needed
        assert size is not None
        spans = np.random.default_rng(0).permutation(2000)[:1000]
        worst, queried = [], []
        for seed in range(100):
            selection = select(seed, pool, few._replace(take=np.array([size])))
            errors = Errors(pool, selection, known.ridge, spans)
            worst.append(errors.worst())
            queried.append(errors.random(10_000, seed).max())
        print(
            f"2,000 images, ridge {ridge:g} of the trace, effective dimension {known.effective_dimension:.0f}: "
            f"{size:,} draws for eps {eps} with delta 0.1; largest error of 100 draws {max(queried):.3f} over 10,000 "
            f"queries, {max(worst):.3f} over all; above eps: {np.sum(np.array(worst) > eps)} of 100"
        )


def variance() -> None:
    splits = load("cifar10")
    prepared = prepare(splits, "standardise")
    pool = Pool(prepared.train, splits.train.labels, 10)
    start = initialise("random", 0, pool, strata_of(pool, "class", 10)).images
    synthetic = Synthetic(jnp.asarray(start), centred_one_hot(np.repeat(np.arange(10), 10), 10))
    kernel = fc_ntk()
    objective = kip(kernel)
    distiller = compose(objective, sampler=uniform(5000), optimizer=optax.adam(0.04))
    state, examples = distiller.init(synthetic), prepared.examples()

    @jax.jit
    def gradient(images: jax.Array, index: jax.Array, weight: jax.Array) -> jax.Array:
        batch = Batch(examples.look(index), examples.labels[index], examples.groups[index], weight, group_count=1)
        return jax.grad(
            lambda x: (
                jnp.sum(objective(jax.random.key(0), None, Synthetic(x, synthetic.labels), batch).value * weight)
                / len(weight)
            )
        )(images)

    for steps in (0, 100, 300):
        state, _ = distiller.run(jax.random.key(0), state, examples, steps)
        now = distiller.decode(state)
        parts = np.array_split(np.arange(len(prepared.train)), 9)
        full = sum(
            np.asarray(gradient(now.images, jnp.asarray(p), jnp.ones(len(p)))) * len(p) / len(prepared.train)
            for p in parts
        )
        outputs = krr.fit(kernel, now)(prepared.train)

        def spread(sampler: Sampler, loss: str | None) -> float:
            data = examples
            if loss is not None:
                data = data.replace(loss=jnp.asarray(LOSSES[loss](outputs, prepared.one_hot)))  # noqa: B023
            drawn = [sampler(jax.random.key(i), data) for i in range(40)]
            found = [np.asarray(gradient(now.images, *one)) for one in drawn]  # noqa: B023
            return float(np.mean([np.sum((g - full) ** 2) for g in found]))  # noqa: B023

        plain = spread(uniform(5000), None)
        shares = {loss: spread(importance(5000), loss) / plain for loss in LOSSES}
        print(
            f"after {steps} steps: noise of uniform batches {plain / np.sum(full**2):.2e} of the squared gradient; of "
            f"importance batches, against it: {', '.join(f'{loss} {share:.2f}' for loss, share in shares.items())}"
        )


def main(only: Literal["scores", "ranks", "promise", "variance", "all"] = "all") -> None:
    """Measures a part, or all."""
    for part in PARTS:
        if only in (part, "all"):
            {"scores": scores, "ranks": ranks, "promise": promise, "variance": variance}[part]()


if __name__ == "__main__":
    tyro.cli(main)
