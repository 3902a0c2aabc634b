"""What every test shares: shapes checked while it runs, float64 on demand, real data or a reason why not."""

import os
import tempfile
from pathlib import Path

# Before NumPy: idle OpenBLAS threads spin on the cores that the other worker's tests want.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Tests compile much and compute little: XLA's own passes as ever, LLVM's left out and the older emitters, which are
# quicker to compile, by one thread, since the other core has tests of its own. Half of the time of a test.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"

import jax
import pytest
from jaxtyping import install_import_hook

# The flags are read now; what a test starts runs as users have it, where the test does not ask for `quick_flags`.
jax.devices()
QUICK = os.environ["XLA_FLAGS"]
os.environ["XLA_FLAGS"] = QUICK.partition(" --xla_backend_optimization_level")[0]

# Before anything imports rdd_jax: from here on a wrong shape or dtype in a signature raises.
install_import_hook("rdd_jax", "beartype.beartype")
# No silent [n] + [m, n]: a transposed operand should fail, not broadcast.
jax.config.update("jax_numpy_rank_promotion", "raise")
# What one test of this process compiled, the others need not.
compiled = tempfile.TemporaryDirectory(prefix="rdd-jax-tests-")
jax.config.update("jax_compilation_cache_dir", compiled.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
# Nor what a process compiled that a test started. Apart, since some of those are killed while they write.
started = tempfile.TemporaryDirectory(prefix="rdd-jax-tests-")
os.environ["JAX_COMPILATION_CACHE_DIR"] = started.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

REAL_DATA = ("mnist", "cifar10")


@pytest.fixture
def quick_flags(monkeypatch):
    """What the test starts is compiled as the test itself is: quickly, and to the same bytes."""
    monkeypatch.setenv("XLA_FLAGS", QUICK)


@pytest.fixture
def quick_discovery(monkeypatch):
    """Networks that `discovered` looks with take few steps, a trial of it a tenth of a second, a rehearsal one."""
    monkeypatch.setattr("rdd_jax.grouping.learned.LEAST_STEPS", 20)
    monkeypatch.setattr("rdd_jax.grouping.trial.Trial.LANDMARKS", 60)
    monkeypatch.setattr("rdd_jax.grouping.rehearsal.STEPS", 40)


@pytest.fixture(scope="module")
def quick_certificate():
    """Certificates by the span of 200 examples and not of 1,000: their time grows with the cube."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rdd_jax.selection.certificate.LANDMARKS", 200)
        yield


@pytest.fixture
def stop_at():
    """``stop_at(step)``: a progress by which a run is interrupted after so many steps of distilling, or of a stage."""
    # Not above: what is imported before the hook is not checked.
    from rdd_jax.progress import Progress

    def stop_at(at, stage="distilling"):
        stages = []

        def step(done, pieces, note):
            if stages[-1] == stage and done >= at:
                raise KeyboardInterrupt

        return Progress(stages.append, step)

    return stop_at


@pytest.fixture(params=["cpu", "gpu"])
def device(request, monkeypatch):
    """The branch of a device, on this one."""
    monkeypatch.setattr(jax, "default_backend", lambda: request.param)


@pytest.fixture
def x64():
    """Float64 within the test."""
    with jax.enable_x64(True):
        yield


def pytest_runtest_setup(item):
    if item.get_closest_marker("real_data") is None:
        return
    folder = os.environ.get("TFDS_DATA_DIR", "")
    missing = [name for name in REAL_DATA if not (folder and (Path(folder) / name).is_dir())]
    if not missing:
        return
    reason = f"no {' and no '.join(missing)} in TFDS_DATA_DIR={folder!r}"
    if os.environ.get("RDD_REQUIRE_REAL_DATA"):
        pytest.fail(f"{reason}, but RDD_REQUIRE_REAL_DATA is set")
    pytest.skip(reason)
