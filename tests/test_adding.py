"""A new risk, grouping, kernel, reader or method is one file, and one line in a registry: all else follows."""

import json
import os
import subprocess
import sys

import pytest

# The file of a new member, as a user would write it; and the one line that the registry gets.
RISK = '''
"""The mean plus the upper semideviation (Ogryczak & Ruszczynski 1999)."""
import jax.numpy as jnp
from rdd_jax.risk import mean

def semideviation(tau: float = 0.2):
    def measure(losses):
        centre = mean(losses)
        above = jnp.maximum(losses.value - centre[losses.group], 0)
        return centre + tau * mean(losses.replace(value=above))
    return measure
'''
GROUPING = '''
"""The brighter and the darker images of every class."""
import numpy as np
from rdd_jax.grouping import Grouping, Groups

def brightness():
    def fit(seed, subject):
        light = np.asarray(subject.images).mean((1, 2, 3))
        middle = np.array([np.median(light[subject.labels == c]) for c in range(subject.classes)])
        return Groups((light > middle[subject.labels]).astype(np.int32), 2)
    return Grouping(fit)
'''
METHOD = '''
"""KIP by absolute errors."""
from dataclasses import dataclass
import jax.numpy as jnp
from rdd_jax.app import pieces
from rdd_jax.app.methods.kip import Kip
from rdd_jax.distill import compose
from rdd_jax.kernels import krr

def absolute(kernel, reg):
    def objective(key, model, synthetic, batch):
        gram = kernel(synthetic.images, synthetic.images)
        alpha = krr.solve(krr.factor(gram, reg), synthetic.labels)
        error = kernel(batch.images, synthetic.images) @ alpha - batch.labels
        return batch.losses(jnp.sum(jnp.abs(error), 1))
    return objective

@dataclass(frozen=True)
class AbsoluteKip(Kip):
    """Kernel inducing points under the absolute error."""

    def distiller(self, kernel, train):
        return compose(
            absolute(kernel, self.kernel.reg),
            risk=pieces.risk_of(self.risk),
            **pieces.steps_of(self.batch, self.optimiser),
        )
'''
KERNEL = '''
"""A Gaussian kernel."""
import jax.numpy as jnp

def gaussian(depth: int = 1):
    def kernel(x1, x2):
        a, b = x1.reshape(len(x1), -1), x2.reshape(len(x2), -1)
        apart = jnp.sum(a**2, 1)[:, None] + jnp.sum(b**2, 1)[None, :] - 2 * a @ b.T
        return jnp.exp(-apart / a.shape[1])
    return kernel
'''
READER = '''
"""Squares of two shades."""
import numpy as np
from rdd_jax.types import Data

def read(name):
    if name != "shades":
        return None
    labels = np.arange(80, dtype=np.int32) % 2
    rng = np.random.default_rng(0)
    images = (rng.integers(0, 60, (80, 6, 6, 1)) + 120 * labels[:, None, None, None]).astype(np.uint8)
    return {"train": Data(images, labels, ("dark", "light"))}
'''
FILES = {"my_risk": RISK, "my_grouping": GROUPING, "my_method": METHOD, "my_kernel": KERNEL, "my_reader": READER}
LINES = """
from rdd_jax import datasets, grouping, kernels, risk
risk.MEASURES["semideviation"] = "my_risk:semideviation"
grouping.GROUPINGS["brightness"] = "my_grouping:brightness"
kernels.KERNELS["gaussian"] = "my_kernel:gaussian"
datasets.READERS["shades"] = datasets.READERS.pop("tfds") and "my_reader:read"
from rdd_jax.app import methods
methods.METHODS["absolute-kip"] = "my_method:AbsoluteKip"
"""


ASKED = """
import contextlib, json, sys
from rdd_jax.app.cli import main

for arguments in (["distill", "--help"], ["distill", "absolute-kip", "--help"]):
    with contextlib.suppress(SystemExit):
        main(arguments)
options = "--grouping brightness --across mean+semideviation --kernel gaussian --data shades --ipc 2 --steps 30"
options = ["distill", "absolute-kip", *options.split(), *"--batch 50 --seeds 1 --no-baselines".split()]
assert main([*options, "--out", sys.argv[1]]) == 0
assert main([*options, "--within", "semideviaton", "--out", "other"]) == 2
assert "tensorflow" not in sys.modules  # nor does any run import it
"""


@pytest.mark.slow
def test_new_members_are_on_the_command_line_in_the_help_and_in_a_run(tmp_path, quick_flags):
    for name, text in FILES.items():
        (tmp_path / f"{name}.py").write_text(text)
    words = [sys.executable, "-c", LINES + ASKED, str(tmp_path / "run")]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "Kernel inducing points under the absolute error." in done.stdout
    assert all(name in done.stdout for name in ("semideviation", "brightness", "gaussian"))
    assert "did you mean semideviation" in done.stderr
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["method"] == "absolute-kip"
    assert report["found_groups"]["groups"] == 4
    assert report["evaluations"][0]["mean"] > 0.9
