"""Real data for a command, and where its images stay meanwhile: on the device, on the host, in files."""

from dataclasses import replace

import numpy as np

from rdd_jax import datasets
from rdd_jax.app.environment import device_memory
from rdd_jax.app.sections import SplitsOptions
from rdd_jax.arrays import Stored
from rdd_jax.datasets.shifts import shift_by_name
from rdd_jax.devices import AUTO, host_memory, size_of
from rdd_jax.errors import InputError
from rdd_jax.pixels import Images, as_held
from rdd_jax.progress import SILENT, Progress, heard
from rdd_jax.types import Splits

__all__ = ["FULL", "splits_of", "streamed"]

FULL = 0.5
"""Of a memory: the share that training images may take, beside all else."""


def splits_of(
    name: str,
    options: SplitsOptions,
    seed: int,
    mirror: bool | None = None,
    progress: Progress = SILENT,
    data_on: str = "host",
) -> Splits:
    """The real data, shifted.

    Args:
      mirror: overrules what the data says of itself.
      data_on: ``disk``: images stay in files; ``auto``: those that would take more than `FULL` of the memory do.

    Raises:
      InputError: data that cannot be read, or cannot be shifted where it stays.
    """

    def leave(size: int) -> bool:
        return data_on == "disk" or (data_on == AUTO and size > FULL * host_memory())

    with heard(progress):
        splits = datasets.load(name, seed, options.resize, options.mode, options.groups_from, leave)
    if options.shift != "none" and (left := [part for part in splits[:3] if isinstance(part.images, Stored)]):
        raise InputError(
            f"shift is {options.shift!r}, but {left[0].images.nbytes / 2**30:.1f} GiB of images stay on disk, where "
            "they are not changed: leave it out, or give --data-on host"
        )
    if mirror is not None:
        train, validation, test = (replace(part, mirror=mirror) for part in splits[:3])
        splits = Splits(train, validation, test, splits.name)
    return shift_by_name(options.shift, options.bias, options.share)(seed, splits)


def streamed(data_on: str, images: Images) -> bool:
    """Whether steps are handed their images: those in a file, and those that shall not, or cannot, lie on a device."""
    held, there = as_held(images), device_memory()
    if isinstance(held, Stored) or data_on == "host":
        return True
    return data_on == AUTO and there is not None and np.asarray(held).nbytes / size_of("data") > FULL * there
