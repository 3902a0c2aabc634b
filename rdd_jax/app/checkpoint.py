"""Saving and taking up a run's state, with Orbax: whole or not at all."""

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import Array, Float, Int

from rdd_jax.distill import State
from rdd_jax.errors import InputError

__all__ = ["Checkpoints", "Saved"]


class Saved(NamedTuple):
    """All that a run needs to go on: its state, and what moves with it.

    Attributes:
      groups: of every training example, out of ``number``; ``weight``: how much it counts, None where the groups tell.
      loss: of every training example when it was last looked at; None where no sampler asks.
    """

    state: State
    groups: Int[Array, " n"]
    number: Int[Array, ""]
    loss: Float[Array, " n"] | None = None
    weight: Float[Array, " n"] | None = None


class Checkpoints:
    """The checkpoints of one run, the last two kept."""

    def __init__(self, folder: Path):
        self.folder = folder
        # Every host has all of a state: the first one writes, and none waits for another.
        host = jax.process_index()
        alone = ocp.options.MultiprocessingOptions(primary_host=host, active_processes={host})
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2, create=False, enable_async_checkpointing=False, multiprocessing_options=alone
        )
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)
            self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, saved: Saved) -> None:
        """Saves under the state's step; a step already saved is left alone.

        Raises:
          OSError: the system would not write.
        """
        step = int(saved.state.step)
        if step not in self._manager.all_steps():
            with self._writing():
                self._manager.save(step, args=ocp.args.StandardSave(_sealed(saved)), force=True)
                self._manager.wait_until_finished()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Errors of the system within the block are an `OSError` that names the folder."""
        try:
            yield
        except Exception as error:
            code = _system_code(error)
            if code is None:
                raise
            told = f"a checkpoint cannot be written ({os.strerror(code)})"
            raise OSError(code, told, str(self.folder)) from error

    def restore(self, like: Saved) -> Saved | None:
        """The newest one, in the form of ``like``; None where none was saved yet.

        Raises:
          InputError: the newest checkpoint cannot be read, is not what was saved, or is of another form.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        named = f"checkpoint {str(self.folder / str(step))!r}"
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, _sealed(like))
        try:
            found = self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        # Orbax and TensorStore raise a dozen unrelated types for a file that is cut short or missing.
        except Exception as error:
            if _system_code(error) in (errno.EACCES, errno.EPERM):
                raise InputError(f"{named} cannot be read (no permission): allow it, and resume again") from error
            raise InputError(f"{named} is truncated or broken ({type(error).__name__}): {REMEDY}") from error
        if not np.array_equal(found["digest"], _sealed(found["saved"])["digest"]):
            raise InputError(f"{named} is broken, it does not hold what was saved: {REMEDY}")
        return jax.tree.map(jnp.asarray, found["saved"])

    def close(self) -> None:
        self._manager.close()


REMEDY = "delete that folder to resume from the one before"


def _sealed(saved: Saved) -> dict[str, Any]:
    """As NumPy's arrays, with a digest of every number: TensorStore does not notice a changed bit."""
    saved, digest = jax.tree.map(np.asarray, saved), hashlib.blake2b(digest_size=16)
    for leaf in jax.tree.leaves(saved):
        digest.update(leaf.tobytes())
    return {"saved": saved, "digest": np.frombuffer(digest.digest(), np.uint8)}


def _system_code(error: Exception) -> int | None:
    """The number of an error of the system; TensorStore raises a `ValueError` with it in the text."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"os_error_code='(\d+)'", str(error))
    return None if found is None else int(found[1])
