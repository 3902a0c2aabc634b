"""One run on two hosts of two simulated devices each: a host that dies, and going on with one host to the same end."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from rdd_jax.app.cli import main
from rdd_jax.app.hosts import Hosts
from rdd_jax.errors import InputError

WORDS = "distill kip --data own.npz --ipc 1 --batch 64 --learners krr --seeds 1 --no-baselines".split()  # noqa: SIM905


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """A set in the working directory, for which scikit-learn need not be imported as for the digits."""
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 1), np.uint8)
    np.savez("own.npz", images=images, labels=np.arange(300) % 3)


def environment(devices, **more):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    return {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", **more}


def rdd(*words, devices=1):
    command = [sys.executable, "-m", "rdd_jax.app.cli", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env=environment(devices, RDD_HOSTS_SILENCE="5"), stdout=pipe, stderr=pipe, text=True
    )


def on_two(*words):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["--coordinator", f"127.0.0.1:{port}", "--hosts", "2"]
    return [rdd(*words, *where, "--host", str(host), devices=2) for host in range(2)]


def ended(process):
    """The exit code, with its pipes closed."""
    process.communicate(timeout=120)
    return process.returncode


def values(run):
    return np.load(run / "synthetic.npz")["images"]


@pytest.mark.thorough
def test_one_host_goes_on_where_one_of_two_died_to_the_same_end(tmp_path, quick_flags):
    run, alone, words = tmp_path / "run", tmp_path / "alone", [*WORDS, "--steps", "300", "--checkpoint-every", "10"]
    # Where a step is handed its images, by every host those of its devices.
    first, second = on_two(*words, "--data-on", "host", "--out", str(run))
    deadline = time.monotonic() + 90
    while not (run / "checkpoints" / "10").is_dir() and time.monotonic() < deadline:
        time.sleep(0.02)
    second.send_signal(signal.SIGKILL)
    assert main([*words, "--out", str(alone)]) == 0
    assert ended(first) != 0
    assert ended(second) == -signal.SIGKILL
    assert not (run / "report.json").exists()
    assert main(["distill", "--resume", str(run)]) == 0
    np.testing.assert_allclose(values(run), values(alone), atol=1e-2)


@pytest.mark.slow
def test_hosts_of_different_configurations_end_alike(tmp_path, quick_flags):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = ["--coordinator", f"127.0.0.1:{free.getsockname()[1]}", "--hosts", "2"]
    hosts = [
        rdd(*WORDS, "--seed", str(host), "--out", str(tmp_path / "run"), *where, "--host", str(host))
        for host in range(2)
    ]
    told = [host.communicate(timeout=120)[1] for host in hosts]
    assert [host.returncode for host in hosts] == [2, 2], told
    assert all("the configuration of host 1 is not that of host 0" in one for one in told)
    assert not (tmp_path / "run").exists()


def test_a_coordinator_that_does_not_answer(tmp_path):
    command = [sys.executable, "-m", "rdd_jax.app.cli", *WORDS, "--out", str(tmp_path / "run")]
    command += ["--coordinator", "127.0.0.1:1", "--hosts", "2", "--host", "1"]
    found = subprocess.run(
        command, env=environment(1, RDD_HOSTS_TIMEOUT="1"), capture_output=True, text=True, check=False
    )
    assert found.returncode != 0
    assert "127.0.0.1:1" in found.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("hosts", "told"),
    [
        (Hosts(None, 2, 0), "without a coordinator"),
        (Hosts("here", 2, 0), "give ADDRESS:PORT"),
        (Hosts("here:one", 2, 0), "give ADDRESS:PORT"),
        (Hosts("here:1", None, 0), "give --hosts N"),
        (Hosts("here:1", 2, 2), "give --hosts N"),
        (Hosts("here:1", 2, -1), "give --hosts N"),
    ],
)
def test_hosts_that_are_not_said_in_full(hosts, told):
    with pytest.raises(InputError, match=told):
        hosts.check()
