"""What a figure was measured with: versions, device, memory."""

import os
import platform
import resource
import sys
from importlib.metadata import version

import jax

__all__ = ["environment", "peak_memory"]


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


def peak_memory() -> int:
    """Bytes: of the device where it tells, else the peak resident size of this process."""
    stats = jax.devices()[0].memory_stats() or {}
    unit = 1 if sys.platform == "darwin" else 1024
    return stats.get("peak_bytes_in_use", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
