"""What a figure was measured with: versions, device, memory."""

import os
import platform
import resource
import sys
from collections.abc import Mapping
from importlib.metadata import version

import jax

from rdd_jax.devices import host_memory
from rdd_jax.errors import InputError

__all__ = ["check_device", "check_memory", "device_memory", "environment", "peak_memory"]


def check_device() -> None:
    """Raises `InputError` where JAX has none of the devices that it is told to use."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # JAX asserts that there is one
        told = os.environ.get("JAX_PLATFORMS", "")
        raise InputError(
            f"JAX_PLATFORMS is {told!r}, but JAX finds no such device: unset it, or set JAX_PLATFORMS=cpu"
        ) from error


def environment() -> dict[str, str]:
    """Versions and device, for ``config.json``."""
    names = ("rdd_jax", "jax", "jaxlib", "numpy", "optax", "flax")
    return {
        **{name: version(name) for name in names},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": _device(),
    }


def _device() -> str:
    device = jax.devices()[0]
    if device.platform == "cpu":
        return f"CPU, {os.cpu_count()} cores ({platform.processor() or platform.machine()})"
    return f"{jax.device_count()} x {device.device_kind}"


def _memory() -> int:
    """Bytes that there are: of the device where it tells, else of this machine."""
    return device_memory() or host_memory()


def device_memory() -> int | None:
    """Bytes of a device with memory of its own; None where that is the host's."""
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")


def check_memory(needs: Mapping[str, tuple[int, int]]) -> None:
    """Raises `InputError` where an option alone asks for more memory than there is.

    Args:
      needs: ``(value, least bytes)`` by option.
    """
    there = _memory()
    for name, (value, least) in needs.items():
        if least > there:
            raise InputError(
                f"{name} is {value}: that needs {least / 2**30:.1f} GiB or more, and there are {there / 2**30:.1f}: "
                "lower it"
            )


def peak_memory() -> int:
    """Bytes: of the device where it tells, else the peak resident size of this process."""
    stats = jax.local_devices()[0].memory_stats() or {}
    unit = 1 if sys.platform == "darwin" else 1024
    return stats.get("peak_bytes_in_use", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
