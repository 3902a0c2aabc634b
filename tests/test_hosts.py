"""One run on two hosts of two simulated devices each: the result of one, a host that dies, going on with one host."""

import json
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

WORDS = "distill kip --data digits --ipc 1 --batch 64 --learners krr --seeds 1 --no-baselines".split()  # noqa: SIM905


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


@pytest.mark.slow
def test_two_hosts_give_what_one_does_and_one_goes_on_where_one_died(tmp_path, quick_flags):
    run, killed = tmp_path / "run", tmp_path / "killed"
    hosts = on_two(*WORDS, "--steps", "30", "--out", str(run))
    dying = on_two(*WORDS, "--steps", "100000", "--checkpoint-every", "10", "--out", str(killed))
    assert main([*WORDS, "--steps", "30", "--out", str(tmp_path / "alone")]) == 0
    told = [host.communicate(timeout=120) for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], told
    assert "the report, with pictures" in told[0][0]
    assert "report" not in told[1][0]
    np.testing.assert_allclose(values(run), values(tmp_path / "alone"), atol=1e-4)
    deadline = time.monotonic() + 60
    while not (killed / "checkpoints" / "20").is_dir() and time.monotonic() < deadline:
        time.sleep(0.1)
    dying[1].send_signal(signal.SIGKILL)
    assert ended(dying[0]) != 0
    assert ended(dying[1]) == -signal.SIGKILL
    steps = [int(folder.name) for folder in (killed / "checkpoints").iterdir() if folder.name.isdigit()]
    going_on = rdd("distill", "--resume", str(killed))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and _last_step(killed) <= max(steps) + 20:
        time.sleep(0.1)
    going_on.send_signal(signal.SIGINT)
    assert ended(going_on) == 130
    assert _last_step(killed) > max(steps) + 20


def _last_step(run):
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    return json.loads([line for line in lines if line.endswith("\n")][-1])["step"]


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
